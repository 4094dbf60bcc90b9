"""Companions: functions that run beside the workers of a service, in processes of their own.

--companion mailer=shop.mail:run*2

[service.web.companion.mailer]
target = "shop.mail:run"
workers = 2
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from hybrid.config.checks import ConfigError, Range
from hybrid.config.targets import TargetError, check_reference, describe

MOST_NAMES: Final = 16
"""The maximum of names in one service."""
RESERVED: Final = {"cpu": "offload workers", "dask": "gateway to a Dask cluster"}
"""Names that hybrid uses -> what has them."""
_WORKERS: Final = Range(1, 64, True)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TEXT: Final = re.compile(r"([^=]*)=([^*]*)(?:\*(.*))?")
_FORM: Final = "write NAME=MODULE:FUNCTION or NAME=MODULE:FUNCTION*N, e.g. mailer=shop.mail:run"


@dataclasses.dataclass(frozen=True, slots=True)
class Companion:
    """A function that runs beside the workers of a service. Raises `ConfigError` for a bad value."""

    name: str
    """Up to 64 letters, digits, dots, dashes and underscores."""
    target: str | Callable[[], Any]
    """`module:attribute`, or the function itself: without parameters, `def` or `async def`."""
    workers: int = 1
    """The number of processes that run it, 1 to 64."""

    def __post_init__(self) -> None:
        for key, value in (("name", self.name), ("target", self.target), ("workers", self.workers)):
            if (reason := complaint(key, value)) is not None:
                raise ConfigError("companions", reason)


def complaint(key: str, value: object) -> str | None:
    """Return why `value` is not allowed for a field of a `Companion`; None if it is."""
    match key:
        case "name" if not (isinstance(value, str) and _NAME.fullmatch(value)):
            return f"{value!r}: use up to 64 letters, digits, dots, dashes and underscores as the name of a companion"
        case "name" if value in RESERVED:
            return f"{value!r}: this is the name of the {RESERVED[value]}; choose another"
        case "target" if isinstance(value, str):
            try:
                check_reference(value)
            except TargetError as error:
                return str(error)
        case "target" if not callable(value):
            return f"target: {value!r}: give 'module:attribute' or a function"
        case "workers" if not _WORKERS.contains(value):
            return f"workers: {value!r}: use {_WORKERS}"
    return None


def read_companion(text: str) -> Companion:
    """Return the companion that `mailer=shop.mail:run*2` means. Raises `ValueError`."""
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a companion: {_FORM}")
    name, target, workers = (None if part is None else part.strip() for part in match.groups())
    if workers is not None and not (workers.isascii() and workers.isdigit() and len(workers) < 9):
        raise ValueError(f"{text!r}: {workers!r} is not a number of processes: {_FORM}")
    try:
        return Companion(name or "", target or "", 1 if workers is None else int(workers))
    except ConfigError as error:
        raise ValueError(error.reason) from None


def companion_text(companion: Companion) -> str:
    """Return a companion as a person types it."""
    number = "" if companion.workers == 1 else f"*{companion.workers}"
    return f"{companion.name}={describe(companion.target)}{number}"


def why_not_together(companions: object) -> str | None:
    """Return why several companions cannot be those of one service; None if they can."""
    if not isinstance(companions, tuple | list):
        return f"{companions!r}: give a list of Companion(name, target)"
    names = [one.name for one in companions if isinstance(one, Companion)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        return f"two companions are called {twice!r}: give each a name of its own"
    return f"{len(names)} companions: use at most {MOST_NAMES} names" if len(names) > MOST_NAMES else None


class TableError(ValueError):
    """A mistake in the table of a companion, at these keys below it."""

    def __init__(self, path: tuple[str, ...], reason: str) -> None:
        super().__init__(reason)
        self.path = path
        self.reason = reason


def companions_of(tables: Mapping[str, Any]) -> tuple[Companion, ...]:
    """Return the companions of the tables `companion.NAME` of a file. Raises `TableError`."""
    return tuple(_of_table(name, table) for name, table in tables.items())


def _of_table(name: str, table: object) -> Companion:
    if (reason := complaint("name", name)) is not None:
        raise TableError((name,), reason)
    if not isinstance(table, dict):
        raise TableError((name,), f"companion.{name} is a table: write [service.NAME.companion.{name}]")
    for key, value in table.items():
        if key not in ("target", "workers"):
            raise TableError((name, key), f"unknown key {key!r} of a companion: it has target and workers")
        if key == "target" and not isinstance(value, str):
            raise TableError((name, key), f'target: {value!r}: write a text, e.g. "shop.mail:run"')
        if (reason := complaint(key, value)) is not None:
            raise TableError((name, key), reason)
    if "target" not in table:
        raise TableError((name,), f'companion {name} has no target: write target = "module:function"')
    return Companion(name, **table)
