"""`LifeFields`: the options of a `Service` about starting, stalling and recycling workers."""

from __future__ import annotations

import dataclasses
from typing import Final

from hybrid.config.checks import DAY
from hybrid.config.declaring import Section, option
from hybrid.config.kinds import Bytes, Choice, Count, Fraction, Restarts, Seconds
from hybrid.config.restart_limit import RestartLimit

PRELOADS: Final = ("auto", "on", "off")
_SHORTEST: Final = 0.001  # seconds: the supervisor cannot check more often
_RECYCLING: Final = Section.RECYCLING
_STALLS: Final = Section.STALLS


def _why_no_threshold(value: object) -> str | None:
    if isinstance(value, float) and 0 < value < _SHORTEST:
        return f"{value!r}: use at least {_SHORTEST} (seconds), or 0 for never"
    return None


@dataclasses.dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)  # `Service` makes all its methods
class LifeFields:
    """The life cycle of workers. Durations are seconds, sizes bytes; 0 switches a limit off."""

    preload: str = option(
        "auto",
        Choice(PRELOADS),
        _RECYCLING,
        "Import TARGET once per generation, in a process from which the workers are forked: they share its memory and "
        "start at once. auto: unless the import leaves threads, connections or event loops, which do not survive a "
        "fork; the log names them. off: each worker imports TARGET.",
    )
    surge: int = option(
        1,
        Count(1, 1024),
        _RECYCLING,
        "How many extra workers may start at the same time while others are replaced, by a reload (HUP) or one of the "
        "limits below.",
    )
    refork_after: int = option(
        0,
        Count(0, 10**12),
        _RECYCLING,
        "Fork workers from the first worker that has served this many requests (connections or datagrams of handlers), "
        "instead of from the process that imported TARGET: all workers then share the caches it has filled and the "
        "modules it has imported. Repeated in each generation. 0: never. No effect with --preload off.",
    )
    max_requests: int = option(
        0,
        Count(0, 10**12),
        _RECYCLING,
        "Replace a worker that has served this many requests (connections or datagrams of handlers). 0: never.",
    )
    max_lifetime: float = option(0.0, Seconds(0, 365 * DAY), _RECYCLING, "Replace a worker of this age. 0: never.")
    max_memory: int = option(
        0, Bytes(0, 2**50), _RECYCLING, "Replace a worker that uses this much resident memory. 0: never."
    )
    recycle_jitter: float = option(
        0.1,
        Fraction(0, 10.0),
        _RECYCLING,
        "Raise each worker's limits by a random amount, up to this fraction, so that not all workers are replaced at "
        "once.",
    )
    max_restarts: RestartLimit | None = option(
        None,
        Restarts(),
        _RECYCLING,
        "End the service when more than N workers have died within SECONDS, e.g. 5/10. 0: never; workers that keep "
        "dying are restarted with pauses.",
    )
    stall_threshold: float = option(
        0.01,
        Seconds(0, 60.0),
        _STALLS,
        "A worker whose event loop has not turned for this long gets no new connections until it does, and other "
        "workers accept the connections in its queue. 0: never.",
        check=_why_no_threshold,
    )
    stall_report: float = option(
        1.0, Seconds(0, DAY), _STALLS, "How long a worker stalls before its stack is logged. 0: never."
    )
    stall_timeout: float = option(
        0.0, Seconds(0, DAY), _STALLS, "How long a worker stalls before it is killed and replaced. 0: never."
    )
