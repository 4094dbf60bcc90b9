"""A worker from its fork to its death.

A worker that dies gets a successor at once; if its successors die too, restarts back off. Before the first worker is
ready, failures end the start; afterwards only the restart intensity ends the service.
"""

from __future__ import annotations

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core import policy as rules
from hybrid.supervisor.core.base import BEFORE_SERVING, OVER, Core, Phase
from hybrid.supervisor.core.events import Level
from hybrid.supervisor.core.generations import Generations
from hybrid.supervisor.core.policy import Deaths, last_words
from hybrid.supervisor.core.states import OCCUPYING, News, State
from hybrid.supervisor.core.table import Child
from hybrid.workers.contract.exits import Exit

_ENDS_OF_A_BOOT = frozenset({"SIGTERM", "SIGALRM"})  # signals that end a worker with nothing to drain; see `serving`


class Lives:
    """The lives of workers."""

    def __init__(self, core: Core, generations: Generations) -> None:
        self._core = core
        self._generations = generations
        intensity = core.policy.intensity
        self._deaths = None if intensity is None else Deaths(intensity)  # the deaths that count
        self._complaint: str | None = None  # the newest reason for a failed boot, not logged twice in a row

    def on_spawned(self, slot: int, pid: int, now: float) -> None:
        """A fork succeeded."""
        core = self._core
        fork = core.table.slot(slot).fork
        generation = core.table.generation if fork is None else fork.generation
        deadline = core.due(State.BOOTING, now)
        core.table.add(Child(pid, slot, generation, State.BOOTING, forked_at=now, deadline=deadline))

    def on_fork_failed(self, slot: int, reason: str, now: float) -> None:
        """A fork failed."""
        core = self._core
        before = core.table.slot(slot)
        if before.fork is not None and self._generations.on_fork_failed_of(before.fork.generation, reason):
            core.table.miss(slot, before.failures, before.not_before)
            return
        failures = before.failures + 1
        delay = rules.fork_delay(core.policy, failures)
        core.table.miss(slot, failures, now + delay)
        if core.phase in OVER or slot not in core.table.wanted:
            return
        if not self._gave_up(failures, f"cannot fork: {reason}"):
            core.say(Level.WARNING, f"cannot fork a worker: {reason}; trying again in {delay:.1f} s", slot=slot)

    def on_ready(self, pid: int, now: float) -> None:
        """A worker serves."""
        core = self._core
        child = core.table.child(pid)
        if child is not None and child.state is State.DRAINING:  # SIGTERM reached a handler of the application
            core.do(ev.Drain(pid))
            return
        if child is None or child.state is not State.BOOTING:
            return  # too late: it is leaving
        core.table.move(pid, News.READY, None, ready_at=now)
        self._complaint = None
        core.phase = Phase.SERVING if core.phase in BEFORE_SERVING else core.phase
        self._generations.on_ready(child)

    def on_draining(self, pid: int, now: float) -> None:
        """A worker drains without an order: start a successor in its slot.

        It gets SIGTERM all the same, which a draining worker ignores: any code in its process could have sent the
        message, and a worker that only claims to drain would serve until it is killed.
        """
        core = self._core
        child = core.table.child(pid)
        if child is None or child.state is not State.READY or child.is_zygote:
            return
        core.say_of(child, Level.WARNING, "worker was told to drain by another process; starting its successor")
        core.do(core.drain(child, now))

    def on_broken(self, pid: int, why: str, now: float) -> None:
        """A worker lost a listening socket, and ends. This counts as a death."""
        core = self._core
        child = core.table.child(pid)
        if child is None or child.is_zygote or core.phase in OVER:
            return
        if child.state is State.READY:
            core.do(core.drain(child, now))
            self.succeed(child, f"the listening socket {why}", now, what="worker cannot accept connections")
        if core.phase not in OVER:  # unless it was one death too many
            core.do(ev.MendListeners())

    def on_failed(self, child: Child, code: int, reason: str) -> None:
        """A worker cannot start, and is about to exit."""
        core = self._core
        if child.state is not State.BOOTING:
            return
        core.table.move(child.pid, News.FAILED, child.deadline)
        core.table.blame(child.pid, reason)
        if core.phase is Phase.STARTING:
            core.fail(exit_of(code), reason)
        else:
            self._generations.on_failed(child, reason)

    def on_recycle_due(self, pid: int, why: str) -> None:
        """A worker is due for recycling."""
        core = self._core
        child = core.table.child(pid)
        if child is not None and child.state is State.READY and child.recycle_reason is None:
            core.table.set_recycle_reason(pid, why)
            core.say_of(child, Level.INFO, f"worker {why}: starting its successor")

    def on_exited(self, child: Child, how: ev.How, now: float) -> None:
        """A worker is dead."""
        core = self._core
        core.table.remove(child.pid)
        if child.state in OCCUPYING:
            self.succeed(child, f"{how} after {now - child.forked_at:.1f} s", now)
        elif child.state is State.DRAINING:
            self._on_drained(child, how, now)

    def on_overdue(self, child: Child, now: float) -> None:
        """A worker has exceeded the deadline of its state."""
        core = self._core
        match child.state:
            case State.BOOTING | State.FAILED:
                core.abort(child, child.forked_at, now)
                self.succeed(child, f"not ready after {core.policy.boot_timeout:g} s and killed", now)
            case State.DRAINING:
                limit = f"after {core.policy.graceful_timeout:g} s"
                core.say_of(child, Level.WARNING, f"worker still not drained {limit}: killing it")
                core.kill(child, now)
            case State.ABORTED:
                core.kill(child, now)
            case _:
                self._insist(child, now)

    def succeed(self, child: Child, how: str, now: float, what: str = "worker died") -> None:
        """Record the loss of a worker that held its slot (`what`), and decide when its successor starts."""
        core = self._core
        if self._generations.on_lost(child, how):
            return
        before = core.table.slot(child.slot).failures
        failures = rules.failures_after_death(core.policy, before, child.served(now))
        delay = rules.restart_delay(core.policy, failures)
        core.table.lose(child.slot, failures, now + delay)
        if core.phase in OVER:
            when = "stopping"
        elif core.phase is Phase.STARTING and self._gave_up(failures, how):
            return
        else:
            when = f"restarting in {delay:.1f} s" if delay else "restarting now"
        self._complain(child, f"{what}: {how}", when)
        self._count(child, child.failure or how, now)

    def _count(self, child: Child, how: str, now: float) -> None:
        """Stop the service if workers die more often than allowed."""
        if self._deaths is None or self._core.phase in OVER:
            return
        self._deaths = self._deaths.after(now, f"slot {child.slot}", how)
        if self._deaths.is_exceeded:
            self._core.fail(Exit.RESTARTS, last_words(self._deaths))

    def _complain(self, child: Child, what: str, when: str) -> None:
        core = self._core
        if child.failure is None:
            core.say_of(child, Level.WARNING, f"{what}; {when}")
        elif child.failure != self._complaint:
            self._complaint = child.failure
            core.say_of(child, Level.ERROR, f"worker cannot start, {when}: {child.failure}")

    def _on_drained(self, child: Child, how: ev.How, now: float) -> None:
        core = self._core
        if core.verdict is not None or child.failure is not None:
            return  # the reason was logged, and its siblings may end for the same
        untimely = how.code != 0 and not (child.ready_at is None and how.signal in _ENDS_OF_A_BOOT)
        if untimely:
            core.say_of(child, Level.WARNING, f"worker died while draining: {how} after {now - child.forked_at:.1f} s")
        elif core.phase is Phase.SERVING:
            core.say_of(child, Level.INFO, "worker retired")

    def _insist(self, child: Child, now: float) -> None:
        """Handle a child that has survived SIGKILL, usually in uninterruptible sleep."""
        core = self._core
        if core.phase is Phase.STOPPING:
            core.say_of(child, Level.ERROR, "worker cannot be killed: leaving it behind")
            core.table.remove(child.pid)
        else:
            core.say_of(child, Level.ERROR, "worker cannot be killed: trying again")
            core.kill(child, now)

    def _gave_up(self, failures: int, how: str) -> bool:
        core = self._core
        if core.phase is not Phase.STARTING or not rules.gives_up(core.policy, failures):
            return False
        core.fail(Exit.BOOT, f"no worker became ready in {failures} attempts; the last one: {how}")
        return True


def exit_of(code: int) -> Exit:
    """Return the exit code that a worker reported; ERROR for an unknown one, which is its bug."""
    try:
        return Exit(code) or Exit.ERROR
    except ValueError:
        return Exit.ERROR
