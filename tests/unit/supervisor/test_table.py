"""The table of slots and children, and the plan that is derived from it."""

from __future__ import annotations

import pytest

from hybrid.supervisor import rollout
from hybrid.supervisor.states import News, State
from hybrid.supervisor.table import Child, Table


def child(pid: int, slot: int, state: State = State.READY, deadline: float | None = None) -> Child:
    return Child(pid, slot, 1, state, born=0.0, deadline=deadline)


def table_with(wanted: int, *children: Child) -> Table:
    table = Table(wanted)
    for one in children:
        table.seat(one)
    return table


def test_a_new_table_has_all_its_slots_vacant() -> None:
    assert [slot.index for slot in Table(3).vacant()] == [0, 1, 2]


def test_a_slot_with_a_fork_under_way_is_not_vacant() -> None:
    table = Table(2)
    table.reserve(0)
    assert [slot.index for slot in table.vacant()] == [1]
    assert table.is_forking()
    assert not table.is_empty()


def test_a_seated_child_ends_the_fork() -> None:
    table = Table(1)
    table.reserve(0)
    table.seat(child(42, 0))
    assert not table.is_forking()
    assert table.child(42) == child(42, 0)


@pytest.mark.parametrize("state", [State.DRAINING, State.KILLED])
def test_a_leaving_child_holds_no_slot(state: State) -> None:
    table = table_with(1, child(42, 0, state))
    assert table.seated() == {}
    assert [one.pid for one in table.leaving()] == [42]
    assert [slot.index for slot in table.vacant()] == [0]


def test_a_move_follows_the_transition_table() -> None:
    table = table_with(1, child(42, 0, State.BOOTING))
    assert table.move(42, News.READY, None, ready_at=5.0).state is State.READY
    moved = table.child(42)
    assert moved is not None
    assert moved.served(7.5) == 2.5


def test_a_slot_remembers_its_losses_and_a_failed_fork_is_none() -> None:
    table = table_with(1, child(42, 0))
    table.remove(42)
    table.lose(0, failures=2, not_before=9.0)
    table.miss(0, failures=3, not_before=10.0)
    slot = table.slot(0)
    assert (slot.restarts, slot.failures, slot.not_before) == (1, 3, 10.0)


def test_a_pardoned_slot_starts_anew_but_its_losses_stay_counted() -> None:
    table = Table(1)
    table.lose(0, failures=7, not_before=99.0)
    table.pardon(0)
    assert (table.slot(0).failures, table.slot(0).restarts) == (0, 1)
    assert rollout.plan(table, 0.0).start == (0,)


def test_the_next_deadline_is_the_earliest_of_children_and_back_offs() -> None:
    table = table_with(3, child(1, 0, State.BOOTING, deadline=60.0), child(2, 1, State.DRAINING, deadline=30.0))
    table.lose(1, failures=2, not_before=20.0)
    table.lose(2, failures=2, not_before=25.0)
    assert table.next_deadline() == 20.0
    assert [one.pid for one in table.overdue(30.0)] == [2]


def test_nothing_is_due_when_all_serve() -> None:
    assert table_with(1, child(1, 0)).next_deadline() is None


def test_a_plan_starts_what_is_missing_and_retires_what_is_too_much() -> None:
    table = table_with(2, child(1, 0), child(3, 2))
    plan = rollout.plan(table, 0.0)
    assert plan.start == (1,)
    assert [one.pid for one in plan.retire] == [3]


def test_a_plan_leaves_a_slot_alone_that_backs_off() -> None:
    table = Table(1)
    table.lose(0, failures=2, not_before=5.0)
    assert rollout.plan(table, 4.9).start == ()
    assert rollout.plan(table, 5.0).start == (0,)


def test_connections_go_to_slots_that_serve() -> None:
    table = table_with(3, child(1, 0, State.BOOTING), child(2, 1), child(3, 2, State.FAILED))
    assert rollout.receiving(table) == (1,)


def test_connections_wait_in_all_queues_while_nobody_serves() -> None:
    assert rollout.receiving(table_with(2, child(1, 0, State.BOOTING))) == (0, 1)


def test_a_table_is_settled_when_all_serve_and_nobody_is_leaving() -> None:
    table = table_with(1, child(1, 0), child(2, 1, State.DRAINING))
    assert rollout.is_complete(table)
    assert not rollout.is_settled(table)
    table.remove(2)
    assert rollout.is_settled(table)
