"""A worker's time in coarse steps: the Date header, and the deadlines of its connections, without a timer for each.

A request reads `now` and stores a deadline: two attribute accesses. One timer per worker looks at all connections,
often enough for the shortest limit, and not at all while there is no connection.

The limits are on clients. While the loop stands still, in a request that blocks it or because the process is stopped,
no client is heard: what it sends waits in the kernel. So that time does not count, and a look that comes late ends
nobody: the loop takes what has come first.
"""

from __future__ import annotations

import asyncio
import email.utils
import logging
import math
import time
from typing import Protocol

NEVER = math.inf
_LONGEST = 1.0  # seconds between two looks: Date has that resolution (RFC 9110, section 6.6.1)
_SHORTEST = 0.05  # seconds; also how late a look may be that ends connections
_log = logging.getLogger("hybrid")


class Expiring(Protocol):
    """What has a deadline."""

    deadline: float
    """In the time of the clock; NEVER: none."""

    def expired(self) -> None:
        """The deadline has passed: end it, or set a new one. Must not block."""
        ...


class Clock:
    """The time of one loop, as far as it turned. While something is watched, `now` is never more than a `step` old.

    With nothing to watch it stands. The loop's own time is ahead by all the time in which the loop has stood still.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, shortest: float = _LONGEST, *, server: bool = True, date: bool = True
    ) -> None:
        self._loop = loop
        self.step = min(_LONGEST, max(_SHORTEST, shortest / 4))
        """Seconds between two looks at the deadlines."""
        self._stood = 0.0  # seconds for which the loop has stood still, as late looks tell
        self._due = 0.0  # when the next look is to be, in the loop's time
        self._is_second = False  # the next look follows one that was late
        self.now = loop.time()
        self.watched: set[Expiring] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._server = b"server: hybrid\r\n" if server else b""
        self._with_date = date
        self._second = 0
        self.fields = b""
        """The `server` and `date` fields of an answer, as far as wanted; changes once a second."""
        self.server_field = self._server
        self.date_field = b""
        self._look()

    def watch(self, item: Expiring) -> None:
        """Keep an eye on the deadline of `item`, which is to be set after that: `now` may have stood until here."""
        self.watched.add(item)
        if self._timer is None:
            self._look()
            self._look_after(self.step)

    def _look_after(self, seconds: float) -> None:
        self._due = self._loop.time() + seconds
        self._timer = self._loop.call_at(self._due, self._tick)

    def _look(self) -> None:
        self.now = self._loop.time() - self._stood
        second = int(time.time())
        if second != self._second:
            self._second = second
            if self._with_date:
                self.date_field = f"date: {email.utils.formatdate(second, usegmt=True)}\r\n".encode("ascii")
            self.fields = self._server + self.date_field

    def _tick(self) -> None:
        self._timer = None
        late = max(0.0, self._loop.time() - self._due)
        self._stood += late
        self._look()
        self._is_second = late > _SHORTEST and not self._is_second  # a loop that is always late has limits, too
        if self._is_second:  # uvloop's timers come before what can be read
            self._look_after(_SHORTEST)
            return
        now = self.now
        for item in [item for item in self.watched if item.deadline <= now]:
            try:
                item.expired()
            except Exception:  # noqa: BLE001 - logged; one connection must not stop the clock of the others
                _log.exception("ending a connection at its deadline failed")
        if self.watched and self._timer is None:
            self._look_after(self.step)
