"""Options that stand under headings in `--help`, each with an environment variable and the default of `Service`."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Sequence
from typing import Any

import click

from hybrid.cli.values import ByteSize, Duration, duration_text, size_text
from hybrid.config.service import Service

DEFAULTS: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(Service)}  # field -> default


class Heading(enum.Enum):
    """The headings, in the order of the help."""

    PROCESS = "Process"
    RENEWAL = "Renewal"
    STALLS = "Stalls"
    HTTP = "HTTP"
    LIMITS = "Limits"
    TLS = "TLS"
    PROXIES = "Proxies"
    LOG = "Log"
    OTHER = "Other"

    def option(self, name: str, text: str, **details: Any) -> HeadedOption:
        """Return an option of this heading with an environment variable of its own; `details` as for click."""
        return HeadedOption([name], heading=self, help=text, **details)

    def duration(self, name: str, text: str) -> HeadedOption:
        """Return an option of seconds."""
        default = duration_text(DEFAULTS[_field(name)])
        return self.option(name, text, type=Duration(), metavar="SECONDS", default=default)

    def size(self, name: str, text: str, metavar: str = "BYTES") -> HeadedOption:
        """Return an option of bytes."""
        return self.option(name, text, type=ByteSize(), metavar=metavar, default=size_text(DEFAULTS[_field(name)]))

    def count(self, name: str, text: str) -> HeadedOption:
        """Return an option of a whole number."""
        return self.option(name, text, type=int, metavar="N", default=DEFAULTS[_field(name)])

    def switch(self, name: str, text: str) -> HeadedOption:
        """Return an option that is on and has a `--no-` form, or is off and has none."""
        if DEFAULTS[_field(name)]:
            return self.option(f"{name}/--no-{name.removeprefix('--')}", text, default=True)
        return self.option(name, text, is_flag=True)

    def file(self, name: str, text: str, *, directory: bool = False) -> HeadedOption:
        """Return an option of a path."""
        kind = click.Path(file_okay=not directory, dir_okay=directory)
        return self.option(name, text, type=kind, metavar="PATH")


class HeadedOption(click.Option):
    """An option under a heading."""

    def __init__(self, names: Sequence[str], *, heading: Heading, alone: str | None = None, **details: Any) -> None:
        """`alone`: the value that is meant where the option is given without one."""
        details.setdefault("show_default", True)
        details.setdefault("envvar", "HYBRID_" + _field(names[0]).upper())
        details.setdefault("show_envvar", True)
        super().__init__(names, **details)
        self.heading = heading
        self.alone = alone


class HeadedCommand(click.Command):
    """A command whose help lists its options under their headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section per heading."""
        for heading, options in self.headed(ctx):
            with formatter.section(heading.value):
                formatter.write_dl([record for option in options if (record := option.get_help_record(ctx))])

    def headed(self, ctx: click.Context) -> Iterator[tuple[Heading, list[click.Option]]]:
        """Give the headings that have options, and these."""
        options = [parameter for parameter in self.get_params(ctx) if isinstance(parameter, click.Option)]
        for heading in Heading:
            under = [option for option in options if getattr(option, "heading", Heading.OTHER) is heading]
            if under:
                yield heading, under

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; an option that may stand alone takes the next word, unless that is an option or a target."""
        alone = {
            name: parameter.alone
            for parameter in self.params
            if isinstance(parameter, HeadedOption) and parameter.alone is not None
            for name in parameter.opts
        }
        return super().parse_args(ctx, list(_completed(args, alone)))


def _completed(args: list[str], alone: dict[str, str]) -> Iterator[str]:
    """Give `args`; those that stand alone get their value: `alone` is option -> value."""
    for place, word in enumerate(args):
        if word == "--":
            yield from args[place:]
            return
        following = args[place + 1] if place + 1 < len(args) else "--"
        if word in alone and (following.startswith("-") or _is_like_a_target(following)):
            yield f"{word}={alone[word]}"
        else:
            yield word


def _is_like_a_target(word: str) -> bool:
    return ":" in word and "%" not in word


def _field(name: str) -> str:
    """Return the field of `Service` of an option `--some-name` or `--some-name/--no-some-name`."""
    return name.partition("/")[0].removeprefix("--").replace("-", "_")
