"""Reloads without zygotes: one worker proves the new code, then all are replaced; failures leave the old alone."""

from __future__ import annotations

import dataclasses

from support.play import ENDED, KILLED, POLICY, RELOAD_FAILED, Play, deeds, moves, texts
from support.play import serving as serving_play
from support.said import READY, said

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.events import Abort, Drain, Fork, How, Level, Report
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed

# --- success


def test_a_reload_starts_one_worker_of_the_next_generation_beside_the_first_and_steers_as_before(serving: Play) -> None:
    assert serving.step(ev.ReloadAsked()) == [
        Report(Level.INFO, "reloading: starting generation 2 beside generation 1"),
        Fork(0, 2),
    ]
    assert serving.machine.is_reloading
    assert serving.states() == {1: "ready", 2: "ready", 3: "booting"}


def test_the_worker_that_proves_it_replaces_its_neighbour_and_the_next_slot_follows(trying: Play) -> None:
    assert trying.step(said(3, READY)) == [
        Report(Level.INFO, "generation 2 serves; replacing 2 workers of older ones"),
        Drain(1),
        Fork(1, 2),
    ]


def test_a_reload_is_complete_when_the_last_worker_was_replaced(one_by_two: Play) -> None:
    assert one_by_two.step(said(4, READY)) == [
        Drain(2),
        Report(Level.INFO, "reload complete: 2 workers of generation 2"),
    ]
    assert not one_by_two.machine.is_reloading
    one_by_two.step(ev.Exited(1, ENDED), ev.Exited(2, ENDED))
    assert one_by_two.machine.is_settled()
    assert one_by_two.generations() == [(0, 2), (1, 2)]


def test_a_reload_of_one_worker_never_leaves_its_slot_without_one() -> None:
    play = serving_play(1)
    assert moves(play.step(ev.ReloadAsked())) == [Fork(0, 2)]
    actions = play.step(said(2, READY))
    assert deeds(actions) == [Drain(1)]
    assert texts(actions)[-1] == "reload complete: 1 worker of generation 2"
    play.step(ev.Exited(1, ENDED))
    assert play.machine.is_settled()


def test_as_many_as_the_surge_are_replaced_at_a_time_once_the_code_is_proved() -> None:
    play = serving_play(5, policy=dataclasses.replace(POLICY, surge=2))
    assert moves(play.step(ev.ReloadAsked())) == [Fork(0, 2)]
    assert moves(play.step(said(6, READY))) == [Drain(1), Fork(1, 2), Fork(2, 2)]
    assert moves(play.step(said(7, READY))) == [Drain(2), Fork(3, 2)]


def test_old_workers_that_drain_for_long_do_not_hold_a_reload_up(one_by_two: Play) -> None:
    assert texts(one_by_two.step(said(4, READY))) == ["reload complete: 2 workers of generation 2"]
    assert one_by_two.states() == {1: "draining", 2: "draining", 3: "ready", 4: "ready"}


def test_old_workers_that_drain_for_very_long_do_not_pile_up() -> None:
    play = serving_play(1)
    for pid in (2, 3):
        play.step(ev.ReloadAsked(), said(pid, READY))
    assert play.states() == {1: "draining", 2: "draining", 3: "ready"}
    assert moves(play.step(ev.ReloadAsked())) == []
    assert moves(play.step(ev.Exited(1, ENDED))) == [Fork(0, 4)]


def test_while_a_worker_boots_only_its_deadline_is_due(trying: Play) -> None:
    assert trying.machine.deadline() == 65


def test_slots_that_wait_for_their_turn_set_no_deadline(one_by_two: Play) -> None:
    assert one_by_two.machine.deadline() == 35
    one_by_two.step(ev.Exited(1, ENDED))
    assert one_by_two.machine.deadline() == 65


def test_a_worker_that_dies_after_the_reload_is_replaced_by_one_of_the_new_generation(one_by_two: Play) -> None:
    one_by_two.step(said(4, READY), ev.Exited(1, ENDED), ev.Exited(2, ENDED))
    assert Fork(0, 2) in one_by_two.step(ev.Exited(3, KILLED))


# --- failure


def test_code_that_cannot_start_leaves_the_old_one_alone_and_is_said_once(trying: Play) -> None:
    actions = trying.step(said(3, BootFailed(Exit.TARGET, "syntax error")))
    assert actions == [Report(Level.ERROR, RELOAD_FAILED + "syntax error"), Drain(3)]
    assert trying.step(ev.Exited(3, How(code=3))) == []
    assert trying.machine.is_settled()
    assert not trying.machine.is_reloading
    assert trying.generations() == [(0, 1), (1, 1)]


def test_code_that_dies_at_its_start_leaves_the_old_one_alone_and_is_said_once(trying: Play) -> None:
    actions = trying.at(6, ev.Exited(3, How(signal="SIGSEGV")))
    assert actions == [Report(Level.ERROR, RELOAD_FAILED + "its worker killed by SIGSEGV after 1.0 s")]
    assert trying.machine.is_settled()
    assert trying.machine.workers(6)[0].restarts == 0


def test_code_that_hangs_at_its_start_has_to_say_where_and_leaves_the_old_one_alone(trying: Play) -> None:
    actions = trying.at(65, ev.Tick())
    assert actions == [
        Abort(3, since=5),
        Report(Level.ERROR, RELOAD_FAILED + "its worker not ready after 60 s and killed"),
    ]
    assert trying.step(ev.Exited(3, How(signal="SIGABRT"))) == []
    assert trying.machine.is_settled()


def test_a_trial_worker_terminated_by_another_process_ends_the_reload(trying: Play) -> None:
    assert texts(trying.step(ev.Exited(3, How(signal="SIGTERM")))) == [
        RELOAD_FAILED + "its worker killed by SIGTERM after 0.0 s"
    ]


def test_a_fork_that_fails_ends_the_reload_and_costs_the_slot_nothing(serving: Play) -> None:
    serving.forks_fail = True
    actions = serving.at(5, ev.ReloadAsked())
    assert texts(actions)[1:] == [RELOAD_FAILED + "cannot fork a worker: no room"]
    assert serving.machine.is_settled()
    assert serving.machine.deadline() is None
    serving.forks_fail = False
    assert Fork(0, 1) in serving.step(ev.Exited(1, KILLED))


def test_a_reload_after_one_that_failed_has_a_new_number(trying: Play) -> None:
    trying.step(said(3, BootFailed(Exit.TARGET, "syntax error")))
    assert Fork(0, 3) in trying.step(ev.ReloadAsked())


def test_late_messages_of_a_given_up_generation_change_nothing(trying: Play) -> None:
    """But that it is told to end again if it says that it serves."""
    trying.step(said(3, BootFailed(Exit.TARGET, "syntax error")))
    assert trying.step(said(3, READY), said(3, BootFailed(Exit.TARGET, "again"))) == [Drain(3)]


def test_workers_of_proved_code_that_fail_later_are_tried_again_while_the_old_ones_serve_on(one_by_two: Play) -> None:
    one_by_two.step(said(4, BootFailed(Exit.TARGET, "no database")))
    actions = one_by_two.step(ev.Exited(4, How(code=3)))
    assert texts(actions) == ["worker cannot start, restarting now: no database"]
    assert moves(actions) == [Fork(1, 2)]
    assert one_by_two.states()[2] == "ready"
