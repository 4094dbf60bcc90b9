"""What is missing, what is too much and what is out of date, as a plan.

A plan is derived from the table each time and never stored: whatever happens half-way, the next plan starts from the
facts.

    a vacant slot that is wanted                              start a worker there
    a worker of an old generation or due for recycling        start its successor in the same slot, a few at a time
    a worker whose successor is ready, or in a slot that is
    not wanted, or that tries out what was given up           retire it

A successor serves the same listener as the worker it replaces, so nothing is lost between the two. Workers that drain
do not count as extra ones, or long connections would hold a reload up; but no more of them than there are slots, or so,
pile up.
"""

from __future__ import annotations

import collections

from hybrid.supervisor.core.states import State
from hybrid.supervisor.core.table import Child, Table
from hybrid.workers.contract.records import record

MOST_DRAINING = 3
"""Workers of one slot that may drain when another is started there: so many does a slot leave that comes and goes."""


@record(frozen=True, slots=True)
class Start:
    """A worker to fork."""

    slot: int
    generation: int


@record(frozen=True, slots=True)
class Plan:
    """The next steps towards the workers that are wanted; empty when there is nothing to do now."""

    start: tuple[Start, ...]
    retire: tuple[Child, ...]
    """Workers to end."""


@record(frozen=True, slots=True)
class Readiness:
    """Of which generations workers can be started now."""

    current: bool = True
    next: bool = True
    """Of the generation that is tried out, if there is one."""


_AT_ONCE = Readiness()


def plan(table: Table, now: float, *, surge: int = 1, readiness: Readiness = _AT_ONCE) -> Plan:
    """Return what is to be done at `now`; slots that back off are left alone until their time.

    `surge`: how many successors may be on their way at a time.
    """
    retire = (child for slot, children in table.occupants().items() for child in _superfluous(table, slot, children))
    start = (*_vacancies(table, now, readiness), *_successors(table, now, surge, readiness))
    return Plan(start, tuple(retire))


def _superfluous(table: Table, slot: int, children: tuple[Child, ...]) -> list[Child]:
    """Return those who are to leave of the `children` that hold a slot."""
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
    """Of two workers that serve one slot, the one of the higher rank stays."""
    return child.generation >= table.generation, child.recycle_reason is None, child.forked_at, child.pid


def is_outdated(table: Table, child: Child) -> bool:
    """Whether a worker is to be replaced."""
    return child.generation < table.generation or child.recycle_reason is not None


def outdated(table: Table) -> list[Child]:
    """Return the workers that serve and are to be replaced, in order of slots."""
    found = [child for child in table.serving() if is_outdated(table, child) and child.slot in table.wanted]
    return sorted(found, key=lambda child: (child.generation, child.slot))


def _vacancies(table: Table, now: float, readiness: Readiness) -> tuple[Start, ...]:
    draining = collections.Counter(child.slot for child in table.leaving())
    due = [slot for slot in table.vacant() if slot.not_before <= now and draining[slot.index] < MOST_DRAINING]
    if table.next is not None and readiness.next and not _trials(table):
        # what crashes may be what the reload is to mend: the first vacant slot tries the new code, also in a pause
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
    # tried out in one slot before the others follow; this too does not wait for a pause to end
    olds = sorted((child for child in table.serving() if child.slot in table.wanted), key=lambda child: child.slot)
    return _beside(table, olds, table.next, surge)[:1]


def _beside(table: Table, olds: list[Child], generation: int, surge: int) -> tuple[Start, ...]:
    """Return the successors of `olds` that may be started besides those that are on their way."""
    occupants = table.occupants()
    forks = table.forks()
    arriving = {child.slot for child in table.unproven() if len(occupants[child.slot]) > 1}
    arriving |= {slot for slot in forks if slot in occupants}
    draining = sum(not child.is_zygote for child in table.leaving())
    free = max(0, min(surge - len(arriving), len(table.wanted) + surge - draining))
    slots = [child.slot for child in olds if len(occupants[child.slot]) == 1 and child.slot not in forks]
    return tuple(Start(slot, generation) for slot in slots[:free])


def _trials(table: Table) -> bool:
    """Whether a worker of the generation that is tried out is on its way."""
    return any(child.generation == table.next for child in table.unproven()) or any(
        fork.generation == table.next for slot, fork in table.forks().items() if slot >= 0
    )


def next_start(table: Table, now: float) -> float | None:
    """Return when the next pause of a slot ends that waits for a worker or a successor; None: none does.

    To be asked after the plan of `now`: a slot whose pause is over and that waits still, waits for something else.
    """
    slots = [*table.vacant(), *(table.slot(child.slot) for child in outdated(table))]
    return min((slot.not_before for slot in slots if slot.not_before > now), default=None)


def receiving(table: Table) -> tuple[int, ...]:
    """Return the slots that new connections should go to.

    Those whose worker serves and turns; if there is none, those whose worker serves; and if there is none, all wanted
    ones: a connection that waits in a slot's queue is answered by its next worker, and one sent nowhere is lost.
    """
    return table.healthy_slots() or receiving_datagrams(table)


def receiving_datagrams(table: Table) -> tuple[int, ...]:
    """Return the slots that datagrams should go to: a stall does not change it, for a sender keeps its worker."""
    return table.ready_slots() or tuple(table.wanted)


def orphaned(table: Table) -> tuple[int, ...]:
    """Return the slots whose queues nobody of their own serves now: siblings are to."""
    healthy = set(table.healthy_slots())
    return tuple(slot for slot in table.existing if slot not in healthy)


def is_complete(table: Table) -> bool:
    """Whether every wanted slot is served."""
    return table.ready_slots() == tuple(table.wanted)


def is_failing(table: Table) -> bool:
    """Whether there is a wanted slot without a worker that serves, whose last ones have failed."""
    ready = table.ready_slots()
    return any(table.slot(slot).failures for slot in table.wanted if slot not in ready)


def is_settled(table: Table) -> bool:
    """Whether every wanted slot is served as it should be, and no other worker is left or on its way."""
    return (
        is_complete(table)
        and table.next is None
        and not outdated(table)
        and not any(not child.is_zygote for child in table.leaving())
        and not table.is_forking()
        and len(table.workers()) == len(table.wanted)
    )
