"""The slots, the children, the generations, and the only functions that change them.

The table keeps facts and answers queries; it decides nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from hybrid.supervisor.core.states import LEAVING, OCCUPYING, TRANSITIONS, UNPROVEN, News, State
from hybrid.workers.contract.records import record

NEVER = float("-inf")
ZYGOTE = -1
"""The slot of zygotes."""


@record(frozen=True, slots=True)
class Child:
    """A process that was forked and is not yet reaped: a worker or, in the slot `ZYGOTE`, a zygote."""

    pid: int
    slot: int
    generation: int
    state: State
    forked_at: float
    """When it was forked, seconds."""
    deadline: float | None
    """The deadline of its state, seconds; None: no deadline."""
    ready_at: float | None = None
    """When it reported that it serves, seconds."""
    failure: str | None = None
    """Why it cannot start, by its own report."""
    recycle_reason: str | None = None
    """The limit that it reached, by its own report, or another reason to replace it."""
    is_refork_ready: bool = False
    """True if it has served enough to become the next zygote."""
    stalled_since: float | None = None
    """When its loop stalled, seconds; None: it turns."""
    is_avoided: bool = False
    """True if it gets no new connections because of the stall."""
    is_reported: bool = False
    """True if this stall has been logged."""

    @property
    def is_zygote(self) -> bool:
        """True if it forks workers and serves no connections."""
        return self.slot == ZYGOTE

    @property
    def is_healthy(self) -> bool:
        """True if it serves, and new connections may go to it."""
        return self.state is State.READY and not self.is_avoided

    def served(self, now: float) -> float | None:
        """Return for how many seconds it has been ready; None if it never was."""
        return None if self.ready_at is None else now - self.ready_at


@record(frozen=True, slots=True)
class Fork:
    """A pending fork."""

    generation: int
    deadline: float
    """When the answer is overdue, seconds."""
    zygote: int | None
    """Pid of the zygote that was asked; None: no zygote."""


@record(frozen=True, slots=True)
class Slot:
    """The data of a slot that outlives its children."""

    index: int
    fork: Fork | None = None
    """The pending fork."""
    failures: int = 0
    """Deaths and failed forks in a row."""
    restarts: int = 0
    """Deaths that required a successor, in total."""
    not_before: float = NEVER
    """When the next child may start, seconds."""


class Table:
    """Slots x children. The mutators come first, then the queries."""

    def __init__(self, wanted: int, generation: int = 1) -> None:
        self.generation = generation
        """The generation that serves, and of which dead workers are replaced."""
        self.next: int | None = None
        """The generation that a reload tries out; None: there is none, or it is committed."""
        self._newest = generation  # the highest number given so far
        self._wanted = wanted
        self._existing = wanted  # slots that were ever wanted, and so have listeners
        self._slots: dict[int, Slot] = {}  # index -> data; kept when the slot is no longer wanted
        self._children: dict[int, Child] = {}  # pid -> child that is not yet reaped
        self._adopted: dict[int, tuple[int, ...]] = {}  # pid -> other slots that the child serves too
        # caches, derived on the first query after a change: a step queries both many times
        self._occupants: dict[int, tuple[Child, ...]] | None = None  # slot -> its children, oldest first
        self._serving: list[Child] | None = None  # ready workers, oldest first

    # --- mutators

    def want(self, workers: int) -> None:
        """Want the slots 0 to `workers` - 1 from now on."""
        self._wanted = workers
        self._existing = max(self._existing, workers)

    def inherit(self, slots: int) -> None:
        """Note that at least `slots` slots have listeners."""
        self._existing = max(self._existing, slots)

    def number(self) -> int:
        """Return a new, unique number for a generation."""
        self._newest += 1
        return self._newest

    def try_next(self, number: int | None = None) -> int:
        """Begin to try out a new generation, with a `number` given before or a new one; return the number."""
        self.next = self.number() if number is None else number
        return self.next

    def promote(self, pid: int, generation: int, now: float) -> None:
        """Turn a worker into the zygote of a generation."""
        self._put(Child(pid, ZYGOTE, generation, State.READY, forked_at=now, deadline=None, ready_at=now))
        self._adopted.pop(pid, None)

    def commit(self) -> None:
        """Make the generation that was tried out the serving one; failures of older ones cause no back-off."""
        assert self.next is not None, "only a generation that is tried out can be committed"
        self.generation, self.next = self.next, None
        for slot in tuple(self._slots):
            self.pardon(slot)

    def give_up_next(self) -> None:
        """Drop the generation that was tried out."""
        self.next = None

    def reserve(self, slot: int, fork: Fork) -> None:
        """Note that a child is being forked into `slot`."""
        self._slots[slot] = dataclasses.replace(self.slot(slot), fork=fork)

    def add(self, child: Child) -> None:
        """Add a child that was forked into its slot."""
        self._slots[child.slot] = dataclasses.replace(self.slot(child.slot), fork=None)
        self._put(child)

    def move(self, pid: int, news: News, deadline: float | None, *, ready_at: float | None = None) -> Child:
        """Apply `news` to a child and set the deadline of its new state; return the updated child."""
        child = self._children[pid]
        moved = dataclasses.replace(child, state=TRANSITIONS[child.state, news], deadline=deadline)
        if ready_at is not None:
            moved = dataclasses.replace(moved, ready_at=ready_at)
        self._put(moved)
        return moved

    def blame(self, pid: int, reason: str) -> None:
        """Note the reported reason why a child cannot start."""
        self._put(dataclasses.replace(self._children[pid], failure=reason))

    def set_recycle_reason(self, pid: int, why: str) -> None:
        """Note why a child must be replaced."""
        self._put(dataclasses.replace(self._children[pid], recycle_reason=why))

    def set_refork_ready(self, pid: int) -> None:
        """Note that a child may become a zygote."""
        self._put(dataclasses.replace(self._children[pid], is_refork_ready=True))

    def stall(self, pid: int, since: float | None, *, avoid: bool = False) -> None:
        """Note when the loop of a child stalled (None: it turns); `avoid`: it gets no new connections."""
        child = self._children[pid]
        self._put(dataclasses.replace(child, stalled_since=since, is_avoided=avoid, is_reported=False))

    def report(self, pid: int) -> None:
        """Note that the stall of a child was logged."""
        self._put(dataclasses.replace(self._children[pid], is_reported=True))

    def adopt(self, pid: int, slots: tuple[int, ...]) -> None:
        """Note the other slots that a child was told to serve."""
        self._adopted[pid] = slots

    def lose(self, slot: int, failures: int, not_before: float) -> None:
        """Note that `slot` lost its child, with `failures` in a row, and backs off until `not_before`."""
        before = self.slot(slot)
        self._slots[slot] = dataclasses.replace(
            before, failures=failures, restarts=before.restarts + 1, not_before=not_before
        )

    def miss(self, slot: int, failures: int, not_before: float) -> None:
        """Note that the fork into `slot` failed, with `failures` in a row; it backs off until `not_before`."""
        self._slots[slot] = dataclasses.replace(self.slot(slot), fork=None, failures=failures, not_before=not_before)

    def pardon(self, slot: int) -> None:
        """Reset the failures of `slot`."""
        self._slots[slot] = dataclasses.replace(self.slot(slot), failures=0, not_before=NEVER)

    def remove(self, pid: int) -> None:
        """Forget a child that is gone."""
        del self._children[pid]
        self._adopted.pop(pid, None)
        self._occupants = self._serving = None

    def _put(self, child: Child) -> None:
        self._children[child.pid] = child
        self._occupants = self._serving = None

    # --- questions

    @property
    def wanted(self) -> range:
        """The slots that should be served."""
        return range(self._wanted)

    @property
    def existing(self) -> range:
        """The slots that have listeners."""
        return range(self._existing)

    def slot(self, index: int) -> Slot:
        """Return the data of a slot."""
        return self._slots.get(index) or Slot(index)

    def child(self, pid: int) -> Child | None:
        """Return the child with this pid; None if there is none."""
        return self._children.get(pid)

    def children(self) -> Iterator[Child]:
        """Return all children, oldest first."""
        return iter(tuple(self._children.values()))

    def workers(self) -> list[Child]:
        """Return the children that are workers, oldest first."""
        return [child for child in self._children.values() if not child.is_zygote]

    def occupants(self) -> Mapping[int, tuple[Child, ...]]:
        """Return slot -> children that occupy it, oldest first; two while one replaces the other."""
        if self._occupants is None:
            self._occupants = {}
            for child in self.workers():
                if child.state in OCCUPYING:
                    self._occupants[child.slot] = (*self._occupants.get(child.slot, ()), child)
        return self._occupants

    def serving(self) -> Sequence[Child]:
        """Return the ready workers, oldest first."""
        if self._serving is None:
            self._serving = [child for child in self.workers() if child.state is State.READY]
        return self._serving

    def adopted(self, pid: int) -> tuple[int, ...]:
        """Return the other slots that a child was told to serve."""
        return self._adopted.get(pid, ())

    def unproven(self) -> list[Child]:
        """Return the workers that are not ready yet."""
        return [child for child in self.workers() if child.state in UNPROVEN]

    def ready_slots(self) -> tuple[int, ...]:
        """Return the slots with a ready worker, in order."""
        return tuple(sorted({child.slot for child in self.serving()}))

    def healthy_slots(self) -> tuple[int, ...]:
        """Return the slots with a healthy worker, in order."""
        return tuple(sorted({child.slot for child in self.serving() if child.is_healthy}))

    def leaving(self) -> list[Child]:
        """Return the children that were told to end."""
        return [child for child in self._children.values() if child.state in LEAVING]

    def zygote(self, generation: int) -> Child | None:
        """Return the zygote of a generation, unless it is leaving."""
        for child in self._children.values():
            if child.is_zygote and child.generation == generation and child.state in OCCUPYING:
                return child
        return None

    def zygotes(self) -> list[Child]:
        """Return the zygotes that are not leaving."""
        return [child for child in self._children.values() if child.is_zygote and child.state in OCCUPYING]

    def overdue(self, now: float) -> list[Child]:
        """Return the children with an expired deadline."""
        return [child for child in self._children.values() if child.deadline is not None and child.deadline <= now]

    def overdue_forks(self, now: float) -> list[Slot]:
        """Return the slots with an overdue fork."""
        return [slot for slot in self._slots.values() if slot.fork is not None and slot.fork.deadline <= now]

    def forks(self) -> dict[int, Fork]:
        """Return the pending forks: slot -> fork."""
        return {slot.index: slot.fork for slot in self._slots.values() if slot.fork is not None}

    def orders_of(self, zygote: int) -> int:
        """Return the number of pending forks of a zygote."""
        return sum(fork.zygote == zygote for fork in self.forks().values())

    def vacant(self) -> list[Slot]:
        """Return the wanted slots with neither a child nor a pending fork."""
        occupants = self.occupants()
        slots = (self.slot(index) for index in self.wanted if index not in occupants)
        return [slot for slot in slots if slot.fork is None]

    def is_forking(self) -> bool:
        """Return True if a fork is pending in any slot."""
        return any(slot.fork is not None for slot in self._slots.values())

    def is_empty(self) -> bool:
        """Return True if there is neither a child nor a pending fork."""
        return not self._children and not self.is_forking()

    def next_deadline(self) -> float | None:
        """Return the next deadline of a child or a fork; None: there is none."""
        times = [child.deadline for child in self._children.values() if child.deadline is not None]
        times += [fork.deadline for fork in self.forks().values()]
        return min(times, default=None)
