"""What values are checked with: the error, and ranges of numbers with their units."""

from __future__ import annotations

import dataclasses
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
