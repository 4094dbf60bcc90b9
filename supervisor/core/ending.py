"""The end of the service: hold new connections, serve the queued ones, and only then refuse others.

    a stop begins -> no further handshake begins; the workers learn that the whole service stops, and drain
                  -> pending handshakes have completed: is a connection queued?
                       yes -> the remaining workers are told to accept it; the queues are checked again later
                       no  -> new connections are refused

Refusing resets queued connections, and a worker with a blocked loop accepts them only when the loop turns again. So the
grace period is the only limit.
"""

from __future__ import annotations

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.base import Core, Phase, count_of
from hybrid.supervisor.core.events import Level
from hybrid.supervisor.core.states import KILLABLE, State
from hybrid.supervisor.core.table import Child

_HANDSHAKES = 0.25
"""Seconds for handshakes in progress at a stop to complete."""
_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two checks of the queues; doubled each time, up to the second number."""
_HEARS = frozenset({State.READY, State.DRAINING})
"""A worker in these states serves connections."""


class Ending:
    """The stop of the service. All methods return at once."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._has_begun = False
        self._was_asked = False  # by a request, not by a failure or for a successor
        self._at_a_terminal = False  # by Ctrl-C
        self._has_successor = False  # a successor serves the same sockets, and clients reconnect to it
        self.in_haste = False
        """True if a stop at once was asked for."""
        self._looks_at: float | None = None  # when to check the queues next; None: not yet, or refused already
        self._pause = _PAUSE

    def on_asked(self, *, graceful: bool, interrupted: bool = False) -> None:
        """Stop the service: draining, or at once."""
        core = self._core
        if graceful and core.phase is Phase.STOPPING:
            return
        alive = len(self._killable())
        if core.phase is not Phase.STOPPING or not self.in_haste:
            limit = f"{core.policy.graceful_timeout:g}"
            hint = f"draining {count_of(alive)} (at most {limit} s); press Ctrl-C again to end at once"
            news = ev.News("stop", (("graceful", graceful),))
            companions = sum(child.state in KILLABLE for child in core.table.attendants())
            whom = count_of(alive) if not companions else f"{count_of(alive)} and {count_of(companions, 'companion')}"
            text = f"stopping: {hint}" if graceful else f"stopping at once: killing {whom}"
            core.say(Level.INFO, text, news=news)
        self._was_asked, self._at_a_terminal = True, interrupted
        self.in_haste = not graceful
        core.phase = Phase.STOPPING
        if self.in_haste:
            core.table.dismiss()
        core.table.want(0)

    def pursue(self, now: float, *, has_successor: bool) -> None:
        """Begin the stop, if it is time, before any worker is told to drain.

        A successor has taken its addresses by then; only the others are held and refused.
        """
        if self._has_begun or self._core.phase is not Phase.STOPPING:
            return
        self._has_begun, self._has_successor = True, has_successor
        if self.in_haste or not (self._hearing() or (self._was_asked and self._killable())):
            return
        self._core.do(ev.HoldConnections())
        self._looks_at = now + _HANDSHAKES
        self._tell_stop()

    def on_tick(self, now: float) -> None:
        """Check the queues, if it is time."""
        if self._looks_at is not None and now >= self._looks_at:
            self._looks_at = now + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self._core.do(ev.CheckQueues())

    def on_checked(self, *, waiting: bool) -> None:
        """Handle the result of a check: `waiting` if a connection is queued."""
        if self._looks_at is None:
            return
        if waiting:
            self._tell_stop()
        else:
            self._looks_at = None
            self._core.do(ev.RefuseConnections())

    def kill_leaving(self, now: float) -> None:
        """Kill the workers that were told to end."""
        for child in self._core.table.leaving():
            if child.state in KILLABLE:
                self._core.kill(child, now)

    def next_deadline(self) -> float | None:
        """Return when to check the queues; None: no check is due."""
        return self._looks_at

    def _tell_stop(self) -> None:
        pids = tuple(child.pid for child in self._hearing())
        if pids and not self._has_successor:
            self._core.do(ev.TellStop(pids, self._at_a_terminal))

    def _hearing(self) -> list[Child]:
        return [child for child in self._core.table.workers() if child.state in _HEARS]

    def _killable(self) -> list[Child]:
        return [child for child in self._core.table.workers() if child.state in KILLABLE]
