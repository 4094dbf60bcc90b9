"""The machine: a list of events in, the list of actions expected. No process, no clock."""

from __future__ import annotations

import pytest

from hybrid.supervisor import events as ev
from hybrid.supervisor.events import (
    Drain,
    Finish,
    Fork,
    HoldConnections,
    How,
    Kill,
    Level,
    RefuseConnections,
    Report,
    Steer,
)
from hybrid.supervisor.machine import MAX_WORKERS, Machine, Phase
from hybrid.supervisor.policy import KILL_PATIENCE, Policy
from hybrid.workers.contract.exits import Exit

POLICY = Policy(graceful_timeout=30, boot_timeout=60, backoff=0.1, backoff_max=1.0, healthy_after=1.0, boot_attempts=3)
KILLED = How(signal="SIGKILL")
ENDED = How(code=0)


class Play:
    """A machine and a world that answers: forks succeed, pids count from 1."""

    def __init__(self, workers: int = 2) -> None:
        self.machine = Machine(POLICY, workers)
        self.now = 0.0
        self.pids = 0
        self.forks_fail = False

    def step(self, *events: ev.Event) -> list[ev.Action]:
        """Feed events, and the answers to forks; return all actions."""
        actions: list[ev.Action] = []
        for event in events:
            queue = [event]
            while queue:
                done = self.machine.step(queue.pop(0), self.now)
                queue += [self._answer(action) for action in done if isinstance(action, Fork)]
                actions += done
        return actions

    def _answer(self, fork: Fork) -> ev.Event:
        if self.forks_fail:
            return ev.ForkFailed(fork.slot, "no room")
        self.pids += 1
        return ev.Spawned(fork.slot, self.pids)

    def at(self, now: float, *events: ev.Event) -> list[ev.Action]:
        self.now = now
        return self.step(*events)

    def states(self) -> dict[int | None, str]:
        return {row.pid: row.state for row in self.machine.workers(self.now)}


@pytest.fixture
def play() -> Play:
    return Play()


@pytest.fixture
def serving() -> Play:
    """Two workers, pids 1 and 2 in slots 0 and 1, ready at second 0."""
    play = Play()
    play.step(ev.Started(), ev.WorkerReady(1), ev.WorkerReady(2))
    return play


def texts(actions: list[ev.Action]) -> list[str]:
    return [action.text for action in actions if isinstance(action, Report)]


def deeds(actions: list[ev.Action]) -> list[ev.Action]:
    return [action for action in actions if not isinstance(action, Report)]


# --- start


def test_nothing_happens_before_the_start(play: Play) -> None:
    assert play.step(ev.Tick()) == []
    assert play.machine.deadline() is None


def test_a_start_forks_a_worker_into_each_slot(play: Play) -> None:
    assert play.step(ev.Started()) == [Fork(0, 1), Fork(1, 1)]
    assert play.machine.deadline() == 60


def test_the_service_is_announced_once_when_all_are_ready(play: Play) -> None:
    play.step(ev.Started())
    assert play.step(ev.WorkerReady(1)) == [Steer((0,))]
    assert play.step(ev.WorkerReady(2)) == [Steer((0, 1)), Report(Level.INFO, "serving with 2 workers")]
    assert play.machine.has_started
    assert play.machine.is_settled()
    assert play.step(ev.WorkerReady(2)) == []


def test_one_worker_is_one_worker() -> None:
    play = Play(1)
    play.step(ev.Started())
    assert play.step(ev.WorkerReady(1)) == [Report(Level.INFO, "serving with 1 worker")]


def test_while_all_serve_nothing_is_due(serving: Play) -> None:
    assert serving.machine.deadline() is None


def test_a_worker_that_cannot_start_ends_the_start_with_its_code_and_one_line(play: Play) -> None:
    play.step(ev.Started())
    actions = play.step(ev.WorkerFailed(1, Exit.TARGET, "no module named app"))
    assert actions == [Report(Level.ERROR, "no module named app"), Drain(1), Drain(2)]
    assert play.step(ev.WorkerFailed(2, Exit.TARGET, "no module named app")) == []
    assert play.step(ev.Exited(1, How(code=3)), ev.Exited(2, How(code=3))) == [Finish(Exit.TARGET)]


@pytest.mark.parametrize("code", [0, 200, -1])
def test_a_code_that_means_nothing_is_an_error_without_a_name(play: Play, code: int) -> None:
    play.step(ev.Started(), ev.WorkerFailed(1, code, "broken"))
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


def test_a_worker_that_is_not_ready_in_time_is_killed_and_replaced() -> None:
    play = Play(1)
    play.step(ev.Started())
    actions = play.at(60, ev.Tick())
    assert deeds(actions) == [Kill(1), Fork(0, 1)]
    assert texts(actions) == ["worker died: not ready after 60 s and killed; restarting now"]
    assert play.step(ev.Exited(1, KILLED)) == []


def test_a_worker_that_hangs_after_it_said_it_cannot_start_is_killed_too(serving: Play) -> None:
    serving.at(5, ev.Exited(1, KILLED), ev.WorkerFailed(3, Exit.TARGET, "broken"))
    assert Kill(3) in serving.at(65, ev.Tick())


def test_forks_that_keep_failing_end_the_start(play: Play) -> None:
    play.forks_fail = True
    actions = play.step(ev.Started())
    assert texts(actions) == ["cannot fork a worker: no room; trying again in 0.1 s"] * 2
    play.at(0.1, ev.Tick())
    actions = play.at(0.4, ev.Tick())
    assert actions[-1] == Finish(Exit.BOOT)
    assert "cannot fork: no room" in texts(actions)[0]


# --- deaths


def test_a_dead_worker_is_replaced_at_once_and_connections_go_elsewhere_meanwhile(serving: Play) -> None:
    actions = serving.at(3.2, ev.Exited(1, KILLED))
    assert actions == [
        Report(Level.WARNING, "worker died: killed by SIGKILL after 3.2 s; restarting now", 0, 1, 1),
        Steer((1,)),
        Fork(0, 1),
    ]
    assert serving.step(ev.WorkerReady(3)) == [Steer((0, 1))]


def test_a_crash_loop_backs_off_per_slot(serving: Play) -> None:
    serving.at(5, ev.Exited(1, KILLED))
    serving.step(ev.WorkerReady(3))
    actions = serving.at(5.5, ev.Exited(3, KILLED))
    assert texts(actions) == ["worker died: killed by SIGKILL after 0.5 s; restarting in 0.1 s"]
    assert Fork(0, 1) not in actions
    assert serving.machine.deadline() == pytest.approx(5.6)
    assert Fork(1, 1) in serving.step(ev.Exited(2, KILLED))
    assert serving.at(5.6, ev.Tick()) == [Fork(0, 1)]


def test_a_worker_that_has_served_for_a_while_is_replaced_at_once_again(serving: Play) -> None:
    serving.at(0.1, ev.Exited(1, KILLED))
    serving.step(ev.WorkerReady(3))
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
    said = []
    for reason in ("syntax error", "syntax error", "no such file"):
        pid = serving.pids
        serving.step(ev.WorkerFailed(pid, Exit.TARGET, reason))
        said += texts(serving.step(ev.Exited(pid, How(code=3))))
        serving.at(serving.now + 10, ev.Tick())
    assert said == [
        "worker cannot start, restarting in 0.1 s: syntax error",
        "worker cannot start, restarting in 0.4 s: no such file",
    ]


def test_a_fork_that_fails_is_tried_again_later(serving: Play) -> None:
    serving.forks_fail = True
    actions = serving.at(5, ev.Exited(1, KILLED))
    assert texts(actions)[1] == "cannot fork a worker: no room; trying again in 0.2 s"
    serving.forks_fail = False
    assert Fork(0, 1) in serving.at(5.2, ev.Tick())


def test_when_nobody_serves_connections_wait_in_all_queues(serving: Play) -> None:
    serving.step(ev.Exited(1, KILLED))
    assert Steer((0, 1)) in serving.step(ev.Exited(2, KILLED))


def test_news_of_somebody_unknown_changes_nothing(serving: Play) -> None:
    strangers = [ev.Exited(99, KILLED), ev.WorkerReady(99), ev.WorkerFailed(99, 3, "who?")]
    assert serving.step(*strangers) == []


def test_a_ready_worker_that_says_it_cannot_start_is_not_believed(serving: Play) -> None:
    assert serving.step(ev.WorkerFailed(1, 3, "confused")) == []
    assert serving.states() == {1: "ready", 2: "ready"}


# --- stop


def test_a_graceful_stop_drains_everybody(serving: Play) -> None:
    actions = serving.step(ev.StopAsked(graceful=True))
    line = "stopping: draining 2 workers (at most 30 s); press Ctrl-C again to end at once"
    assert actions == [Report(Level.INFO, line), HoldConnections(), Drain(1), Drain(2)]
    assert serving.step(ev.Exited(1, ENDED)) == []
    assert serving.step(ev.Exited(2, ENDED)) == [Report(Level.INFO, "stopped"), Finish(Exit.OK)]
    assert serving.step(ev.Tick()) == []


def test_connections_are_refused_once_handshakes_under_way_are_over(serving: Play) -> None:
    serving.step(ev.StopAsked(graceful=True))
    held_until = serving.machine.deadline()
    assert held_until is not None
    assert 0 < held_until <= 1
    assert serving.at(held_until, ev.Tick()) == [RefuseConnections()]
    assert serving.at(held_until + 1, ev.Tick()) == []


def test_a_stop_at_once_holds_nothing(serving: Play) -> None:
    assert HoldConnections() not in serving.step(ev.StopAsked(graceful=False))


def test_who_is_not_drained_in_time_is_killed_and_the_exit_code_says_so(serving: Play) -> None:
    serving.step(ev.StopAsked(graceful=True), ev.Exited(1, ENDED))
    serving.at(1, ev.Tick())
    assert serving.machine.deadline() == 30
    actions = serving.at(30, ev.Tick())
    assert actions == [Report(Level.WARNING, "worker still not drained after 30 s: killing it", 1, 1, 2), Kill(2)]
    assert deeds(serving.step(ev.Exited(2, KILLED))) == [Finish(Exit.KILLED)]


def test_a_stop_at_once_kills_everybody(serving: Play) -> None:
    assert deeds(serving.step(ev.StopAsked(graceful=False))) == [Kill(1), Kill(2)]
    assert deeds(serving.step(ev.Exited(1, KILLED), ev.Exited(2, KILLED))) == [Finish(Exit.KILLED)]


def test_the_first_interrupt_drains_and_the_second_kills(serving: Play) -> None:
    assert deeds(serving.step(ev.Interrupted())) == [HoldConnections(), Drain(1), Drain(2)]
    actions = serving.step(ev.Interrupted())
    assert actions == [Report(Level.INFO, "stopping at once: killing 2 workers"), Kill(1), Kill(2)]
    assert serving.step(ev.Interrupted()) == []


def test_a_second_request_to_drain_changes_nothing(serving: Play) -> None:
    serving.step(ev.StopAsked(graceful=True))
    assert serving.step(ev.StopAsked(graceful=True)) == []


def test_a_stop_while_booting_ends_the_boot(play: Play) -> None:
    play.step(ev.Started())
    assert deeds(play.step(ev.StopAsked(graceful=True))) == [HoldConnections(), Drain(1), Drain(2)]
    assert play.step(ev.WorkerReady(1)) == []
    gone = play.step(ev.Exited(1, How(signal="SIGTERM")), ev.Exited(2, How(signal="SIGTERM")))
    assert gone == [Report(Level.INFO, "stopped"), Finish(Exit.OK)]


def test_a_stop_while_backing_off_does_not_wait(serving: Play) -> None:
    for pid in (1, 2, 3, 4):
        serving.step(ev.Exited(pid, KILLED))
    assert deeds(serving.step(ev.StopAsked(graceful=True))) == [Finish(Exit.OK)]


def test_a_stop_while_a_fork_is_under_way_waits_for_its_child() -> None:
    machine = Machine(POLICY, 1)
    machine.step(ev.Started(), 0)
    machine.step(ev.StopAsked(graceful=True), 0)
    assert machine.step(ev.Spawned(0, 1), 0) == [Drain(1)]


def test_a_stop_at_once_kills_a_child_that_is_just_born() -> None:
    machine = Machine(POLICY, 1)
    machine.step(ev.Started(), 0)
    machine.step(ev.StopAsked(graceful=False), 0)
    assert Kill(1) in machine.step(ev.Spawned(0, 1), 0)


def test_a_fork_that_fails_while_stopping_is_not_tried_again() -> None:
    machine = Machine(POLICY, 1)
    machine.step(ev.Started(), 0)
    machine.step(ev.StopAsked(graceful=True), 0)
    assert deeds(machine.step(ev.ForkFailed(0, "no room"), 0)) == [Finish(Exit.OK)]


def test_a_stop_before_the_start_is_the_end(play: Play) -> None:
    assert deeds(play.step(ev.StopAsked(graceful=True))) == [Finish(Exit.OK)]


def test_a_worker_that_dies_badly_while_draining_is_named(serving: Play) -> None:
    serving.step(ev.StopAsked(graceful=True))
    actions = serving.at(2, ev.Exited(1, How(signal="SIGSEGV")))
    assert texts(actions) == ["worker died while draining: killed by SIGSEGV after 2.0 s"]


def test_a_worker_that_survives_its_kill_is_left_behind_in_the_end(serving: Play) -> None:
    serving.step(ev.StopAsked(graceful=False), ev.Exited(1, KILLED))
    actions = serving.at(KILL_PATIENCE, ev.Tick())
    assert texts(actions) == ["worker cannot be killed: leaving it behind", "stopped"]
    assert actions[-1] == Finish(Exit.KILLED)


def test_a_worker_that_survives_its_kill_is_killed_again_while_the_service_goes_on() -> None:
    play = Play(1)
    play.step(ev.Started())
    play.at(60, ev.Tick())
    play.step(ev.WorkerReady(2))
    actions = play.at(60 + KILL_PATIENCE, ev.Tick())
    assert actions == [Report(Level.ERROR, "worker cannot be killed: trying again", 0, 1, 1), Kill(1)]


# --- scale


def test_scaling_up_forks_into_new_slots_which_get_connections_when_ready(serving: Play) -> None:
    actions = serving.step(ev.ScaleAsked(3))
    assert actions == [Report(Level.INFO, "scaling from 2 to 3 workers"), Fork(2, 1)]
    assert not serving.machine.is_settled()
    assert serving.step(ev.WorkerReady(3)) == [Steer((0, 1, 2))]
    assert serving.machine.is_settled()


def test_scaling_down_steers_away_before_it_drains(serving: Play) -> None:
    assert deeds(serving.step(ev.ScaleByAsked(-1))) == [Steer((0,)), Drain(2)]
    assert not serving.machine.is_settled()
    assert texts(serving.step(ev.Exited(2, ENDED))) == ["worker retired"]
    assert serving.machine.is_settled()


def test_a_retired_worker_that_does_not_drain_is_killed_and_the_service_is_none_the_worse(serving: Play) -> None:
    serving.step(ev.ScaleAsked(1))
    assert Kill(2) in serving.at(30, ev.Tick())
    serving.step(ev.Exited(2, KILLED), ev.StopAsked(graceful=True))
    assert deeds(serving.step(ev.Exited(1, ENDED))) == [Finish(Exit.OK)]


def test_a_slot_that_returns_does_not_wait_for_its_old_worker(serving: Play) -> None:
    serving.step(ev.ScaleAsked(1))
    assert Fork(1, 1) in serving.step(ev.ScaleAsked(2))
    assert serving.states() == {1: "ready", 2: "draining", 3: "booting"}
    assert serving.step(ev.WorkerReady(3)) == [Steer((0, 1))]


def test_scaling_down_while_a_worker_boots_ends_its_boot(serving: Play) -> None:
    serving.step(ev.ScaleAsked(3))
    assert deeds(serving.step(ev.ScaleAsked(2))) == [Drain(3)]


def test_scaling_down_a_slot_that_backs_off_forgets_it_and_a_return_starts_anew(serving: Play) -> None:
    serving.step(ev.Exited(2, KILLED), ev.Exited(3, KILLED))
    serving.step(ev.ScaleAsked(1))
    assert serving.machine.deadline() is None
    assert Fork(1, 1) in serving.step(ev.ScaleAsked(2))


def test_a_fork_that_fails_for_a_slot_no_longer_wanted_is_not_reported(serving: Play) -> None:
    for event in (ev.ScaleAsked(3), ev.ScaleAsked(2)):
        serving.machine.step(event, 0)
    assert serving.machine.step(ev.ForkFailed(2, "no room"), 0) == []


@pytest.mark.parametrize("workers", [0, -3, MAX_WORKERS + 1])
def test_a_number_of_workers_that_cannot_be_is_refused(serving: Play, workers: int) -> None:
    actions = serving.step(ev.ScaleAsked(workers))
    assert texts(actions) == [f"not scaling to {workers}: the number of workers is 1 to {MAX_WORKERS}"]
    assert deeds(actions) == []


def test_scaling_to_what_there_is_does_nothing(serving: Play) -> None:
    assert serving.step(ev.ScaleAsked(2)) == []


def test_scaling_while_stopping_is_refused(serving: Play) -> None:
    serving.step(ev.StopAsked(graceful=True))
    assert texts(serving.step(ev.ScaleByAsked(1))) == ["stopping: the number of workers stays as it is"]


def test_the_service_is_announced_when_scaling_down_completes_it(play: Play) -> None:
    play.step(ev.Started(), ev.WorkerReady(1))
    assert "serving with 1 worker" in texts(play.step(ev.ScaleAsked(1)))


# --- the rest


def test_a_reload_is_answered_with_what_to_do_instead(serving: Play) -> None:
    line = "reload is not available yet: restart the service to load new code"
    assert serving.step(ev.ReloadAsked()) == [Report(Level.WARNING, line)]


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
