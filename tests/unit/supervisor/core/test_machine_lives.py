"""The lives of workers: boot, death, back-off, unexpected messages. No process, no clock."""

from __future__ import annotations

import pytest
from support.play import ENDED, KILLED, POLICY, Play, deeds, moves, steer, texts
from support.play import serving as serving_play
from support.said import READY, said

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.events import (
    Abort,
    Adopt,
    Drain,
    Fork,
    How,
    Kill,
    Level,
    MendListeners,
    Report,
)
from hybrid.supervisor.core.machine import Phase
from hybrid.supervisor.core.policy import ABORT_PATIENCE, KILL_PATIENCE
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed, Broken, Draining


def test_a_worker_that_is_not_ready_in_time_has_to_say_where_it_hangs_and_is_replaced() -> None:
    play = Play(1)
    play.step(ev.Started())
    actions = play.at(60, ev.Tick())
    assert deeds(actions) == [Abort(1, since=0), Fork(0, 1)]
    assert texts(actions) == ["worker died: not ready after 60 s and killed; restarting now"]
    assert play.step(ev.Exited(1, KILLED)) == []


def test_a_worker_that_survives_its_abort_is_killed() -> None:
    play = Play(1)
    play.step(ev.Started())
    play.at(60, ev.Tick())
    assert play.machine.deadline() == 60 + ABORT_PATIENCE
    assert play.at(60 + ABORT_PATIENCE, ev.Tick()) == [Kill(1)]
    assert play.step(ev.Exited(1, KILLED)) == []


def test_a_worker_that_hangs_after_it_said_it_cannot_start_is_ended_too(serving: Play) -> None:
    serving.at(5, ev.Exited(1, KILLED), said(3, BootFailed(Exit.TARGET, "broken")))
    assert Abort(3, since=5) in serving.at(65, ev.Tick())


@pytest.mark.parametrize("news", [said(1, READY), said(1, BootFailed(Exit.TARGET, "late")), said(1, Draining())])
def test_messages_of_an_aborted_worker_are_ignored(news: ev.Event) -> None:
    play = Play(1)
    play.step(ev.Started())
    play.at(60, ev.Tick())
    assert play.step(news) == []
    assert play.states() == {1: "aborted", 2: "booting"}


def test_a_dead_worker_is_replaced_at_once_and_connections_go_elsewhere_meanwhile(serving: Play) -> None:
    actions = serving.at(3.2, ev.Exited(1, KILLED))
    assert actions == [
        Report(Level.WARNING, "worker died: killed by SIGKILL after 3.2 s; restarting now", 0, 1, 1),
        steer(1),
        Adopt(2, (0,)),
        Fork(0, 1),
    ]
    assert serving.step(said(3, READY)) == [steer(0, 1), Adopt(2, ())]


def test_a_crash_loop_backs_off_per_slot(serving: Play) -> None:
    serving.at(5, ev.Exited(1, KILLED))
    serving.step(said(3, READY))
    actions = serving.at(5.5, ev.Exited(3, KILLED))
    assert texts(actions) == ["worker died: killed by SIGKILL after 0.5 s; restarting in 0.1 s"]
    assert Fork(0, 1) not in actions
    assert serving.machine.deadline() == pytest.approx(5.6)
    assert Fork(1, 1) in serving.step(ev.Exited(2, KILLED))
    assert serving.at(5.6, ev.Tick()) == [Fork(0, 1)]


def test_a_worker_that_has_served_for_a_while_is_replaced_at_once_again(serving: Play) -> None:
    serving.at(0.1, ev.Exited(1, KILLED))
    serving.step(said(3, READY))
    assert Fork(0, 1) in serving.at(1.2, ev.Exited(3, KILLED))


def test_after_the_start_no_number_of_deaths_ends_the_service(serving: Play) -> None:
    for _ in range(50):
        newest = max(row.pid or 0 for row in serving.machine.workers(serving.now) if row.slot == 0)
        serving.step(ev.Exited(newest, KILLED))
        serving.at(serving.now + POLICY.backoff_max, ev.Tick())
    assert serving.machine.phase is Phase.SERVING
    assert serving.machine.workers(serving.now)[0].restarts == 50


def test_a_reason_not_to_start_is_said_once_in_a_row(serving: Play) -> None:
    serving.at(5, ev.Exited(1, KILLED))
    lines = []
    for reason in ("syntax error", "syntax error", "no such file"):
        pid = serving.pids
        serving.step(said(pid, BootFailed(Exit.TARGET, reason)))
        lines += texts(serving.step(ev.Exited(pid, How(code=3))))
        serving.at(serving.now + 10, ev.Tick())
    assert lines == [
        "worker cannot start, restarting in 0.1 s: syntax error",
        "worker cannot start, restarting in 0.4 s: no such file",
    ]


def test_a_fork_that_fails_is_tried_again_later(serving: Play) -> None:
    serving.forks_fail = True
    actions = serving.at(5, ev.Exited(1, KILLED))
    assert texts(actions)[1] == "cannot fork a worker: no room; trying again in 0.2 s"
    serving.forks_fail = False
    assert Fork(0, 1) in serving.at(5.2, ev.Tick())


def test_without_a_serving_worker_connections_wait_in_all_queues(serving: Play) -> None:
    serving.step(ev.Exited(1, KILLED))
    assert steer(0, 1) in serving.step(ev.Exited(2, KILLED))


def test_news_of_an_unknown_pid_changes_nothing(serving: Play) -> None:
    strangers = [ev.Exited(99, KILLED), said(99, READY), said(99, BootFailed(3, "who?"))]
    assert serving.step(*strangers) == []


def test_boot_failed_from_a_ready_worker_is_ignored(serving: Play) -> None:
    assert serving.step(said(1, BootFailed(3, "confused"))) == []
    assert serving.states() == {1: "ready", 2: "ready"}


def test_a_worker_that_drains_by_itself_is_replaced_at_once_and_that_is_no_failure(serving: Play) -> None:
    actions = serving.at(5, said(1, Draining()))
    assert actions == [
        Report(Level.WARNING, "worker was told to drain by another process; starting its successor", 0, 1, 1),
        Drain(1),
        steer(1),
        Adopt(2, (0,)),
        Fork(0, 1),
    ]
    assert texts(serving.step(ev.Exited(1, ENDED))) == ["worker retired"]
    assert serving.machine.workers(5)[0].restarts == 0


def test_a_worker_that_reports_draining_is_told_to_drain(serving: Play) -> None:
    assert Drain(1) in serving.step(said(1, Draining()))
    assert serving.step(said(1, Draining())) == []


def test_a_worker_that_cannot_accept_is_replaced_once_the_listeners_are_mended(serving: Play) -> None:
    actions = serving.at(5, said(1, Broken("127.0.0.1:80 was shut down")))
    text = "worker cannot accept connections: the listening socket 127.0.0.1:80 was shut down; restarting now"
    assert actions == [
        Drain(1),
        Report(Level.WARNING, text, 0, 1, 1),
        MendListeners(),
        steer(1),
        Adopt(2, (0,)),
        Fork(0, 1),
    ]
    assert texts(serving.step(ev.Exited(1, ENDED))) == ["worker retired"]


def test_workers_that_lose_their_listeners_again_and_again_have_pauses() -> None:
    play = serving_play(1)
    play.step(said(1, Broken("x")), said(2, READY))
    actions = play.step(said(2, Broken("x")))
    assert texts(actions) == ["worker cannot accept connections: the listening socket x; restarting in 0.1 s"]
    assert Fork(0, 1) in play.later(0.1)


def test_a_worker_that_drains_already_needs_no_successor_for_a_broken_listener(serving: Play) -> None:
    serving.step(ev.ScaleAsked(1))
    assert serving.step(said(2, Broken("x"))) == [MendListeners()]


def test_listeners_are_not_mended_while_the_service_stops(serving: Play) -> None:
    serving.step(ev.StopAsked(graceful=True))
    assert serving.step(said(1, Broken("x"))) == []


def test_a_worker_that_drains_by_itself_has_no_longer_for_it_than_others(serving: Play) -> None:
    serving.at(5, said(1, Draining()), said(3, READY))
    assert serving.machine.deadline() == 35
    assert moves(serving.at(35, ev.Tick())) == [Kill(1)]


def test_draining_after_the_order_changes_nothing(serving: Play) -> None:
    serving.step(ev.ScaleAsked(1))
    assert serving.step(said(2, Draining())) == []


def test_a_worker_reaped_by_other_code_is_replaced_too(serving: Play) -> None:
    actions = serving.at(5, ev.Exited(1, How()))
    assert texts(actions) == ["worker died: ended unseen after 5.0 s; restarting now"]
    assert moves(actions) == [Fork(0, 1)]


def test_a_worker_that_survives_its_kill_is_killed_again_while_the_service_runs() -> None:
    play = Play(1)
    play.step(ev.Started())
    play.at(60, ev.Tick())
    play.step(said(2, READY))
    killed_at = 60 + ABORT_PATIENCE
    play.at(killed_at, ev.Tick())
    actions = play.at(killed_at + KILL_PATIENCE, ev.Tick())
    assert actions == [Report(Level.ERROR, "worker cannot be killed: trying again", 0, 1, 1), Kill(1)]
