"""What is missing and what is too much, as a plan.

A plan is derived from the table each time and never stored: whatever happens half-way, the next plan starts from the
facts. Children start in vacant wanted slots; a child in a slot that is not wanted retires.
"""

from __future__ import annotations

import dataclasses

from hybrid.supervisor.table import Child, Table


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """The next steps towards the workers that are wanted; empty when there is nothing to do now."""

    start: tuple[int, ...]
    """Slots to fork a worker into."""
    retire: tuple[Child, ...]
    """Children to end."""


def plan(table: Table, now: float) -> Plan:
    """Return what is to be done at `now`; slots that back off are left alone until their time."""
    wanted = table.wanted
    return Plan(
        start=tuple(slot.index for slot in table.vacant() if slot.not_before <= now),
        retire=tuple(child for slot, child in table.seated().items() if slot not in wanted),
    )


def receiving(table: Table) -> tuple[int, ...]:
    """Return the slots that new connections should go to.

    Those whose worker serves; and if there is none, all wanted ones: a connection that waits in a slot's queue is
    answered by its next worker, and one sent nowhere is lost.
    """
    return table.ready_slots() or tuple(table.wanted)


def is_complete(table: Table) -> bool:
    """Whether every wanted slot is served."""
    return table.ready_slots() == tuple(table.wanted)


def is_settled(table: Table) -> bool:
    """Whether every wanted slot is served and nobody else is left."""
    return is_complete(table) and not table.leaving() and not table.is_forking()
