"""Periodic checks: stalled loops, broken listening sockets, children that lack listeners."""

from __future__ import annotations

from collections.abc import Callable

from hybrid.supervisor.children.handles import Children
from hybrid.supervisor.children.kernel import Kernel
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.machine import Machine, Phase
from hybrid.supervisor.listeners.sockets import Listeners
from hybrid.supervisor.shell.actions import Actions
from hybrid.supervisor.shell.deaths import Deaths
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
        deaths: Deaths,
        feed: Callable[[ev.Event], None],
    ) -> None:
        """`feed` gives an event to the machine and performs the actions."""
        self._kernel = kernel
        self._children = children
        self._detector = detector
        self._machine = machine
        self._listeners = listeners
        self._actions = actions
        self._deaths = deaths
        self._feed = feed
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
        sight = self._detector.look(now, records)
        if sight.news:
            for item in sight.news:
                self._children.has_stalled(item.pid, now)
            self._feed(ev.Looked(sight.news))
        for pid in sight.ping:
            self._children.ping(pid)
        if sight.ping:
            self._deaths.end_leftovers(after_a_look=True)
        return bool(sight.news or sight.ping)
