"""Zygotes: they import the application for the workers of a generation; whatever becomes of them, work goes on."""

from __future__ import annotations

import pytest
from support.play import ENDED, KILLED, POLICY, Play, deeds, moves, texts
from support.said import said

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.events import (
    Abort,
    Drain,
    Finish,
    Fork,
    ForkZygote,
    How,
    Kill,
    Level,
    Report,
)
from hybrid.supervisor.core.machine import Machine, Phase
from hybrid.supervisor.core.policy import ABORT_PATIENCE
from hybrid.supervisor.core.roles import ZYGOTE
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed, RecycleDue, Unfit, Warm

# --- the start


def test_a_start_forks_a_zygote_and_no_workers_yet() -> None:
    play = Play(preload=True)
    assert play.step(ev.Started()) == [ForkZygote(1)]
    assert play.machine.deadline() == 60  # of its boot; the slots that wait for it set no deadline


def test_a_warm_zygote_forks_the_workers(starting: Play) -> None:
    assert starting.step(said(1, Warm())) == [Fork(0, 1, zygote=1), Fork(1, 1, zygote=1)]
    assert starting.step(said(1, Warm())) == []


def test_a_zygote_that_cannot_import_ends_the_start_with_its_code_and_one_line(starting: Play) -> None:
    actions = starting.step(said(1, BootFailed(Exit.TARGET, "no module named app")))
    assert actions == [Report(Level.ERROR, "no module named app"), Drain(1)]
    assert starting.step(ev.Exited(1, How(code=3))) == [Finish(Exit.TARGET)]


def test_an_unfit_zygote_is_ended_and_workers_import_for_themselves(starting: Play) -> None:
    actions = starting.step(said(1, Unfit("2 live threads")))
    assert actions == [
        Report(
            Level.INFO,
            "not preloading: the import left 2 live threads; each worker imports for itself",
            "zygote",
            1,
            1,
        ),
        Drain(1),
        Fork(0, 1),
        Fork(1, 1),
    ]
    assert starting.step(ev.Exited(1, ENDED)) == []


def test_a_zygote_that_dies_while_it_imports_leaves_it_to_the_workers(starting: Play) -> None:
    actions = starting.at(3, ev.Exited(1, How(signal="SIGSEGV")))
    assert texts(actions) == ["zygote died: killed by SIGSEGV after 3.0 s; each worker imports for itself"]
    assert deeds(actions) == [Fork(0, 1), Fork(1, 1)]


def test_a_zygote_that_hangs_while_it_imports_has_to_say_where_and_leaves_it_to_the_workers(starting: Play) -> None:
    actions = starting.at(60, ev.Tick())
    assert deeds(actions) == [Abort(1, since=0), Fork(0, 1), Fork(1, 1)]
    assert texts(actions) == ["zygote died: not ready after 60 s and killed; each worker imports for itself"]
    assert deeds(starting.at(60 + ABORT_PATIENCE, ev.Tick())) == [Kill(1)]
    assert starting.step(ev.Exited(1, KILLED)) == []


def test_a_zygote_that_cannot_be_forked_is_tried_again_later_and_workers_import_for_themselves_meanwhile() -> None:
    play = Play(preload=True)
    play.forks_fail = True
    actions = play.step(ev.Started())
    assert texts(actions)[0] == "cannot fork a zygote: no room; trying again in 0.1 s"
    assert deeds(actions) == [ForkZygote(1), Fork(0, 1), Fork(1, 1)]
    assert play.machine.deadline() == 0.1
    play.forks_fail = False
    assert ForkZygote(1) in play.at(0.1, ev.Tick())


def test_a_stop_while_a_zygote_imports_ends_it(starting: Play) -> None:
    assert deeds(starting.step(ev.StopAsked(graceful=True))) == [Drain(1)]
    assert starting.step(said(1, Warm())) == []
    assert deeds(starting.step(ev.Exited(1, How(signal="SIGTERM")))) == [Finish(Exit.OK)]


def test_a_stop_while_a_zygote_is_being_forked_waits_for_it() -> None:
    machine = Machine(POLICY, 1, preload=True)
    machine.step(ev.Started(), 0)
    machine.step(ev.StopAsked(graceful=True), 0)
    assert machine.step(ev.Spawned(ZYGOTE, 1), 0) == [Drain(1)]
    assert deeds(machine.step(ev.Exited(1, ENDED), 0)) == [Finish(Exit.OK)]


# --- deaths


def test_workers_that_die_are_forked_by_the_zygote(warm: Play) -> None:
    assert Fork(0, 1, zygote=1) in warm.step(ev.Exited(2, KILLED))


def test_new_slots_are_forked_by_the_zygote(warm: Play) -> None:
    assert Fork(2, 1, zygote=1) in warm.step(ev.ScaleAsked(3))


def test_successors_of_due_workers_are_forked_by_the_zygote(warm: Play) -> None:
    assert Fork(0, 1, zygote=1) in warm.step(said(2, RecycleDue("served 500 requests")))


def test_a_dead_zygote_is_replaced_without_effect_on_workers(warm: Play) -> None:
    actions = warm.at(5, ev.Exited(1, KILLED))
    assert actions == [
        Report(Level.WARNING, "zygote died: killed by SIGKILL after 5.0 s; starting another one now", "zygote", 1, 1),
        ForkZygote(1),
    ]
    assert warm.machine.is_settled()


def test_a_zygote_that_keeps_dying_is_replaced_with_pauses(warm: Play) -> None:
    warm.at(5, ev.Exited(1, KILLED))
    warm.step(said(4, Warm()))
    actions = warm.step(ev.Exited(4, KILLED))
    assert texts(actions) == ["zygote died: killed by SIGKILL after 0.0 s; starting another one in 0.1 s"]
    assert deeds(actions) == []
    assert warm.machine.deadline() == 5.1
    assert deeds(warm.at(5.1, ev.Tick())) == [ForkZygote(1)]


def test_workers_that_die_while_the_zygote_pauses_import_for_themselves(warm: Play) -> None:
    warm.at(5, ev.Exited(1, KILLED))
    warm.step(said(4, Warm()), ev.Exited(4, KILLED))
    assert moves(warm.step(ev.Exited(2, KILLED))) == [Fork(0, 1)]


def test_workers_that_die_while_another_zygote_imports_wait_for_it(warm: Play) -> None:
    warm.at(5, ev.Exited(1, KILLED))
    assert moves(warm.step(ev.Exited(2, KILLED))) == []
    assert warm.machine.deadline() == 65
    assert moves(warm.step(said(4, Warm()))) == [Fork(0, 1, zygote=4)]


def test_a_second_zygote_that_cannot_import_leaves_it_to_the_workers(warm: Play) -> None:
    warm.at(5, ev.Exited(1, KILLED))
    warm.step(ev.Exited(2, KILLED))
    actions = warm.step(said(4, BootFailed(Exit.TARGET, "no database")))
    assert texts(actions) == ["zygote cannot start, workers import for themselves: no database"]
    assert moves(actions) == [Fork(0, 1)]
    assert deeds(warm.step(ev.Exited(4, How(code=3)))) == []
    assert warm.machine.phase is Phase.SERVING


def test_a_zygote_that_cannot_import_and_hangs_then_is_ended(warm: Play) -> None:
    warm.at(5, ev.Exited(1, KILLED), said(4, BootFailed(Exit.TARGET, "no database")))
    assert warm.at(65, ev.Tick()) == [Abort(4, since=5)]


@pytest.mark.parametrize("event", [said(99, Warm()), said(99, Unfit("a thread")), said(1, Unfit("a thread"))])
def test_late_news_and_news_of_unknown_pids_change_nothing(warm: Play, event: ev.Event) -> None:
    assert warm.step(event) == []


def test_zygotes_are_not_among_the_workers(warm: Play) -> None:
    assert sorted(warm.states()) == [2, 3]  # type: ignore[type-var]
