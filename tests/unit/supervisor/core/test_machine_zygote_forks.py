"""Forks by zygotes without an answer, or with a late one: no wait is endless, and work continues."""

from __future__ import annotations

from support.play import KILLED, POLICY, RELOAD_FAILED, Play, deeds, texts
from support.said import said

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.events import (
    Abort,
    CallOff,
    Fork,
    How,
)
from hybrid.supervisor.core.machine import Machine
from hybrid.supervisor.core.policy import FORK_PATIENCE
from hybrid.supervisor.core.roles import ZYGOTE
from hybrid.workers.contract.messages import Warm


def test_a_zygote_that_does_not_fork_in_time_is_ended_and_workers_import_for_themselves(warm: Play) -> None:
    warm.zygotes_answer = False
    warm.at(5, ev.Exited(2, KILLED))
    assert warm.machine.deadline() == 5 + FORK_PATIENCE
    actions = warm.at(5 + FORK_PATIENCE, ev.Tick())
    assert deeds(actions) == [CallOff(0), Abort(1, since=5)]
    assert texts(actions) == [
        "cannot fork a worker: its zygote does not answer; trying again in 0.2 s",
        "zygote died: it did not fork within 10 s and was killed; each worker imports for itself",
    ]
    assert deeds(warm.later(0.2)) == [Fork(0, 1)]
    assert deeds(warm.step(ev.Exited(1, How(signal="SIGABRT")))) == []


def test_a_zygote_that_answers_none_of_two_forks_is_ended_once(warm: Play) -> None:
    warm.zygotes_answer = False
    warm.at(5, ev.Exited(2, KILLED), ev.Exited(3, KILLED))
    actions = deeds(warm.at(5 + FORK_PATIENCE, ev.Tick()))
    assert actions == [CallOff(0), Abort(1, since=5), CallOff(1)]


def test_a_pending_fork_of_a_dead_zygote_has_the_usual_deadline(warm: Play) -> None:
    warm.zygotes_answer = False
    warm.at(5, ev.Exited(2, KILLED))
    warm.step(ev.Exited(1, KILLED), said(4, Warm()))
    warm.zygotes_answer = True
    assert CallOff(0) in warm.at(5 + FORK_PATIENCE, ev.Tick())
    assert deeds(warm.later(0.2)) == [Fork(0, 1, zygote=4)]


def test_a_zygote_that_does_not_fork_the_first_worker_of_a_reload_ends_the_reload(reloading: Play) -> None:
    reloading.zygotes_answer = False
    reloading.step(said(4, Warm()))
    actions = reloading.at(5 + FORK_PATIENCE, ev.Tick())
    assert deeds(actions) == [CallOff(0), Abort(4, since=5)]
    assert texts(actions) == [RELOAD_FAILED + "cannot fork a worker: its zygote does not answer"]
    reloading.step(ev.Exited(4, How(signal="SIGABRT")))
    assert reloading.machine.is_settled()


def test_a_fork_of_a_zygote_that_is_not_answered_is_called_off() -> None:
    machine = Machine(POLICY, 1, preload=True)
    machine.step(ev.Started(), 0)
    assert machine.deadline() == FORK_PATIENCE
    actions = machine.step(ev.Tick(), FORK_PATIENCE)
    assert deeds(actions)[0] == CallOff(ZYGOTE)
    assert Fork(0, 1) in actions


def test_a_zygote_that_cannot_fork_a_worker_is_asked_again_later(warm: Play) -> None:
    warm.forks_fail = True
    assert texts(warm.at(5, ev.Exited(2, KILLED)))[1] == "cannot fork a worker: no room; trying again in 0.2 s"
    warm.forks_fail = False
    assert deeds(warm.at(5.2, ev.Tick())) == [Fork(0, 1, zygote=1)]
