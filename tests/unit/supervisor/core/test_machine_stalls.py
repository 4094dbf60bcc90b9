"""Stalls: a stalled worker gets no new connections, others serve its queue, and it may be ended."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.play import ENDED, KILLED, POLICY, Play, deeds, moves, steer, texts
from support.play import serving as serving_play
from support.said import READY, said

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.events import Abort, Adopt, Drain, Dump, Fork, How, Kill, Level, Report, Steer
from hybrid.supervisor.core.policy import ABORT_PATIENCE
from hybrid.workers.contract.messages import RecycleDue

IMPATIENT = dataclasses.replace(POLICY, stall_timeout=3.0)


@pytest.fixture
def stalled(serving: Play) -> Play:
    """Pid 1 has stalled since second 5; it is 5.05 now."""
    serving.at(5.05, ev.Stalled(1, since=5.0))
    return serving


@pytest.fixture
def impatient() -> Play:
    """Pid 1 has stalled since second 5, and three seconds are allowed; it is 5.05 now."""
    play = serving_play(policy=IMPATIENT)
    play.at(5.05, ev.Stalled(1, since=5.0))
    return play


# --- steering and adoption


def test_a_stalled_worker_gets_no_new_connections_but_its_datagrams_and_its_queue_is_served_by_others(
    serving: Play,
) -> None:
    assert serving.at(5, ev.Stalled(1, since=4.95)) == [Steer((1,), (0, 1)), Adopt(2, (0,))]
    assert serving.machine.has_turned_since(5)


def test_a_worker_that_turns_again_gets_connections_again(stalled: Play) -> None:
    assert stalled.at(5.2, ev.Recovered(1)) == [steer(0, 1), Adopt(2, ())]
    assert [row.stalled_seconds for row in stalled.machine.workers(5.2)] == [None, None]


def test_a_stall_reported_twice_is_one_stall(stalled: Play) -> None:
    assert stalled.step(ev.Stalled(1, since=5.04)) == []
    assert stalled.machine.deadline() == 6


def test_when_all_stall_connections_go_to_all_again(stalled: Play) -> None:
    assert stalled.step(ev.Stalled(2, since=5.0)) == [steer(0, 1)]
    assert not stalled.machine.has_turned_since(5)
    assert stalled.machine.has_turned_since(4.9)


def test_the_first_that_turns_again_serves_the_queues_of_all_others(stalled: Play) -> None:
    stalled.step(ev.Stalled(2, since=5.0))
    assert stalled.step(ev.Recovered(1)) == [Steer((0,), (0, 1)), Adopt(1, (1,))]
    assert stalled.step(ev.Recovered(2)) == [steer(0, 1), Adopt(1, ()), Adopt(2, ())]


def test_connections_go_to_a_stalled_worker_rather_than_to_one_that_boots(stalled: Play) -> None:
    assert deeds(stalled.step(ev.Exited(2, KILLED))) == [steer(0), Fork(1, 1)]


def test_stalls_change_nothing_but_the_log_if_they_are_not_to_be_avoided() -> None:
    play = serving_play(policy=dataclasses.replace(IMPATIENT, avoids_stalled=False))
    assert play.at(5, ev.Stalled(1, since=5)) == []
    assert play.at(6, ev.Tick()) == [Dump(1, since=5)]
    assert Abort(1, since=5) in play.at(8, ev.Tick())


@pytest.mark.parametrize("event", [ev.Stalled(3, since=4), ev.Recovered(3), ev.Stalled(99, since=4), ev.Recovered(99)])
def test_a_stall_of_a_worker_that_does_not_serve_is_ignored(serving: Play, event: ev.Event) -> None:
    serving.at(5, ev.Exited(1, KILLED))  # pid 3 boots
    assert serving.step(event) == []


def test_a_recovery_without_a_stall_means_nothing(serving: Play) -> None:
    assert serving.step(ev.Recovered(1)) == []


def test_a_new_worker_adopts_the_queue_of_a_stalled_one(stalled: Play) -> None:
    stalled.step(ev.Exited(2, KILLED))
    assert stalled.step(said(3, READY)) == [Steer((1,), (0, 1)), Adopt(3, (0,))]


# --- the log


def test_a_stall_is_looked_into_once_it_has_lasted_and_only_once(stalled: Play) -> None:
    assert stalled.machine.deadline() == 6
    assert stalled.at(6, ev.Tick()) == [Dump(1, since=5)]
    assert stalled.machine.deadline() is None
    assert stalled.at(60, ev.Tick()) == []


def test_a_short_stall_is_no_news(stalled: Play) -> None:
    assert texts(stalled.at(5.9, ev.Recovered(1))) == []
    assert stalled.machine.deadline() is None


def test_the_end_of_a_reported_stall_is_reported(stalled: Play) -> None:
    stalled.at(6, ev.Tick())
    assert stalled.at(8.5, ev.Recovered(1))[0] == Report(Level.INFO, "worker turns again after 3.5 s", 0, 1, 1)


def test_the_next_stall_is_looked_into_again(stalled: Play) -> None:
    stalled.at(6, ev.Tick(), ev.Recovered(1))
    stalled.at(7, ev.Stalled(1, since=6.9))
    assert stalled.at(8, ev.Tick()) == [Dump(1, since=6.9)]


def test_no_stall_is_looked_into_if_that_was_not_asked_for() -> None:
    play = serving_play(policy=dataclasses.replace(POLICY, stall_report=0.0))
    play.at(5, ev.Stalled(1, since=5))
    assert play.machine.deadline() is None
    assert play.at(60, ev.Tick()) == []


@given(since=st.floats(0, 1e7), report=st.floats(0.001, 100))
def test_a_stall_is_reported_at_the_deadline_itself_whatever_the_numbers(since: float, report: float) -> None:
    play = serving_play(1, policy=dataclasses.replace(POLICY, stall_report=report))
    play.at(since, ev.Stalled(1, since=since))
    deadline = play.machine.deadline()
    assert deadline is not None
    assert play.at(deadline, ev.Tick()) == [Dump(1, since=since)]


# --- the end of a stalled worker


def test_a_stall_that_lasts_too_long_ends_its_worker_after_it_was_looked_into(impatient: Play) -> None:
    assert impatient.machine.deadline() == 6
    assert impatient.at(6, ev.Tick()) == [Dump(1, since=5)]
    assert impatient.machine.deadline() == 8
    actions = impatient.at(8, ev.Tick())
    assert actions == [
        Abort(1, since=5),
        Report(Level.WARNING, "worker died: its loop stood still for 3.0 s, so it was killed; restarting now", 0, 1, 1),
        Steer((1,), (1,)),
        Fork(0, 1),
    ]
    assert impatient.step(ev.Exited(1, How(signal="SIGABRT"))) == []


def test_a_worker_that_survives_its_abort_is_killed(impatient: Play) -> None:
    impatient.at(8, ev.Tick(), said(3, READY))
    assert impatient.machine.deadline() == 8 + ABORT_PATIENCE
    assert deeds(impatient.at(8 + ABORT_PATIENCE, ev.Tick())) == [Kill(1)]


def test_a_worker_that_recovers_while_aborted_still_ends(impatient: Play) -> None:
    impatient.at(8, ev.Tick())
    assert impatient.step(ev.Recovered(1)) == []
    assert impatient.states()[1] == "aborted"


def test_a_worker_that_recovers_in_time_lives(impatient: Play) -> None:
    impatient.at(7.9, ev.Recovered(1))
    assert impatient.machine.deadline() is None
    assert moves(impatient.at(9, ev.Tick())) == []


def test_a_stalled_worker_that_dies_by_itself_is_replaced(stalled: Play) -> None:
    actions = stalled.at(6, ev.Exited(1, KILLED))
    assert deeds(actions) == [Steer((1,), (1,)), Fork(0, 1)]


def test_a_stalled_worker_that_is_retired_is_not_looked_into_any_more(impatient: Play) -> None:
    impatient.step(ev.Stalled(2, since=5.0), ev.Recovered(1))
    impatient.step(ev.ScaleAsked(1))
    assert impatient.machine.deadline() == 5.05 + POLICY.graceful_timeout


def test_a_stalled_worker_is_not_looked_into_while_all_stop(stalled: Play) -> None:
    stalled.step(ev.StopAsked(graceful=True))
    assert Dump(1, since=5) not in stalled.at(6, ev.Tick())


def test_a_replaced_stalled_worker_gets_no_new_connections(stalled: Play) -> None:
    stalled.step(said(1, RecycleDue("served 500 requests")))
    assert deeds(stalled.step(said(3, READY))) == [steer(0, 1), Drain(1), Adopt(2, ())]
    assert stalled.step(ev.Recovered(1)) == []
    assert texts(stalled.step(ev.Exited(1, ENDED))) == ["worker retired"]


def test_a_stall_of_the_only_worker_of_a_slot_is_in_the_snapshot(stalled: Play) -> None:
    stalled.now = 7.5
    rows = [(row.pid, row.stalled_seconds) for row in stalled.machine.workers(7.5)]
    assert rows == [(1, 2.5), (2, None)]
