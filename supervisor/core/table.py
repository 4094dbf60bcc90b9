"""The slots, the children, the generations, and the only functions that change them.

The table keeps facts and answers queries; it decides nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from hybrid.supervisor.core.roles import ZYGOTE, Role, role_of
from hybrid.supervisor.core.states import LEAVING, OCCUPYING, TRANSITIONS, UNPROVEN, News, Reason, State
from hybrid.workers.contract.records import record

NEVER = float("-inf")


@record(frozen=True, slots=True)
class Child:
    """A process that was forked and is not yet reaped."""

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
    reason: Reason = Reason.START
    """Why it was forked."""
    recycle_reason: str | None = None
    """The limit that it reached, by its own report, or another reason to replace it."""
    successor_reason: Reason = Reason.RECYCLE
    """Why its successor is forked, if there is a `recycle_reason`."""
    is_refork_ready: bool = False
    """True if it has served enough to become the next zygote."""
    stalled_since: float | None = None
    """When its loop stalled, seconds; None: it turns."""
    is_avoided: bool = False
    """True if it gets no new connections because of the stall."""
    is_reported: bool = False
    """True if this stall has been logged."""

    @property
    def role(self) -> Role:
        """What it is for."""
        return role_of(self.slot)

    @property
    def is_zygote(self) -> bool:
        """True if it forks the others and serves no connections."""
        return self.role is Role.ZYGOTE

    @property
    def is_worker(self) -> bool:
        """True if it serves connections."""
        return self.role is Role.WORKER

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
    reason: Reason = Reason.START
    """Why a child is forked."""


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
    is_done: bool = False
    """True if its child has ended and gets no successor."""
    reason: Reason = Reason.START
    """Why the next child is forked, if the slot is vacant."""


class Table:
    """Slots x children. The mutators come first, then the queries."""

    def __init__(self, wanted: int, generation: int = 1, companions: tuple[int, ...] = ()) -> None:
        """`companions`: the slots of companions of the first generation."""
        self.generation = generation
        """The generation that serves, and of which dead workers are replaced."""
        self.next: int | None = None
        """The generation that a reload tries out; None: there is none, or it is committed."""
        self.newest = generation
        """The highest number given to a generation so far."""
        self.is_in_haste = False
        """True if companions need not outlive the workers."""
        self._wanted = wanted
        self._existing = wanted  # slots that were ever wanted, and so have listeners
        self._companions = companions  # the slots of companions of the generation that serves
        self._next_companions: tuple[int, tuple[int, ...]] | None = None  # those of this generation and later ones
        self._slots: dict[int, Slot] = {}  # index -> data; kept when the slot is no longer wanted
        self._children: dict[int, Child] = {}  # pid -> child that is not yet reaped
        self._adopted: dict[int, tuple[int, ...]] = {}  # pid -> other slots that the child serves too
        # caches, derived on the first query after a change: a step queries both many times
        self._occupants: dict[int, tuple[Child, ...]] | None = None  # slot -> its children, oldest first
        self._workers: list[Child] | None = None  # oldest first
        self._attendants: list[Child] | None = None  # companions, oldest first
        self._serving: list[Child] | None = None  # ready workers, oldest first
        self._attending: list[Child] | None = None  # ready companions, oldest first

    # --- mutators

    def want(self, workers: int) -> None:
        """Want the slots 0 to `workers` - 1 from now on."""
        self._wanted = workers
        self._existing = max(self._existing, workers)

    def dismiss(self) -> None:
        """Let companions end without waiting for the workers."""
        self.is_in_haste = True

    def enroll(self, companions: tuple[int, ...], since: int) -> None:
        """Want companions in these slots once the generation `since`, or a later one, serves."""
        self._next_companions = since, companions

    def attend(self, slots: tuple[int, ...]) -> None:
        """Want companions in these slots too, from now on."""
        self._companions = (*self._companions, *(slot for slot in slots if slot not in self._companions))
        if self._next_companions is not None:
            since, others = self._next_companions
            self._next_companions = since, (*others, *(slot for slot in slots if slot not in others))

    def inherit(self, slots: int) -> None:
        """Note that at least `slots` slots have listeners."""
        self._existing = max(self._existing, slots)

    def number(self) -> int:
        """Return a new, unique number for a generation."""
        self.newest += 1
        return self.newest

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
        if self._next_companions is not None and self.generation >= self._next_companions[0]:
            self._companions, self._next_companions = self._next_companions[1], None
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

    def set_recycle_reason(self, pid: int, why: str, reason: Reason = Reason.RECYCLE) -> None:
        """Note why a child must be replaced, in words and as the `reason` of its successor."""
        self._put(dataclasses.replace(self._children[pid], recycle_reason=why, successor_reason=reason))

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
        restarts = before.restarts + 1
        self._slots[slot] = dataclasses.replace(
            before, failures=failures, restarts=restarts, not_before=not_before, reason=Reason.DEATH
        )

    def expect(self, slot: int, reason: Reason) -> None:
        """Note why the next child of a vacant `slot` will be forked."""
        self._slots[slot] = dataclasses.replace(self.slot(slot), reason=reason)

    def finish(self, slot: int) -> None:
        """Note that the child of `slot` has ended and gets no successor."""
        self._slots[slot] = dataclasses.replace(self.slot(slot), is_done=True)

    def reopen(self, slot: int) -> None:
        """Want a child in `slot` again, and forget its failures."""
        self.pardon(slot)
        self._slots[slot] = dataclasses.replace(self.slot(slot), is_done=False)

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
        self._forget_queries()

    def _put(self, child: Child) -> None:
        self._children[child.pid] = child
        self._forget_queries()

    def _forget_queries(self) -> None:
        self._occupants = self._workers = self._attendants = self._serving = self._attending = None

    # --- questions

    @property
    def wanted(self) -> range:
        """The slots of workers that should be served."""
        return range(self._wanted)

    @property
    def companions(self) -> tuple[int, ...]:
        """The slots of companions that should run; none once no worker is wanted: they end after the workers."""
        return self._companions if self._wanted else ()

    def is_wanted(self, slot: int) -> bool:
        """Return True if a worker or a companion is wanted in a slot."""
        return slot in self.wanted or slot in self.companions

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

    def workers(self) -> Sequence[Child]:
        """Return the children that are workers, oldest first."""
        if self._workers is None:
            self._workers = [child for child in self._children.values() if child.is_worker]
        return self._workers

    def attendants(self) -> Sequence[Child]:
        """Return the children that are companions, oldest first."""
        if self._attendants is None:
            self._attendants = [child for child in self._children.values() if child.role is Role.COMPANION]
        return self._attendants

    def occupants(self) -> Mapping[int, tuple[Child, ...]]:
        """Return slot -> workers or companions that occupy it, oldest first; two while one replaces the other."""
        if self._occupants is None:
            self._occupants = {}
            for child in self._children.values():
                if child.state in OCCUPYING and not child.is_zygote:
                    self._occupants[child.slot] = (*self._occupants.get(child.slot, ()), child)
        return self._occupants

    def serving(self) -> Sequence[Child]:
        """Return the ready workers, oldest first."""
        if self._serving is None:
            self._serving = [child for child in self.workers() if child.state is State.READY]
        return self._serving

    def attending(self) -> Sequence[Child]:
        """Return the ready companions, oldest first."""
        if self._attending is None:
            self._attending = [child for child in self.attendants() if child.state is State.READY]
        return self._attending

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
        """Return the wanted slots of workers with neither a child nor a pending fork."""
        occupants = self.occupants()
        slots = (self.slot(index) for index in self.wanted if index not in occupants)
        return [slot for slot in slots if slot.fork is None and not slot.is_done]

    def done(self) -> tuple[int, ...]:
        """Return the wanted slots of workers whose child has ended and gets no successor, in order."""
        return tuple(index for index in self.wanted if self.slot(index).is_done)

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
