"""Coarse time for a worker: the Date header and the connections' deadlines, without a timer per connection.

A request reads `now` and stores a deadline: two attribute accesses. One timer per worker checks all connections. It
runs often enough for the shortest limit, and not at all while there are no connections.

The limits apply to clients. While the loop stands still, in a request that blocks it or because the process is
stopped, no client is read: its data waits in the kernel. So a stall does not count, but for the time of one check, and
before a connection is ended the loop reads once more: it ends at the second of two checks.
"""

from __future__ import annotations

import asyncio
import email.utils
import logging
import math
import time
from typing import Protocol

NEVER = math.inf
_LONGEST = 1.0  # seconds between two checks: Date has that resolution (RFC 9110, section 6.6.1)
_SHORTEST = 0.05  # seconds
_MOST_CHECKS = 2  # before the one that ends connections, however late all of them are
_log = logging.getLogger("hybrid")


class Expiring(Protocol):
    """An object with a deadline."""

    deadline: float
    """In the clock's time, seconds; NEVER: none."""

    def expired(self) -> None:
        """Called when the deadline has passed: end the object, or set a new deadline. Must not block."""
        ...


class Clock:
    """The time of one loop while it turns. While something is watched, `now` is at most one `step` old.

    With nothing to watch it stands still. A check that is late by more than a step shows a stall: the clock leaves out
    the rest. So a deadline that was set in the stalled turn, from an old `now`, is early by two steps at most, which is
    half of the shortest limit.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, shortest: float = _LONGEST, *, server: bool = True, date: bool = True
    ) -> None:
        self._loop = loop
        self.step = min(_LONGEST, max(_SHORTEST, shortest / 4))
        """Seconds between two checks of the deadlines."""
        self._stood = 0.0  # seconds for which the loop has stood still, derived from late checks
        self._due = 0.0  # when the next check is due, in the loop's time
        self._checks = 0  # that have found something to end, in a row
        self.now = loop.time()
        self.watched: set[Expiring] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._server = b"server: hybrid\r\n" if server else b""
        self._with_date = date
        self._second = 0
        self.fields = b""
        """The response fields `server` and `date`, as configured; updated once a second."""
        self.server_field = self._server
        self.date_field = b""
        self._look()

    def watch(self, item: Expiring) -> None:
        """Watch the deadline of `item`. Set the deadline after this call: `now` may have stood still until here."""
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
        late = self._loop.time() - self._due
        self._stood += max(0.0, late - self.step)
        self._look()
        now = self.now
        expired = [item for item in self.watched if item.deadline <= now]
        is_late = late > _SHORTEST and self._checks < _MOST_CHECKS  # limits hold on a loop that is always late, too
        if expired and (not self._checks or is_late):
            self._checks += 1
            self._look_after(_SHORTEST)
            return
        self._checks = 0
        for item in expired:
            try:
                item.expired()
            except Exception:  # noqa: BLE001 - logged; one connection must not stop the clock of the others
                _log.exception("ending a connection at its deadline failed")
        if self.watched and self._timer is None:
            self._look_after(self.step)
