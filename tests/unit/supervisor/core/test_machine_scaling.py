"""Scaling: more workers, fewer, back again, and what cannot be."""

from __future__ import annotations

import pytest
from support.play import ENDED, KILLED, Play, deeds, steer, texts
from support.said import READY, said

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.events import (
    Adopt,
    Drain,
    Finish,
    Fork,
    Kill,
    Level,
    Report,
)
from hybrid.supervisor.core.machine import MAX_WORKERS
from hybrid.workers.contract.exits import Exit


def test_scaling_up_forks_into_new_slots_which_get_connections_when_ready(serving: Play) -> None:
    actions = serving.step(ev.ScaleAsked(3))
    assert actions == [
        Report(Level.INFO, "scaling from 2 to 3 workers"),
        Adopt(1, (2,)),
        Adopt(2, (2,)),
        Fork(2, 1),
    ]
    assert not serving.machine.is_settled()
    assert serving.step(said(3, READY)) == [steer(0, 1, 2), Adopt(1, ()), Adopt(2, ())]
    assert serving.machine.is_settled()


def test_scaling_down_steers_away_before_it_drains(serving: Play) -> None:
    assert deeds(serving.step(ev.ScaleByAsked(-1))) == [steer(0), Drain(2), Adopt(1, (1,))]
    assert not serving.machine.is_settled()
    assert texts(serving.step(ev.Exited(2, ENDED))) == ["worker retired"]
    assert serving.machine.is_settled()


def test_a_retired_worker_that_does_not_drain_is_killed_and_the_service_is_none_the_worse(serving: Play) -> None:
    serving.step(ev.ScaleAsked(1))
    assert Kill(2) in serving.at(30, ev.Tick())
    serving.step(ev.Exited(2, KILLED), ev.StopAsked(graceful=True))
    assert deeds(serving.step(ev.Exited(1, ENDED))) == [Finish(Exit.OK)]


def test_a_slot_that_returns_does_not_wait_for_its_old_worker(serving: Play) -> None:
    serving.step(ev.ScaleAsked(1))
    assert Fork(1, 1) in serving.step(ev.ScaleAsked(2))
    assert serving.states() == {1: "ready", 2: "draining", 3: "booting"}
    assert serving.step(said(3, READY)) == [steer(0, 1), Adopt(1, ())]


def test_scaling_down_while_a_worker_boots_ends_its_boot(serving: Play) -> None:
    serving.step(ev.ScaleAsked(3))
    assert deeds(serving.step(ev.ScaleAsked(2))) == [Drain(3)]


def test_scaling_down_a_slot_that_backs_off_resets_its_failures(serving: Play) -> None:
    serving.step(ev.Exited(2, KILLED), ev.Exited(3, KILLED))
    serving.step(ev.ScaleAsked(1))
    assert serving.machine.deadline() is None
    assert Fork(1, 1) in serving.step(ev.ScaleAsked(2))


def test_a_fork_that_fails_for_a_slot_no_longer_wanted_is_not_reported(serving: Play) -> None:
    for event in (ev.ScaleAsked(3), ev.ScaleAsked(2)):
        serving.machine.step(event, 0)
    assert serving.machine.step(ev.ForkFailed(2, "no room"), 0) == []


@pytest.mark.parametrize("workers", [0, -3, MAX_WORKERS + 1])
def test_a_number_of_workers_that_cannot_be_is_refused(serving: Play, workers: int) -> None:
    actions = serving.step(ev.ScaleAsked(workers))
    assert texts(actions) == [f"not scaling to {workers}: the number of workers is 1 to {MAX_WORKERS}"]
    assert deeds(actions) == []


def test_scaling_to_the_present_number_does_nothing(serving: Play) -> None:
    assert serving.step(ev.ScaleAsked(2)) == []


def test_scaling_while_stopping_is_refused(serving: Play) -> None:
    serving.step(ev.StopAsked(graceful=True))
    assert texts(serving.step(ev.ScaleByAsked(1))) == ["stopping: the number of workers stays as it is"]


def test_the_service_is_announced_when_scaling_down_completes_it(play: Play) -> None:
    play.step(ev.Started(), said(1, READY))
    assert "serving with 1 worker" in texts(play.step(ev.ScaleAsked(1)))
