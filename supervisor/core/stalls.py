"""Stalls: a worker whose loop does not turn gets no new connections, is logged, and may be ended.

`Stalled` reports it after `--stall-threshold`, `Recovered` ends it. Steering and adoption follow from the table. The
stack is logged once the stall has lasted for `--stall-report`.
"""

from __future__ import annotations

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.base import OVER, Core
from hybrid.supervisor.core.events import Level
from hybrid.supervisor.core.lives import Lives
from hybrid.supervisor.core.states import State
from hybrid.supervisor.core.table import Child


class Stalls:
    """The stalls of serving workers, and of companions."""

    def __init__(self, core: Core, lives: Lives) -> None:
        self._core = core
        self._lives = lives

    def on_news(self, news: ev.Stalled | ev.Recovered, now: float) -> None:
        """Handle a change found by a look at the workers."""
        match news:
            case ev.Stalled(pid, since):
                self.on_stalled(pid, since)
            case ev.Recovered(pid):
                self.on_recovered(pid, now)

    def on_stalled(self, pid: int, since: float) -> None:
        """The loop of a worker has stalled."""
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
            seconds = now - child.stalled_since
            news = ev.News("recovered", (("seconds", round(seconds, 3)),))
            self._core.say_of(child, Level.INFO, f"{child.role.value} turns again after {seconds:.1f} s", news)

    def on_tick(self, now: float) -> None:
        """Report or end the stalls that have lasted too long."""
        policy = self._core.policy
        for child in self._stalled():
            since = child.stalled_since
            assert since is not None, "_stalled() returns stalled ones"
            # the same sums as in next_deadline: rounding may make `now - since` too small at the deadline itself
            if policy.stall_timeout and since + policy.stall_timeout <= now:
                self._core.abort(child, since, now)
                self._lives.succeed(child, f"its loop stood still for {now - since:.1f} s, so it was killed", now)
            elif policy.stall_report and since + policy.stall_report <= now and not child.is_reported:
                self._core.table.report(child.pid)
                self._core.do(ev.Dump(child.pid, since))

    def next_deadline(self) -> float | None:
        """Return when a stall must be reported or ended; None: there is none."""
        policy = self._core.policy
        times = []
        for child in self._stalled():
            assert child.stalled_since is not None, "_stalled() returns stalled ones"
            if policy.stall_report and not child.is_reported:
                times.append(child.stalled_since + policy.stall_report)
            if policy.stall_timeout:
                times.append(child.stalled_since + policy.stall_timeout)
        return min(times, default=None)

    def _stalled(self) -> list[Child]:
        if self._core.phase in OVER:
            return []
        table = self._core.table
        return [child for child in (*table.serving(), *table.attending()) if child.stalled_since is not None]
