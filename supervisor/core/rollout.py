"""The plan: children to start and children to retire. This is about workers; for companions see `attendance`.

A plan is derived from the table each time and never stored: after an interruption, the next one starts from the facts.

    a wanted slot without a worker                            start a worker there
    a worker of an old generation or due for recycling        start its successor in the same slot, a few at a time
    a worker with a ready successor, in an unwanted slot,
    or of a generation that was given up                      retire it

A successor serves the same listener as the worker it replaces, so nothing is lost between the two. Draining workers do
not count towards the surge, as long connections would delay a reload; but their number is limited to about the number
of slots.
"""

from __future__ import annotations

import collections

from hybrid.supervisor.core import attendance
from hybrid.supervisor.core.roles import Role, role_of
from hybrid.supervisor.core.states import State
from hybrid.supervisor.core.table import Child, Table
from hybrid.workers.contract.records import record

MOST_DRAINING = 3
"""The maximum of draining workers of one slot while another is started there, as when a slot is scaled up and down."""


@record(frozen=True, slots=True)
class Start:
    """A worker or a companion to fork."""

    slot: int
    generation: int


@record(frozen=True, slots=True)
class Plan:
    """The next steps towards the wanted children; empty if there is nothing to do now."""

    start: tuple[Start, ...]
    retire: tuple[Child, ...]
    """Workers and companions to drain."""


@record(frozen=True, slots=True)
class Readiness:
    """The generations of which workers can be started now."""

    current: bool = True
    next: bool = True
    """For the generation that is tried out, if there is one."""
    serves: bool = True
    """True once a worker of the current one has been ready: companions follow."""


_AT_ONCE = Readiness()


def plan(table: Table, now: float, *, surge: int = 1, readiness: Readiness = _AT_ONCE, overlaps: bool = True) -> Plan:
    """Return the plan at `now`; slots that back off wait for their time.

    `surge`: the maximum number of successors that start at a time. `overlaps`: they start beside the workers that they
    replace; otherwise those end first.
    """
    retire = [
        child
        for slot, children in table.occupants().items()
        if role_of(slot) is Role.WORKER
        for child in _superfluous(table, slot, children)
    ]
    if not overlaps:
        return Plan(_vacancies(table, now, readiness, 1), (*retire, *_replaced(table, surge)))
    start = (*_vacancies(table, now, readiness, MOST_DRAINING), *_successors(table, now, surge, readiness))
    return Plan((*start, *_companions(table, now, readiness)), (*retire, *attendance.superfluous(table)))


def _companions(table: Table, now: float, readiness: Readiness) -> tuple[Start, ...]:
    """Return the companions to start, once their generation serves."""
    if not readiness.current or not readiness.serves:
        return ()
    return tuple(Start(slot, table.generation) for slot in attendance.due(table, now))


def _replaced(table: Table, surge: int) -> list[Child]:
    """Return the workers to retire so that others can start in their slots, a few at a time."""
    return [] if table.vacant() or table.unproven() or table.is_forking() else outdated(table)[:surge]


def _superfluous(table: Table, slot: int, children: tuple[Child, ...]) -> list[Child]:
    """Return the workers to retire among the `children` that occupy a slot."""
    if slot not in table.wanted:
        return list(children)
    if len(children) == 1 and children[0].state is State.READY:
        return []
    generations = (table.generation, table.next)
    leave = [child for child in children if child.state is not State.READY and child.generation not in generations]
    serving = [child for child in children if child.state is State.READY]
    if len(serving) > 1:
        best = max(serving, key=lambda child: _rank(table, child))
        leave += [child for child in serving if child is not best]
    return leave


def _rank(table: Table, child: Child) -> tuple[bool, bool, float, int]:
    """Return the rank of a worker: of two that serve one slot, the higher one stays."""
    return child.generation >= table.generation, child.recycle_reason is None, child.forked_at, child.pid


def is_outdated(table: Table, child: Child) -> bool:
    """Return True if a worker must be replaced."""
    return child.generation < table.generation or child.recycle_reason is not None


def outdated(table: Table) -> list[Child]:
    """Return the serving workers that must be replaced, in order of slots."""
    found = [child for child in table.serving() if is_outdated(table, child) and child.slot in table.wanted]
    return sorted(found, key=lambda child: (child.generation, child.slot))


def _vacancies(table: Table, now: float, readiness: Readiness, most_draining: int) -> tuple[Start, ...]:
    draining = collections.Counter(child.slot for child in table.leaving())
    due = [slot for slot in table.vacant() if slot.not_before <= now and draining[slot.index] < most_draining]
    if table.next is not None and readiness.next and not _trials(table):
        # the reload may fix the crashes: the first vacant slot tries the new code, even while it backs off
        for slot in table.vacant():
            others = tuple(Start(other.index, table.generation) for other in due if other != slot)
            return (Start(slot.index, table.next), *(others if readiness.current else ()))
    return tuple(Start(slot.index, table.generation) for slot in due) if readiness.current else ()


def _successors(table: Table, now: float, surge: int, readiness: Readiness) -> tuple[Start, ...]:
    if table.next is None:
        olds = [child for child in outdated(table) if table.slot(child.slot).not_before <= now]
        return _beside(table, olds, table.generation, surge) if readiness.current else ()
    if not readiness.next or _trials(table) or table.vacant():
        return ()
    # try one slot before the others; this ignores the back-off too
    olds = sorted((child for child in table.serving() if child.slot in table.wanted), key=lambda child: child.slot)
    return _beside(table, olds, table.next, surge)[:1]


def _beside(table: Table, olds: list[Child], generation: int, surge: int) -> tuple[Start, ...]:
    """Return the successors of `olds` that may be started in addition to those starting."""
    occupants = table.occupants()
    forks = table.forks()
    arriving = {child.slot for child in table.unproven() if len(occupants[child.slot]) > 1}
    arriving |= {slot for slot in forks if slot in occupants and role_of(slot) is Role.WORKER}
    draining = sum(child.is_worker for child in table.leaving())
    free = max(0, min(surge - len(arriving), len(table.wanted) + surge - draining))
    slots = [child.slot for child in olds if len(occupants[child.slot]) == 1 and child.slot not in forks]
    return tuple(Start(slot, generation) for slot in slots[:free])


def _trials(table: Table) -> bool:
    """Return True if a worker of the generation that is tried out is starting."""
    return any(child.generation == table.next for child in table.unproven()) or any(
        fork.generation == table.next for slot, fork in table.forks().items() if role_of(slot) is Role.WORKER
    )


def next_start(table: Table, now: float) -> float | None:
    """Return when the next back-off of a slot that needs a worker ends; None: none backs off.

    Call it after the plan of `now`: a slot that still waits after its back-off waits for something else.
    """
    olds = (table.slot(child.slot) for child in outdated(table))
    slots = [*table.vacant(), *olds, *attendance.vacant(table)]
    return min((slot.not_before for slot in slots if slot.not_before > now), default=None)


def receiving(table: Table) -> tuple[int, ...]:
    """Return the slots for new connections.

    Those with a healthy worker; without any, those with a serving worker; and without any, all wanted ones: a queued
    connection is answered by the next worker of its slot, and one sent nowhere is lost.
    """
    return table.healthy_slots() or receiving_datagrams(table)


def receiving_datagrams(table: Table) -> tuple[int, ...]:
    """Return the slots for datagrams; a stall does not change them, as a sender keeps its worker."""
    return table.ready_slots() or tuple(table.wanted)


def orphaned(table: Table) -> tuple[int, ...]:
    """Return the slots without a healthy worker: siblings must serve their queues."""
    healthy = set(table.healthy_slots())
    return tuple(slot for slot in table.existing if slot not in healthy)


def is_complete(table: Table) -> bool:
    """Return True if every wanted slot is served, or done."""
    return sorted({*table.ready_slots(), *table.done()}) == list(table.wanted)


def is_failing(table: Table) -> bool:
    """Return True if a wanted slot without a serving worker has failed before."""
    ready = table.ready_slots()
    return any(table.slot(slot).failures for slot in table.wanted if slot not in ready)


def is_settled(table: Table) -> bool:
    """Return True if every wanted slot has an up-to-date worker, and no other worker is left or starting.

    Companions do not count: one that cannot start must not hold up what is asked for workers.
    """
    return (
        is_complete(table)
        and table.next is None
        and not outdated(table)
        and not any(child.is_worker for child in table.leaving())
        and not any(role_of(slot) is not Role.COMPANION for slot in table.forks())
        and len(table.workers()) == len(table.wanted) - len(table.done())
    )
