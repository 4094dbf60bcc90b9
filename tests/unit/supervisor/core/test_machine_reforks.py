"""Reforks: a warm worker becomes the zygote of the next generation, or nothing has changed."""

from __future__ import annotations

import dataclasses

import pytest
from support.play import ENDED, KILLED, POLICY, Play, deeds, moves, texts
from support.play import serving as serving_play
from support.said import READY, said

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.events import Drain, Fork, Kill, Promote
from hybrid.workers.contract.messages import BootFailed, Draining, RecycleDue, ReforkReady, Unfit, Warm

FAILED = "refork failed, generation 1 goes on: "


@pytest.fixture
def warm() -> Play:
    """Pid 1 is the zygote, pids 2 and 3 serve in slots 0 and 1, since second 0; workers may become zygotes."""
    return serving_play(policy=dataclasses.replace(POLICY, reforks=True), preload=True)


@pytest.fixture
def chosen(warm: Play) -> Play:
    """Pid 2 will become the zygote, and pid 4 boots beside it."""
    warm.step(said(2, ReforkReady()))
    return warm


@pytest.fixture
def promoted(chosen: Play) -> Play:
    """Pid 2 drains, to become the zygote of generation 2; pids 3 and 4 serve."""
    chosen.at(5, said(4, READY))
    return chosen


@pytest.fixture
def tried(promoted: Play) -> Play:
    """Pid 2 is the zygote of generation 2, whose first worker, pid 5, boots in slot 0 beside pid 4."""
    promoted.step(said(2, Warm()))
    return promoted


def test_a_refork_ready_worker_gets_a_successor_and_keeps_serving(warm: Play) -> None:
    actions = warm.step(said(2, ReforkReady()))
    assert texts(actions) == ["worker is warm: starting its successor, then it becomes the zygote"]
    assert moves(actions) == [Fork(0, 1, zygote=1)]
    assert warm.states() == {2: "ready", 3: "ready", 4: "booting"}


def test_it_is_promoted_when_its_successor_serves(chosen: Play) -> None:
    assert moves(chosen.step(said(4, READY))) == [Promote(2, 2)]
    assert chosen.states() == {2: "draining", 3: "ready", 4: "ready"}
    assert not chosen.machine.is_reloading


def test_a_warm_heir_is_the_zygote_of_a_generation_that_is_tried_out(promoted: Play) -> None:
    actions = promoted.step(said(2, Warm()))
    assert texts(actions) == ["reforking: starting generation 2 from a warm worker beside generation 1"]
    assert moves(actions) == [Fork(0, 2, zygote=2)]
    assert promoted.states() == {3: "ready", 4: "ready", 5: "booting"}


def test_the_first_worker_that_serves_proves_it_and_the_rest_follows(tried: Play) -> None:
    assert Drain(1) not in tried.step(said(2, Draining()))
    actions = tried.step(said(5, READY))
    assert texts(actions) == ["generation 2 serves; replacing 2 workers of older ones"]
    assert moves(actions) == [Drain(1), Drain(4), Fork(1, 2, zygote=2)]
    actions = tried.step(said(6, READY))
    assert texts(actions) == ["refork complete: 2 workers of generation 2"]
    assert moves(actions) == [Drain(3)]
    tried.step(ev.Exited(1, ENDED), ev.Exited(3, ENDED), ev.Exited(4, ENDED))
    assert tried.machine.is_settled()
    assert tried.generations() == [(0, 2), (1, 2)]


def test_later_deaths_are_replaced_from_the_new_zygote(tried: Play) -> None:
    tried.step(said(5, READY), said(6, READY))
    assert Fork(1, 2, zygote=2) in tried.step(ev.Exited(6, KILLED))


def test_a_generation_of_a_warm_worker_may_have_another_one(tried: Play) -> None:
    tried.step(said(5, READY), said(6, READY), ev.Exited(1, ENDED), ev.Exited(3, ENDED), ev.Exited(4, ENDED))
    tried.step(said(5, ReforkReady()))
    assert moves(tried.step(said(7, READY))) == [Promote(5, 3)]


def test_one_is_promoted_at_a_time(chosen: Play) -> None:
    assert chosen.step(said(3, ReforkReady())) == []
    assert moves(chosen.step(said(4, READY))) == [Promote(2, 2)]


def test_another_one_is_chosen_if_it_dies_before_its_turn(chosen: Play) -> None:
    chosen.step(said(3, ReforkReady()), ev.Exited(2, KILLED))
    assert moves(chosen.step(said(4, READY))) == [Fork(1, 1, zygote=1)]
    assert moves(chosen.step(said(5, READY))) == [Promote(3, 2)]


# --- nothing has changed


def test_without_a_zygote_no_worker_is_chosen() -> None:
    play = serving_play(policy=dataclasses.replace(POLICY, reforks=True))
    assert play.step(said(1, ReforkReady())) == []


def test_without_reforks_no_worker_is_chosen() -> None:
    play = serving_play(preload=True)
    assert play.step(said(2, ReforkReady())) == []


def test_no_worker_of_an_unfit_zygote_is_chosen() -> None:
    play = Play(policy=dataclasses.replace(POLICY, reforks=True), preload=True)
    play.step(ev.Started())
    (text, *_) = texts(play.step(said(1, Unfit("1 live thread"))))
    assert text.endswith("each worker imports for itself, and --refork-after has no effect")
    play.step(ev.Exited(1, ENDED), said(2, READY), said(3, READY))
    assert play.step(said(2, ReforkReady())) == []


def test_a_due_worker_is_not_chosen(warm: Play) -> None:
    warm.step(said(2, RecycleDue("holds 600 MiB of memory")), said(2, ReforkReady()))
    assert moves(warm.step(said(4, READY))) == [Drain(2)]


def test_strangers_zygotes_and_those_that_boot_are_not_chosen(chosen: Play) -> None:
    assert chosen.step(said(99, ReforkReady()), said(1, ReforkReady()), said(4, ReforkReady())) == []


def test_an_heir_that_dies_has_changed_nothing(promoted: Play) -> None:
    actions = promoted.step(ev.Exited(2, KILLED))
    assert texts(actions) == [FAILED + "its worker killed by SIGKILL"]
    assert deeds(actions) == []
    assert promoted.machine.is_settled()
    assert promoted.machine.workers(5)[0].restarts == 0


def test_an_heir_that_hangs_is_killed_and_no_other_is_tried(promoted: Play) -> None:
    actions = promoted.at(35, ev.Tick())
    assert texts(actions) == ["worker still not drained after 30 s: killing it", FAILED + "its worker has hung"]
    assert moves(actions) == [Kill(2)]
    assert promoted.step(ev.Exited(2, KILLED), said(3, ReforkReady())) == []
    assert promoted.machine.is_settled()


def test_an_unfit_heir_ends_and_no_other_is_tried(promoted: Play) -> None:
    actions = promoted.step(said(2, Unfit("1 live thread (exporter)")))
    assert texts(actions) == ["not reforking generation 1: requests have left 1 live thread (exporter)"]
    assert moves(actions) == []
    assert texts(promoted.step(ev.Exited(2, ENDED))) == ["worker retired"]
    assert promoted.step(said(3, ReforkReady())) == []
    assert promoted.machine.is_settled()


def test_a_first_worker_that_cannot_start_ends_the_refork(tried: Play) -> None:
    actions = tried.step(said(5, BootFailed(3, "no database")))
    assert texts(actions) == [FAILED + "generation 2 cannot start: no database"]
    assert Drain(2) in moves(actions)
    tried.step(ev.Exited(5, ev.How(code=3)), ev.Exited(2, ENDED))
    assert tried.machine.is_settled()
    assert tried.generations() == [(0, 1), (1, 1)]


def test_a_heir_that_dies_as_a_zygote_ends_the_refork(tried: Play) -> None:
    (text, *_) = texts(tried.step(ev.Exited(2, KILLED)))
    assert text.startswith(FAILED + "generation 2 cannot start: its zygote killed by SIGKILL")


# --- in the middle of something else


def test_no_worker_is_chosen_during_a_reload_but_after_its_failure(warm: Play) -> None:
    warm.step(ev.ReloadAsked())
    assert warm.step(said(3, ReforkReady())) == []
    actions = warm.step(said(4, BootFailed(3, "no module")), ev.Exited(4, ENDED))
    assert Fork(1, 1, zygote=1) in actions


def test_a_reload_makes_a_chosen_worker_an_ordinary_one(chosen: Play) -> None:
    chosen.step(ev.ReloadAsked())
    assert moves(chosen.step(said(4, READY))) == [Drain(2)]


def test_a_reload_gives_an_heir_up(promoted: Play) -> None:
    actions = promoted.step(ev.ReloadAsked())
    assert Drain(2) in moves(actions)
    assert promoted.step(said(2, Warm())) == [Drain(2)], "it was on its way, and may have missed the first one"
    assert texts(promoted.step(ev.Exited(2, ev.How(signal="SIGTERM")))) == []


def test_a_reload_gives_up_a_refork_that_is_tried_out(tried: Play) -> None:
    actions = tried.step(ev.ReloadAsked())
    assert texts(actions)[0] == "reload asked for: giving up generation 2"
    assert texts(actions)[1] == "reloading: starting generation 3 beside generation 1"
    assert {Drain(2), Drain(5)} <= set(moves(actions))


def test_a_stop_ends_an_heir_as_a_worker(promoted: Play) -> None:
    assert Drain(2) in promoted.step(ev.StopAsked(graceful=True))
    for pid in (1, 2, 3):
        promoted.step(ev.Exited(pid, ENDED))
    assert promoted.step(ev.Exited(4, ENDED))[-1] == ev.Finish(0)


def test_a_stop_at_once_kills_an_heir(promoted: Play) -> None:
    assert Kill(2) in promoted.step(ev.StopAsked(graceful=False))


def test_a_slot_that_is_no_longer_wanted_gives_no_heir(warm: Play) -> None:
    warm.step(said(3, ReforkReady()))
    assert set(moves(warm.step(ev.ScaleAsked(1)))) == {Drain(3), Drain(4)}


def test_an_heir_does_not_mind_that_its_slot_goes(warm: Play) -> None:
    warm.step(said(3, ReforkReady()), said(4, READY), ev.ScaleAsked(1))
    assert Fork(0, 2, zygote=3) in warm.step(said(3, Warm()))
