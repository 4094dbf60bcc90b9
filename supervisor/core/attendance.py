"""The plan for companions: those to start and those to retire, derived from the table as in `rollout`.

    a wanted slot without a companion of the serving generation    start one there, beside an older one if it has one
    a companion that is due for recycling                          start its successor in the same slot
    a companion that was due and has a ready successor             retire it
    a companion of a generation of which no worker is left         retire it

So a companion outlives the workers of its generation: after a reload, and at a stop. Requests that drain may need it. A
new generation is not delayed by the companions of older ones.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator

from hybrid.supervisor.core.roles import Role, role_of
from hybrid.supervisor.core.states import State
from hybrid.supervisor.core.table import Child, Slot, Table

MOST_IN_A_SLOT = 3
"""The maximum of processes in one slot while another is started there: reloads may follow each other closely."""


def vacant(table: Table) -> Iterator[Slot]:
    """Yield the slots that need a companion: it is wanted, and none of the serving generation is there or on its way.

    Slots that back off are among them.
    """
    if not table.companions:
        return
    occupants = table.occupants()
    leaving = collections.Counter(child.slot for child in table.leaving())
    for index in table.companions:
        slot, here = table.slot(index), occupants.get(index, ())
        if slot.fork is not None or slot.is_done or any(_is_current(table, child) for child in here):
            continue
        if len(here) + leaving[index] < MOST_IN_A_SLOT:
            yield slot


def due(table: Table, now: float) -> tuple[int, ...]:
    """Return the slots in which a companion of the serving generation is to be started now."""
    return tuple(slot.index for slot in vacant(table) if slot.not_before <= now)


def superfluous(table: Table) -> list[Child]:
    """Return the companions to retire."""
    here = [
        child
        for slot, children in table.occupants().items()
        if role_of(slot) is Role.COMPANION
        for child in children
    ]  # fmt: skip
    over = {generation: _is_over(table, generation) for generation in {child.generation for child in here}}
    return [child for child in here if over[child.generation] or _is_replaced(table, child)]


def is_superseded(table: Table, child: Child) -> bool:
    """Return True if the slot of a companion has another one that is newer: its end leaves no gap."""
    return any(_is_current(table, other) and other.pid != child.pid for other in table.occupants().get(child.slot, ()))


def _is_current(table: Table, child: Child) -> bool:
    return child.generation >= table.generation and child.recycle_reason is None


def _is_replaced(table: Table, child: Child) -> bool:
    if child.recycle_reason is None or child.generation < table.generation:
        return False  # those of an older generation end with it: its workers may need them
    others = table.occupants()[child.slot]
    return any(_is_current(table, other) and other.state is State.READY for other in others)


def _is_over(table: Table, generation: int) -> bool:
    """Return True if no worker of a generation is left, nor will be."""
    if table.is_in_haste:
        return True
    if generation == table.generation and table.wanted:
        return False
    return not any(child.generation == generation for child in table.workers()) and not any(
        role_of(slot) is Role.WORKER and fork.generation == generation for slot, fork in table.forks().items()
    )
