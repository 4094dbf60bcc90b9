"""Reloads with zygotes: the next generation is imported by its zygote first; its failures leave the old code alone."""

from __future__ import annotations

from support.play import ENDED, KILLED, RELOAD_FAILED, Play, deeds, moves, texts
from support.said import READY, said

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.events import (
    Abort,
    Drain,
    Fork,
    ForkZygote,
    How,
    Kill,
    Level,
    Report,
)
from hybrid.supervisor.core.policy import KILL_PATIENCE
from hybrid.supervisor.core.roles import ZYGOTE
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed, Unfit, Warm


def test_a_reload_starts_a_zygote_of_the_next_generation_and_nothing_else(warm: Play) -> None:
    assert deeds(warm.step(ev.ReloadAsked())) == [ForkZygote(2)]
    assert warm.machine.deadline() == 60


def test_a_warm_zygote_of_the_next_generation_forks_the_worker_that_tries_it_out(reloading: Play) -> None:
    assert deeds(reloading.step(said(4, Warm()))) == [Fork(0, 2, zygote=4)]


def test_when_the_new_code_has_proved_itself_the_old_zygote_goes(reloading: Play) -> None:
    reloading.step(said(4, Warm()))
    assert deeds(reloading.step(said(5, READY))) == [Drain(1), Drain(2), Fork(1, 2, zygote=4)]
    assert deeds(reloading.step(said(6, READY))) == [Drain(3)]
    for pid in (1, 2, 3):
        reloading.step(ev.Exited(pid, ENDED))
    assert reloading.machine.is_settled()


def test_an_old_zygote_that_does_not_go_is_killed_and_then_killed_again(reloading: Play) -> None:
    reloading.step(said(4, Warm()), said(5, READY), said(6, READY), ev.Exited(2, ENDED), ev.Exited(3, ENDED))
    assert deeds(reloading.at(35, ev.Tick())) == [Kill(1)]
    assert reloading.at(35 + KILL_PATIENCE, ev.Tick()) == [Kill(1)]


def test_while_the_next_generation_imports_workers_that_die_are_forked_by_the_old_zygote(reloading: Play) -> None:
    assert moves(reloading.step(ev.Exited(2, KILLED))) == [Fork(0, 1, zygote=1)]


def test_code_that_cannot_be_imported_ends_the_reload_and_is_said_once(reloading: Play) -> None:
    actions = reloading.step(said(4, BootFailed(Exit.TARGET, "syntax error")))
    assert actions == [Report(Level.ERROR, RELOAD_FAILED + "syntax error"), Drain(4)]
    assert reloading.step(ev.Exited(4, How(code=3))) == []
    assert reloading.machine.is_settled()


def test_code_that_hangs_at_its_import_ends_the_reload_and_is_said_once(reloading: Play) -> None:
    actions = reloading.at(65, ev.Tick())
    assert actions == [
        Abort(4, since=5),
        Report(Level.ERROR, RELOAD_FAILED + "its zygote not ready after 60 s and killed"),
    ]
    assert reloading.step(ev.Exited(4, How(signal="SIGABRT"))) == []
    assert reloading.machine.is_settled()


def test_code_that_crashes_at_its_import_ends_the_reload_and_is_said_once(reloading: Play) -> None:
    actions = reloading.at(6, ev.Exited(4, How(signal="SIGSEGV")))
    assert actions == [Report(Level.ERROR, RELOAD_FAILED + "its zygote killed by SIGSEGV after 1.0 s")]
    assert reloading.machine.is_settled()


def test_a_zygote_that_cannot_be_forked_ends_the_reload(warm: Play) -> None:
    warm.forks_fail = True
    assert texts(warm.step(ev.ReloadAsked()))[1:] == [RELOAD_FAILED + "cannot fork a zygote: no room"]
    assert warm.machine.is_settled()
    assert warm.machine.deadline() is None


def test_code_that_fails_after_its_import_ends_the_reload_and_its_zygote_goes(reloading: Play) -> None:
    reloading.step(said(4, Warm()))
    actions = reloading.step(said(5, BootFailed(Exit.TARGET, "lifespan failed")))
    assert texts(actions) == [RELOAD_FAILED + "lifespan failed"]
    assert deeds(actions) == [Drain(4), Drain(5)]
    for pid in (4, 5):
        assert texts(reloading.step(ev.Exited(pid, How(code=3)))) == []
    assert reloading.machine.is_settled()


def test_the_zygote_of_the_next_generation_may_die_while_its_worker_boots_and_that_ends_the_reload(
    reloading: Play,
) -> None:
    reloading.step(said(4, Warm()))
    actions = reloading.at(6, ev.Exited(4, KILLED))
    assert texts(actions) == [RELOAD_FAILED + "its zygote killed by SIGKILL after 1.0 s"]
    assert deeds(actions) == [Drain(5)]


def test_an_unfit_zygote_of_the_next_generation_leaves_the_import_to_the_worker_that_tries_it_out(
    reloading: Play,
) -> None:
    assert deeds(reloading.step(said(4, Unfit("a socket")))) == [Drain(4), Fork(0, 2)]
    assert moves(reloading.step(said(5, READY))) == [Drain(1), Drain(2), Fork(1, 2)]


def test_code_whose_zygote_was_unfit_has_another_try_with_the_next_reload(reloading: Play) -> None:
    reloading.step(said(4, Unfit("a socket")), said(5, READY), said(6, READY))
    assert deeds(reloading.step(ev.ReloadAsked())) == [ForkZygote(3)]


def test_the_old_zygote_may_die_during_a_reload_and_is_replaced_for_as_long_as_it_is_needed(reloading: Play) -> None:
    assert deeds(reloading.step(ev.Exited(1, KILLED))) == [ForkZygote(1)]
    reloading.step(said(4, Warm()))
    assert Drain(5) in reloading.step(said(6, READY))


def test_a_second_reload_ends_the_zygote_of_the_first_and_starts_another(reloading: Play) -> None:
    assert deeds(reloading.step(ev.ReloadAsked())) == [Drain(4), ForkZygote(3)]
    assert deeds(reloading.step(said(4, Warm()), ev.Exited(4, ENDED))) == []
    assert deeds(reloading.step(said(5, Warm()))) == [Fork(0, 3, zygote=5)]


def test_a_reload_while_workers_crash_is_tried_out_in_their_slot(warm: Play) -> None:
    warm.step(ev.Exited(2, KILLED), ev.Exited(4, KILLED))
    assert warm.states() == {3: "ready", None: "waiting"}
    assert deeds(warm.step(ev.ReloadAsked())) == [ForkZygote(2)]
    assert deeds(warm.step(said(5, Warm()))) == [Fork(0, 2, zygote=5)]


def test_a_reload_before_the_first_worker_is_ready_follows_then(starting: Play) -> None:
    starting.step(ev.ReloadAsked(), said(1, Warm()))
    assert ForkZygote(2) in starting.step(said(2, READY))


def test_a_zygote_that_is_forked_too_late_for_its_reload_is_ended(warm: Play) -> None:
    warm.machine.step(ev.ReloadAsked(), 0)
    warm.machine.step(ev.ReloadAsked(), 0)
    assert deeds(warm.machine.step(ev.Spawned(ZYGOTE, 4), 0)) == [Drain(4), ForkZygote(3)]


def test_a_fork_of_a_zygote_that_fails_too_late_for_its_reload_is_no_news(warm: Play) -> None:
    warm.machine.step(ev.ReloadAsked(), 0)
    warm.machine.step(ev.ReloadAsked(), 0)
    assert warm.machine.step(ev.ForkFailed(ZYGOTE, "no room"), 0) == [ForkZygote(3)]
