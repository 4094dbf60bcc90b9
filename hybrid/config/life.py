"""`LifeFields`: the part of a `Service` that is about how workers come, stall and are renewed, and its checks."""

from __future__ import annotations

import dataclasses
from typing import Final

from hybrid.config.checks import DAY, ConfigError, Range, check_choices, check_ranges
from hybrid.config.restart_limit import RestartLimit

PRELOADS: Final = ("auto", "on", "off")
_SECONDS: Final = " (seconds)"
_RANGES: Final = {
    "surge": Range(1, 1024, True),
    "stall_threshold": Range(0, 60.0, False, _SECONDS),
    "stall_report": Range(0, DAY, False, _SECONDS),
    "stall_timeout": Range(0, DAY, False, _SECONDS),
    "refork_after": Range(0, 10**12, True),
    "max_requests": Range(0, 10**12, True),
    "max_lifetime": Range(0, 365 * DAY, False, _SECONDS),
    "max_memory": Range(0, 2**50, True, " (bytes)"),
    "recycle_jitter": Range(0, 10.0, False, " (a fraction of the limit)"),
}  # field -> allowed values


@dataclasses.dataclass(frozen=True, kw_only=True)
class LifeFields:
    """How workers live. Durations are seconds, sizes bytes; 0 switches a limit off."""

    preload: str = "auto"
    """`on`: the target is imported once, in a process from which the workers are forked; `auto`: unless the import
    leaves threads, connections or event loops, which do not survive a fork; `off`: each worker imports it."""
    surge: int = 1
    """How many workers may run beyond `workers` while others are replaced, those that drain not counted."""
    stall_threshold: float = 0.01
    """A worker whose loop has not turned for so long gets no new connections until it does, and others accept those
    that wait for it. 0: never."""
    stall_report: float = 1.0
    """After so long the stack of a stalled worker is logged."""
    stall_timeout: float = 0.0
    """After so long a stalled worker is killed and replaced."""
    refork_after: int = 0
    """Requests after which a worker becomes the process from which others are forked, so that they share what it has
    warmed up; connections or datagrams for handlers. Once in each generation; not with `preload` `off`."""
    max_requests: int = 0
    """Requests after which a worker is replaced; connections or datagrams for handlers."""
    max_lifetime: float = 0.0
    """Age at which a worker is replaced."""
    max_memory: int = 0
    """Resident memory at which a worker is replaced."""
    recycle_jitter: float = 0.1
    """Each worker draws its own limits, up to this fraction above those set, so that not all are replaced at once."""
    max_restarts: RestartLimit | None = None
    """More deaths of workers than this end the service; None: it goes on for ever."""


def check_life(fields: LifeFields) -> None:
    """Check all of `fields`. Raises `ConfigError`."""
    check_choices(fields, {"preload": PRELOADS})
    check_ranges(fields, _RANGES)
    if 0 < fields.stall_threshold < 0.001:
        raise ConfigError(
            "stall_threshold", f"{fields.stall_threshold!r}: use at least 0.001 (seconds), or 0 for never"
        )
    if fields.max_restarts is not None and not isinstance(fields.max_restarts, RestartLimit):
        raise ConfigError("max_restarts", f"{fields.max_restarts!r}: give a RestartLimit(restarts, seconds), or None")
