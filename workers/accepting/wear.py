"""When a worker is worn: it has served, lived or grown as much as it may, and another should take its place.

And when it is seasoned: it has served enough for its memory to be worth sharing.

Each worker draws its own limits, a little above those that were set, so that workers that start together do not end
together. A worn worker says so and serves on.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from time import monotonic

from hybrid.workers.boot.application import Wear
from hybrid.workers.common.heartbeat import Heartbeat

_MIB = 1024 * 1024
_log = logging.getLogger("hybrid")
_draw = random.SystemRandom().random  # workers that are forked from one process would draw the same from `random`


class Endurance:
    """What one worker endures. Requests are counted exactly; time and memory are looked at when `look` is called."""

    def __init__(
        self,
        wear: Wear,
        heartbeat: Heartbeat,
        worn: Callable[[str], object],
        clock: Callable[[], float] = monotonic,
        draw: Callable[[], float] = _draw,
        seasoned: Callable[[], object] = lambda: None,
    ) -> None:
        """`worn(why)` is called once, whatever limit is reached first; `draw` returns a number from 0 to 1.

        `seasoned()` is called once, too.
        """
        self._heartbeat = heartbeat
        self._tell = worn
        self._clock = clock
        self._began = clock()
        self._worn = False
        self._lifetime = wear.max_lifetime * (1 + wear.jitter * draw())
        self._most_memory = wear.max_memory
        self._memory = wear.max_memory * (1 + wear.jitter * draw())
        self._requests = int(wear.max_requests * (1 + wear.jitter * draw()))
        marks = [(self._requests, self._served_all), (wear.refork_after, seasoned)]
        self._marks = sorted((mark for mark in marks if mark[0]), key=lambda mark: mark[0])  # those still to come
        self._expect(0)

    def begin(self) -> None:
        """The worker is about to serve. A limit that it exceeds already would have it replaced for ever: forget it."""
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
            self._is_worn(f"holds {self._heartbeat.memory / _MIB:.0f} MiB of memory")
        elif 0 < self._lifetime <= age:
            self._is_worn(f"lived for {_spoken(age)}")

    def _expect(self, served: int) -> None:
        """Have the request counted that comes to the next mark."""
        if self._marks:
            self._heartbeat.expects_last_request(self._marks[0][0] - served, self._has_served)

    def _has_served(self) -> None:
        served = self._marks[0][0]
        while self._marks and self._marks[0][0] == served:
            self._marks.pop(0)[1]()
        self._expect(served)

    def _served_all(self) -> None:
        self._is_worn(f"served {self._requests} requests")

    def _is_worn(self, why: str) -> None:
        if not self._worn:
            self._worn = True
            self._tell(why)


def _spoken(seconds: float) -> str:
    """`90 s`, `75 min`, `26 h`."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
