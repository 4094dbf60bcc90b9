"""The asyncio loop that shares gevent's thread, and its selector.

gevent's hub polls. The asyncio loop runs in the main greenlet and, when idle, waits in its selector for an event that
gevent's I/O watchers set. gevent's own `GeventSelector` is not used for two reasons: its `select(0)`, which asyncio
calls while it is busy, lets no other greenlet run, and it cannot be woken from another greenlet.
"""

from __future__ import annotations

import asyncio
import contextvars
import selectors
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVarTuple, Unpack

import gevent
import gevent.event
import greenlet

from hybrid.workers.common import forks
from hybrid.workers.common.fairness import LONGEST
from hybrid.workers.loops.gevent_sockets import INSTANT
from hybrid.workers.pollers.registrations import Registrations
from hybrid.workers.tasks.cpython import UncheckedLoop, running_loop, set_running_loop

Ts = TypeVarTuple("Ts")


class GeventSelector(Registrations):
    """A selector that waits by switching to gevent's hub. A watcher that has fired rests until the next `select`."""

    def __init__(self) -> None:
        super().__init__()
        self._hub = gevent.get_hub()
        self._watchers: dict[int, Any] = {}  # fd -> gevent I/O watcher
        self._resting: set[int] = set()  # fds with a stopped watcher
        self._fired: dict[int, int] = {}  # fd -> events since the last select
        self._something = gevent.event.Event()
        self._abandoned = False
        self._polled = 0.0  # time when a busy loop last let gevent poll

    def _added(self, fd: int, events: int) -> None:
        self._watchers[fd] = self._hub.loop.io(fd, events)  # EVENT_READ and EVENT_WRITE are libev's 1 and 2
        self._start(fd)

    def _changed(self, fd: int, events: int) -> None:
        self._removed(fd)
        self._added(fd, events)

    def _removed(self, fd: int) -> None:
        watcher = self._watchers.pop(fd)
        watcher.stop()
        watcher.close()
        self._resting.discard(fd)
        self._fired.pop(fd, None)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let gevent run until a registered descriptor is ready, at most `timeout` seconds."""
        for fd in self._resting:
            self._start(fd)
        self._resting.clear()
        # asyncio stores the running loop per thread; hide it from the other greenlets, which run now: otherwise asgiref
        # and Django would refuse to work "in an async context"
        running = running_loop()
        set_running_loop(None)
        if self._abandoned:  # in the greenlet that forked
            forks.leave()
        try:
            if timeout is not None and timeout <= 0:
                self._turn_once()
            else:
                self._something.wait(timeout)
            while self._is_abandoned():
                gevent.sleep(3600)
        finally:
            set_running_loop(running)
        self._something.clear()
        fired, self._fired = self._fired, {}
        return [(key, mask & key.events) for fd, mask in fired.items() if (key := self._keys.get(fd)) is not None]

    def _turn_once(self) -> None:
        """Let gevent run due callbacks, and poll if it has not polled for a while."""
        now = monotonic()
        if now - self._polled > LONGEST:
            self._polled = now
            gevent.sleep(INSTANT)
        else:
            gevent.sleep(0)

    def _is_abandoned(self) -> bool:
        return self._abandoned

    def wake(self) -> None:
        """End the current wait; from another greenlet of this thread."""
        self._something.set()

    def abandon(self) -> None:
        """Never return from `select` again, in a process that a handler forked: the loop belongs to the worker.

        If the loop's own greenlet forked, its next `select` ends the process. Other greenlets continue meanwhile.

        gevent gives the child its own epoll set, so stopping the watchers there does not affect the worker.
        """
        self.close()
        self._abandoned = True
        self._something.set()

    def close(self) -> None:
        """Stop all watchers."""
        for fd in list(self._watchers):
            self._removed(fd)
        self._keys.clear()

    def _start(self, fd: int) -> None:
        self._watchers[fd].start(self._ready, fd, pass_events=True)

    def _ready(self, events: int, fd: int) -> None:
        if fd in self._watchers:
            self._watchers[fd].stop()
            self._resting.add(fd)
            # on an error (-1) the next read or write raises it
            self._fired[fd] = events & 3 if events > 0 else 3
            self._something.set()


class GeventLoop(UncheckedLoop):
    """An asyncio loop over gevent. Scheduling on it from another greenlet wakes it, so futures work across greenlets.

    Its thread check is off, because gevent's `get_ident` differs per greenlet, and all of them may call.
    """

    def __init__(self) -> None:
        self._gevent_selector = GeventSelector()
        self._runs_in: greenlet.greenlet | None = None
        super().__init__(self._gevent_selector)

    def abandon(self) -> None:
        """See `GeventSelector.abandon`."""
        self._gevent_selector.abandon()

    def run_forever(self) -> None:
        """Run until stopped; remember the greenlet."""
        self._runs_in = greenlet.getcurrent()
        try:
            super().run_forever()
        finally:
            self._runs_in = None

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """As asyncio's; from another greenlet it also wakes the loop."""
        handle = super().call_soon(callback, *args, context=context)
        if self._runs_in is not None and greenlet.getcurrent() is not self._runs_in:
            self._gevent_selector.wake()
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """As asyncio's; from another greenlet it also wakes the loop, which recomputes its timeout."""
        handle = super().call_at(when, callback, *args, context=context)
        if self._runs_in is not None and greenlet.getcurrent() is not self._runs_in:
            self._gevent_selector.wake()
        return handle
