"""Recycling: a worker due for recycling serves until its successor does; one at a time."""

from __future__ import annotations

import dataclasses

import pytest
from support.play import ENDED, KILLED, POLICY, Play, deeds, moves, steer, texts
from support.play import serving as serving_play
from support.said import READY, said

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.events import Abort, Adopt, Drain, Fork, How, Level, Report
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed, RecycleDue


@pytest.fixture
def due(serving: Play) -> Play:
    """Pid 1 is due for recycling, and pid 3 boots beside it."""
    serving.at(5, said(1, RecycleDue("served 500 requests")))
    return serving


def test_a_due_worker_gets_a_successor_and_keeps_serving(serving: Play) -> None:
    assert serving.step(said(1, RecycleDue("served 500 requests"))) == [
        Report(Level.INFO, "worker served 500 requests: starting its successor", 0, 1, 1),
        Fork(0, 1),
    ]
    assert serving.states() == {1: "ready", 2: "ready", 3: "booting"}
    assert not serving.machine.is_settled()


def test_a_due_worker_is_retired_when_its_successor_serves_without_new_steering(due: Play) -> None:
    assert due.step(said(3, READY)) == [Drain(1)]
    assert texts(due.step(ev.Exited(1, ENDED))) == ["worker retired"]
    assert due.machine.is_settled()
    assert due.machine.workers(5)[0].restarts == 0


def test_a_second_recycle_due_changes_nothing(due: Play) -> None:
    assert due.step(said(1, RecycleDue("uses 600 MiB"))) == []


def test_of_two_due_workers_one_is_replaced_at_a_time(due: Play) -> None:
    assert moves(due.step(said(2, RecycleDue("served 500 requests")))) == []
    assert moves(due.step(said(3, READY))) == [Drain(1), Fork(1, 1)]
    assert moves(due.step(said(4, READY))) == [Drain(2)]


def test_two_are_replaced_at_a_time_if_that_was_asked_for() -> None:
    play = serving_play(3, policy=dataclasses.replace(POLICY, surge=2))
    forks = [moves(play.step(said(pid, RecycleDue("served 500 requests")))) for pid in (1, 2, 3)]
    assert forks == [[Fork(0, 1)], [Fork(1, 1)], []]


def test_a_slot_that_waits_for_its_turn_sets_no_deadline(due: Play) -> None:
    due.step(said(2, RecycleDue("served 500 requests")))
    assert due.machine.deadline() == 65


def test_a_successor_that_cannot_start_is_tried_again_and_the_due_worker_keeps_serving(due: Play) -> None:
    due.step(said(3, BootFailed(Exit.TARGET, "no database")))
    assert moves(due.step(ev.Exited(3, How(code=3)))) == [Fork(0, 1)]
    due.step(said(4, BootFailed(Exit.TARGET, "no database")))
    assert moves(due.step(ev.Exited(4, How(code=3)))) == []
    assert due.machine.deadline() == pytest.approx(5.1)
    assert moves(due.at(5.1, ev.Tick())) == [Fork(0, 1)]
    assert due.states()[1] == "ready"


def test_a_successor_that_hangs_is_ended_and_the_due_worker_keeps_serving(due: Play) -> None:
    assert moves(due.at(65, ev.Tick())) == [Abort(3, since=5), Fork(0, 1)]
    assert due.states() == {1: "ready", 2: "ready", 3: "aborted", 4: "booting"}


def test_a_due_worker_that_dies_leaves_its_slot_to_its_successor(due: Play) -> None:
    assert deeds(due.step(ev.Exited(1, KILLED))) == [steer(1), Adopt(2, (0,))]
    assert deeds(due.step(said(3, READY))) == [steer(0, 1), Adopt(2, ())]


def test_a_worker_that_dies_has_a_successor_though_another_is_being_replaced(due: Play) -> None:
    assert moves(due.step(ev.Exited(2, KILLED))) == [Fork(1, 1)]


def test_a_due_worker_in_a_slot_that_is_no_longer_wanted_has_no_successor(serving: Play) -> None:
    serving.step(said(2, RecycleDue("served 500 requests")))
    assert moves(serving.step(ev.ScaleAsked(1))) == [Drain(2), Drain(3)]


def test_a_worker_that_is_not_ready_cannot_be_due_for_recycling(play: Play) -> None:
    play.step(ev.Started())
    assert play.step(said(1, RecycleDue("uses 600 MiB")), said(99, RecycleDue("who?"))) == []


def test_a_reload_waits_for_the_successor_of_a_due_worker_and_replaces_it_then(due: Play) -> None:
    assert moves(due.step(ev.ReloadAsked())) == []
    assert moves(due.step(said(3, READY))) == [Drain(1), Fork(0, 2)]
    assert moves(due.step(said(4, READY))) == [Drain(3), Fork(1, 2)]


def test_a_worker_due_during_a_trial_is_replaced_by_the_new_code(serving: Play) -> None:
    serving.step(ev.ReloadAsked())
    assert moves(serving.step(said(2, RecycleDue("served 500 requests")))) == []
    assert moves(serving.step(said(3, READY))) == [Drain(1), Fork(1, 2)]


def test_a_worker_due_during_a_trial_that_fails_is_replaced_by_the_old_code(serving: Play) -> None:
    serving.step(ev.ReloadAsked(), said(2, RecycleDue("served 500 requests")))
    assert moves(serving.step(ev.Exited(3, KILLED))) == [Fork(1, 1)]


def test_a_stop_ends_a_due_worker_and_its_successor(due: Play) -> None:
    assert moves(due.step(ev.StopAsked(graceful=True)))[2:] == [Drain(1), Drain(3), Drain(2)]


def test_a_failed_fork_of_a_successor_is_tried_again_later(serving: Play) -> None:
    serving.forks_fail = True
    actions = serving.at(5, said(1, RecycleDue("served 500 requests")))
    assert texts(actions)[1] == "cannot fork a worker: no room; trying again in 0.1 s"
    serving.forks_fail = False
    assert serving.machine.deadline() == 5.1
    assert moves(serving.at(5.1, ev.Tick())) == [Fork(0, 1)]
