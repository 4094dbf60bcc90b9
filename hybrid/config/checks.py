"""The tools of validation: the error, and ranges of numbers with their units."""

from __future__ import annotations

import dataclasses
from typing import Final, TypeGuard

DAY: Final = 86_400.0  # seconds; poll(2) takes at most 24 days


class ConfigError(ValueError):
    """A value that cannot be used; names the field and the allowed values."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        """Name of the field of `Service`."""
        self.reason = reason
        """Why the value cannot be used, and a value to write instead."""
        self.where = ""
        """The file and the line of the value, once they are known; empty: it does not come from a file."""

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
        """True if `value` is a number in the range. False for booleans and NaN."""
        if is_whole(value) or (isinstance(value, float) and not self.whole):
            return self.lowest <= value <= self.highest
        return False

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} from {self.lowest:g} to {self.highest:.13g}{self.unit}"


def is_whole(value: object) -> TypeGuard[int]:
    """True if `value` is an integer. False for booleans."""
    return isinstance(value, int) and not isinstance(value, bool)
