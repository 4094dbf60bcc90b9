"""The table of slots and children: its mutators and queries."""

from __future__ import annotations

import dataclasses

import pytest
from support.play import child, table_with

from hybrid.supervisor.core.roles import ZYGOTE
from hybrid.supervisor.core.states import News, State
from hybrid.supervisor.core.table import NEVER, Child, Fork, Table

FORK = Fork(generation=1, deadline=10.0, zygote=None)


def changed(table: Table, pid: int) -> Child:
    found = table.child(pid)
    assert found is not None
    return found


def test_a_new_table_has_all_its_slots_vacant() -> None:
    assert [slot.index for slot in Table(3).vacant()] == [0, 1, 2]


def test_a_slot_with_a_fork_under_way_is_not_vacant() -> None:
    table = Table(2)
    table.reserve(0, FORK)
    assert [slot.index for slot in table.vacant()] == [1]
    assert table.forks() == {0: FORK}
    assert table.is_forking()
    assert not table.is_empty()


def test_a_seated_child_ends_the_fork() -> None:
    table = Table(1)
    table.reserve(0, FORK)
    table.add(child(42, 0))
    assert not table.is_forking()
    assert table.child(42) == child(42, 0)


@pytest.mark.parametrize("state", [State.DRAINING, State.ABORTED, State.KILLED])
def test_a_leaving_child_holds_no_slot(state: State) -> None:
    table = table_with(1, child(42, 0, state))
    assert table.occupants() == {}
    assert [one.pid for one in table.leaving()] == [42]
    assert [slot.index for slot in table.vacant()] == [0]


def test_two_children_hold_a_slot_while_one_replaces_the_other() -> None:
    table = table_with(1, child(1, 0), child(2, 0, State.BOOTING))
    assert [one.pid for one in table.occupants()[0]] == [1, 2]
    assert [one.pid for one in table.serving()] == [1]
    assert [one.pid for one in table.unproven()] == [2]


def test_a_move_follows_the_transition_table() -> None:
    table = table_with(1, child(42, 0, State.BOOTING))
    assert table.move(42, News.READY, None, ready_at=5.0).state is State.READY
    moved = table.child(42)
    assert moved is not None
    assert moved.served(7.5) == 2.5


def test_a_child_that_was_never_ready_has_served_for_no_time() -> None:
    assert child(42, 0, State.BOOTING).served(9.0) is None


def test_a_slot_remembers_its_losses_and_a_failed_fork_is_none() -> None:
    table = table_with(1, child(42, 0))
    table.remove(42)
    table.lose(0, failures=2, not_before=9.0)
    table.miss(0, failures=3, not_before=10.0)
    slot = table.slot(0)
    assert (slot.restarts, slot.failures, slot.not_before) == (1, 3, 10.0)


def test_a_pardoned_slot_has_no_failures_but_keeps_its_restarts() -> None:
    table = Table(1)
    table.lose(0, failures=7, not_before=99.0)
    table.pardon(0)
    assert (table.slot(0).failures, table.slot(0).restarts, table.slot(0).not_before) == (0, 1, NEVER)


def test_the_next_deadline_is_the_earliest_of_children_and_forks() -> None:
    table = table_with(3, child(1, 0, State.BOOTING, deadline=60.0), child(2, 1, State.DRAINING, deadline=30.0))
    assert table.next_deadline() == 30.0
    table.reserve(2, dataclasses.replace(FORK, deadline=20.0))
    assert table.next_deadline() == 20.0


def test_a_child_is_overdue_at_the_deadline_itself() -> None:
    table = table_with(2, child(1, 0, State.BOOTING, deadline=60.0), child(2, 1, State.DRAINING, deadline=30.0))
    assert [one.pid for one in table.overdue(30.0)] == [2]
    table.reserve(1, FORK)
    assert table.overdue_forks(9.9) == []
    assert [slot.index for slot in table.overdue_forks(10.0)] == [1]


def test_nothing_is_due_when_all_serve() -> None:
    assert table_with(1, child(1, 0)).next_deadline() is None


# --- stalls, recycling, adoption


def test_a_worker_that_stalls_is_ready_and_not_healthy() -> None:
    table = table_with(2, child(1, 0), child(2, 1))
    table.stall(1, 5.0, avoid=True)
    assert table.ready_slots() == (0, 1)
    assert table.healthy_slots() == (1,)


def test_a_stalled_worker_that_is_not_avoided_counts_as_healthy() -> None:
    table = table_with(1, child(1, 0))
    table.stall(1, 5.0)
    assert table.healthy_slots() == (0,)
    assert changed(table, 1).stalled_since == 5.0


def test_a_recovered_worker_is_healthy_and_its_next_stall_is_reported() -> None:
    table = table_with(1, child(1, 0))
    table.stall(1, 5.0, avoid=True)
    table.report(1)
    assert changed(table, 1).is_reported
    table.stall(1, None)
    assert changed(table, 1).is_healthy
    assert not changed(table, 1).is_reported


def test_a_child_keeps_its_notes() -> None:
    table = table_with(1, child(1, 0))
    table.set_recycle_reason(1, "served 5 requests")
    table.adopt(1, (3, 4))
    table.blame(1, "no module")
    noted = table.move(1, News.DRAIN, 30.0)
    assert (noted.recycle_reason, noted.failure) == ("served 5 requests", "no module")
    assert table.adopted(1) == (3, 4)


def test_a_recycled_pid_has_adopted_nothing() -> None:
    table = table_with(2, child(1, 0), child(2, 1))
    assert table.adopted(1) == ()
    table.adopt(2, (0,))
    table.remove(2)
    table.add(child(2, 1))
    assert table.adopted(2) == ()


def test_a_slot_exists_forever_once_it_was_wanted() -> None:
    table = Table(2)
    table.want(4)
    table.want(1)
    assert list(table.wanted) == [0]
    assert list(table.existing) == [0, 1, 2, 3]


# --- zygotes and generations


def test_a_zygote_is_no_worker_and_holds_no_slot() -> None:
    table = table_with(1, child(7, ZYGOTE))
    assert table.workers() == []
    assert table.occupants() == {}
    assert table.serving() == []
    assert not table.is_empty()


def test_a_zygote_is_found_by_its_generation_unless_it_is_on_its_way_out() -> None:
    table = table_with(1, child(7, ZYGOTE), child(8, ZYGOTE, State.DRAINING, generation=2))
    assert table.zygote(1) == child(7, ZYGOTE)
    assert table.zygote(2) is None
    assert [one.pid for one in table.zygotes()] == [7]


def test_a_generation_that_proves_itself_becomes_the_one_that_serves() -> None:
    table = Table(1)
    assert table.try_next() == 2
    assert (table.generation, table.next) == (1, 2)
    table.commit()
    assert (table.generation, table.next) == (2, None)


def test_the_number_of_a_generation_that_was_given_up_is_never_given_again() -> None:
    table = Table(1)
    table.try_next()
    table.give_up_next()
    assert (table.generation, table.next) == (1, None)
    assert table.try_next() == 3
