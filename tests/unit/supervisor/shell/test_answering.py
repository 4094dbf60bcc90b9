"""Requests of operators, their answers and their progress: the supervisor's shell over a fake kernel, a real client."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from support.fake_kernel import FakeKernel
from support.operators import Operator
from support.shell import Log, settings, tree

from hybrid.supervisor.core.events import How
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.label_counts import LabelCounts
from hybrid.workers.contract.messages import LabelsCounted, LogLevel

KILLED = How(signal="SIGKILL")
BY_SIGKILL = "SIGKILL"
Connected = Callable[[], Operator]


def serve(kernel: FakeKernel, path: Path, *others: str, **fields: object) -> Exit:
    """Be the supervisor of `web`, with these fields, and of `others`, with two workers each."""
    first = settings(service="web", control=str(path), **fields)
    return tree(kernel, first, *(settings(service=name, control=str(path)) for name in others))


def boots_in(kernel: FakeKernel, seconds: float) -> None:
    """Let new workers take so long to start."""
    kernel.on_fork(lambda pid: kernel.at(seconds, lambda: pid in kernel.alive and kernel.says_ready(pid)))


# --- all requests


def test_a_ping_is_answered(kernel: FakeKernel, log: Log, operator: Operator, path: Path) -> None:
    operator.asks(1, 1, "ping")
    operator.asks(2, 2, "stop")
    serve(kernel, path)
    assert operator.result(1) == {}


@pytest.mark.parametrize(
    ("request_", "parameters", "error"),
    [
        ("status", {"service": "shop"}, ("unknown_service", "there is no service 'shop'; there are: web")),
        ("reload", {"service": "shop"}, ("unknown_service", "there is no service 'shop'; there are: web")),
        ("restart", {"service": "web", "slot": 2}, ("unknown_slot", "web has the slots 0 to 1, and no 2")),
        ("scale", {"workers": 0}, ("bad_request", "0 workers: the number of workers is 1 to 1024")),
        ("scale", {"workers": 1025}, ("bad_request", "1025 workers: the number of workers is 1 to 1024")),
        ("scale", {"by": 1023}, ("bad_request", "1025 workers: the number of workers is 1 to 1024")),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_with_a_code_and_a_reason(
    kernel: FakeKernel,
    log: Log,
    operator: Operator,
    path: Path,
    request_: str,
    parameters: dict[str, object],
    error: tuple[str, str],
) -> None:
    operator.asks(1, 1, request_, **parameters)
    operator.asks(2, 2, "stop")
    serve(kernel, path)
    assert operator.error(1) == error


@pytest.mark.parametrize(
    ("request_", "parameters"),
    [
        ("reload", {}),
        ("reload", {"service": "web"}),
        ("scale", {"workers": 3}),
        ("restart", {"service": "web", "slot": 0}),
        ("upgrade", {}),
    ],
)
def test_while_the_supervisor_stops_a_change_is_refused(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path, request_: str, parameters: dict[str, object]
) -> None:
    kernel.at(0.5, lambda: kernel.ignores_terminate(4711))
    operator.asks(1, 1, "stop")
    operator.asks(2, 2, request_, **parameters)
    serve(kernel, path)
    assert operator.error(2) == ("stopping", "the supervisor is stopping")


@pytest.mark.parametrize(
    ("request_", "parameters"), [("reload", {}), ("scale", {"workers": 3}), ("restart", {"slot": 0})]
)
def test_a_change_of_a_service_that_has_ended_is_refused(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path, request_: str, parameters: dict[str, object]
) -> None:
    operator.asks(1, 1, "stop", service="chat")
    operator.asks(2, 2, request_, service="chat", **parameters)
    operator.asks(3, 3, "stop")
    serve(kernel, path, "chat")
    assert operator.error(2) == ("stopping", "the service chat has ended, or is stopping")


@pytest.mark.parametrize(
    ("request_", "parameters"), [("reload", {}), ("scale", {"workers": 3}), ("restart", {"slot": 0})]
)
def test_a_change_of_a_service_that_waits_for_others_is_refused(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path, request_: str, parameters: dict[str, object]
) -> None:
    kernel.on_fork(lambda pid: None)  # none is ever ready
    operator.asks(1, 1, request_, service="chat", **parameters)
    operator.asks(2, 2, "stop")
    web, chat = settings(control=str(path)), settings(service="chat", depends=("web",), control=str(path))
    tree(kernel, web, chat)
    assert operator.error(1) == ("failed", "the service chat has not started: it waits for others")


def test_a_request_goes_on_when_its_client_has_gone(
    kernel: FakeKernel, log: Log, connected: Connected, path: Path
) -> None:
    leaver, other = connected(), connected()
    kernel.at(0.5, lambda: boots_in(kernel, 1))
    leaver.asks(1, 1, "scale", workers=3)
    leaver.leaves(1.5)
    other.asks(3, 2, "scale", by=0)
    other.asks(4, 3, "stop")
    serve(kernel, path)
    assert leaver.progress(1) == [{"ready": 2, "of": 3}]
    assert other.result(2) == {"service": "web", "workers": 3}


def test_a_client_that_sends_no_more_gets_its_answers(
    kernel: FakeKernel, log: Log, connected: Connected, path: Path
) -> None:
    silent, other = connected(), connected()
    silent.asks(1, 1, "status")
    kernel.at(1, silent.ends_writing)
    other.asks(2, 2, "stop")
    serve(kernel, path)
    assert silent.result(1)["name"] == "shop"


# --- status


def test_many_statuses_at_once_are_answered_alike(kernel: FakeKernel, log: Log, operator: Operator, path: Path) -> None:
    for number in range(40):
        operator.asks(1, number, "status")
    operator.asks(2, 99, "stop")
    serve(kernel, path)
    assert all(operator.result(number) == operator.result(0) for number in range(40))


def test_a_status_of_one_service_leaves_the_others_out(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    operator.asks(1, 1, "status", service="chat")
    operator.asks(2, 2, "stop")
    serve(kernel, path, "chat")
    assert [service["name"] for service in operator.result(1)["services"]] == ["chat"]


def test_a_status_waits_50_ms_for_workers_that_do_not_answer(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    operator.asks(1, 1, "status")
    operator.asks(2, 2, "stop")
    serve(kernel, path)
    assert operator.moment(1) == pytest.approx(1.05)


def test_a_status_right_after_another_one_does_not_ask_the_workers_again(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    operator.asks(1, 1, "status")
    operator.asks(1.1, 2, "status")
    operator.asks(1.2, 3, "status")
    operator.asks(2, 4, "stop")
    serve(kernel, path)
    assert [operator.moment(number) for number in (2, 3)] == pytest.approx([1.1, 1.25])


def test_a_status_has_the_phase_of_each_service(kernel: FakeKernel, log: Log, operator: Operator, path: Path) -> None:
    kernel.on_fork(lambda pid: kernel.says_ready(pid) if pid != 4713 else None)  # the worker of `late`
    operator.asks(1, 1, "stop", service="gone")
    operator.asks(2, 2, "status")
    operator.asks(3, 3, "stop")
    one = {"workers": 1, "control": str(path)}
    tree(
        kernel,
        settings(service="web", **one),
        settings(service="gone", **one),
        settings(service="late", **one),
        settings(service="next", depends=("late",), **one),
    )
    phases = {service["name"]: service["phase"] for service in operator.result(2)["services"]}
    assert phases == {"web": "serving", "gone": "ended", "late": "starting", "next": "waiting"}


def test_a_status_has_the_last_death_and_the_last_reload(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    kernel.at(1, lambda: kernel.dies(4711, KILLED))
    operator.asks(2, 1, "reload")
    operator.asks(3, 2, "status")
    operator.asks(4, 3, "stop")
    serve(kernel, path)
    (web,) = operator.result(2)["services"]
    assert {**web["last_death"], "at": 0} == {"at": 0, "slot": 0, "pid": 4711, "generation": 1, "how": BY_SIGKILL}
    assert {**web["last_reload"], "at": 0} == {"at": 0, "outcome": "complete", "reason": "", "generation": 2}
    assert [worker["restarts"] for worker in web["workers"]] == [1, 0]


def test_a_status_says_why_a_service_has_failed(kernel: FakeKernel, log: Log, operator: Operator, path: Path) -> None:
    kernel.on_fork(lambda pid: kernel.says_failed(pid, 3, "no such module") if pid == 4712 else kernel.says_ready(pid))
    operator.asks(1, 1, "status")
    operator.asks(2, 2, "stop")
    one = {"workers": 1, "control": str(path)}
    tree(kernel, settings(**one), settings(service="bad", on_failure="stop", **one))
    bad = operator.result(1)["services"][1]
    assert (bad["phase"], bad["failure"], bad["workers"]) == ("failed", "no such module", [])


# --- reload


def test_a_reload_of_all_tells_its_progress_service_by_service(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    operator.asks(1, 1, "reload")
    operator.asks(2, 2, "stop")
    serve(kernel, path, "chat")
    assert operator.progress(1) == [
        {"service": "web", "ready": 0, "of": 2},
        {"service": "web", "ready": 1, "of": 2},
        {"service": "chat", "ready": 0, "of": 2},
        {"service": "chat", "ready": 1, "of": 2},
    ]
    assert operator.result(1) == {"services": {"web": {"generation": 2}, "chat": {"generation": 2}}}


def test_a_reload_of_one_service_leaves_the_others_alone(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    operator.asks(1, 1, "reload", service="chat")
    operator.asks(2, 2, "status")
    operator.asks(3, 3, "stop")
    serve(kernel, path, "chat")
    assert operator.result(1) == {"services": {"chat": {"generation": 2}}}
    assert [service["generation"] for service in operator.result(2)["services"]] == [1, 2]


def test_a_reload_that_fails_has_the_reason_of_the_worker(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    kernel.at(1, lambda: kernel.on_fork(lambda pid: kernel.says_failed(pid, 3, "no module named shop")))
    operator.asks(2, 1, "reload")
    operator.asks(3, 2, "stop")
    serve(kernel, path)
    assert operator.error(1) == ("failed", "web: no module named shop")


def test_two_reloads_at_once_are_both_answered(kernel: FakeKernel, log: Log, connected: Connected, path: Path) -> None:
    one, other = connected(), connected()
    kernel.at(0.5, lambda: boots_in(kernel, 0.1))
    one.asks(1, 1, "reload")
    other.asks(1.05, 2, "reload")
    one.asks(5, 3, "stop")
    serve(kernel, path, "chat")
    assert one.result(1) == other.result(2) == {"services": {"web": {"generation": 3}, "chat": {"generation": 2}}}


def test_a_reload_whose_service_is_stopped_meanwhile_fails(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    kernel.at(1, lambda: kernel.on_fork(lambda pid: None))  # never ready
    operator.asks(2, 1, "reload", service="chat")
    operator.asks(3, 2, "stop", service="chat")
    operator.asks(4, 3, "stop")
    serve(kernel, path, "chat")
    assert operator.error(1) == ("failed", "chat: the service has ended")


# --- scale


@pytest.mark.parametrize(
    ("parameters", "workers"), [({"workers": 3}, 3), ({"by": 2}, 4), ({"by": -1}, 1), ({"by": -7}, 1), ({"by": 0}, 2)]
)
def test_a_scale_is_answered_once_so_many_serve(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path, parameters: dict[str, int], workers: int
) -> None:
    operator.asks(1, 1, "scale", **parameters)
    operator.asks(2, 2, "status")
    operator.asks(3, 3, "stop")
    serve(kernel, path)
    assert operator.result(1) == {"service": "web", "workers": workers}
    assert len(operator.result(2)["services"][0]["workers"]) == workers


def test_a_scale_waits_for_the_retired_workers(kernel: FakeKernel, log: Log, operator: Operator, path: Path) -> None:
    kernel.at(0.5, lambda: kernel.ignores_terminate(4712))
    kernel.at(4, lambda: kernel.dies(4712, How(code=0)))
    operator.asks(1, 1, "scale", workers=1)
    operator.asks(6, 2, "stop")
    serve(kernel, path)
    assert operator.moment(1) == pytest.approx(4)


def test_a_scale_that_another_one_changes_fails(kernel: FakeKernel, log: Log, connected: Connected, path: Path) -> None:
    one, other = connected(), connected()
    kernel.at(0.5, lambda: boots_in(kernel, 1))
    one.asks(1, 1, "scale", workers=6)
    other.asks(1.5, 2, "scale", service="web", workers=3)
    one.asks(9, 3, "stop")
    serve(kernel, path)
    assert one.error(1) == ("failed", "scaled to 3 meanwhile")
    assert other.result(2) == {"service": "web", "workers": 3}


# --- restart


def test_a_restart_is_answered_with_the_pid_of_the_successor(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    operator.asks(1, 1, "restart", service="web", slot=1)
    operator.asks(2, 2, "stop")
    serve(kernel, path)
    assert operator.answers(1) == [
        {"progress": {"ready": 0, "of": 1}},
        {"result": {"service": "web", "slot": 1, "pid": 4713}},
    ]
    assert kernel.sent[0] == (4712, "SIGTERM")


def test_a_restart_of_a_slot_that_backs_off_starts_at_once(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    kernel.at(1, lambda: kernel.on_fork(lambda pid: kernel.dies(pid, KILLED)))
    kernel.at(1, lambda: kernel.dies(4712, KILLED))
    kernel.at(29.9, lambda: kernel.on_fork(kernel.says_ready))
    operator.asks(30, 1, "restart", service="web", slot=1)
    operator.asks(31, 2, "stop")
    serve(kernel, path, backoff_max=1000.0, boot_attempts=99)
    assert operator.moment(1) == pytest.approx(30)


def test_a_restart_of_a_worker_that_starts_is_answered_when_it_serves(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    kernel.at(1, lambda: boots_in(kernel, 2))
    kernel.at(1, lambda: kernel.dies(4712, KILLED))
    operator.asks(2, 1, "restart", service="web", slot=1)
    operator.asks(9, 2, "stop")
    serve(kernel, path)
    assert operator.result(1) == {"service": "web", "slot": 1, "pid": 4713}


def test_a_restart_of_a_slot_that_is_scaled_away_fails(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    kernel.at(1, lambda: kernel.on_fork(lambda pid: None))
    operator.asks(2, 1, "restart", service="web", slot=1)
    operator.asks(3, 2, "scale", workers=1)
    operator.asks(4, 3, "stop")
    serve(kernel, path)
    assert operator.error(1) == ("unknown_slot", "the slot was removed meanwhile")


# --- stop


def test_a_stop_of_all_is_answered_with_the_exit_code_before_the_end(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    kernel.at(0.5, lambda: kernel.ignores_terminate(4711))
    kernel.at(3, lambda: kernel.dies(4711, How(code=0)))
    operator.asks(1, 1, "stop")
    assert serve(kernel, path, "chat") is Exit.OK
    assert operator.answers(1) == [
        {"progress": {"left": 1}},
        {"progress": {"left": 0}},
        {"result": {"code": 0}},
    ]


def test_a_stop_now_kills(kernel: FakeKernel, log: Log, operator: Operator, path: Path) -> None:
    operator.asks(1, 1, "stop", now=True)
    assert serve(kernel, path) is Exit.KILLED
    assert operator.result(1) == {"code": int(Exit.KILLED)}


def test_a_stop_of_one_service_leaves_the_others(kernel: FakeKernel, log: Log, operator: Operator, path: Path) -> None:
    operator.asks(1, 1, "stop", service="web")
    operator.asks(2, 2, "status")
    operator.asks(3, 3, "stop")
    chat = settings(service="chat", depends=("web",), control=str(path))
    tree(kernel, settings(control=str(path)), chat)
    assert operator.result(1) == {"service": "web"}
    assert [service["ready"] for service in operator.result(2)["services"]] == [0, 2]


def test_a_stop_of_the_last_service_is_answered(kernel: FakeKernel, log: Log, operator: Operator, path: Path) -> None:
    operator.asks(1, 1, "stop", service="web")
    assert serve(kernel, path) is Exit.OK
    assert operator.result(1) == {"service": "web"}


def test_a_service_that_is_stopped_before_its_start_leaves_its_address(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    kernel.on_fork(lambda pid: None)
    operator.asks(1, 1, "stop", service="chat")
    operator.asks(2, 2, "status", service="chat")
    operator.asks(3, 3, "stop")
    tree(kernel, settings(control=str(path)), settings(service="chat", depends=("web",), control=str(path)))
    assert operator.result(1) == {"service": "chat"}
    assert operator.result(2)["services"][0]["addresses"] == []


def test_requests_that_wait_are_refused_at_the_end(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    kernel.at(1, lambda: kernel.on_fork(lambda pid: None))
    operator.asks(2, 1, "restart", service="web", slot=1)
    operator.asks(3, 2, "stop")
    serve(kernel, path)
    assert operator.error(1)[0] == "stopping"


# --- upgrade


def test_an_upgrade_that_is_impossible_fails_with_the_reason(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    operator.asks(1, 1, "upgrade")
    operator.asks(2, 2, "stop")
    serve(kernel, path)
    code, reason = operator.error(1)
    assert code == "failed"
    assert "cannot" in reason or "not" in reason


def test_an_upgrade_before_all_serve_fails(kernel: FakeKernel, log: Log, operator: Operator, path: Path) -> None:
    kernel.on_fork(lambda pid: None)
    operator.asks(1, 1, "upgrade")
    operator.asks(2, 2, "stop")
    serve(kernel, path)
    assert operator.error(1) == ("failed", "not up")


# --- log level


def levels(kernel: FakeKernel, pid: int) -> list[int]:
    """Return the levels that a worker was told, in order."""
    return [message.level for message in kernel.told(pid) if isinstance(message, LogLevel)]


def test_a_log_level_is_that_of_the_supervisor_and_of_all_workers(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    operator.asks(1, 1, "loglevel", level="debug")
    kernel.at(2, lambda: told.append(logging.getLogger("hybrid").level))
    told: list[object] = []
    kernel.at(2, lambda: told.extend([levels(kernel, 4711), levels(kernel, 4713)]))
    operator.asks(3, 2, "stop")
    serve(kernel, path, "chat")
    assert operator.result(1) == {"level": "debug", "for": None}
    assert told == [logging.DEBUG, [logging.DEBUG], [logging.DEBUG]]


def test_a_log_level_for_a_time_ends_with_the_configured_ones(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    told: list[object] = []
    operator.asks(1, 1, "loglevel", level="warning", **{"for": 5})
    kernel.at(5.9, lambda: told.append(logging.getLogger("hybrid").level))
    kernel.at(6.1, lambda: told.append(logging.getLogger("hybrid").level))
    kernel.at(6.1, lambda: told.extend([levels(kernel, 4711), levels(kernel, 4713)]))
    operator.asks(7, 2, "stop")
    chat = settings(service="chat", log_level="debug", control=str(path))
    tree(kernel, settings(control=str(path)), chat)
    assert operator.result(1) == {"level": "warning", "for": 5}
    assert told == [
        *(logging.WARNING, logging.INFO),
        [logging.WARNING, logging.INFO],
        [logging.WARNING, logging.DEBUG],
    ]


def test_a_log_level_for_good_ends_one_for_a_time(kernel: FakeKernel, log: Log, operator: Operator, path: Path) -> None:
    told: list[int] = []
    operator.asks(1, 1, "loglevel", level="debug", **{"for": 5})
    operator.asks(2, 2, "loglevel", level="error")
    kernel.at(9, lambda: told.append(logging.getLogger("hybrid").level))
    operator.asks(10, 3, "stop")
    serve(kernel, path)
    assert told == [logging.ERROR]


def test_a_log_level_for_a_time_ends_with_the_one_before(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    told: list[int] = []
    operator.asks(1, 1, "loglevel", level="error")
    operator.asks(2, 2, "loglevel", level="debug", **{"for": 2.5})
    kernel.at(9, lambda: told.append(logging.getLogger("hybrid").level))
    operator.asks(10, 3, "stop")
    serve(kernel, path)
    assert told == [logging.ERROR]


def test_a_worker_that_starts_later_is_told_the_log_level(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    told: list[object] = []
    operator.asks(1, 1, "loglevel", level="debug")
    operator.asks(2, 2, "scale", workers=3)
    kernel.at(3, lambda: told.append(levels(kernel, 4713)))
    operator.asks(4, 3, "stop")
    serve(kernel, path)
    assert told == [[logging.DEBUG]]


@pytest.mark.parametrize("seconds", [2**53, 1e-9])
def test_a_log_level_may_be_for_any_time(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path, seconds: float
) -> None:
    operator.asks(1, 1, "loglevel", level="debug", **{"for": seconds})
    operator.asks(2, 2, "stop")
    assert serve(kernel, path) is Exit.OK
    assert operator.result(1) == {"level": "debug", "for": seconds}


# --- events


def test_a_subscriber_hears_of_deaths_and_of_new_workers(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    operator.asks(1, 1, "subscribe")
    kernel.at(1, lambda: kernel.dies(4712, KILLED))
    operator.asks(3, 2, "stop")
    serve(kernel, path)
    who = {"service": "web", "slot": 1, "generation": 1}
    assert operator.events("death", "ready") == [
        {"event": "death", "pid": 4712, "how": BY_SIGKILL, **who},
        {"event": "ready", "pid": 4713, **who, "reason": "death"},
    ]


def test_a_subscriber_hears_of_reloads_scaling_and_warnings(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    operator.asks(1, 1, "subscribe")
    operator.asks(2, 2, "reload")
    operator.asks(3, 3, "scale", workers=1)
    kernel.at(4, lambda: kernel.on_fork(lambda pid: kernel.says_failed(pid, 3, "no module named shop")))
    operator.asks(5, 4, "reload")
    operator.asks(6, 5, "stop")
    serve(kernel, path)
    assert operator.events("reload", "scale") == [
        {"event": "reload", "service": "web", "outcome": "started", "generation": 2},
        {"event": "reload", "service": "web", "outcome": "complete", "generation": 2},
        {"event": "scale", "service": "web", "workers": 1, "before": 2},
        {"event": "reload", "service": "web", "outcome": "started", "generation": 3},
        {"event": "reload", "service": "web", "outcome": "failed", "generation": 3, "reason": "no module named shop"},
    ]
    assert [event["level"] for event in operator.events("log")] == ["error"]


def test_a_client_that_has_not_subscribed_hears_of_nothing(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    operator.asks(1, 1, "ping")
    kernel.at(2, lambda: kernel.dies(4712, KILLED))
    operator.asks(3, 2, "stop")
    serve(kernel, path)
    assert operator.events() == []


# --- what requests cost


def costs(label: str, *numbers: int) -> LabelsCounted:
    """Return a report of one label: requests, wall, loop and processor time in microseconds."""
    requests, wall, loop, cpu = numbers
    return LabelsCounted((label,), LabelCounts(requests, (0, requests, 0, 0, 0), wall, loop, cpu).numbers)


def test_the_labels_of_all_workers_are_added_and_the_dearest_comes_first(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    kernel.at(1, lambda: kernel.says(4711, costs("cheap", 1, 10, 2, 1)))
    kernel.at(1, lambda: kernel.says(4711, costs("dear", 1, 500_000, 250_000, 125_000)))
    kernel.at(1, lambda: kernel.says(4712, costs("dear", 2, 500_000, 250_000, 125_000)))
    kernel.at(2, lambda: kernel.dies(4712, KILLED))
    operator.asks(3, 1, "labels")
    operator.asks(4, 2, "labels", service="web")
    operator.asks(5, 3, "stop")
    serve(kernel, path)
    rows = operator.result(1)["labels"]
    assert [row["label"] for row in rows] == ["dear", "cheap"]
    assert rows[0] == {
        "service": "web",
        "label": "dear",
        "requests": 3,
        "responses": {"1xx": 0, "2xx": 3, "3xx": 0, "4xx": 0, "5xx": 0},
        "seconds": 1.0,
        "loop_seconds": 0.5,
        "cpu_seconds": 0.25,
    }
    assert operator.result(2)["labels"] == rows


def test_what_a_worker_counted_last_is_read_after_its_death(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    def end() -> None:
        kernel.told(4711)  # a socket that is closed with unread messages is reset
        kernel.says(4711, costs("last", 7, 1, 1, 1))
        kernel.dies(4711, How(code=0))

    kernel.at(1, end)
    operator.asks(3, 1, "labels")
    operator.asks(4, 2, "stop")
    serve(kernel, path)
    assert [(row["label"], row["requests"]) for row in operator.result(1)["labels"]] == [("last", 7)]


def test_a_bad_report_of_labels_is_logged_and_ignored(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    kernel.at(1, lambda: kernel.says(4711, LabelsCounted(("a",), (1, 2))))
    operator.asks(2, 1, "labels")
    operator.asks(3, 2, "stop")
    serve(kernel, path)
    assert operator.result(1) == {"labels": []}
    assert "ignored: counts by label: 1 labels and 2 numbers" in log()
