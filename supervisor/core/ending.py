"""The end of the service: hold new connections, serve those that wait, and only then refuse others.

    a stop begins -> no further handshake begins; the workers hear that the whole service stops, and drain
                  -> handshakes under way are over: does a connection wait in some queue?
                       yes -> the workers that are left are told to accept it; the question is asked again later
                       no  -> new connections are refused

A refusal resets the connections that wait in a queue, and a worker whose loop is blocked accepts them only when the
loop turns again. So the grace period is the only limit.
"""

from __future__ import annotations

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.base import Core, Phase, count_of
from hybrid.supervisor.core.events import Level
from hybrid.supervisor.core.states import KILLABLE, State
from hybrid.supervisor.core.table import Child

_HANDSHAKES = 0.25
"""Seconds in which handshakes that were under way at a stop are completed."""
_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two looks at the queues: doubled each time."""
_HEARS = frozenset({State.READY, State.DRAINING})
"""A worker in these states serves connections."""


class Ending:
    """How the service ends, once it is to. All methods return at once."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._has_begun = False
        self._was_asked = False  # to stop: the service does not end for a reason of its own, or a successor's
        self._at_a_terminal = False  # by Ctrl-C
        self._has_successor = False  # which serves the same sockets, and clients come back to it
        self.in_haste = False
        """Whether a stop at once was asked for."""
        self._looks_at: float | None = None  # when the queues are looked into next; None: not yet, or refused already
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
            core.say(Level.INFO, f"stopping: {hint}" if graceful else f"stopping at once: killing {count_of(alive)}")
        self._was_asked, self._at_a_terminal = True, interrupted
        self.in_haste = not graceful
        core.phase = Phase.STOPPING
        core.table.want(0)

    def pursue(self, now: float, *, has_successor: bool) -> None:
        """Begin the end where it has come, before any worker is told to drain.

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
        """Look into the queues."""
        if self._looks_at is not None and now >= self._looks_at:
            self._looks_at = now + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self._core.do(ev.CheckQueues())

    def on_checked(self, *, waiting: bool) -> None:
        """Connections wait in some queue, or in none."""
        if self._looks_at is None:
            return
        if waiting:
            self._tell_stop()
        else:
            self._looks_at = None
            self._core.do(ev.RefuseConnections())

    def kill_leaving(self, now: float) -> None:
        """Kill the workers that were asked to leave."""
        for child in self._core.table.leaving():
            if child.state in KILLABLE:
                self._core.kill(child, now)

    def next_deadline(self) -> float | None:
        """Return when the queues are looked into; None: they are not."""
        return self._looks_at

    def _tell_stop(self) -> None:
        pids = tuple(child.pid for child in self._hearing())
        if pids and not self._has_successor:
            self._core.do(ev.TellStop(pids, self._at_a_terminal))

    def _hearing(self) -> list[Child]:
        return [child for child in self._core.table.workers() if child.state in _HEARS]

    def _killable(self) -> list[Child]:
        return [child for child in self._core.table.workers() if child.state in KILLABLE]
