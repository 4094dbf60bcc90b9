"""The plan for companions, derived from a table."""

from __future__ import annotations

import pytest
from support.play import child
from support.rows import for_each

from hybrid.supervisor.core import attendance, rollout
from hybrid.supervisor.core.roles import companion_slot
from hybrid.supervisor.core.rollout import Readiness, Start
from hybrid.supervisor.core.states import State
from hybrid.supervisor.core.table import Child, Fork, Table

MAILER, CLOCK = companion_slot(0), companion_slot(1)


def table_of(*children: Child, generation: int = 1, wanted: int = 1) -> Table:
    """Return a table that wants workers and two companions, in which these children sit."""
    table = Table(wanted, generation, companions=(MAILER, CLOCK))
    for one in children:
        table.add(one)
    return table


def retired(table: Table) -> list[int]:
    return [one.pid for one in attendance.superfluous(table)]


# --- starts


def test_vacant_companions_start_behind_the_workers() -> None:
    assert rollout.plan(table_of(), 0.0).start == (Start(0, 1), Start(MAILER, 1), Start(CLOCK, 1))


@pytest.mark.parametrize("readiness", [Readiness(serves=False), Readiness(current=False)])
def test_none_starts_before_the_service_serves_or_while_nothing_can_be_forked(readiness: Readiness) -> None:
    starts = rollout.plan(table_of(child(1, 0)), 0.0, readiness=readiness).start
    assert starts == ()


def test_a_companion_that_backs_off_waits_for_its_time() -> None:
    table = table_of(child(1, 0))
    table.lose(MAILER, failures=2, not_before=5.0)
    assert attendance.due(table, 4.9) == (CLOCK,)
    assert rollout.next_start(table, 4.9) == 5.0
    assert attendance.due(table, 5.0) == (MAILER, CLOCK)


def test_a_companion_with_a_pending_fork_is_not_started_twice() -> None:
    table = table_of(child(1, 0))
    table.reserve(MAILER, Fork(1, 10.0, None))
    assert attendance.due(table, 0.0) == (CLOCK,)


def test_a_companion_that_has_ended_for_good_is_not_started() -> None:
    table = table_of(child(1, 0))
    table.finish(MAILER)
    assert attendance.due(table, 0.0) == (CLOCK,)


def test_a_companion_of_an_older_generation_gets_a_successor_beside_it() -> None:
    table = table_of(child(1, 0, generation=2), child(2, MAILER), child(3, CLOCK, generation=2), generation=2)
    assert attendance.due(table, 0.0) == (MAILER,)


def test_companions_of_many_generations_do_not_pile_up() -> None:
    olds = [child(pid, MAILER, generation=pid) for pid in (1, 2, 3)]
    workers = [child(10 + one.generation, 0, State.DRAINING, generation=one.generation, deadline=9.0) for one in olds]
    table = table_of(*olds, *workers, generation=4)
    assert attendance.due(table, 0.0) == (CLOCK,)


def test_none_is_wanted_once_no_worker_is() -> None:
    table = table_of(child(1, 0), child(2, MAILER))
    table.want(0)
    assert table.companions == ()
    assert attendance.due(table, 0.0) == ()


# --- retirement


def test_a_companion_stays_while_its_generation_serves() -> None:
    assert retired(table_of(child(1, 0), child(2, MAILER))) == []


def test_a_companion_stays_while_the_last_worker_is_dead_and_its_successor_on_its_way() -> None:
    assert retired(table_of(child(2, MAILER))) == []


@for_each("state", [State.BOOTING, State.READY, State.DRAINING, State.ABORTED, State.KILLED])
def test_a_companion_stays_as_long_as_a_worker_of_its_generation_lives(state: State) -> None:
    table = table_of(child(1, 0, state, deadline=9.0), child(2, MAILER), child(3, 0, generation=2), generation=2)
    assert retired(table) == []
    table.remove(1)
    assert retired(table) == [2]


def test_a_companion_stays_while_a_worker_of_its_generation_is_being_forked() -> None:
    table = table_of(child(2, MAILER), child(3, 0, generation=2), generation=2)
    table.reserve(0, Fork(1, 10.0, None))
    assert retired(table) == []


def test_companions_stay_at_a_stop_until_the_workers_are_gone() -> None:
    table = table_of(child(1, 0, State.DRAINING, deadline=9.0), child(2, MAILER))
    table.want(0)
    assert retired(table) == []
    table.remove(1)
    assert retired(table) == [2]


def test_companions_do_not_wait_in_haste() -> None:
    table = table_of(child(1, 0, State.DRAINING, deadline=9.0), child(2, MAILER))
    table.want(0)
    table.dismiss()
    assert retired(table) == [2]


def test_a_companion_that_is_due_stays_until_its_successor_is_ready() -> None:
    table = table_of(child(1, 0), child(2, MAILER, recycle_reason="old"), child(3, MAILER, State.BOOTING))
    assert retired(table) == []
    table.add(child(3, MAILER))
    assert retired(table) == [2]


def test_a_companion_that_is_no_longer_configured_stays_as_long_as_its_generation() -> None:
    table = table_of(child(1, 0), child(2, CLOCK))
    table.enroll((MAILER,), since=2)
    assert table.companions == (MAILER, CLOCK)
    table.try_next()
    table.commit()
    assert table.companions == (MAILER,)
    assert retired(table) == []
    table.remove(1)
    assert retired(table) == [2]


def test_another_configuration_counts_from_its_generation_on() -> None:
    table = table_of(child(1, 0))
    table.enroll((MAILER,), since=3)
    table.try_next()
    table.commit()
    assert table.companions == (MAILER, CLOCK)


# --- workers


def test_companions_count_neither_as_workers_nor_for_their_successors() -> None:
    table = table_of(child(1, 0), child(2, MAILER), child(3, CLOCK, State.DRAINING, deadline=9.0))
    assert [one.pid for one in table.workers()] == [one.pid for one in table.serving()] == [1]
    assert table.ready_slots() == rollout.receiving(table) == (0,)
    assert rollout.orphaned(table) == ()
    assert rollout.is_complete(table)
    assert rollout.is_settled(table)
