"""Stopping: draining, killing, and children in other states."""

from __future__ import annotations

import pytest
from support.play import ENDED, KILLED, POLICY, Play, deeds, moves, stop, texts
from support.said import READY, said

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.events import (
    CallOff,
    CheckQueues,
    Drain,
    Finish,
    HoldConnections,
    How,
    Kill,
    Level,
    RefuseConnections,
    Report,
    TellStop,
)
from hybrid.supervisor.core.machine import Machine
from hybrid.supervisor.core.policy import FORK_PATIENCE, KILL_PATIENCE
from hybrid.workers.contract.exits import Exit


def test_a_graceful_stop_drains_everybody(serving: Play) -> None:
    actions = serving.step(ev.StopAsked(graceful=True))
    line = "stopping: draining 2 workers (at most 30 s); press Ctrl-C again to end at once"
    assert actions == [Report(Level.INFO, line), *stop(1, 2), Drain(1), Drain(2)]
    assert serving.step(ev.Exited(1, ENDED)) == []
    assert serving.step(ev.Exited(2, ENDED)) == [Report(Level.INFO, "stopped"), Finish(Exit.OK)]
    assert serving.step(ev.Tick()) == []


def test_connections_are_refused_once_handshakes_under_way_are_over(serving: Play) -> None:
    serving.step(ev.StopAsked(graceful=True))
    held_until = serving.machine.deadline()
    assert held_until is not None
    assert 0 < held_until <= 1
    assert serving.at(held_until, ev.Tick()) == [CheckQueues(), RefuseConnections()]
    assert serving.at(held_until + 1, ev.Tick()) == []


def test_connections_that_wait_are_served_before_others_are_refused(serving: Play) -> None:
    """A worker whose loop is blocked looks into its queue when it turns again; the others are told to meanwhile."""
    serving.connections_wait = True
    serving.step(ev.StopAsked(graceful=True), ev.Exited(2, ENDED))
    for _ in range(5):
        held_until = serving.machine.deadline()
        assert held_until is not None
        assert serving.at(held_until, ev.Tick()) == [CheckQueues(), TellStop((1,), False)]
    serving.connections_wait = False
    assert serving.later(1.0) == [CheckQueues(), RefuseConnections()]
    assert serving.machine.deadline() == 30


def test_the_queues_are_looked_into_less_and_less_often(serving: Play) -> None:
    serving.connections_wait = True
    serving.step(ev.StopAsked(graceful=True))
    looks = []
    while (deadline := serving.machine.deadline()) is not None and deadline < 30:
        serving.at(deadline, ev.Tick())
        looks.append(deadline)
    assert len(looks) < 40
    assert looks[-1] - looks[-2] == pytest.approx(1)


def test_a_draining_worker_learns_that_the_whole_service_stops(serving: Play) -> None:
    serving.step(ev.ScaleAsked(1))
    assert deeds(serving.step(ev.StopAsked(graceful=True))) == [*stop(1, 2), Drain(1)]


def test_an_unasked_answer_about_queues_changes_nothing(serving: Play) -> None:
    assert serving.step(ev.QueuesChecked(True), ev.QueuesChecked(False)) == []


def test_a_stop_at_once_holds_nothing(serving: Play) -> None:
    assert HoldConnections() not in serving.step(ev.StopAsked(graceful=False))


def test_a_worker_not_drained_in_time_is_killed_and_the_exit_code_shows_it(serving: Play) -> None:
    serving.step(ev.StopAsked(graceful=True), ev.Exited(1, ENDED))
    serving.at(1, ev.Tick())
    assert serving.machine.deadline() == 30
    actions = serving.at(30, ev.Tick())
    assert actions == [Report(Level.WARNING, "worker still not drained after 30 s: killing it", 1, 1, 2), Kill(2)]
    assert deeds(serving.step(ev.Exited(2, KILLED))) == [Finish(Exit.KILLED)]


def test_a_stop_at_once_kills_everybody(serving: Play) -> None:
    assert deeds(serving.step(ev.StopAsked(graceful=False))) == [Kill(1), Kill(2)]
    assert deeds(serving.step(ev.Exited(1, KILLED), ev.Exited(2, KILLED))) == [Finish(Exit.KILLED)]


def test_the_first_interrupt_drains_and_the_second_kills(serving: Play) -> None:
    assert deeds(serving.step(ev.Interrupted())) == [*stop(1, 2, at_a_terminal=True), Drain(1), Drain(2)]
    actions = serving.step(ev.Interrupted())
    assert actions == [Report(Level.INFO, "stopping at once: killing 2 workers"), Kill(1), Kill(2)]
    assert serving.step(ev.Interrupted()) == []


def test_a_second_request_to_drain_changes_nothing(serving: Play) -> None:
    serving.step(ev.StopAsked(graceful=True))
    assert serving.step(ev.StopAsked(graceful=True)) == []


def test_a_stop_while_booting_ends_the_boot(play: Play) -> None:
    play.step(ev.Started())
    assert deeds(play.step(ev.StopAsked(graceful=True))) == [HoldConnections(), Drain(1), Drain(2)]
    gone = play.step(ev.Exited(1, How(signal="SIGTERM")), ev.Exited(2, How(signal="SIGTERM")))
    assert gone == [Report(Level.INFO, "stopped"), Finish(Exit.OK)]


def test_a_stop_while_backing_off_does_not_wait(serving: Play) -> None:
    for pid in (1, 2, 3, 4):
        serving.step(ev.Exited(pid, KILLED))
    assert deeds(serving.step(ev.StopAsked(graceful=True))) == [Finish(Exit.OK)]


def test_a_stop_while_a_fork_is_under_way_waits_for_its_child() -> None:
    machine = Machine(POLICY, 1)
    machine.step(ev.Started(), 0)
    machine.step(ev.StopAsked(graceful=True), 0)
    assert machine.step(ev.Spawned(0, 1), 0) == [Drain(1)]


def test_a_stop_at_once_kills_a_child_that_was_just_forked() -> None:
    machine = Machine(POLICY, 1)
    machine.step(ev.Started(), 0)
    machine.step(ev.StopAsked(graceful=False), 0)
    assert Kill(1) in machine.step(ev.Spawned(0, 1), 0)


def test_a_fork_that_fails_while_stopping_is_not_tried_again() -> None:
    machine = Machine(POLICY, 1)
    machine.step(ev.Started(), 0)
    machine.step(ev.StopAsked(graceful=True), 0)
    assert deeds(machine.step(ev.ForkFailed(0, "no room"), 0)) == [Finish(Exit.OK)]


def test_a_stop_before_the_start_is_the_end(play: Play) -> None:
    assert deeds(play.step(ev.StopAsked(graceful=True))) == [Finish(Exit.OK)]


def test_a_worker_that_dies_badly_while_draining_is_named(serving: Play) -> None:
    serving.step(ev.StopAsked(graceful=True))
    actions = serving.at(2, ev.Exited(1, How(signal="SIGSEGV")))
    assert texts(actions) == ["worker died while draining: killed by SIGSEGV after 2.0 s"]


def test_a_worker_that_survives_its_kill_is_left_behind_in_the_end(serving: Play) -> None:
    serving.step(ev.StopAsked(graceful=False), ev.Exited(1, KILLED))
    actions = serving.at(KILL_PATIENCE, ev.Tick())
    assert texts(actions) == ["worker cannot be killed: leaving it behind", "stopped"]
    assert actions[-1] == Finish(Exit.KILLED)


# --- zygotes


def test_a_stop_ends_zygotes_too(warm: Play) -> None:
    assert deeds(warm.step(ev.StopAsked(graceful=True))) == [*stop(2, 3), Drain(1), Drain(2), Drain(3)]
    for pid in (2, 3):
        assert deeds(warm.step(ev.Exited(pid, ENDED))) == []
    assert deeds(warm.step(ev.Exited(1, ENDED))) == [Finish(Exit.OK)]


def test_a_stop_at_once_kills_zygotes_too(warm: Play) -> None:
    actions = warm.step(ev.StopAsked(graceful=False))
    assert [action for action in actions if isinstance(action, Kill)] == [Kill(1), Kill(2), Kill(3)]


def test_a_killed_zygote_does_not_change_the_exit_code(warm: Play) -> None:
    warm.step(ev.StopAsked(graceful=True), ev.Exited(2, ENDED), ev.Exited(3, ENDED))
    warm.at(30, ev.Tick())
    assert deeds(warm.step(ev.Exited(1, KILLED))) == [Finish(Exit.OK)]


def test_a_zygote_that_cannot_be_killed_is_left_behind_in_the_end(warm: Play) -> None:
    warm.step(ev.StopAsked(graceful=False), ev.Exited(2, KILLED), ev.Exited(3, KILLED))
    assert deeds(warm.at(KILL_PATIENCE, ev.Tick())) == [Finish(Exit.KILLED)]


def test_a_stop_while_a_zygote_forks_a_worker_ends_that_one_too(warm: Play) -> None:
    warm.zygotes_answer = False
    warm.step(ev.Exited(2, KILLED), ev.StopAsked(graceful=True), ev.Exited(1, ENDED), ev.Exited(3, ENDED))
    assert deeds(warm.step(ev.Spawned(0, 9))) == [Drain(9)]
    assert deeds(warm.step(ev.Exited(9, ENDED))) == [Finish(Exit.OK)]


def test_a_stop_does_not_wait_forever_for_a_fork_of_a_zygote(warm: Play) -> None:
    warm.zygotes_answer = False
    warm.step(ev.Exited(2, KILLED), ev.StopAsked(graceful=True), ev.Exited(1, ENDED), ev.Exited(3, ENDED))
    assert moves(warm.at(FORK_PATIENCE, ev.Tick())) == [CallOff(0), CheckQueues(), Finish(Exit.OK)]


def test_a_worker_that_gets_ready_after_the_order_to_end_is_told_again(play: Play) -> None:
    """It was told by SIGTERM, for which the application had a handler of its own at that moment."""
    play.step(ev.Started(), ev.StopAsked(graceful=True))
    assert play.step(said(1, READY)) == [Drain(1)]
    play.step(ev.Exited(1, ENDED))
    assert play.step(said(1, READY)) == []
