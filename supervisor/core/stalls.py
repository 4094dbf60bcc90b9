"""Stalls: workers whose loop does not turn. They get no new connections, are named in the log, and may be ended.

Whose loop stands still is told by `Stalled`, after `--stall-threshold`, and by `Recovered`. Steering and adoption
follow from the table. What a stall looks like is logged once it has lasted for `--stall-report`.
"""

from __future__ import annotations

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.base import OVER, Core
from hybrid.supervisor.core.events import Level
from hybrid.supervisor.core.lives import Lives
from hybrid.supervisor.core.states import State
from hybrid.supervisor.core.table import Child


class Stalls:
    """The stalls of workers that serve."""

    def __init__(self, core: Core, lives: Lives) -> None:
        self._core = core
        self._lives = lives

    def on_news(self, news: ev.Stalled | ev.Recovered, now: float) -> None:
        """A look at a worker has shown a change."""
        match news:
            case ev.Stalled(pid, since):
                self.on_stalled(pid, since)
            case ev.Recovered(pid):
                self.on_recovered(pid, now)

    def on_stalled(self, pid: int, since: float) -> None:
        """The loop of a worker does not turn."""
        child = self._core.table.child(pid)
        if child is not None and child.state is State.READY and child.stalled_since is None:
            self._core.table.stall(pid, since, avoid=self._core.policy.avoids_stalled)

    def on_recovered(self, pid: int, now: float) -> None:
        """The loop of a worker turns again."""
        child = self._core.table.child(pid)
        if child is None or child.stalled_since is None:
            return
        self._core.table.stall(pid, None)
        if child.is_reported and child.state is State.READY:
            self._core.say_of(child, Level.INFO, f"worker turns again after {now - child.stalled_since:.1f} s")

    def on_tick(self, now: float) -> None:
        """Report and end the stalls that have lasted for too long."""
        policy = self._core.policy
        for child in self._stalled():
            since = child.stalled_since
            assert since is not None, "these are"
            # sums as in next_deadline: `now - since` may be rounded to a little less at the deadline itself
            if policy.stall_timeout and since + policy.stall_timeout <= now:
                self._core.abort(child, since, now)
                self._lives.succeed(child, f"its loop stood still for {now - since:.1f} s, so it was killed", now)
            elif policy.stall_report and since + policy.stall_report <= now and not child.is_reported:
                self._core.table.report(child.pid)
                self._core.do(ev.Dump(child.pid, since))

    def next_deadline(self) -> float | None:
        """Return when a stall is to be reported or ended; None: there is none."""
        policy = self._core.policy
        times = []
        for child in self._stalled():
            assert child.stalled_since is not None, "these are"
            if policy.stall_report and not child.is_reported:
                times.append(child.stalled_since + policy.stall_report)
            if policy.stall_timeout:
                times.append(child.stalled_since + policy.stall_timeout)
        return min(times, default=None)

    def _stalled(self) -> list[Child]:
        if self._core.phase in OVER:
            return []
        return [child for child in self._core.table.serving() if child.stalled_since is not None]
