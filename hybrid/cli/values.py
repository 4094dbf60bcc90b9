"""The value types of the command line: how text becomes a duration, a size, a count, a mode, a limit of restarts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from hybrid.config.checks import ConfigError
from hybrid.config.restart_limit import RestartLimit

_SIZE = re.compile(r"(\d+)\s*(?:b|([kmg])(?:i?b)?)?")
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h)?")
if TYPE_CHECKING:  # click before 8.4 has no such subscript at run time
    _Float = click.ParamType[float]
    _Int = click.ParamType[int]
    _IntOrStr = click.ParamType[int | str]
    _RestartLimit = click.ParamType[RestartLimit | None]
else:
    _Float = _Int = _IntOrStr = _RestartLimit = click.ParamType
_COUNT = re.compile(r"[0-9]{1,9}")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}  # unit -> seconds
_MULTIPLES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}  # unit -> bytes


class Duration(_Float):
    """Seconds, or a number with a unit: `30`, `500ms`, `2m`, `1h`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        if isinstance(value, int | float):
            return float(value)
        match = _DURATION.fullmatch(value.strip().lower())
        if match is None:
            self.fail(f"{value!r} is not a duration: write seconds or a number with ms, s, m or h, e.g. 30, 500ms, 2m")
        return _seconds(match)


class ByteSize(_Int):
    """Bytes, or a number with a unit: `8190`, `64K`, `16M`, `1G`, which are powers of 1024; `64KiB` is the same."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return bytes."""
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(value.strip().lower())
        if match is None:
            self.fail(f"{value!r} is not a size: write bytes or a whole number with K, M or G, e.g. 8190, 64K, 16M")
        return int(match[1]) * _MULTIPLES[match[2] or ""]


class WorkerCount(_IntOrStr):
    """`auto` or a number."""

    name = "auto|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Return the number, or `auto`."""
        if isinstance(value, int) or value == "auto":
            return value  # type: ignore[no-any-return]
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is not a number of workers: write auto or a number, e.g. 4")


class FileMode(_Int):
    """Permission bits, in octal as for chmod(1)."""

    name = "mode"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bits."""
        if isinstance(value, int):
            return value
        try:
            return int(value.lower().removeprefix("0o"), 8)
        except ValueError:
            self.fail(f"{value!r} is not a file mode: write three octal digits, e.g. 600 or 0660")


class MaxRestarts(_RestartLimit):
    """So many restarts within a time, or `0` for no limit: `5/10`, `5/10s`, `20/1m`."""

    name = "n/seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> RestartLimit | None:
        """Return the limit; None for no limit."""
        if isinstance(value, RestartLimit):
            return value
        text = str(value).strip().lower()
        if text == "0":
            return None
        restarts, slash, time = text.partition("/")
        seconds = _DURATION.fullmatch(time.strip())
        if not slash or seconds is None or not _COUNT.fullmatch(restarts.strip()):
            self.fail(f"{value!r} is no limit of restarts: write N/SECONDS, e.g. 5/10, 5/10s or 20/1m, or 0 for none")
        try:
            return RestartLimit(int(restarts), _seconds(seconds))
        except ConfigError as error:
            self.fail(f"{error.reason}, e.g. 5/10, or 0 alone for no limit")


def _seconds(match: re.Match[str]) -> float:
    return float(match[1]) * _UNITS[match[2] or "s"]


def duration_text(seconds: float) -> str:
    """Return seconds as a person types them: `30s`, `100ms`."""
    return f"{seconds:g}s" if seconds >= 1 or seconds == 0 else f"{seconds * 1000:g}ms"


def size_text(size: int) -> str:
    """Return bytes as a person types them: `8190`, `32K`, `16M`."""
    for unit in "gmk":
        if size and size % _MULTIPLES[unit] == 0:
            return f"{size // _MULTIPLES[unit]}{unit.upper()}"
    return str(size)
