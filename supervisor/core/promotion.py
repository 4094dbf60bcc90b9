"""Promotion: a warm worker becomes the next zygote, so that all workers share the memory that its requests warmed up.

    it is refork ready -> a successor starts in its slot -> it drains, and ends its threads and its loop
                   -> it can fork: it is the zygote of a generation that is tried out (see `generations`)

One promotion is tried per generation, and none while generations change. A failure, a reload or a stop ends the
promotion without further effect: the worker has its successor already.
"""

from __future__ import annotations

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core import rollout
from hybrid.supervisor.core.base import Core, Phase
from hybrid.supervisor.core.events import Level
from hybrid.supervisor.core.generations import Generations
from hybrid.supervisor.core.states import Reason, State
from hybrid.supervisor.core.table import Child

_WHY = "is to become the zygote"  # the recycle reason of a candidate


class Promotion:
    """Chooses the worker that becomes a zygote. All methods return at once."""

    def __init__(self, core: Core, generations: Generations) -> None:
        self._core = core
        self._generations = generations
        self._candidate: int | None = None  # pid of the worker that waits for its successor
        self._heir: tuple[int, int] | None = None  # pid told to become a zygote, and its generation
        self._given_up: set[int] = set()  # pids of heirs that are no longer wanted, and end
        self._tried = 0  # the newest generation in which a worker was told to become a zygote

    # --- what happens

    def on_refork_ready(self, pid: int) -> None:
        """A worker has served enough for its memory to be worth sharing."""
        child = self._core.table.child(pid)
        if self._core.policy.reforks and child is not None and child.state is State.READY and child.is_worker:
            self._core.table.set_refork_ready(pid)

    def on_warm(self, pid: int, now: float) -> bool:
        """A child can fork; return False unless it is the heir."""
        if pid in self._given_up:  # it may have missed the order to end since its loop ended
            self._core.do(ev.Drain(pid))
            return True
        child = self._core.table.child(pid)
        if self._heir is None or self._heir[0] != pid or child is None:
            return False
        generation, self._heir = self._heir[1], None
        self._generations.try_heir(child, generation, now)
        return True

    def on_unfit(self, pid: int, findings: str) -> bool:
        """A child must not be forked, and ends; return False unless it is the heir."""
        child = self._core.table.child(pid)
        if self._heir is None or self._heir[0] != pid or child is None:
            return False
        self._heir = None
        left = f"requests have left {findings}"
        self._core.say_of(child, Level.INFO, f"not reforking generation {child.generation}: {left}")
        return True

    def on_exited(self, child: Child, how: ev.How) -> bool:
        """A worker is dead; return True if it was an heir and needs no further report."""
        if child.pid in self._given_up:
            self._given_up.discard(child.pid)
            return how.code != 0  # with 0 it counts as a drained worker
        if self._heir is None or self._heir[0] != child.pid:
            return False
        self._fail(child, str(how))
        return True

    def _fail(self, child: Child, how: str) -> None:
        self._heir = None
        generation = self._core.table.generation
        self._core.say_of(child, Level.WARNING, f"refork failed, generation {generation} goes on: its worker {how}")

    # --- the step

    def pursue(self) -> None:
        """Choose a candidate; drop a candidate or an heir that is no longer eligible."""
        core, table = self._core, self._core.table
        if self._candidate is not None and not self._is_eligible(table.child(self._candidate)):
            self._candidate = None
        if self._heir is not None:
            self._watch(*self._heir)
        elif self._candidate is None and self._may_begin():
            found = [
                child
                for child in table.serving()
                if child.is_refork_ready and child.recycle_reason is None and child.is_healthy
            ]
            child = next(filter(self._is_eligible, found), None)
            if child is not None:
                self._candidate = child.pid
                table.set_recycle_reason(child.pid, _WHY, Reason.REFORK)
                core.say_of(child, Level.INFO, "worker is warm: starting its successor, then it becomes the zygote")

    def _watch(self, pid: int, generation: int) -> None:
        child = self._core.table.child(pid)
        if child is None or child.state is not State.DRAINING:  # it hung, and is being killed
            self._heir = None
            if child is not None:
                self._given_up.add(pid)
                self._fail(child, "has hung")
        elif self._is_over():
            self._heir = None
            self._given_up.add(pid)
            self._core.do(ev.Drain(pid))

    def retire(self, child: Child, now: float) -> ev.Action:
        """Mark a worker as draining; return the action that tells it, `Promote` if it becomes a zygote."""
        action = self._core.drain(child, now)
        if child.pid != self._candidate:
            return action
        self._candidate = None
        if not self._is_eligible(child):
            return action
        generation = self._core.table.number()
        self._heir = child.pid, generation
        self._tried = self._core.table.generation
        return ev.Promote(child.pid, generation)

    # --- questions

    def _is_over(self) -> bool:
        """Return True if no promotion can succeed now."""
        return self._core.phase is not Phase.SERVING or self._generations.is_reloading

    def _is_eligible(self, child: Child | None) -> bool:
        table = self._core.table
        is_current = child is not None and child.state is State.READY and child.generation == table.generation
        return is_current and child is not None and child.slot in table.wanted and not self._is_over()

    def _may_begin(self) -> bool:
        """Return True if nothing is changing, and no worker of this generation was tried yet."""
        core, table = self._core, self._core.table
        if not core.policy.reforks or self._is_over() or self._tried >= table.generation:
            return False
        has_zygote = self._generations.zygote_of(table.generation) is not None
        return has_zygote and rollout.is_complete(table) and not rollout.outdated(table)
