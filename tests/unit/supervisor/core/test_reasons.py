"""Why each worker is forked, as the machine knows it at the fork."""

from __future__ import annotations

import dataclasses

import pytest
from support.play import ENDED, KILLED, POLICY, Play
from support.play import serving as serving_play
from support.said import READY, said

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.policy import Policy, Restart
from hybrid.supervisor.core.states import Reason
from hybrid.workers.contract.messages import BootFailed, Broken, Draining, RecycleDue, ReforkReady, Warm

ALONE = Policy(overlaps=False, ending_signal="SIGTERM")
JOB = Policy(overlaps=False, ending_signal="SIGTERM", restart=Restart.TRANSIENT)
DUE = RecycleDue("served 500 requests")


def newest(play: Play) -> Reason | None:
    """Return why the last child was forked."""
    return play.machine.reason(play.pids)


def test_the_first_workers_are_started(serving: Play) -> None:
    assert [serving.machine.reason(pid) for pid in (1, 2)] == [Reason.START, Reason.START]


def test_a_child_that_is_not_known_has_no_reason(serving: Play) -> None:
    assert serving.machine.reason(99) is None


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (ev.Exited(1, KILLED), Reason.DEATH),
        (said(1, Broken("was closed")), Reason.DEATH),
        (said(1, DUE), Reason.RECYCLE),
        (said(1, Draining()), Reason.RESTART),
        (ev.RestartAsked(0), Reason.RESTART),
        (ev.ReloadAsked(), Reason.RELOAD),
        (ev.ScaleAsked(3), Reason.SCALE),
        (ev.ScaleByAsked(1), Reason.SCALE),
    ],
)
def test_what_happens_is_the_reason_for_the_next_worker(serving: Play, event: ev.Event, expected: Reason) -> None:
    serving.at(5, event)
    assert (serving.pids, newest(serving)) == (3, expected)


def test_a_worker_that_hangs_at_its_start_is_a_death() -> None:
    play = Play(1)
    play.step(ev.Started())
    play.at(POLICY.boot_timeout, ev.Tick())
    assert (play.pids, newest(play)) == (2, Reason.DEATH)


def test_a_successor_that_cannot_start_is_tried_again_for_the_same_reason(serving: Play) -> None:
    serving.at(5, said(1, DUE))
    serving.step(said(3, BootFailed(3, "no database")), ev.Exited(3, ev.How(code=3)))
    assert (serving.pids, newest(serving)) == (4, Reason.RECYCLE)


def test_all_workers_of_a_reload_have_that_reason(serving: Play) -> None:
    serving.at(5, ev.ReloadAsked())
    serving.step(said(3, READY))
    assert [serving.machine.reason(pid) for pid in (3, 4)] == [Reason.RELOAD, Reason.RELOAD]


def test_a_slot_that_died_is_reloaded_if_the_new_generation_is_tried_there() -> None:
    play = serving_play(1)
    play.forks_fail = True
    play.at(5, ev.Exited(1, KILLED))
    play.forks_fail = False
    play.step(ev.ReloadAsked())
    assert newest(play) is Reason.RELOAD


def test_a_death_after_a_reload_is_a_death(serving: Play) -> None:
    serving.at(5, ev.ReloadAsked())
    serving.step(said(3, READY), ev.Exited(1, ENDED), said(4, READY), ev.Exited(2, ENDED))
    serving.later(5, ev.Exited(3, KILLED))
    assert newest(serving) is Reason.DEATH


def test_a_slot_that_is_wanted_again_is_scaled(serving: Play) -> None:
    serving.at(5, ev.ScaleAsked(1))
    serving.step(ev.Exited(2, ENDED))
    serving.step(ev.ScaleAsked(2))
    assert newest(serving) is Reason.SCALE


def test_a_refork_replaces_the_warm_worker_and_then_the_others() -> None:
    play = serving_play(policy=dataclasses.replace(POLICY, reforks=True), preload=True)
    play.step(said(2, ReforkReady()))
    play.step(said(4, READY), said(2, Warm()))
    play.step(said(5, READY))
    assert [play.machine.reason(pid) for pid in (4, 5, 6)] == [Reason.REFORK] * 3


def test_a_reload_after_a_refork_is_a_reload() -> None:
    play = serving_play(1, policy=dataclasses.replace(POLICY, reforks=True), preload=True)
    play.step(said(2, ReforkReady()))
    play.step(said(3, READY), said(2, Warm()))
    play.step(said(4, READY), ev.Exited(3, ENDED))
    play.step(ev.ReloadAsked())
    zygote = play.pids
    play.step(said(zygote, Warm()))
    assert (play.pids, newest(play)) == (zygote + 1, Reason.RELOAD)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (ev.ReloadAsked(), Reason.RELOAD),
        (ev.RestartAsked(0), Reason.RESTART),
        (said(1, DUE), Reason.RECYCLE),
        (ev.Exited(1, KILLED), Reason.DEATH),
    ],
)
def test_a_program_that_ends_before_its_successor_starts_leaves_the_reason(event: ev.Event, expected: Reason) -> None:
    play = serving_play(1, policy=ALONE)
    play.at(5, event)
    play.step(ev.Exited(1, ENDED))
    assert (play.pids, newest(play)) == (2, expected)


def test_a_job_that_is_done_is_restarted_on_request() -> None:
    play = serving_play(2, policy=JOB)
    play.at(5, ev.Exited(1, ENDED))
    play.step(ev.RestartAsked(0))
    assert (play.pids, newest(play)) == (3, Reason.RESTART)
