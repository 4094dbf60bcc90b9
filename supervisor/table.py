"""Who sits where: the slots, the children, and the only functions that change either.

The table keeps facts and answers questions; it decides nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from hybrid.supervisor.states import LEAVING, SEATED, TRANSITIONS, UNPROVEN, News, State

NEVER = float("-inf")


@dataclasses.dataclass(frozen=True, slots=True)
class Child:
    """A process that was forked and is not yet reaped."""

    pid: int
    slot: int
    generation: int
    state: State
    born: float
    """When it was forked, seconds."""
    deadline: float | None
    """When its state has lasted too long, seconds; None: never."""
    ready_at: float | None = None
    """When it said that it serves, seconds."""
    failure: str | None = None
    """Why it cannot start, as it said."""

    def served(self, now: float) -> float | None:
        """Return for how many seconds it has been ready; None if it never was."""
        return None if self.ready_at is None else now - self.ready_at


@dataclasses.dataclass(frozen=True, slots=True)
class Slot:
    """What is remembered of a slot while children come and go."""

    index: int
    forking: bool = False
    """A fork was asked for and not yet answered."""
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
        self._wanted = wanted
        self._slots: dict[int, Slot] = {}  # index -> what is remembered; a slot stays when it is no longer wanted
        self._children: dict[int, Child] = {}  # pid -> child that is not yet reaped

    # --- mutators

    def want(self, workers: int) -> None:
        """From now on the slots 0 to `workers` - 1 are wanted."""
        self._wanted = workers

    def reserve(self, slot: int) -> None:
        """Note that a child is being forked into `slot`."""
        self._slots[slot] = dataclasses.replace(self.slot(slot), forking=True)

    def seat(self, child: Child) -> None:
        """Add the child that was forked into its slot."""
        self._slots[child.slot] = dataclasses.replace(self.slot(child.slot), forking=False)
        self._children[child.pid] = child

    def move(self, pid: int, news: News, deadline: float | None, *, ready_at: float | None = None) -> Child:
        """Apply `news` to a child and give its new state a deadline; return the child as it is now."""
        child = self._children[pid]
        moved = dataclasses.replace(child, state=TRANSITIONS[child.state, news], deadline=deadline)
        if ready_at is not None:
            moved = dataclasses.replace(moved, ready_at=ready_at)
        self._children[pid] = moved
        return moved

    def blame(self, pid: int, reason: str) -> None:
        """Note why a child says that it cannot start."""
        self._children[pid] = dataclasses.replace(self._children[pid], failure=reason)

    def lose(self, slot: int, failures: int, not_before: float) -> None:
        """Note that `slot` has lost its child: it has failed so often and waits until `not_before`."""
        restarts = self.slot(slot).restarts + 1
        self._slots[slot] = Slot(slot, failures=failures, restarts=restarts, not_before=not_before)

    def miss(self, slot: int, failures: int, not_before: float) -> None:
        """Note that the fork into `slot` failed: it has failed so often and waits until `not_before`."""
        self._slots[slot] = Slot(slot, failures=failures, restarts=self.slot(slot).restarts, not_before=not_before)

    def pardon(self, slot: int) -> None:
        """Forget the failures of `slot`: somebody asks for it anew."""
        self._slots[slot] = dataclasses.replace(self.slot(slot), failures=0, not_before=NEVER)

    def remove(self, pid: int) -> None:
        """Forget a child that is gone."""
        del self._children[pid]

    # --- questions

    @property
    def wanted(self) -> range:
        """The slots that should be served."""
        return range(self._wanted)

    def slot(self, index: int) -> Slot:
        """Return what is remembered of a slot."""
        return self._slots.get(index) or Slot(index)

    def child(self, pid: int) -> Child | None:
        """Return the child with this pid, if it is one."""
        return self._children.get(pid)

    def children(self) -> Iterator[Child]:
        """Return all children, oldest first."""
        return iter(tuple(self._children.values()))

    def seated(self) -> dict[int, Child]:
        """Return the child that holds each slot: slot -> child."""
        return {child.slot: child for child in self._children.values() if child.state in SEATED}

    def ready_slots(self) -> tuple[int, ...]:
        """Return the slots whose child serves, in order."""
        return tuple(sorted(slot for slot, child in self.seated().items() if child.state not in UNPROVEN))

    def leaving(self) -> list[Child]:
        """Return the children whose end was asked for."""
        return [child for child in self._children.values() if child.state in LEAVING]

    def overdue(self, now: float) -> list[Child]:
        """Return the children whose deadline has passed."""
        return [child for child in self._children.values() if child.deadline is not None and child.deadline <= now]

    def vacant(self) -> list[Slot]:
        """Return the wanted slots with neither a child nor a fork under way."""
        seated = self.seated()
        slots = (self.slot(index) for index in self.wanted if index not in seated)
        return [slot for slot in slots if not slot.forking]

    def is_forking(self) -> bool:
        """Whether a fork is under way in any slot."""
        return any(slot.forking for slot in self._slots.values())

    def is_empty(self) -> bool:
        """Whether no child is left and none is on its way."""
        return not self._children and not self.is_forking()

    def next_deadline(self) -> float | None:
        """Return when something is due: a child's deadline or the end of a slot's back-off; None: nothing."""
        times = [child.deadline for child in self._children.values() if child.deadline is not None]
        times += [slot.not_before for slot in self.vacant()]
        return min(times, default=None)
