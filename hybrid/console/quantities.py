"""Durations, sizes and shares as short text. An unknown value (None) is a dash."""

from __future__ import annotations

from typing import Final

UNKNOWN: Final = "-"
_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))  # unit, seconds
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")


def duration(seconds: float | None, parts: int = 1) -> str:
    """Return seconds in up to `parts` units, rounded down: `4h`, or `3d 4h` with two."""
    if seconds is None:
        return UNKNOWN
    rest = max(int(seconds), 0)
    written: list[tuple[int, str]] = []
    for unit, size in _UNITS:
        count, rest = divmod(rest, size)
        if count or (written and len(written) < parts):
            written.append((count, unit))
        if len(written) == parts:
            break
    return " ".join(f"{count}{unit}" for count, unit in written if count) or "0s"


def lag(seconds: float | None) -> str:
    """Return a short time: `0.4 ms`, `4 ms`, `2.3 s`."""
    if seconds is None:
        return UNKNOWN
    if seconds >= 1:
        return f"{seconds:.1f} s"
    thousandths = seconds * 1000
    return f"{thousandths:.1f} ms" if 0 < thousandths < 1 else f"{thousandths:.0f} ms"


def size(count: float | None) -> str:
    """Return bytes: `88 MiB`, `1.2 GiB`."""
    if count is None:
        return UNKNOWN
    for unit in _SIZES[:-1]:
        if abs(count) < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
        if unit == "MiB":
            break
    return f"{count:.1f} GiB"


def share(value: float | None) -> str:
    """Return a share of 1 as a percentage: `62%`."""
    return UNKNOWN if value is None else f"{value * 100:.0f}%"


def rate(per_second: float | None) -> str:
    """Return a rate: `812`, `0.4`."""
    if per_second is None:
        return UNKNOWN
    return f"{per_second:.1f}" if 0 < per_second < 9.95 else f"{per_second:.0f}"


def count(number: float | None) -> str:
    """Return a whole number."""
    return UNKNOWN if number is None else f"{number:.0f}"
