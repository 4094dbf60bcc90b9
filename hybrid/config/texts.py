"""Values as text: parses durations, sizes, numbers of workers, file modes and restart limits.

Each `read_...` raises `ValueError` with the form to write instead. The `..._text` functions format values.
"""

from __future__ import annotations

import re
import shlex

from hybrid.config.checks import ConfigError
from hybrid.config.restart_limit import RestartLimit

_SIZE = re.compile(r"(\d+)\s*(?:b|([kmg])(?:i?b)?)?")
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h)?")
_COUNT = re.compile(r"[0-9]{1,9}")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}  # unit -> seconds
_MULTIPLES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}  # unit -> bytes


def read_duration(text: str) -> float:
    """Return seconds. `text` is seconds, or a number with a unit: `30`, `500ms`, `2m`, `1h`."""
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(
            f"{text!r} is not a duration: write seconds or a number with ms, s, m or h, e.g. 30, 500ms, 2m"
        )
    return _seconds(match)


def read_size(text: str) -> int:
    """Return bytes. `text` is bytes, or a number with a unit: `8190`, `64K`, `16M`, `1G`; `64KiB` is `64K`.

    The units are powers of 1024.
    """
    match = _SIZE.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is not a size: write bytes or a whole number with K, M or G, e.g. 8190, 64K, 16M")
    return int(match[1]) * _MULTIPLES[match[2] or ""]


def read_workers(text: str) -> int | str:
    """Return the number of workers, or `auto`."""
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number of workers: write auto or a number, e.g. 4") from None


def read_mode(text: str) -> int:
    """Return permission bits. `text` is octal, as for chmod(1)."""
    try:
        return int(text.lower().removeprefix("0o"), 8)
    except ValueError:
        raise ValueError(f"{text!r} is not a file mode: write three octal digits, e.g. 600 or 0660") from None


def read_restarts(text: str) -> RestartLimit | None:
    """Return a restart limit from `5/10`, `5/10s` or `20/1m`; None for `0`, no limit."""
    meant = text.strip().lower()
    if meant == "0":
        return None
    restarts, slash, time = meant.partition("/")
    seconds = _DURATION.fullmatch(time.strip())
    if not slash or seconds is None or not _COUNT.fullmatch(restarts.strip()):
        raise ValueError(f"{text!r} is not a restart limit: write N/SECONDS, e.g. 5/10, 5/10s or 20/1m, or 0 for none")
    try:
        return RestartLimit(int(restarts), _seconds(seconds))
    except ConfigError as error:
        raise ValueError(f"{error.reason}, e.g. 5/10, or 0 alone for no limit") from None


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


def restarts_text(limit: RestartLimit | None) -> str:
    """Return a restart limit as a person types it: `5/10`; `0` for None."""
    return "0" if limit is None else f"{limit.restarts}/{limit.seconds:g}"


def read_command(text: str) -> tuple[str, ...]:
    """Return the words of a command line, split as a shell does; nothing is expanded. Raises `ValueError`."""
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError(f"{text!r}: {str(error).lower()}") from None
    if not words:
        raise ValueError("give a program and its arguments")
    return words
