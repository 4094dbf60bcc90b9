"""Companions in the machine: when they start, how they are replaced, and that they end after the workers."""

from __future__ import annotations

import dataclasses

from support.play import ENDED, KILLED, POLICY, Play, deeds, moves, texts
from support.said import READY, said

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.machine import Phase
from hybrid.supervisor.core.policy import Intensity, Policy, Restart
from hybrid.supervisor.core.roles import companion_slot
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed, Broken, RecycleDue, ReforkReady, Warm

MAILER = companion_slot(0)
FAILED = ev.How(code=1)


def attended(policy: Policy = POLICY, workers: int = 1) -> Play:
    """Return a play in which the workers serve (pids from 1 on), and then the one companion is ready."""
    play = Play(workers, policy=policy, companions=1)
    play.step(ev.Started(), *(said(pid, READY) for pid in range(1, workers + 1)))
    assert play.pids == workers + 1
    play.step(said(workers + 1, READY))
    return play


# --- starts and deaths


def test_a_companion_starts_when_the_first_worker_is_ready() -> None:
    play = Play(2, companions=1)
    assert moves(play.step(ev.Started())) == [ev.Fork(0, 1), ev.Fork(1, 1)]
    assert moves(play.step(said(2, READY))) == [ev.Fork(MAILER, 1)]


def test_a_companion_is_forked_by_the_zygote() -> None:
    play = Play(1, preload=True, companions=1)
    play.step(ev.Started(), said(1, Warm()))
    assert moves(play.step(said(2, READY))) == [ev.Fork(MAILER, 1, 1)]


def test_a_companion_gets_no_connections_and_no_queues() -> None:
    play = attended()
    assert play.machine.steering == ev.Steer((0,), (0,))
    assert (play.machine.ready, play.machine.wanted, play.machine.serving()) == (1, 1, (1,))
    assert play.machine.attending() == (2,)
    assert play.machine.summary() == "1 of 1 worker ready, generation 1"


def test_a_companion_that_dies_is_started_again_with_a_back_off_of_its_own() -> None:
    play = attended()
    actions = play.at(5, ev.Exited(2, FAILED))
    assert texts(actions) == ["companion died: exited with code 1 after 5.0 s; restarting now"]
    assert moves(actions) == [ev.Fork(MAILER, 1)]
    actions = play.step(ev.Exited(3, KILLED))
    assert texts(actions) == ["companion died: killed by SIGKILL after 0.0 s; restarting in 0.1 s"]
    assert moves(actions) == []
    assert moves(play.later(0.2)) == [ev.Fork(MAILER, 1)]


def test_the_end_of_its_function_is_a_death_too() -> None:
    assert moves(attended().step(ev.Exited(2, ENDED))) == [ev.Fork(MAILER, 1)]


def test_a_companion_whose_function_has_returned_is_done_if_the_service_is_transient() -> None:
    play = attended(dataclasses.replace(POLICY, restart=Restart.TRANSIENT))
    assert moves(play.step(ev.Exited(2, ENDED))) == []
    assert [(row.slot, row.state) for row in play.machine.companions(0)] == [(MAILER, "done")]
    assert play.machine.phase is Phase.SERVING
    assert moves(play.step(ev.RestartAsked(MAILER))) == [ev.Fork(MAILER, 1)]


def test_the_deaths_of_companions_count_towards_the_restart_intensity() -> None:
    play = attended(dataclasses.replace(POLICY, intensity=Intensity(0, 10.0)))
    actions = play.step(ev.Exited(2, FAILED))
    assert texts(actions)[-1].endswith("the last ones: mailer/0 exited with code 1 after 0.0 s")
    assert moves(actions)[-1] == ev.Drain(1)


def test_a_companion_that_cannot_start_leaves_the_workers_alone() -> None:
    play = attended()
    play.step(ev.Exited(2, FAILED), said(3, BootFailed(Exit.TARGET, "no module")))
    actions = play.step(ev.Exited(3, ev.How(code=3)))
    assert texts(actions) == ["companion cannot start, restarting in 0.1 s: no module"]
    assert play.machine.is_settled()


def test_a_fork_that_fails_is_tried_again() -> None:
    play = Play(1, companions=1)
    play.step(ev.Started())
    play.forks_fail = True
    assert texts(play.step(said(1, READY)))[-1] == "cannot fork a companion: no room; trying again in 0.1 s"
    play.forks_fail = False
    assert moves(play.later(0.2)) == [ev.Fork(MAILER, 1)]


def test_a_companion_says_nothing_that_makes_it_a_worker() -> None:
    play = attended(dataclasses.replace(POLICY, reforks=True))
    assert deeds(play.step(said(2, ReforkReady()), said(2, Broken("gone")))) == []


def test_a_companion_that_stalls_is_looked_into_and_killed_in_time() -> None:
    play = attended(dataclasses.replace(POLICY, stall_timeout=3.0))
    assert deeds(play.step(ev.Stalled(2, 0.0))) == []
    assert deeds(play.at(1)) == []
    assert deeds(play.later(0)) == [ev.Dump(2, 0.0)]
    actions = play.later(2)
    assert moves(actions) == [ev.Abort(2, 0.0), ev.Fork(MAILER, 1)]
    assert texts(actions) == ["companion died: its loop stood still for 3.0 s, so it was killed; restarting now"]


# --- replaced


def test_a_restart_replaces_a_companion_once_its_successor_is_ready() -> None:
    play = attended()
    assert moves(play.step(ev.RestartAsked(MAILER))) == [ev.Fork(MAILER, 1)]
    assert play.machine.replacement(MAILER, 0.5) is None
    assert moves(play.at(1, said(3, READY))) == [ev.Drain(2)]
    assert play.machine.replacement(MAILER, 0.5) == 3


def test_a_companion_that_reached_a_limit_is_replaced() -> None:
    assert moves(attended().step(said(2, RecycleDue("lived for 60 min")))) == [ev.Fork(MAILER, 1)]


def test_a_reload_starts_the_new_companion_when_the_new_generation_serves() -> None:
    play = attended(workers=2)
    assert moves(play.step(ev.ReloadAsked())) == [ev.Fork(0, 2)]
    assert moves(play.step(said(4, READY))) == [ev.Drain(1), ev.Fork(1, 2), ev.Fork(MAILER, 2)]


def test_the_old_companion_ends_with_the_last_worker_of_its_generation() -> None:
    play = attended()
    play.step(ev.ReloadAsked())
    assert moves(play.step(said(3, READY), said(4, READY))) == [ev.Drain(1), ev.Fork(MAILER, 2)]
    assert moves(play.step(ev.Exited(1, ENDED))) == [ev.Drain(2)]
    assert texts(play.step(ev.Exited(2, ENDED))) == ["companion retired"]


def test_the_old_companion_may_end_by_itself_beside_the_new_one() -> None:
    play = attended(dataclasses.replace(POLICY, restart=Restart.TRANSIENT))
    play.step(ev.ReloadAsked(), said(3, READY), said(4, READY))
    actions = play.step(ev.Exited(2, ENDED))
    assert texts(actions) == ["companion ended before it was retired: exited with code 0 after 0.0 s"]
    assert moves(play.step(ev.Exited(4, FAILED))) == [ev.Fork(MAILER, 2)]


def test_a_failed_reload_leaves_the_companion_alone() -> None:
    play = attended()
    play.step(ev.ReloadAsked(), said(3, BootFailed(Exit.TARGET, "bad")))
    assert moves(play.step(ev.Exited(3, ev.How(code=3)))) == []
    assert play.machine.attending() == (2,)


def test_new_companions_come_with_the_next_generation() -> None:
    play = attended()
    play.machine.refit(POLICY, (companion_slot(1),))
    assert moves(play.step(ev.Tick())) == []
    play.step(ev.ReloadAsked())
    assert moves(play.step(said(3, READY))) == [ev.Drain(1), ev.Fork(companion_slot(1), 2)]
    assert moves(play.step(ev.Exited(1, ENDED))) == [ev.Drain(2)]


# --- the end


def test_a_companion_ends_after_the_workers() -> None:
    play = attended()
    assert ev.Drain(2) not in play.step(ev.StopAsked(graceful=True))
    assert moves(play.step(ev.Exited(1, ENDED))) == [ev.Drain(2)]
    assert deeds(play.step(ev.Exited(2, ENDED)))[-1] == ev.Finish(Exit.OK)


def test_a_companion_has_a_grace_period_of_its_own() -> None:
    play = attended()
    play.step(ev.StopAsked(graceful=True), ev.Exited(1, ENDED))
    assert ev.Kill(2) not in play.later(POLICY.graceful_timeout - 1)
    assert ev.Kill(2) in play.later(1)
    assert deeds(play.step(ev.Exited(2, KILLED)))[-1] == ev.Finish(Exit.KILLED)


def test_a_stop_at_once_kills_all() -> None:
    play = attended()
    actions = play.step(ev.StopAsked(graceful=False))
    assert texts(actions) == ["stopping at once: killing 1 worker and 1 companion"]
    assert moves(actions) == [ev.Kill(1), ev.Kill(2)]


def test_a_companion_that_dies_during_the_stop_is_not_started_again() -> None:
    play = attended()
    play.step(ev.StopAsked(graceful=True))
    assert moves(play.step(ev.Exited(2, FAILED))) == []


def test_the_companions_end_with_a_supervisor_that_has_a_successor() -> None:
    play = attended()
    play.step(ev.UpgradeAsked(), ev.SuccessorStarted(500), ev.SuccessorServes())
    assert moves(play.step(ev.Exited(1, ENDED))) == [ev.Drain(2)]
