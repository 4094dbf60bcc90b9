"""Upgrades: another supervisor starts on the same sockets; this one goes when that one serves, and never before."""

from __future__ import annotations

import pytest
from support.play import ENDED, KILLED, Play, deeds, moves, texts
from support.said import READY, said

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.events import (
    Adopt,
    CheckQueues,
    Drain,
    EndSuccessor,
    Finish,
    Fork,
    HoldConnections,
    Kill,
    Level,
    RefuseConnections,
    Report,
    StartSuccessor,
    Steer,
    TellStop,
)
from hybrid.supervisor.core.policy import FORK_PATIENCE
from hybrid.workers.contract.exits import Exit


@pytest.fixture
def upgrading(serving: Play) -> Play:
    """The other supervisor, pid 500, is starting since second 5."""
    serving.at(5, ev.UpgradeAsked(), ev.SuccessorStarted(500))
    return serving


def test_an_upgrade_starts_another_supervisor_and_changes_nothing_else(serving: Play) -> None:
    assert serving.step(ev.UpgradeAsked()) == [
        Report(Level.INFO, "upgrading: starting another supervisor on the same sockets"),
        StartSuccessor(),
    ]
    assert serving.step(ev.SuccessorStarted(500)) == [Report(Level.INFO, "upgrading: supervisor 500 is starting")]
    assert serving.machine.is_settled()
    assert not serving.machine.has_successor


def test_when_the_other_one_serves_the_workers_here_drain_and_the_sockets_are_left_alone(upgrading: Play) -> None:
    actions = upgrading.step(ev.SuccessorServes())
    assert actions == [
        Report(Level.INFO, "upgraded: the other supervisor serves; draining the workers here"),
        HoldConnections(),  # to addresses that the other one does not serve
        Drain(1),
        Drain(2),
    ]
    assert upgrading.machine.has_successor
    upgrading.step(ev.Exited(1, ENDED))
    assert deeds(upgrading.step(ev.Exited(2, ENDED))) == [Finish(Exit.OK)]


def test_a_worker_that_does_not_drain_after_an_upgrade_is_killed(upgrading: Play) -> None:
    upgrading.step(ev.SuccessorServes())
    assert moves(upgrading.later(1)) == [CheckQueues(), RefuseConnections()]
    assert upgrading.machine.deadline() == 35
    assert moves(upgrading.at(35, ev.Tick())) == [Kill(1), Kill(2)]


def test_after_an_upgrade_no_worker_hears_of_a_stop_because_clients_come_back_to_the_successor(
    upgrading: Play,
) -> None:
    upgrading.connections_wait = True
    actions = [*upgrading.step(ev.SuccessorServes()), *upgrading.later(1)]
    assert not any(isinstance(action, TellStop) for action in actions)


def test_an_upgrade_that_fails_leaves_this_supervisor_as_it_was(upgrading: Play) -> None:
    actions = upgrading.step(ev.SuccessorFailed("it exited with code 3"))
    assert actions == [Report(Level.ERROR, "upgrade failed, this supervisor goes on: it exited with code 3")]
    assert upgrading.machine.is_settled()
    assert upgrading.machine.deadline() is None
    assert StartSuccessor() in upgrading.step(ev.UpgradeAsked())


def test_an_upgrade_that_cannot_begin_fails(serving: Play) -> None:
    serving.step(ev.UpgradeAsked())
    assert texts(serving.step(ev.SuccessorFailed("cannot execute"))) == [
        "upgrade failed, this supervisor goes on: cannot execute"
    ]


def test_another_supervisor_that_does_not_serve_in_time_is_ended_and_its_end_is_no_news(upgrading: Play) -> None:
    assert upgrading.machine.deadline() == 95
    assert upgrading.at(95, ev.Tick()) == [
        EndSuccessor(),
        Report(Level.ERROR, "upgrade failed, this supervisor goes on: the other supervisor did not serve within 90 s"),
    ]
    assert upgrading.step(ev.SuccessorFailed("killed by SIGTERM")) == []
    assert upgrading.machine.deadline() is None


def test_a_given_up_successor_that_serves_is_ignored(upgrading: Play) -> None:
    upgrading.at(95, ev.Tick())
    assert upgrading.step(ev.SuccessorServes()) == []
    assert upgrading.machine.is_settled()


def test_a_second_request_while_one_is_under_way_is_refused(upgrading: Play) -> None:
    assert upgrading.step(ev.UpgradeAsked()) == [
        Report(Level.WARNING, "not upgrading: the successor of this supervisor is starting already")
    ]


def test_before_the_service_is_up_there_is_nothing_to_hand_over(play: Play) -> None:
    play.step(ev.Started())
    assert texts(play.step(ev.UpgradeAsked())) == ["not upgrading: the service is not up, or is stopping"]


def test_an_upgrade_while_stopping_is_refused(serving: Play) -> None:
    serving.step(ev.StopAsked(graceful=True))
    assert texts(serving.step(ev.UpgradeAsked())) == ["not upgrading: the service is not up, or is stopping"]


@pytest.mark.parametrize("graceful", [True, False])
def test_a_stop_in_the_middle_is_meant_for_both(upgrading: Play, graceful: bool) -> None:
    actions = upgrading.step(ev.StopAsked(graceful))
    assert EndSuccessor() in actions
    assert (HoldConnections() in actions) is graceful
    assert deeds(upgrading.step(ev.SuccessorServes(), ev.SuccessorFailed("killed by SIGTERM"))) == []
    assert not upgrading.machine.has_successor
    upgrading.step(ev.Exited(1, ENDED))
    assert any(isinstance(action, Finish) for action in upgrading.step(ev.Exited(2, ENDED)))


def test_a_stop_after_the_upgrade_leaves_the_other_supervisor_and_the_sockets_alone(upgrading: Play) -> None:
    upgrading.step(ev.SuccessorServes())
    assert upgrading.step(ev.StopAsked(graceful=True)) == []
    assert deeds(upgrading.step(ev.StopAsked(graceful=False))) == [Kill(1), Kill(2)]


def test_a_worker_that_dies_during_an_upgrade_is_replaced(upgrading: Play) -> None:
    assert moves(upgrading.step(ev.Exited(1, KILLED))) == [Fork(0, 1)]


def test_a_worker_that_dies_after_the_upgrade_is_not_replaced(upgrading: Play) -> None:
    upgrading.step(ev.SuccessorServes())
    actions = upgrading.step(ev.Exited(1, KILLED))
    assert moves(actions) == []
    assert not any(isinstance(action, Steer) for action in actions)


def test_a_worker_that_boots_while_the_other_supervisor_begins_to_serve_is_ended(upgrading: Play) -> None:
    upgrading.step(ev.Exited(1, KILLED))
    assert set(moves(upgrading.step(ev.SuccessorServes()))) == {HoldConnections(), Drain(2), Drain(3)}


def test_a_reload_under_way_ends_with_the_upgrade(upgrading: Play) -> None:
    upgrading.step(ev.ReloadAsked())
    assert set(moves(upgrading.step(ev.SuccessorServes()))) == {HoldConnections(), Drain(1), Drain(2), Drain(3)}


def test_queues_that_were_inherited_are_served_though_their_slots_are_not_wanted() -> None:
    play = Play(2)
    play.step(ev.SlotsInherited(4), ev.Started())
    assert Adopt(1, (1, 2, 3)) in play.step(said(1, READY))
    assert Adopt(1, (2, 3)) in play.step(said(2, READY))
    assert play.machine.is_settled()


def test_fewer_slots_inherited_than_wanted_change_nothing() -> None:
    play = Play(2)
    play.step(ev.SlotsInherited(1), ev.Started(), said(1, READY))
    assert Adopt(1, ()) in play.step(said(2, READY))


def test_an_upgrade_waits_for_a_worker_that_is_being_forked(warm: Play) -> None:
    """Until then orphans become this process's children, and so would the successor."""
    warm.zygotes_answer = False
    warm.at(5, ev.Exited(2, KILLED))
    assert deeds(warm.step(ev.UpgradeAsked())) == []
    assert deeds(warm.step(ev.Spawned(0, 7))) == [StartSuccessor()]


def test_no_other_worker_is_forked_before_the_successor_has_started(warm: Play) -> None:
    """Else it could wait for one fork after the other."""
    warm.zygotes_answer = False
    warm.at(5, ev.Exited(2, KILLED))
    warm.step(ev.UpgradeAsked())
    assert Fork(1, 1, zygote=1) not in warm.step(ev.Exited(3, KILLED))
    assert moves(warm.later(1, ev.Spawned(0, 7))) == [StartSuccessor()]
    assert moves(warm.step(ev.SuccessorStarted(500))) == [Fork(1, 1, zygote=1)]


def test_an_upgrade_does_not_wait_for_a_fork_forever(warm: Play) -> None:
    warm.zygotes_answer = False
    warm.at(5, ev.Exited(2, KILLED))
    warm.step(ev.UpgradeAsked())
    assert StartSuccessor() in warm.at(5 + FORK_PATIENCE, ev.Tick())


def test_a_stop_before_the_successor_has_started_starts_none(warm: Play) -> None:
    warm.zygotes_answer = False
    warm.at(5, ev.Exited(2, KILLED))
    warm.step(ev.UpgradeAsked())
    actions = [*warm.step(ev.StopAsked(graceful=True)), *warm.step(ev.Spawned(0, 7))]
    assert not {StartSuccessor(), EndSuccessor()} & set(deeds(actions))
