"""`LifeFields`: the options of a `Service` about how workers come, stall and are renewed."""

from __future__ import annotations

import dataclasses
from typing import Final

from hybrid.config.checks import DAY
from hybrid.config.declaring import Heading, option
from hybrid.config.kinds import Bytes, Choice, Count, Fraction, Restarts, Seconds
from hybrid.config.restart_limit import RestartLimit

PRELOADS: Final = ("auto", "on", "off")
_SHORTEST: Final = 0.001  # seconds: the supervisor cannot look more often
_RENEWAL: Final = Heading.RENEWAL
_STALLS: Final = Heading.STALLS


def _why_no_threshold(value: object) -> str | None:
    if isinstance(value, float) and 0 < value < _SHORTEST:
        return f"{value!r}: use at least {_SHORTEST} (seconds), or 0 for never"
    return None


@dataclasses.dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)  # `Service` makes all its methods
class LifeFields:
    """How workers live. Durations are seconds, sizes bytes; 0 switches a limit off."""

    preload: str = option(
        "auto",
        Choice(PRELOADS),
        _RENEWAL,
        "Import TARGET once per generation, in a process from which the workers are forked: they share its memory, and "
        "start at once. auto: unless the import leaves threads, connections or event loops, which do not survive a "
        "fork; the log says what was found. off: each worker imports TARGET.",
    )
    surge: int = option(
        1,
        Count(1, 1024),
        _RENEWAL,
        "How many extra workers may be starting at a time while others are replaced, by a reload (HUP) or one of the "
        "limits below.",
    )
    refork_after: int = option(
        0,
        Count(0, 10**12),
        _RENEWAL,
        "Make the process from which workers are forked anew, of the first worker that has served so many requests "
        "(connections or datagrams of handlers): caches that it has filled and modules that it has imported meanwhile "
        "are shared by all workers then. Again in each generation. 0: never. No effect with --preload off.",
    )
    max_requests: int = option(
        0,
        Count(0, 10**12),
        _RENEWAL,
        "Replace a worker that has served so many requests; connections or datagrams of handlers. 0: never.",
    )
    max_lifetime: float = option(0.0, Seconds(0, 365 * DAY), _RENEWAL, "Replace a worker of this age. 0: never.")
    max_memory: int = option(
        0, Bytes(0, 2**50), _RENEWAL, "Replace a worker that holds so much memory (resident). 0: never."
    )
    recycle_jitter: float = option(
        0.1,
        Fraction(0, 10.0),
        _RENEWAL,
        "Each worker draws its own limits, up to this fraction above those given, so that not all are replaced at "
        "once.",
    )
    max_restarts: RestartLimit | None = option(
        None,
        Restarts(),
        _RENEWAL,
        "End the service when more workers than N have died within SECONDS, e.g. 5/10. 0: never; those that keep dying "
        "are restarted with pauses.",
    )
    stall_threshold: float = option(
        0.01,
        Seconds(0, 60.0),
        _STALLS,
        "A worker whose event loop has not turned for so long gets no new connections until it does, and other workers "
        "accept those that wait for it. 0: never.",
        check=_why_no_threshold,
    )
    stall_report: float = option(
        1.0, Seconds(0, DAY), _STALLS, "After so long the stack of a stalled worker is logged. 0: never."
    )
    stall_timeout: float = option(
        0.0, Seconds(0, DAY), _STALLS, "After so long a stalled worker is killed and replaced. 0: never."
    )
