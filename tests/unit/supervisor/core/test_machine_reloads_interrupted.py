"""Reloads, and something else in the middle: another reload, crashes, scaling, a stop."""

from __future__ import annotations

from support.play import ENDED, KILLED, Play, deeds, moves, steer, stop, texts
from support.said import READY, said

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.events import Adopt, Drain, Finish, Fork, How, Kill, Level, Report
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed


def test_a_second_reload_gives_up_the_first_and_starts_again(trying: Play) -> None:
    actions = trying.step(ev.ReloadAsked())
    assert texts(actions) == [
        "reload asked for anew: giving up generation 2",
        "reloading: starting generation 3 beside generation 1",
    ]
    assert moves(actions) == [Drain(3), Fork(0, 3)]
    assert trying.states() == {1: "ready", 2: "ready", 3: "draining", 4: "booting"}
    assert "generation 3 serves; replacing 2 workers of older ones" in texts(trying.step(said(4, READY)))


def test_a_second_reload_while_the_first_replaces_starts_from_the_present_workers(one_by_two: Play) -> None:
    actions = one_by_two.step(ev.ReloadAsked())
    assert texts(actions) == ["reloading: starting generation 3 beside generation 2"]
    assert moves(actions) == []  # the successor in slot 1 comes first
    assert moves(one_by_two.step(said(4, READY))) == [Drain(2), Fork(0, 3)]


def test_a_failure_of_the_second_reload_lets_the_first_go_on(one_by_two: Play) -> None:
    one_by_two.step(ev.ReloadAsked(), said(4, READY))
    actions = one_by_two.step(said(5, BootFailed(Exit.TARGET, "broken")))
    assert texts(actions)[0] == "reload failed, generation 2 goes on: generation 3 cannot start: broken"
    for pid in (5, 1, 2):
        one_by_two.step(ev.Exited(pid, ENDED))
    assert one_by_two.generations() == [(0, 2), (1, 2)]
    assert one_by_two.machine.is_settled()


def test_a_fork_of_a_generation_that_was_given_up_meanwhile_is_not_wanted(serving: Play) -> None:
    serving.machine.step(ev.ReloadAsked(), 0)
    serving.machine.step(ev.ReloadAsked(), 0)
    assert serving.machine.step(ev.Spawned(0, 3), 0)[0] == Drain(3)


def test_a_failed_fork_of_a_generation_that_was_given_up_meanwhile_does_not_end_the_reload(serving: Play) -> None:
    serving.machine.step(ev.ReloadAsked(), 0)
    serving.machine.step(ev.ReloadAsked(), 0)
    assert texts(serving.machine.step(ev.ForkFailed(0, "no room"), 0)) == []
    assert serving.machine.is_reloading


def test_a_worker_that_crashes_at_every_start_is_mended_by_a_reload_without_a_pause(serving: Play) -> None:
    serving.step(ev.Exited(1, KILLED))
    for pid in (3, 4, 5):
        serving.step(ev.Exited(pid, KILLED))
        serving.later(1)
    serving.step(ev.Exited(6, KILLED))
    assert serving.states() == {2: "ready", None: "waiting"}
    assert moves(serving.step(ev.ReloadAsked())) == [Fork(0, 2)]
    assert moves(serving.step(said(7, READY))) == [Fork(1, 2)]


def test_all_slots_that_back_off_are_filled_once_new_code_has_proved_itself(serving: Play) -> None:
    serving.step(ev.Exited(1, KILLED), ev.Exited(2, KILLED), ev.Exited(3, KILLED), ev.Exited(4, KILLED))
    assert serving.states() == {None: "waiting"}
    assert moves(serving.step(ev.ReloadAsked())) == [Fork(0, 2)]
    assert moves(serving.step(said(5, READY))) == [Fork(1, 2)]
    assert serving.machine.is_reloading
    assert texts(serving.step(said(6, READY))) == ["reload complete: 2 workers of generation 2"]


def test_a_reload_does_not_wait_for_a_slot_whose_new_worker_dies(serving: Play) -> None:
    serving.step(ev.Exited(1, KILLED), ev.Exited(2, KILLED), ev.Exited(3, KILLED), ev.Exited(4, KILLED))
    serving.step(ev.ReloadAsked(), said(5, READY))
    assert serving.machine.is_reloading
    serving.step(ev.Exited(6, KILLED))
    assert not serving.machine.is_reloading


def test_a_reload_that_fails_in_a_slot_that_backs_off_leaves_its_pause_as_it_was(serving: Play) -> None:
    serving.step(ev.Exited(1, KILLED), ev.Exited(3, KILLED))
    pause_ends = serving.machine.deadline()
    serving.step(ev.ReloadAsked(), said(4, BootFailed(Exit.TARGET, "still broken")), ev.Exited(4, How(code=3)))
    assert serving.machine.deadline() == pause_ends
    assert pause_ends is not None
    assert Fork(0, 1) in serving.at(pause_ends, ev.Tick())


def test_a_reload_before_the_first_worker_is_ready_follows_then(play: Play) -> None:
    play.step(ev.Started())
    assert play.step(ev.ReloadAsked()) == [
        Report(Level.INFO, "reload asked for before any worker is ready: it follows")
    ]
    actions = play.step(said(1, READY))
    assert "reloading: starting generation 2 beside generation 1" in texts(actions)
    assert Fork(0, 2) in actions


def test_a_reload_asked_for_before_the_start_follows_too(play: Play) -> None:
    play.step(ev.ReloadAsked(), ev.Started())
    assert Fork(0, 2) in play.step(said(1, READY))


def test_workers_of_the_old_code_that_still_boot_when_the_new_is_proved_are_replaced(play: Play) -> None:
    play.step(ev.Started(), said(1, READY), ev.ReloadAsked())
    assert moves(play.step(said(3, READY))) == [Drain(1), Drain(2), Fork(1, 2)]


def test_a_worker_that_dies_during_a_trial_is_replaced_by_one_of_the_code_that_serves(trying: Play) -> None:
    assert moves(trying.step(ev.Exited(2, KILLED))) == [Fork(1, 1)]


def test_the_neighbour_of_a_trial_may_die_and_the_trial_then_serves_its_slot(trying: Play) -> None:
    assert deeds(trying.step(ev.Exited(1, KILLED))) == [steer(1), Adopt(2, (0,))]
    assert deeds(trying.step(said(3, READY))) == [steer(0, 1), Adopt(2, ()), Fork(1, 2)]


def test_scaling_down_a_trial_tries_in_a_slot_that_stays(serving: Play) -> None:
    serving.step(ev.Exited(2, KILLED), ev.Exited(3, KILLED), ev.ReloadAsked())
    assert serving.states() == {1: "ready", 4: "booting"}
    assert moves(serving.step(ev.ScaleAsked(1))) == [Drain(4), Fork(0, 2)]


def test_scaling_up_during_a_trial_starts_workers_of_the_serving_generation(trying: Play) -> None:
    assert Fork(2, 1) in trying.step(ev.ScaleAsked(3))


def test_scaling_up_while_workers_are_replaced_starts_the_new_code(one_by_two: Play) -> None:
    assert Fork(2, 2) in one_by_two.step(ev.ScaleAsked(3))


def test_a_stop_in_the_middle_of_a_reload_drains_both_generations(trying: Play) -> None:
    actions = trying.step(ev.StopAsked(graceful=True))
    assert deeds(actions) == [*stop(1, 2), Drain(1), Drain(3), Drain(2)]
    for pid in (1, 2):
        trying.step(ev.Exited(pid, ENDED))
    assert deeds(trying.step(ev.Exited(3, How(signal="SIGTERM")))) == [Finish(Exit.OK)]


def test_a_stop_at_once_in_the_middle_of_a_reload_kills_both_generations(trying: Play) -> None:
    actions = trying.step(ev.StopAsked(graceful=False))
    assert deeds(actions) == [Kill(1), Kill(2), Kill(3)]


def test_a_reload_while_stopping_is_refused(serving: Play) -> None:
    serving.step(ev.StopAsked(graceful=True))
    assert serving.step(ev.ReloadAsked()) == [Report(Level.WARNING, "stopping: not reloading")]


def test_a_slot_that_fails_after_the_reload_does_not_keep_it_from_being_complete(one_by_two: Play) -> None:
    one_by_two.step(ev.Exited(2, KILLED), said(4, READY))
    actions = one_by_two.step(ev.Exited(1, ENDED))
    assert one_by_two.generations() == [(0, 2), (1, 2)]
    assert not one_by_two.machine.is_reloading
    assert "worker retired" in texts(actions)
