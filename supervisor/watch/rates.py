"""How busy each worker was in the last seconds, from two samples of its record. Nothing is woken for them.

The shell passes the records at its looks, which happen anyway. A rate is measured from a sample that is 5 to 10 seconds
old; of a young worker, from its first one.
"""

from __future__ import annotations

from collections.abc import Mapping

from hybrid.workers.contract.records import record
from hybrid.workers.contract.scoreboard import BUSY, BUSY_SINCE, Record

SPAN = 5.0
"""Seconds that a sample is kept at least before it is replaced."""
SHORTEST = 0.5
"""Seconds; there is no rate over less."""
_STEP = 0.3  # seconds between two looks at the samples, however often they are passed


@record(frozen=True, slots=True)
class Rates:
    """The activity of a worker in the last seconds."""

    busy: float | None = None
    """Share of the time in which its loop was busy, 0 to 1; None: not known yet."""
    requests_per_second: float | None = None
    """None: not known yet."""


@record(frozen=True, slots=True)
class _Sample:
    at: float
    busy: float
    requests: int


UNKNOWN = Rates()


class Samples:
    """Two samples of each serving worker. No method blocks; times are monotonic seconds."""

    def __init__(self) -> None:
        self._samples: dict[int, tuple[_Sample, _Sample]] = {}  # pid -> the older sample and the newer one
        self._due = 0.0

    def note(self, now: float, records: Mapping[int, Record]) -> None:
        """Look at the records of the serving workers: pid -> record."""
        if now < self._due:
            return
        self._due = now + _STEP
        for pid in [pid for pid in self._samples if pid not in records]:
            del self._samples[pid]
        for pid, entry in records.items():
            known = self._samples.get(pid)
            if known is None:
                first = _sample(now, entry)
                self._samples[pid] = first, first
            elif now - known[1].at >= SPAN:
                self._samples[pid] = known[1], _sample(now, entry)

    def rates(self, pid: int, now: float, entry: Record) -> Rates:
        """Return the rates of a worker with this record; unknown for one that does not serve."""
        known = self._samples.get(pid)
        if known is None or now - known[0].at < SHORTEST:
            return UNKNOWN
        old, new = known[0], _sample(now, entry)
        seconds = now - old.at
        busy = min(max((new.busy - old.busy) / seconds, 0.0), 1.0)  # the turn in progress is not measured exactly
        return Rates(busy, max(new.requests - old.requests, 0) / seconds)


def _sample(now: float, entry: Record) -> _Sample:
    since = entry.times[BUSY_SINCE]
    turn = now - since if 0.0 < since < now else 0.0  # the turn in progress: it may be a stall
    return _Sample(now, entry.times[BUSY] + turn, entry.requests)
