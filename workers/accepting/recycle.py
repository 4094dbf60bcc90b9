"""When a worker is due for recycling: it has reached its limit of requests, age or memory.

And when it is ready for a refork: it has served enough requests for its memory to be worth sharing.

Each worker draws its own limits, a little above the configured ones, so that workers that start together do not end
together. A worker that is due reports it and keeps serving.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from time import monotonic

from hybrid.workers.boot.application import RecycleLimits
from hybrid.workers.common.heartbeat import Heartbeat

_MIB = 1024 * 1024
_log = logging.getLogger("hybrid")
_draw = random.SystemRandom().random  # workers that are forked from one process would draw the same from `random`


class RecycleCheck:
    """Compares one worker with its limits. Requests are counted exactly; `look` checks age and memory."""

    def __init__(
        self,
        limits: RecycleLimits,
        heartbeat: Heartbeat,
        recycle_due: Callable[[str], object],
        clock: Callable[[], float] = monotonic,
        draw: Callable[[], float] = _draw,
        refork_ready: Callable[[], object] = lambda: None,
    ) -> None:
        """`recycle_due(reason)` is called once, at the first limit reached; `draw` returns a number from 0 to 1.

        `refork_ready()` is called once too.
        """
        self._heartbeat = heartbeat
        self._tell = recycle_due
        self._clock = clock
        self._began = clock()
        self._is_due = False
        self._lifetime = limits.max_lifetime * (1 + limits.jitter * draw())
        self._most_memory = limits.max_memory
        self._memory = limits.max_memory * (1 + limits.jitter * draw())
        self._requests = int(limits.max_requests * (1 + limits.jitter * draw()))
        marks = [(self._requests, self._served_all), (limits.refork_after, refork_ready)]
        self._marks = sorted((mark for mark in marks if mark[0]), key=lambda mark: mark[0])  # those still to come
        self._expect(0)

    def begin(self) -> None:
        """Drop a memory limit that is exceeded before the first request: it would recycle the worker endlessly."""
        memory = self._heartbeat.measure_memory()
        if 0 < self._most_memory <= memory:
            _log.warning(
                "holds %.0f MiB of memory before its first request, no less than --max-memory: not replaced for its "
                "memory; set --max-memory higher",
                memory / _MIB,
            )
            self._memory = 0

    def look(self) -> None:
        """Compare the worker's age and memory with its limits."""
        age = self._clock() - self._began
        if 0 < self._memory <= self._heartbeat.memory:
            self._recycle_due(f"holds {self._heartbeat.memory / _MIB:.0f} MiB of memory")
        elif 0 < self._lifetime <= age:
            self._recycle_due(f"lived for {_spoken(age)}")

    def _expect(self, served: int) -> None:
        """Count the request that crosses the next mark."""
        if self._marks:
            self._heartbeat.expects_last_request(self._marks[0][0] - served, self._has_served)

    def _has_served(self) -> None:
        served = self._marks[0][0]
        while self._marks and self._marks[0][0] == served:
            self._marks.pop(0)[1]()
        self._expect(served)

    def _served_all(self) -> None:
        self._recycle_due(f"served {self._requests} requests")

    def _recycle_due(self, why: str) -> None:
        if not self._is_due:
            self._is_due = True
            self._tell(why)


def _spoken(seconds: float) -> str:
    """`90 s`, `75 min`, `26 h`."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
