"""Declarations of options: each option is declared once, as a field of a dataclass.

    keep_alive_timeout: float = option(
        5.0, Seconds(0, DAY, zero="no limit"), Section.LIMITS, "How long a connection may be idle between two requests."
    )

From this follow the flag `--keep-alive-timeout`, the variable `HYBRID_KEEP_ALIVE_TIMEOUT`, the key
`keep_alive_timeout` of a file, the line in its section of `--help`, the paragraph of `docs/options.md`, the keyword of
`Service`, and one check of the value for all of these sources. Pure: independent of the command line and of files.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
from collections.abc import Callable
from typing import Final, TypedDict, TypeVar, Unpack

from hybrid.config.checks import ConfigError
from hybrid.config.kinds import Kind

_KEY: Final = "hybrid.option"  # key in the metadata of a field; its value makes an `Option` of the field's name
_T = TypeVar("_T")


class Section(enum.Enum):
    """The sections of the help, in their order."""

    PROCESS = "Process"
    SERVICES = "Services"
    RECYCLING = "Recycling"
    STALLS = "Stalls"
    OFFLOAD = "Offload"
    HOOKS = "Hooks and events"
    HTTP = "HTTP"
    LIMITS = "Limits"
    TLS = "TLS"
    PROXIES = "Proxies"
    ADMIN = "Admin"
    LOG = "Log"
    OTHER = "Other"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
    """An option and all facts about it."""

    field: str
    """The keyword argument of `Service`."""
    default: object
    """The value if the option is not given."""
    kind: Kind
    """The allowed values, their unit and their form as text; for an option with several values, of each."""
    section: Section
    """The section of the help. Within a section, options are in the order of their declarations."""
    help: str
    """The help text, in the words of the command line. Used in all documents."""
    name: str = ""
    """The name users see, with underscores; empty: the name of the field."""
    more_variables: tuple[str, ...] = ()
    """Environment variables to read if the option's own is not set."""
    is_repeated: bool = False
    """True if the value is a sequence: the flag may be repeated."""
    shown: str = ""
    """The description of the default in the help, if the default itself says too little."""
    alone: str | None = None
    """The value of a flag that is given without one; None: the flag needs a value."""
    is_flag_only: bool = False
    """True if the option is about a single run of the command: it has no variable and no key in a file."""
    is_of_the_run: bool = False
    """True if the option is about a single run of the command: it has a variable, but no key in a file."""
    is_secret: bool = False
    """True if the value must not be shown."""
    check: Callable[[object], str | None] | None = None
    """Returns why a value of the right kind is not allowed, or None; gets all of several values at once."""

    @property
    def flag(self) -> str:
        """Its name on the command line: `--some-name`."""
        return f"--{self._words.replace('_', '-')}"

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that set it; the first that is set wins."""
        return () if self.is_flag_only else (f"HYBRID_{self._words.upper()}", *self.more_variables)

    @property
    def key(self) -> str | None:
        """Its key in a file, `some_name`; None if it cannot be set there."""
        return None if self.is_flag_only or self.is_of_the_run else self._words

    def is_set_by(self, variable: str) -> bool:
        """True if an environment variable sets this option, for all services or for one of them."""
        if variable in self.variables:
            return True
        return (
            self.key is not None
            and variable.startswith("HYBRID_SERVICE_")
            and variable.endswith(f"_{self.key}".upper())
        )

    @property
    def _words(self) -> str:
        return self.name or self.field

    def complaint(self, value: object) -> str | None:
        """Return why `value` is not allowed, and a value to write instead; None if it is allowed."""
        if value is None and self.default is None:
            return None
        items = value if self.is_repeated and isinstance(value, tuple | list) else (value,)
        found = next((reason for item in items if (reason := self.kind.complaint(item)) is not None), None)
        return self.check(value) if found is None and self.check is not None else found


class Details(TypedDict, total=False):
    """The fields of `Option` that a declaration may leave out."""

    name: str
    more_variables: tuple[str, ...]
    is_repeated: bool
    shown: str
    alone: str
    is_flag_only: bool
    is_of_the_run: bool
    is_secret: bool
    check: Callable[[object], str | None]


def option(default: _T, kind: Kind, section: Section, help: str, **details: Unpack[Details]) -> _T:
    """Declare an option as a field of a dataclass. The arguments are the fields of `Option`."""
    make = functools.partial(Option, default=default, kind=kind, section=section, help=help, **details)
    return dataclasses.field(default=default, repr=not details.get("is_secret", False), metadata={_KEY: make})


@functools.cache
def declared(config: type) -> tuple[Option, ...]:
    """Return the options of a dataclass, in the order of the help: its own before those of its base classes."""
    makers = {field.name: field.metadata[_KEY] for field in dataclasses.fields(config) if _KEY in field.metadata}
    names = [name for one in inspect.getmro(config) for name in inspect.get_annotations(one) if name in makers]
    return tuple(makers[name](field=name) for name in dict.fromkeys(names))


def check_declared(config: object, declaring: type) -> None:
    """Check each option that the class `declaring` declares. Raises `ConfigError` for the first invalid value.

    The class of `config` may be a subclass that gives fields other defaults, and so hides their declarations.
    """
    for one in declared(declaring):
        reason = one.complaint(getattr(config, one.field))
        if reason is not None:
            raise ConfigError(one.field, reason)
