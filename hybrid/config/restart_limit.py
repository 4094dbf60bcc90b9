"""How many restarts of workers a supervisor accepts before it gives up: the checked value of `max_restarts`."""

from __future__ import annotations

import dataclasses
from typing import Final

from hybrid.config.checks import DAY, ConfigError, Range

_RESTARTS: Final = Range(1, 10_000, True)
_SECONDS: Final = Range(0.001, DAY, False, " (seconds)")


@dataclasses.dataclass(frozen=True, slots=True)
class RestartLimit:
    """At most `restarts` deaths of workers within `seconds`; one more ends the service.

    Raises `ConfigError` unless there are 1 to 10,000 restarts within 1 ms to a day.
    """

    restarts: int
    seconds: float

    def __post_init__(self) -> None:
        if not _RESTARTS.contains(self.restarts):
            raise ConfigError("max_restarts", f"{self.restarts!r} restarts: use {_RESTARTS}")
        if not _SECONDS.contains(self.seconds):
            raise ConfigError("max_restarts", f"{self.restarts!r} within {self.seconds!r}: use {_SECONDS}")
