"""What the fields of a `Service` are checked with: the error, ranges with units, choices. Knows no field by name."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Final, TypeGuard

DAY: Final = 86_400.0  # seconds; poll(2) takes at most 24 days


class ConfigError(ValueError):
    """A value that cannot be used: which one, and what is allowed."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        """Name of the field of `Service`."""
        self.reason = reason
        """What is wrong with its value, and what to write instead."""

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


@dataclasses.dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `lowest` to `highest`, both included."""

    lowest: float
    highest: float
    whole: bool
    unit: str = ""

    def contains(self, value: object) -> bool:
        """Whether `value` is a number of the range; never true of a boolean or a NaN."""
        if is_whole(value) or (isinstance(value, float) and not self.whole):
            return self.lowest <= value <= self.highest
        return False

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} from {self.lowest:g} to {self.highest:.13g}{self.unit}"


def is_whole(value: object) -> TypeGuard[int]:
    """Whether `value` is an integer; booleans are none here."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_ranges(config: object, ranges: Mapping[str, Range]) -> None:
    """Check fields against `ranges`: field -> allowed numbers. Raises `ConfigError`, as all of these do."""
    for field, allowed in ranges.items():
        value = getattr(config, field)
        if not allowed.contains(value):
            raise ConfigError(field, f"{value!r}: use {allowed}")


def check_choices(config: object, choices: Mapping[str, tuple[str | None, ...]]) -> None:
    """Check fields against `choices`: field -> allowed words, and None if the field may be left out."""
    for field, allowed in choices.items():
        value = getattr(config, field)
        if value not in allowed:
            raise ConfigError(field, f"{value!r}: use one of {', '.join(item for item in allowed if item is not None)}")


def check_switches(config: object, *fields: str) -> None:
    """Check that fields are booleans."""
    for field in fields:
        value = getattr(config, field)
        if not isinstance(value, bool):
            raise ConfigError(field, f"{value!r}: use True or False")


def check_paths(config: object, *fields: str) -> None:
    """Check that fields are paths or None. Whether there is such a file is not looked at."""
    for field in fields:
        value = getattr(config, field)
        if value is not None and (not isinstance(value, str | os.PathLike) or not os.fspath(value)):
            raise ConfigError(field, f"{value!r}: give a path")
