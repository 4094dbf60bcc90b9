"""Why a child is forked, derived from the table at the moment of the fork. Pure.

a generation is tried out there                      its reason: a reload or a refork
it starts beside a child of an older generation      the reason of its own generation
it starts beside a child that must be replaced       as was noted with that child
the slot is vacant                                   as was noted when it became vacant
"""

from __future__ import annotations

from collections.abc import Callable

from hybrid.supervisor.core.states import Reason
from hybrid.supervisor.core.table import Child, Table

ReasonOf = Callable[[int], Reason]
"""Returns why a generation was started: RELOAD or REFORK."""


def reason_to_start(table: Table, slot: int, generation: int, of_generation: ReasonOf) -> Reason:
    """Return why a child of a generation is about to be forked into a slot."""
    if generation == table.next:
        return of_generation(generation)
    occupants = table.occupants().get(slot)
    if not occupants:
        return table.slot(slot).reason
    return _reason_to_replace(occupants[-1], generation, of_generation)


def note_retired(table: Table, child: Child, of_generation: ReasonOf) -> None:
    """Note why the slot of a child that was told to end gets another one, if no other child is there."""
    if table.is_wanted(child.slot) and child.slot not in table.occupants() and child.generation <= table.generation:
        table.expect(child.slot, _reason_to_replace(child, table.generation, of_generation))


def _reason_to_replace(child: Child, generation: int, of_generation: ReasonOf) -> Reason:
    return of_generation(generation) if child.generation < generation else child.successor_reason
