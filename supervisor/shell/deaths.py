"""Deaths of children of all services, as events, and the end of the processes that they left."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping

from hybrid.supervisor.children.kernel import Kernel
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.roles import ZYGOTE
from hybrid.supervisor.shell.branch import Branch

_LAST_WAIT = 5.0  # seconds to reap killed workers after a bug in the supervisor


class Deaths:
    """A source of events: deaths of children. Only `clear` blocks."""

    def __init__(self, kernel: Kernel, branches: Mapping[str, Branch]) -> None:
        """`branches`: the services, which may change."""
        self._kernel = kernel
        self._branches = branches
        self.others: dict[int, Callable[[ev.How], None]] = {}
        """The pids of children that are of no service -> what to call with the end of each."""
        self.has_looked = False
        """True if workers were looked at since the leftovers were ended last."""
        self._is_bereaved = False  # a child has died, and its leftovers have not been searched yet
        self._heirs: frozenset[int] = frozenset()  # workers of a dead zygote, which go on using its leftovers
        self.due: float | None = None
        """When to check the ending leftovers again, in monotonic seconds."""

    def events(self) -> Iterator[tuple[str, ev.Event]]:
        """Yield services and deaths. All are noted before the first is handled: no signal may go to a recycled pid."""
        deaths = list(self._own(self._kernel.reap((*self._pids(), *self.others))))
        if not deaths:
            return
        self._is_bereaved = True
        owners = {pid: branch for branch in self._branches.values() for pid in branch.children.pids}
        handles = {pid: owners[pid].children.remove(pid) for pid, _ in deaths}
        for pid, handle in handles.items():
            if handle.slot == ZYGOTE:
                self._heirs |= owners[pid].children.workers_of(handle.generation)
        for pid, how in deaths:
            branch, handle = owners[pid], handles[pid]
            branch.forget(pid)
            branch.children.tell_of_death(handle, str(how))
            for event in branch.hearing.of_child(pid, handle):  # its last message may say why it cannot start
                yield branch.name, event
            branch.hearing.close_channel(handle)
            branch.hearing.end_output(pid, handle)
            if branch.settings.command:
                # what it has left in its process group; the pid is not in use again so soon, as the kernel counts up
                self._kernel.send(-pid, signal.SIGKILL)
            branch.children.forget(handle)
            yield branch.name, ev.Exited(pid, how)

    def _own(self, deaths: Iterable[tuple[int, ev.How]]) -> Iterator[tuple[int, ev.How]]:
        """Yield the deaths of children of services; report the others."""
        for pid, how in deaths:
            if pid in self.others:
                self.others.pop(pid)(how)
            else:
                yield pid, how

    def looked(self) -> None:
        """Note that the workers of a service were looked at."""
        self.has_looked = True

    def end_leftovers(self) -> None:
        """End the leftovers of dead children, if there may be any.

        Called after each look at the workers, so that orphans that appear while no child dies do not count as
        leftovers. Not while a zygote forks, as its workers are orphans for a moment.
        """
        if not (self.has_looked or self._is_bereaved or self.due is not None):
            return
        self.has_looked = False
        if any(branch.children.has_pending_forks for branch in self._branches.values()):
            return
        due = self._kernel.end_orphans(self._pids(), is_bereaved=self._is_bereaved, heirs=self._heirs)
        self._is_bereaved, self._heirs = False, frozenset()
        self.due = None if due is None else self._kernel.now() + due

    def abandon(self, branch: Branch) -> None:
        """Forget the children of a service that has ended: only those that the kernel holds are left."""
        for pid in branch.children.pids:
            branch.hearing.close_channel(branch.children[pid])
            branch.hearing.end_output(pid, branch.children[pid])
            branch.stack_dumps.close(pid)
            branch.children.forget(branch.children.remove(pid))

    def clear(self, branches: Iterable[Branch]) -> None:
        """Kill all children of these services and their leftovers, and reap them; blocks for 5 seconds at most.

        `branches`: all services. A child of another one would count as a leftover.
        """
        owners = {pid: branch for branch in branches for pid in branch.children.pids}
        for pid, branch in owners.items():
            self._kernel.kill(pid)
            branch.hearing.close_channel(branch.children[pid])
        deadline = self._kernel.now() + _LAST_WAIT
        while owners and (remaining := deadline - self._kernel.now()) > 0:
            self._kernel.wait(remaining)
            self._kernel.take_signals()  # otherwise the next wait returns at once
            for pid, _ in self._kernel.reap(tuple(owners)):
                children = owners.pop(pid).children
                children.forget(children.remove(pid))
        for pid, branch in owners.items():  # stuck in the kernel
            branch.children.forget(branch.children.remove(pid))
        while (due := self._kernel.end_orphans((), is_bereaved=True)) is not None and self._kernel.now() < deadline:
            self._kernel.wait(due)
            self._kernel.take_signals()
            self._kernel.reap(())

    def _pids(self) -> tuple[int, ...]:
        return tuple(pid for branch in self._branches.values() for pid in branch.children.pids)
