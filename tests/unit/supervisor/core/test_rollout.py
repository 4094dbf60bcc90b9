"""The plan that is derived from a table: what to start, what to retire, where connections go."""

from __future__ import annotations

import pytest
from support.play import child, table_with

from hybrid.supervisor.core import rollout
from hybrid.supervisor.core.roles import ZYGOTE
from hybrid.supervisor.core.rollout import Plan, Readiness, Start
from hybrid.supervisor.core.states import State
from hybrid.supervisor.core.table import Child, Fork, Table


def trying(wanted: int, *children: Child) -> Table:
    """Return a table that tries out generation 2."""
    table = table_with(wanted, *children)
    table.try_next()
    return table


def replacing(wanted: int, *children: Child) -> Table:
    """Return a table with generation 2 committed."""
    table = trying(wanted, *children)
    table.commit()
    return table


def fork(generation: int = 1) -> Fork:
    return Fork(generation, deadline=10.0, zygote=None)


def retired(plan: Plan) -> list[int]:
    return [one.pid for one in plan.retire]


# --- missing and surplus workers


def test_a_plan_starts_missing_workers_and_retires_surplus_ones() -> None:
    plan = rollout.plan(table_with(2, child(1, 0), child(3, 2)), 0.0)
    assert plan.start == (Start(1, 1),)
    assert retired(plan) == [3]


def test_a_plan_leaves_a_slot_alone_that_backs_off() -> None:
    table = Table(1)
    table.lose(0, failures=2, not_before=5.0)
    assert rollout.plan(table, 4.9).start == ()
    assert rollout.plan(table, 5.0).start == (Start(0, 1),)


def test_a_pardoned_slot_is_started_at_once() -> None:
    table = Table(1)
    table.lose(0, failures=7, not_before=99.0)
    table.pardon(0)
    assert rollout.plan(table, 0.0).start == (Start(0, 1),)


def test_a_plan_for_a_settled_table_is_empty() -> None:
    assert rollout.plan(table_with(2, child(1, 0), child(2, 1)), 0.0) == Plan((), ())


def test_nothing_is_started_of_a_generation_that_is_not_ready_to_be() -> None:
    assert rollout.plan(Table(2), 0.0, readiness=Readiness(current=False)).start == ()


# --- successors


def test_a_due_worker_gets_a_successor_in_its_own_slot() -> None:
    assert rollout.plan(table_with(2, child(1, 0), child(2, 1, recycle_reason="old")), 0.0) == Plan((Start(1, 1),), ())


def test_a_successor_that_is_ready_retires_the_one_it_replaces() -> None:
    table = table_with(1, child(1, 0, recycle_reason="old"), child(2, 0))
    assert retired(rollout.plan(table, 0.0)) == [1]


@pytest.mark.parametrize(("surge", "slots"), [(1, [0]), (2, [0, 1]), (9, [0, 1, 2])])
def test_at_most_so_many_successors_are_on_their_way_at_a_time(surge: int, slots: list[int]) -> None:
    table = table_with(3, *(child(slot + 1, slot, recycle_reason="old") for slot in range(3)))
    assert [start.slot for start in rollout.plan(table, 0.0, surge=surge).start] == slots


def test_a_successor_that_is_being_forked_counts() -> None:
    table = table_with(2, child(1, 0, recycle_reason="old"), child(2, 1, recycle_reason="old"))
    table.reserve(0, fork())
    assert rollout.plan(table, 0.0).start == ()


def test_a_successor_that_boots_counts() -> None:
    table = table_with(
        2, child(1, 0, recycle_reason="old"), child(2, 1, recycle_reason="old"), child(3, 0, State.BOOTING)
    )
    assert rollout.plan(table, 0.0).start == ()


def test_workers_that_drain_do_not_hold_successors_up_until_there_are_as_many_as_slots_and_more() -> None:
    table = table_with(1, child(1, 0, recycle_reason="old"), child(2, 0, State.DRAINING))
    assert rollout.plan(table, 0.0).start == (Start(0, 1),)
    table.add(child(3, 0, State.DRAINING))
    assert rollout.plan(table, 0.0).start == ()


def test_a_successor_waits_for_the_pause_of_its_slot() -> None:
    table = table_with(1, child(1, 0, recycle_reason="old"))
    table.lose(0, failures=3, not_before=5.0)
    assert rollout.plan(table, 4.9).start == ()
    assert rollout.next_start(table, 4.9) == 5.0
    assert rollout.plan(table, 5.0).start == (Start(0, 1),)


# --- a generation that is tried out


def test_a_generation_is_tried_out_beside_the_worker_of_one_slot() -> None:
    assert rollout.plan(trying(2, child(1, 0), child(2, 1)), 0.0, surge=2) == Plan((Start(0, 2),), ())


def test_no_second_worker_tries_it_out_while_the_first_boots() -> None:
    table = trying(2, child(1, 0), child(2, 1), child(3, 0, State.BOOTING, generation=2))
    assert rollout.plan(table, 0.0, surge=2) == Plan((), ())


def test_no_second_worker_tries_it_out_while_the_first_is_forked() -> None:
    table = trying(2, child(1, 0), child(2, 1))
    table.reserve(0, fork(2))
    assert rollout.plan(table, 0.0, surge=2) == Plan((), ())


def test_a_vacant_slot_tries_it_out_also_in_a_pause_and_others_go_on_as_before() -> None:
    table = trying(3, child(1, 0))
    table.lose(1, failures=5, not_before=99.0)
    assert rollout.plan(table, 0.0).start == (Start(1, 2), Start(2, 1))


def test_a_slot_that_is_served_tries_it_out_also_in_a_pause() -> None:
    table = trying(1, child(1, 0))
    table.lose(0, failures=5, not_before=99.0)
    assert rollout.plan(table, 0.0).start == (Start(0, 2),)


def test_vacant_slots_do_not_wait_for_a_generation_whose_zygote_still_imports() -> None:
    table = trying(2, child(1, 0))
    assert rollout.plan(table, 0.0, readiness=Readiness(next=False)).start == (Start(1, 1),)


def test_the_generation_that_serves_may_wait_for_its_zygote_while_the_next_is_tried_out() -> None:
    assert rollout.plan(trying(2), 0.0, readiness=Readiness(current=False)).start == (Start(0, 2),)


def test_a_trial_worker_of_a_given_up_generation_is_retired() -> None:
    table = trying(1, child(1, 0), child(2, 0, State.BOOTING, generation=2))
    table.give_up_next()
    assert retired(rollout.plan(table, 0.0)) == [2]


# --- a generation that has proved itself


def test_the_worker_beside_the_one_that_proved_it_is_retired_and_the_others_are_replaced() -> None:
    table = replacing(2, child(1, 0), child(2, 1), child(3, 0, generation=2))
    plan = rollout.plan(table, 0.0)
    assert plan.start == (Start(1, 2),)
    assert retired(plan) == [1]


def test_workers_of_old_code_that_are_not_ready_yet_are_retired_and_replaced() -> None:
    table = replacing(2, child(1, 1, State.BOOTING), child(2, 0, generation=2))
    assert retired(rollout.plan(table, 0.0)) == [1]


def test_the_oldest_generation_is_replaced_first() -> None:
    table = replacing(2, child(1, 0, generation=2, recycle_reason="old"), child(2, 1, generation=1))
    assert rollout.plan(table, 0.0).start == (Start(1, 2),)


def test_of_two_that_serve_a_slot_the_one_of_the_serving_generation_stays() -> None:
    table = replacing(1, child(9, 0, generation=1, forked_at=5.0), child(2, 0, generation=2, forked_at=1.0))
    assert retired(rollout.plan(table, 0.0)) == [9]


# --- pauses


def test_a_slot_after_its_back_off_sets_no_deadline() -> None:
    table = table_with(
        2, child(1, 0, recycle_reason="old"), child(2, 1, recycle_reason="old"), child(3, 0, State.BOOTING)
    )
    assert rollout.next_start(table, 0.0) is None


def test_the_earliest_pause_that_is_not_over_is_waited_for() -> None:
    table = Table(3)
    for slot, not_before in enumerate((1.0, 7.0, 5.0)):
        table.lose(slot, failures=2, not_before=not_before)
    assert rollout.next_start(table, 1.0) == 5.0


# --- where connections go


def test_connections_go_to_slots_that_serve() -> None:
    table = table_with(3, child(1, 0, State.BOOTING), child(2, 1), child(3, 2, State.FAILED))
    assert rollout.receiving(table) == (1,)


def test_connections_wait_in_all_queues_without_a_serving_worker() -> None:
    assert rollout.receiving(table_with(2, child(1, 0, State.BOOTING))) == (0, 1)


def test_a_stalled_worker_gets_datagrams_but_no_connections() -> None:
    table = table_with(2, child(1, 0), child(2, 1))
    table.stall(1, 0.0, avoid=True)
    assert rollout.receiving(table) == (1,)
    assert rollout.receiving_datagrams(table) == (0, 1)


def test_stalled_workers_get_connections_if_there_are_no_others() -> None:
    table = table_with(2, child(1, 0), child(2, 1, State.BOOTING))
    table.stall(1, 0.0, avoid=True)
    assert rollout.receiving(table) == (0,)


def test_queues_without_a_healthy_worker_are_orphaned_also_in_unwanted_slots() -> None:
    table = table_with(3, child(1, 0), child(2, 1), child(3, 2))
    table.stall(2, 0.0, avoid=True)
    table.want(2)
    table.remove(3)
    assert rollout.orphaned(table) == (1, 2)


# --- the end of a change


def test_a_table_is_settled_when_all_serve_and_none_is_leaving() -> None:
    table = table_with(1, child(1, 0), child(2, 1, State.DRAINING))
    assert rollout.is_complete(table)
    assert not rollout.is_settled(table)
    table.remove(2)
    assert rollout.is_settled(table)


def test_a_table_with_old_code_a_due_worker_or_a_trial_is_not_settled() -> None:
    assert not rollout.is_settled(replacing(1, child(1, 0)))
    assert not rollout.is_settled(trying(1, child(1, 0)))
    assert not rollout.is_settled(table_with(1, child(1, 0, recycle_reason="old")))


def test_zygotes_that_come_and_go_do_not_unsettle_a_table() -> None:
    assert rollout.is_settled(table_with(1, child(1, 0), child(7, ZYGOTE), child(8, ZYGOTE, State.DRAINING)))
