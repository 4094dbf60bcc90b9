"""Periodic checks: stalled loops, broken listening sockets, children that lack listeners."""

from __future__ import annotations

from collections.abc import Callable

from hybrid.supervisor.children.handles import Children
from hybrid.supervisor.children.kernel import Kernel
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.machine import Machine, Phase
from hybrid.supervisor.listeners.sockets import Listeners
from hybrid.supervisor.shell.actions import Actions
from hybrid.supervisor.watch.rates import Samples
from hybrid.supervisor.watch.stall_detector import CALM, StallDetector

_ASLEEP = 0.5  # seconds of delay after which other processes probably did not run either


class Looks:
    """Decides when to look next, and looks. No method blocks."""

    def __init__(
        self,
        kernel: Kernel,
        children: Children,
        detector: StallDetector,
        machine: Machine,
        listeners: Listeners,
        actions: Actions,
        feed: Callable[[ev.Event], None],
        pinged: Callable[[], None],
        samples: Samples,
    ) -> None:
        """`feed` gives an event to the machine and performs the actions; `pinged` is called after pings.

        `samples` gets the records of the serving workers.
        """
        self._kernel = kernel
        self._children = children
        self._detector = detector
        self._machine = machine
        self._listeners = listeners
        self._actions = actions
        self._feed = feed
        self._pinged = pinged
        self._samples = samples
        self._mends_at = 0.0  # when to check the listening sockets next

    @property
    def due(self) -> float | None:
        """When to look next, in monotonic seconds; None while no worker serves."""
        return self._detector.next_look if self._machine.serving() else None

    def woke(self, due: float | None, now: float) -> None:
        """Forgive the workers if this process woke long after `due`: they did not run either."""
        if due is not None and now - due > _ASLEEP:
            self._detector.forgive(now)

    def look_if_due(self, now: float) -> bool:
        """Look if it is time; return True if there is news."""
        return self._detector.next_look <= now and self._look(now)

    def is_due(self, now: float) -> bool:
        """Return True if it is time to look."""
        return self._detector.next_look <= now and bool(self._machine.serving())

    def look_soon(self, now: float) -> bool:
        """Look if it is nearly time, because others are looked at now; return True if there is news.

        Otherwise a hundred quiet services would wake this process a hundred times as often as one.
        """
        return self._detector.next_look <= now + CALM / 3 and self._machine.phase is Phase.SERVING and self._look(now)

    def _look(self, now: float) -> bool:
        """Find stalled loops, and ping the workers."""
        self._children.flush()
        if self._mends_at <= now and self._machine.phase is Phase.SERVING:
            self._mends_at = now + CALM
            event = self._actions.mend()
            if event is not None:
                self._feed(event)
        if self._children.is_behind(self._listeners.slots):
            self._children.teach_all(self._listeners.all())
        records = {pid: self._children[pid].record for pid in self._machine.serving() if pid in self._children}
        attending = [(pid, self._children[pid]) for pid in self._machine.attending() if pid in self._children]
        companions = {pid: handle.record for pid, handle in attending if handle.takes_orders}  # else it has no loop
        calls = {pid: handle.record for pid, handle in attending if handle.runs_calls}
        self._samples.note(now, {**records, **companions, **calls} if attending else records)
        callees = {pid: handle.record for pid, handle in attending if handle.runs_calls and handle.listens}
        sight = self._detector.look(now, records, companions, callees)
        if sight.news:
            for item in sight.news:
                self._children.has_stalled(item.pid, now)
            self._feed(ev.Looked(sight.news))
        for pid in sight.ping:
            self._children.ping(pid)
        if sight.ping:
            self._pinged()
        return bool(sight.news or sight.ping)
