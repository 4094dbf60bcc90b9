"""The machine from its start to the first service, and its questions: events in, actions out. No process, no clock."""

from __future__ import annotations

import pytest
from support.play import ENDED, KILLED, Play, steer, texts
from support.said import READY, said

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.events import (
    Adopt,
    Drain,
    Finish,
    Fork,
    How,
    Level,
    Report,
)
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed


def test_nothing_happens_before_the_start(play: Play) -> None:
    assert play.step(ev.Tick()) == []
    assert play.machine.deadline() is None


def test_a_start_forks_a_worker_into_each_slot(play: Play) -> None:
    assert play.step(ev.Started()) == [Fork(0, 1), Fork(1, 1)]
    assert play.machine.deadline() == 60


def test_the_service_is_announced_once_when_all_are_ready(play: Play) -> None:
    play.step(ev.Started())
    assert play.step(said(1, READY)) == [steer(0), Adopt(1, (1,))]
    assert play.step(said(2, READY)) == [steer(0, 1), Report(Level.INFO, "serving with 2 workers"), Adopt(1, ())]
    assert play.machine.has_started
    assert play.machine.is_settled()
    assert play.step(said(2, READY)) == []


def test_one_worker_is_one_worker() -> None:
    play = Play(1)
    play.step(ev.Started())
    assert play.step(said(1, READY)) == [Report(Level.INFO, "serving with 1 worker")]


def test_while_all_serve_nothing_is_due(serving: Play) -> None:
    assert serving.machine.deadline() is None


def test_a_worker_that_cannot_start_ends_the_start_with_its_code_and_one_line(play: Play) -> None:
    play.step(ev.Started())
    actions = play.step(said(1, BootFailed(Exit.TARGET, "no module named app")))
    assert actions == [Report(Level.ERROR, "no module named app"), Drain(1), Drain(2)]
    assert play.step(said(2, BootFailed(Exit.TARGET, "no module named app"))) == []
    assert play.step(ev.Exited(1, How(code=3)), ev.Exited(2, How(code=3))) == [Finish(Exit.TARGET)]


@pytest.mark.parametrize("code", [0, 200, -1])
def test_a_code_that_means_nothing_is_an_error_without_a_name(play: Play, code: int) -> None:
    play.step(ev.Started(), said(1, BootFailed(code, "broken")))
    assert play.step(ev.Exited(1, ENDED), ev.Exited(2, ENDED)) == [Finish(Exit.ERROR)]


def test_workers_that_die_without_a_word_end_the_start_after_the_attempts_of_a_slot() -> None:
    play = Play(1)
    play.step(ev.Started())
    assert "restarting now" in texts(play.step(ev.Exited(1, KILLED)))[0]
    assert "restarting in 0.1 s" in texts(play.step(ev.Exited(2, KILLED)))[0]
    play.at(0.1, ev.Tick())
    assert play.step(ev.Exited(3, KILLED)) == [
        Report(Level.ERROR, "no worker became ready in 3 attempts; the last one: killed by SIGKILL after 0.0 s"),
        Finish(Exit.BOOT),
    ]


def test_forks_that_keep_failing_end_the_start(play: Play) -> None:
    play.forks_fail = True
    actions = play.step(ev.Started())
    assert texts(actions) == ["cannot fork a worker: no room; trying again in 0.1 s"] * 2
    play.at(0.1, ev.Tick())
    actions = play.at(0.4, ev.Tick())
    assert actions[-1] == Finish(Exit.BOOT)
    assert "cannot fork: no room" in texts(actions)[0]


# --- questions


def test_a_slot_whose_worker_is_being_forked_is_in_a_snapshot(serving: Play) -> None:
    actions = serving.machine.step(ev.Exited(2, KILLED), 4.0)
    assert ev.Fork(1, 1) in actions
    assert [(row.slot, row.state) for row in serving.machine.workers(4.0)] == [(0, "ready"), (1, "waiting")]


def test_a_snapshot_tells_all_workers_and_the_slots_that_wait(serving: Play) -> None:
    serving.step(ev.Exited(2, KILLED), ev.Exited(3, KILLED))
    serving.now = 4.0
    rows = [(row.slot, row.pid, row.state, row.ready_seconds, row.restarts) for row in serving.machine.workers(4.0)]
    assert rows == [(0, 1, "ready", 4.0, 0), (1, None, "waiting", None, 2)]


@pytest.mark.parametrize(
    ("how", "text"),
    [
        (How(code=3), "exited with code 3"),
        (How(signal="SIGSEGV"), "killed by SIGSEGV"),
        (How(), "ended unseen"),
    ],
)
def test_an_end_is_told_in_words(how: How, text: str) -> None:
    assert str(how) == text


def test_a_summary_has_ready_and_wanted_workers_and_the_generation(serving: Play) -> None:
    assert serving.machine.summary() == "2 of 2 workers ready, generation 1"
    serving.step(ev.Exited(2, KILLED))
    assert serving.machine.summary() == "1 of 2 workers ready, generation 1"


def test_serving_workers_are_listed_by_pid(serving: Play) -> None:
    serving.step(ev.Exited(2, KILLED))
    assert serving.machine.serving() == (1,)
