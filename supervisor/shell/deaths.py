"""Deaths of children, as events of the machine, and the end of the processes that they left."""

from __future__ import annotations

from collections.abc import Iterator

from hybrid.supervisor.children.handles import Children
from hybrid.supervisor.children.kernel import Kernel
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.table import ZYGOTE
from hybrid.supervisor.shell.hearing import Hearing
from hybrid.supervisor.watch.stack_dumps import StackDumps

_LAST_WAIT = 5.0  # seconds to reap killed workers after a bug in the supervisor


class Deaths:
    """A source of events: deaths of children. Only `clear` blocks."""

    def __init__(self, kernel: Kernel, children: Children, hearing: Hearing, stack_dumps: StackDumps) -> None:
        self._kernel = kernel
        self._children = children
        self._hearing = hearing
        self._stack_dumps = stack_dumps
        self._is_bereaved = False  # a child has died, and its leftovers have not been searched yet
        self._heirs: frozenset[int] = frozenset()  # workers of a dead zygote, which go on using its leftovers
        self.due: float | None = None
        """When to check the ending leftovers again, in monotonic seconds."""

    def events(self) -> Iterator[ev.Event]:
        """Yield the deaths. All are noted before the first is handled, so that no signal goes to a recycled pid."""
        deaths = self._kernel.reap(self._children.pids)
        self._is_bereaved |= bool(deaths)
        handles = {pid: self._children.remove(pid) for pid, _ in deaths}
        for handle in handles.values():
            if handle.slot == ZYGOTE:
                self._heirs |= self._children.workers_of(handle.generation)
        for pid, how in deaths:
            handle = handles[pid]
            self._stack_dumps.close(pid)
            yield from self._hearing.of_child(pid, handle)  # its last message may say why it cannot start
            self._hearing.close_channel(handle)
            self._children.forget(handle)
            yield ev.Exited(pid, how)

    def end_leftovers(self, *, after_a_look: bool = False) -> None:
        """End the leftovers of dead children, if there may be any.

        Called after each look at the workers, so that orphans that appear while no child dies do not count as
        leftovers. Not while a zygote forks, as its workers are orphans for a moment.
        """
        if self._children.has_pending_forks or not (after_a_look or self._is_bereaved or self.due is not None):
            return
        due = self._kernel.end_orphans(self._children.pids, is_bereaved=self._is_bereaved, heirs=self._heirs)
        self._is_bereaved, self._heirs = False, frozenset()
        self.due = None if due is None else self._kernel.now() + due

    def clear(self) -> None:
        """Kill all children and their leftovers, and reap them; blocks for 5 seconds at most."""
        for pid, handle in self._children:
            self._kernel.kill(pid)
            self._hearing.close_channel(handle)
        deadline = self._kernel.now() + _LAST_WAIT
        while self._children.pids and (remaining := deadline - self._kernel.now()) > 0:
            self._kernel.wait(remaining)
            self._kernel.take_signals()  # otherwise the next wait returns at once
            for pid, _ in self._kernel.reap(self._children.pids):
                self._children.forget(self._children.remove(pid))
        for pid in self._children.pids:  # stuck in the kernel
            self._children.forget(self._children.remove(pid))
        while (due := self._kernel.end_orphans((), is_bereaved=True)) is not None and self._kernel.now() < deadline:
            self._kernel.wait(due)
            self._kernel.take_signals()
            self._kernel.reap(())
