"""Flags from declarations: `flags_of(Service)` returns a click option for each option that a `Service` declares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hybrid.cli.sections import SectionOption
from hybrid.config.declaring import Option, declared
from hybrid.config.kinds import Choice, Count, Directory, File, Fraction, Kind, Parsed, Switch

if TYPE_CHECKING:  # click before 8.4 has no such subscript at run time
    _Type = click.ParamType[object]
else:
    _Type = click.ParamType


def flags_of(config: type) -> list[SectionOption]:
    """Return a click option for each declaration of a dataclass, in their order."""
    return [flag_of(option) for option in declared(config)]


def flag_of(option: Option) -> SectionOption:
    """Return the click option. Its value is passed under the name of the field."""
    is_on = isinstance(option.kind, Switch) and option.default is True
    names = f"{option.flag}/--no-{option.flag.removeprefix('--')}" if is_on else option.flag
    return SectionOption(
        [names, option.field],
        section=option.section,
        alone=option.alone,
        help=option.help,
        envvar=list(option.variables) or None,
        metavar=option.kind.metavar,
        multiple=option.is_repeated,
        show_default=option.shown or True,
        **_value(option),
    )


def _value(option: Option) -> dict[str, Any]:
    """Return click's arguments for the value. Defaults are given, and shown, as a person types them."""
    if isinstance(option.kind, Switch):
        return {"default": True} if option.default else {"is_flag": True}
    details: dict[str, Any] = {"type": _type(option.kind)}
    default = option.kind.text(option.default)
    if default is not None and not option.is_repeated:
        details["default"] = default
    return details


def _type(kind: Kind) -> click.ParamType[Any]:
    if isinstance(kind, Parsed):
        return _ParsedType(kind)
    match kind:
        case Choice():
            return click.Choice(kind.words)
        case Directory():
            return click.Path(file_okay=False)
        case File():
            return click.Path(dir_okay=False)
        case Count():
            return click.INT
        case Fraction():
            return click.FLOAT
    return click.STRING


class _ParsedType(_Type):
    """The click type of a kind that parses text itself."""

    def __init__(self, kind: Parsed) -> None:
        self.name = type(kind).__name__.lower()
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> object:
        """Parse a text; any other value is returned unchanged."""
        if not isinstance(value, str):
            return value
        try:
            return self._kind.parse(value)
        except ValueError as error:
            self.fail(str(error))
