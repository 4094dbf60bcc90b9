"""A worker or a companion from its fork to its death.

A worker that dies gets a successor at once; if its successors die too, restarts back off. Before the first worker is
ready, failures end the start; afterwards only the restart intensity ends the service.
"""

from __future__ import annotations

from hybrid.supervisor.core import attendance
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core import policy as rules
from hybrid.supervisor.core.base import BEFORE_SERVING, OVER, Core, Phase
from hybrid.supervisor.core.events import Level
from hybrid.supervisor.core.generations import Generations
from hybrid.supervisor.core.policy import Deaths, last_words
from hybrid.supervisor.core.roles import Role, role_of
from hybrid.supervisor.core.states import OCCUPYING, News, Reason, State
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

    def refit(self) -> None:
        """Count deaths anew if their limit has changed."""
        intensity = self._core.policy.intensity
        if (None if self._deaths is None else self._deaths.intensity) != intensity:
            self._deaths = None if intensity is None else Deaths(intensity)

    def on_spawned(self, slot: int, pid: int, now: float) -> None:
        """A fork succeeded."""
        core = self._core
        before = core.table.slot(slot)
        generation = core.table.generation if before.fork is None else before.fork.generation
        reason = before.reason if before.fork is None else before.fork.reason
        deadline = core.due(State.BOOTING, now)
        core.table.add(Child(pid, slot, generation, State.BOOTING, forked_at=now, deadline=deadline, reason=reason))

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
        if core.phase in OVER or not core.table.is_wanted(slot):
            return
        if not self._gave_up(failures, f"cannot fork: {reason}"):
            what = role_of(slot).value
            core.say(Level.WARNING, f"cannot fork a {what}: {reason}; trying again in {delay:.1f} s", slot=slot)

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
        core.say_of(
            child, Level.WARNING, f"{child.role.value} was told to drain by another process; starting its successor"
        )
        core.do(core.drain(child, now))
        core.table.expect(child.slot, Reason.RESTART)

    def on_broken(self, pid: int, why: str, now: float) -> None:
        """A worker lost a listening socket, and ends. This counts as a death."""
        core = self._core
        child = core.table.child(pid)
        if child is None or not child.is_worker or core.phase in OVER:
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
            core.say_of(child, Level.INFO, f"{child.role.value} {why}: starting its successor")

    def on_call_overdue(self, pid: int, name: str, now: float) -> None:
        """An offloaded call did not end when it was told to: its process must."""
        core = self._core
        child = core.table.child(pid)
        why = f"{name} went on for a second after it was told to end"
        if child is not None and child.state is State.READY:
            core.table.move(pid, News.KILL, core.due(State.KILLED, now))
            core.do(ev.Kill(pid))
            self.succeed(child, f"{why}, so it was killed", now)
        elif child is not None and child.state is State.DRAINING:
            core.say_of(child, Level.WARNING, f"{child.role.value} still drains, as {why}: killing it")
            core.kill(child, now)

    def on_exited(self, child: Child, how: ev.How, now: float) -> None:
        """A worker is dead."""
        core = self._core
        core.table.remove(child.pid)
        is_final = child.state is State.READY and core.phase is Phase.SERVING
        is_final = is_final and not core.roster.is_offload(child.slot)  # a call has ended it, and others wait
        if is_final and rules.stays_ended(core.policy, how.code) and not self._is_superseded(child):
            self._finish(child, how, now)
        elif child.state in OCCUPYING:
            self.succeed(child, f"{how} after {now - child.forked_at:.1f} s", now, brief=_brief(how))
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
                core.say_of(child, Level.WARNING, f"{child.role.value} still not drained {limit}: killing it")
                core.kill(child, now)
            case State.ABORTED:
                core.kill(child, now)
            case _:
                self._insist(child, now)

    def succeed(self, child: Child, how: str, now: float, what: str = "", brief: str = "") -> None:
        """Record the loss of a child that held its slot (`what`), and decide when its successor starts.

        `brief`: what programs are told instead of `how`.
        """
        core = self._core
        if self._generations.on_lost(child, how):
            return
        if self._is_superseded(child):
            core.say_of(child, Level.WARNING, f"{child.role.value} ended before it was retired: {how}")
            return
        # what an offload worker dies of is the call's fault, and the next call is another one
        is_blameless = core.roster.is_offload(child.slot) and child.ready_at is not None
        before = core.table.slot(child.slot).failures
        failures = 0 if is_blameless else rules.failures_after_death(core.policy, before, child.served(now))
        delay = rules.restart_delay(core.policy, failures)
        core.table.lose(child.slot, failures, now + delay)
        if core.phase in OVER:
            when = "stopping"
        elif core.phase is Phase.STARTING and self._gave_up(failures, how):
            return
        else:
            when = f"restarting in {delay:.1f} s" if delay else "restarting now"
        self._complain(
            child,
            f"{what or f'{child.role.value} died'}: {how}",
            when,
            ev.News("death", (("how", child.failure or brief or how),)),
        )
        if not is_blameless:
            self._count(child, child.failure or how, now)

    def _is_superseded(self, child: Child) -> bool:
        """Return True if the end of a companion leaves no gap: a newer one is in its slot."""
        return child.role is Role.COMPANION and attendance.is_superseded(self._core.table, child)

    def _finish(self, child: Child, how: ev.How, now: float) -> None:
        """A worker has ended for good."""
        core = self._core
        core.table.finish(child.slot)
        rule = f"restart = {core.policy.restart.value}"
        level = Level.INFO if how.code == 0 else Level.WARNING
        text = f"{child.role.value} ended: {how} after {now - child.forked_at:.1f} s; not restarted ({rule})"
        core.say_of(child, level, text)

    def _count(self, child: Child, how: str, now: float) -> None:
        """Stop the service if workers die more often than allowed."""
        if self._deaths is None or self._core.phase in OVER:
            return
        self._deaths = self._deaths.after(now, self._core.roster.spoken(child.slot), how)
        if self._deaths.is_exceeded:
            self._core.fail(Exit.RESTARTS, last_words(self._deaths))

    def _complain(self, child: Child, what: str, when: str, news: ev.News) -> None:
        core = self._core
        if child.failure is None:
            core.say_of(child, Level.WARNING, f"{what}; {when}", news)
        elif child.failure != self._complaint:
            self._complaint = child.failure
            core.say_of(child, Level.ERROR, f"{child.role.value} cannot start, {when}: {child.failure}", news)

    def _on_drained(self, child: Child, how: ev.How, now: float) -> None:
        core = self._core
        if core.verdict is not None or child.failure is not None:
            return  # the reason was logged, and its siblings may end for the same
        is_asked_for = bool(how.signal) and how.signal == core.policy.ending_signal
        untimely = how.code != 0 and not is_asked_for and not (child.ready_at is None and how.signal in _ENDS_OF_A_BOOT)
        if untimely:
            text = f"{child.role.value} died while draining: {how} after {now - child.forked_at:.1f} s"
            core.say_of(child, Level.WARNING, text, ev.News("death", (("how", _brief(how)),)))
        elif core.phase is Phase.SERVING:
            core.say_of(child, Level.INFO, f"{child.role.value} retired")

    def _insist(self, child: Child, now: float) -> None:
        """Handle a child that has survived SIGKILL, usually in uninterruptible sleep."""
        core = self._core
        if core.phase is Phase.STOPPING:
            core.say_of(child, Level.ERROR, f"{child.role.value} cannot be killed: leaving it behind")
            core.table.remove(child.pid)
        else:
            core.say_of(child, Level.ERROR, f"{child.role.value} cannot be killed: trying again")
            core.kill(child, now)

    def _gave_up(self, failures: int, how: str) -> bool:
        core = self._core
        if core.phase is not Phase.STARTING or not rules.gives_up(core.policy, failures):
            return False
        core.fail(Exit.BOOT, f"no worker became ready in {failures} attempts; the last one: {how}")
        return True


def _brief(how: ev.How) -> str:
    """Return the name of the signal, or the exit code in words."""
    return how.signal or str(how)


def exit_of(code: int) -> Exit:
    """Return the exit code that a worker reported; ERROR for an unknown one, which is its bug."""
    try:
        return Exit(code) or Exit.ERROR
    except ValueError:
        return Exit.ERROR
