"""Coarse time for a worker: the Date header and the connections' deadlines, without a timer per connection.

A request reads `now` and stores a deadline: two attribute accesses. One timer per worker checks the connections. It
runs often enough for the shortest limit, and not at all while there are no connections.

A check looks at few of many connections. As no limit is shorter than the shortest, one that has been looked at cannot
end within that time, whatever deadline it gets meanwhile, unless `hurry` is called: it is put aside until then, or
until its deadline if that is earlier. A look at each of 15,000 idle WebSockets, each second, took 0.7 % of a core.

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
MOST_ASIDE = 5.0
"""Seconds; no limit that is not an option is shorter, except those for which `hurry` is called."""
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
        self._aside = min(shortest, MOST_ASIDE)  # seconds
        self._stood = 0.0  # seconds for which the loop has stood still, derived from late checks
        self._due = 0.0  # when the next check is due, in the loop's time
        self._checks = 0  # that have found something to end, in a row
        self.now = loop.time()
        self._near: set[Expiring] = set()  # at these each check looks
        self._later: dict[int, set[Expiring]] = {}  # whole steps of the clock -> these are put aside until then
        self._timer: asyncio.TimerHandle | None = None
        self._server = b"server: hybrid\r\n" if server else b""
        self._with_date = date
        self._second = 0
        self.fields = b""
        """The response fields `server` and `date`, as configured; updated once a second."""
        self.server_field = self._server
        self.date_field = b""
        self._look()

    @property
    def watched(self) -> set[Expiring]:
        """What is watched, in a new set."""
        return self._near.union(*self._later.values())

    def watch(self, item: Expiring) -> None:
        """Watch the deadline of an item that is not watched yet.

        Set the deadline after this call: `now` may have stood still until here.
        A deadline may be set at any time if it is at least `shortest` seconds ahead of `now`, or `MOST_ASIDE` if
        that is less. After an earlier one, call `hurry`, unless it is set in `expired`.
        """
        self._near.add(item)
        if self._timer is None:
            self._look()
            self._look_after(self.step)

    def hurry(self, item: Expiring) -> None:
        """Look at an item at the next check, if it is watched: its deadline may be earlier than `watch` allows."""
        for items in self._later.values():
            if item in items:
                items.remove(item)
                self._near.add(item)
                return

    def forget(self, item: Expiring) -> None:
        """Watch `item` no more, if it was watched."""
        if item in self._near:
            self._near.remove(item)
            return
        for items in self._later.values():
            items.discard(item)

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
        self._bring_near(now)
        expired = [item for item in self._near if item.deadline <= now]
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
        self._put_aside(now)
        if (self._near or any(self._later.values())) and self._timer is None:
            self._look_after(self.step)

    def _bring_near(self, now: float) -> None:
        """Bring near what was put aside until now and may end soon; put the rest aside again, and touch it once."""
        later, step = self._later, self.step
        end = now + self._aside
        for due in [due for due in later if due <= now / step]:
            items = later.pop(due)
            near = [item for item in items if item.deadline < end]
            self._near.update(near)
            items.difference_update(near)
            later.setdefault(int(end / step), items).update(items)

    def _put_aside(self, now: float) -> None:
        """Put aside what the next check need not look at, until its deadline or for the shortest time."""
        near, later, step = self._near, self._later, self.step
        end = now + self._aside
        for item in list(near):
            until = int(min(item.deadline, end) / step)
            if until > now / step + 1:
                near.remove(item)
                later.setdefault(until, set()).add(item)
