"""Who sits where: the slots, the children, the generations, and the only functions that change any of them.

The table keeps facts and answers questions; it decides nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from hybrid.supervisor.core.states import LEAVING, OCCUPYING, TRANSITIONS, UNPROVEN, News, State
from hybrid.workers.contract.records import record

NEVER = float("-inf")
ZYGOTE = -1
"""The place of zygotes, where workers have a slot."""


@record(frozen=True, slots=True)
class Child:
    """A process that was forked and is not yet reaped: a worker or, in the place `ZYGOTE`, a zygote."""

    pid: int
    slot: int
    generation: int
    state: State
    forked_at: float
    """When it was forked, seconds."""
    deadline: float | None
    """When its state has lasted too long, seconds; None: never."""
    ready_at: float | None = None
    """When it said that it serves, seconds."""
    failure: str | None = None
    """Why it cannot start, as it said."""
    recycle_reason: str | None = None
    """Which of its limits it has reached, as it said; or why else it is to be replaced."""
    is_refork_ready: bool = False
    """Whether it has served so much that it may become the next zygote."""
    stalled_since: float | None = None
    """Since when its loop does not turn, seconds; None: it turns."""
    is_avoided: bool = False
    """Whether it gets no new connections because of that."""
    is_reported: bool = False
    """Whether this stall is in the log."""

    @property
    def is_zygote(self) -> bool:
        """Whether it forks workers, and serves nobody."""
        return self.slot == ZYGOTE

    @property
    def is_healthy(self) -> bool:
        """Whether it serves, and new connections may go to it."""
        return self.state is State.READY and not self.is_avoided

    def served(self, now: float) -> float | None:
        """Return for how many seconds it has been ready; None if it never was."""
        return None if self.ready_at is None else now - self.ready_at


@record(frozen=True, slots=True)
class Fork:
    """A fork that was asked for and is not yet answered."""

    generation: int
    deadline: float
    """When an answer is no longer waited for, seconds."""
    zygote: int | None
    """Pid of the zygote that was asked; None: none was."""


@record(frozen=True, slots=True)
class Slot:
    """What is remembered of a slot while children come and go."""

    index: int
    fork: Fork | None = None
    """The fork that is under way."""
    failures: int = 0
    """Deaths and failed forks in a row."""
    restarts: int = 0
    """Deaths that called for a successor, ever."""
    not_before: float = NEVER
    """When the next child may be started, seconds."""


class Table:
    """Slots x children. Mutators: those above the line; everything else asks."""

    def __init__(self, wanted: int, generation: int = 1) -> None:
        self.generation = generation
        """The generation that serves, and that replaces what dies."""
        self.next: int | None = None
        """The generation that is tried out by a reload; None: there is no reload, or it has proved itself."""
        self._newest = generation  # the highest number ever given
        self._wanted = wanted
        self._existing = wanted  # slots that have ever been wanted: they have listeners
        self._slots: dict[int, Slot] = {}  # index -> what is remembered; a slot stays when it is no longer wanted
        self._children: dict[int, Child] = {}  # pid -> child that is not yet reaped
        self._adopted: dict[int, tuple[int, ...]] = {}  # pid of a child -> slots of others whose queues it serves too
        # derived from the children when first asked for after a change: a step asks for both many times
        self._occupants: dict[int, tuple[Child, ...]] | None = None  # slot -> its children, oldest first
        self._serving: list[Child] | None = None  # workers that are ready, oldest first

    # --- mutators

    def want(self, workers: int) -> None:
        """From now on the slots 0 to `workers` - 1 are wanted."""
        self._wanted = workers
        self._existing = max(self._existing, workers)

    def inherit(self, slots: int) -> None:
        """There are listeners for at least so many slots."""
        self._existing = max(self._existing, slots)

    def number(self) -> int:
        """Return a number for a generation that may be tried out: it is no other's, ever."""
        self._newest += 1
        return self._newest

    def try_next(self, number: int | None = None) -> int:
        """Begin to try out a new generation, of a number that was given before; return its number."""
        self.next = self.number() if number is None else number
        return self.next

    def promote(self, pid: int, generation: int, now: float) -> None:
        """A worker has become the zygote of a generation, and can fork: its life as a worker is over."""
        self._put(Child(pid, ZYGOTE, generation, State.READY, forked_at=now, deadline=None, ready_at=now))
        self._adopted.pop(pid, None)

    def commit(self) -> None:
        """The generation that was tried out serves from now on; that older ones failed is no reason to wait."""
        assert self.next is not None, "only what is tried out can prove itself"
        self.generation, self.next = self.next, None
        for slot in tuple(self._slots):
            self.pardon(slot)

    def give_up_next(self) -> None:
        """The generation that was tried out is no longer wanted."""
        self.next = None

    def reserve(self, slot: int, fork: Fork) -> None:
        """Note that a child is being forked into `slot`."""
        self._slots[slot] = dataclasses.replace(self.slot(slot), fork=fork)

    def add(self, child: Child) -> None:
        """Add the child that was forked into its slot."""
        self._slots[child.slot] = dataclasses.replace(self.slot(child.slot), fork=None)
        self._put(child)

    def move(self, pid: int, news: News, deadline: float | None, *, ready_at: float | None = None) -> Child:
        """Apply `news` to a child and give its new state a deadline; return the child as it is now."""
        child = self._children[pid]
        moved = dataclasses.replace(child, state=TRANSITIONS[child.state, news], deadline=deadline)
        if ready_at is not None:
            moved = dataclasses.replace(moved, ready_at=ready_at)
        self._put(moved)
        return moved

    def blame(self, pid: int, reason: str) -> None:
        """Note why a child says that it cannot start."""
        self._put(dataclasses.replace(self._children[pid], failure=reason))

    def set_recycle_reason(self, pid: int, why: str) -> None:
        """Note that a child has reached one of its limits."""
        self._put(dataclasses.replace(self._children[pid], recycle_reason=why))

    def set_refork_ready(self, pid: int) -> None:
        """Note that a child may become a zygote."""
        self._put(dataclasses.replace(self._children[pid], is_refork_ready=True))

    def stall(self, pid: int, since: float | None, *, avoid: bool = False) -> None:
        """Note since when the loop of a child does not turn (None: it does), and whether connections avoid it then."""
        child = self._children[pid]
        self._put(dataclasses.replace(child, stalled_since=since, is_avoided=avoid, is_reported=False))

    def report(self, pid: int) -> None:
        """Note that the stall of a child is in the log."""
        self._put(dataclasses.replace(self._children[pid], is_reported=True))

    def adopt(self, pid: int, slots: tuple[int, ...]) -> None:
        """Note which queues of others a child was told to serve."""
        self._adopted[pid] = slots

    def lose(self, slot: int, failures: int, not_before: float) -> None:
        """Note that `slot` has lost its child: it has failed so often and waits until `not_before`."""
        before = self.slot(slot)
        self._slots[slot] = dataclasses.replace(
            before, failures=failures, restarts=before.restarts + 1, not_before=not_before
        )

    def miss(self, slot: int, failures: int, not_before: float) -> None:
        """Note that the fork into `slot` failed: it has failed so often and waits until `not_before`."""
        self._slots[slot] = dataclasses.replace(self.slot(slot), fork=None, failures=failures, not_before=not_before)

    def pardon(self, slot: int) -> None:
        """Forget the failures of `slot`: somebody asks for it anew."""
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
        """Return what is remembered of a slot."""
        return self._slots.get(index) or Slot(index)

    def child(self, pid: int) -> Child | None:
        """Return the child with this pid, if it is one."""
        return self._children.get(pid)

    def children(self) -> Iterator[Child]:
        """Return all children, oldest first."""
        return iter(tuple(self._children.values()))

    def workers(self) -> list[Child]:
        """Return the children that are workers, oldest first."""
        return [child for child in self._children.values() if not child.is_zygote]

    def occupants(self) -> Mapping[int, tuple[Child, ...]]:
        """Return who holds each slot: slot -> its children, oldest first; two while one replaces the other."""
        if self._occupants is None:
            self._occupants = {}
            for child in self.workers():
                if child.state in OCCUPYING:
                    self._occupants[child.slot] = (*self._occupants.get(child.slot, ()), child)
        return self._occupants

    def serving(self) -> Sequence[Child]:
        """Return the workers that are ready, oldest first."""
        if self._serving is None:
            self._serving = [child for child in self.workers() if child.state is State.READY]
        return self._serving

    def adopted(self, pid: int) -> tuple[int, ...]:
        """Return the slots of others whose queues a child was told to serve too."""
        return self._adopted.get(pid, ())

    def unproven(self) -> list[Child]:
        """Return the workers that were started and are not ready yet."""
        return [child for child in self.workers() if child.state in UNPROVEN]

    def ready_slots(self) -> tuple[int, ...]:
        """Return the slots of which a worker is ready, in order."""
        return tuple(sorted({child.slot for child in self.serving()}))

    def healthy_slots(self) -> tuple[int, ...]:
        """Return the slots of which a worker is ready and turns, in order."""
        return tuple(sorted({child.slot for child in self.serving() if child.is_healthy}))

    def leaving(self) -> list[Child]:
        """Return the children whose end was asked for."""
        return [child for child in self._children.values() if child.state in LEAVING]

    def zygote(self, generation: int) -> Child | None:
        """Return the zygote of a generation that is not on its way out."""
        for child in self._children.values():
            if child.is_zygote and child.generation == generation and child.state in OCCUPYING:
                return child
        return None

    def zygotes(self) -> list[Child]:
        """Return the zygotes that are not on their way out."""
        return [child for child in self._children.values() if child.is_zygote and child.state in OCCUPYING]

    def overdue(self, now: float) -> list[Child]:
        """Return the children whose deadline has passed."""
        return [child for child in self._children.values() if child.deadline is not None and child.deadline <= now]

    def overdue_forks(self, now: float) -> list[Slot]:
        """Return the slots whose fork was not answered in time."""
        return [slot for slot in self._slots.values() if slot.fork is not None and slot.fork.deadline <= now]

    def forks(self) -> dict[int, Fork]:
        """Return the forks that are under way: slot -> fork."""
        return {slot.index: slot.fork for slot in self._slots.values() if slot.fork is not None}

    def orders_of(self, zygote: int) -> int:
        """Return how many forks a zygote was asked for that are under way."""
        return sum(fork.zygote == zygote for fork in self.forks().values())

    def vacant(self) -> list[Slot]:
        """Return the wanted slots with neither a child nor a fork under way."""
        occupants = self.occupants()
        slots = (self.slot(index) for index in self.wanted if index not in occupants)
        return [slot for slot in slots if slot.fork is None]

    def is_forking(self) -> bool:
        """Whether a fork is under way in any slot."""
        return any(slot.fork is not None for slot in self._slots.values())

    def is_empty(self) -> bool:
        """Whether no child is left and none is on its way."""
        return not self._children and not self.is_forking()

    def next_deadline(self) -> float | None:
        """Return when something is due: the deadline of a child or a fork; None: nothing."""
        times = [child.deadline for child in self._children.values() if child.deadline is not None]
        times += [fork.deadline for fork in self.forks().values()]
        return min(times, default=None)
