"""A configuration that is read again by a running supervisor, over a fake kernel."""

from __future__ import annotations

import dataclasses
import logging
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from support.fake_kernel import FakeKernel
from support.operators import Operator
from support.shell import Log, NoProgram, settings, tree

from hybrid.supervisor.core.events import How
from hybrid.supervisor.deployment import CannotReread, Deployment, ServiceSpec
from hybrid.supervisor.listeners.addresses import UnixBind, parse_bind
from hybrid.supervisor.settings import Settings
from hybrid.workers.contract.exits import Exit

Connected = Callable[[], Operator]


class Files:
    """The configuration: what it is at the start, and what it becomes."""

    def __init__(self, *services: Settings) -> None:
        self.before = services
        self.services = services
        self.fault: str | None = None

    def reread(self) -> Deployment:
        if self.fault is not None:
            raise CannotReread(self.fault)
        specs = tuple(ServiceSpec(one, NoProgram(), f"{one.service}:anew") for one in self.services)
        return Deployment(specs, "shop", self.reread)

    def becomes(self, *services: Settings) -> None:
        """Have other services in the file."""
        self.services = services

    def serve(self, kernel: FakeKernel) -> Exit:
        """Be the supervisor of the services as they are at the start."""
        return tree(kernel, *self.before, reread=self.reread)


def told(log: Log, *beginnings: str) -> list[str]:
    """Return the lines of the log that begin so."""
    return [line for line in log() if line.startswith(beginnings)]


@pytest.fixture
def web(path: Path) -> Settings:
    """The service `web`."""
    return settings(service="web", control=str(path))


@pytest.fixture
def chat(path: Path) -> Settings:
    """The service `chat`."""
    return settings(service="chat", control=str(path))


@pytest.fixture
def bind(tmp_path: Path) -> UnixBind:
    """An address that nobody else uses."""
    return UnixBind(str(tmp_path / "socket"))


def but(service: Settings, /, **fields: object) -> Settings:
    """Return settings with other values."""
    return dataclasses.replace(service, **fields)  # type: ignore[arg-type]


def statuses(operator: Operator, number: int) -> dict[str, tuple[str, int]]:
    """Return the phase and the ready workers of each service of a status."""
    return {one["name"]: (one["phase"], one["ready"]) for one in operator.result(number)["services"]}


def test_the_number_of_workers_is_applied_and_all_reload(
    kernel: FakeKernel, log: Log, operator: Operator, web: Settings
) -> None:
    files = Files(web)
    files.becomes(but(web, workers=3))
    kernel.at(1, lambda: kernel.receives("SIGHUP"))
    operator.asks(2, 1, "status")
    operator.asks(3, 2, "stop")
    files.serve(kernel)
    (service,) = operator.result(1)["services"]
    assert (service["wanted"], service["generation"], service["target"]) == (3, 2, "web:anew")


def test_a_number_of_workers_that_an_operator_has_set_stays_unless_the_file_changes_its_own(
    kernel: FakeKernel, log: Log, operator: Operator, web: Settings
) -> None:
    files = Files(web)
    operator.asks(1, 1, "scale", workers=4)
    kernel.at(2, lambda: kernel.receives("SIGHUP"))
    operator.asks(3, 2, "status")
    kernel.at(4, lambda: files.becomes(but(web, workers=1)))
    operator.asks(5, 3, "reload")
    operator.asks(6, 4, "status")
    operator.asks(7, 5, "stop")
    files.serve(kernel)
    assert [operator.result(number)["services"][0]["wanted"] for number in (2, 4)] == [4, 1]


def test_a_service_that_waits_starts_with_the_new_number_of_workers(
    kernel: FakeKernel, log: Log, operator: Operator, web: Settings, chat: Settings
) -> None:
    chat = but(chat, depends=("web",))
    files = Files(web, chat)
    kernel.on_fork(lambda pid: kernel.at(5, lambda: kernel.says_ready(pid)))
    files.becomes(web, but(chat, workers=4))
    kernel.at(1, lambda: kernel.receives("SIGHUP"))
    operator.asks(30, 1, "status")
    operator.asks(31, 2, "stop", now=True)
    files.serve(kernel)
    assert statuses(operator, 1)["chat"] == ("serving", 4)


def test_a_limit_applies_from_now_on(kernel: FakeKernel, log: Log, web: Settings) -> None:
    files = Files(web)
    files.becomes(but(web, graceful_timeout=3.0))
    kernel.at(1, lambda: kernel.receives("SIGHUP"))
    kernel.at(2, lambda: kernel.receives("SIGTERM"))
    files.serve(kernel)
    assert told(log, "stopping") == ["stopping: draining 2 workers (at most 3 s); press Ctrl-C again to end at once"]


def test_what_needs_an_upgrade_is_named_and_stays_as_it_was(
    kernel: FakeKernel, log: Log, operator: Operator, web: Settings, path: Path
) -> None:
    files = Files(web)
    files.becomes(but(web, binds=(parse_bind("127.0.0.1:1"),), backlog=7, control="off"))
    kernel.at(1, lambda: kernel.receives("SIGHUP"))
    operator.asks(2, 1, "reload")
    operator.asks(3, 2, "stop")
    files.serve(kernel)
    end = "an upgrade (USR2, or hybrid upgrade) applies that"
    lines = [f"the configuration has changed in {keys}: {end}" for keys in ("control", "bind, backlog")]
    assert told(log, "the configuration") == [*lines, *lines]


def test_what_a_supervisor_has_once_is_named_once(kernel: FakeKernel, log: Log, web: Settings, chat: Settings) -> None:
    files = Files(web, chat)
    files.becomes(but(web, on_event=("true",), backlog=7), but(chat, on_event=("true",)))
    kernel.at(1, lambda: kernel.receives("SIGHUP"))
    kernel.at(2, lambda: kernel.receives("SIGTERM"))
    files.serve(kernel)
    lines = told(log, "the configuration")
    assert [line.split(":")[0].removeprefix("the configuration has changed in ") for line in lines] == [
        "on_event",
        "backlog",
    ]


def test_an_application_that_becomes_a_program_goes_on_until_an_upgrade(
    kernel: FakeKernel, log: Log, operator: Operator, web: Settings
) -> None:
    files = Files(web)
    files.becomes(but(web, command=("sleep", "9"), workers=1))
    operator.asks(1, 1, "reload")
    operator.asks(2, 2, "status")
    operator.asks(3, 3, "stop")
    files.serve(kernel)
    (service,) = operator.result(2)["services"]
    assert (service["kind"], service["target"], service["ready"]) == ("application", "web:app", 2)
    assert "in target, command: an upgrade" in told(log, "the configuration")[0]


def test_a_service_is_added(kernel: FakeKernel, log: Log, operator: Operator, web: Settings, chat: Settings) -> None:
    files = Files(web)
    files.becomes(web, but(chat, depends=("web",)))
    operator.asks(0.5, 1, "subscribe")
    operator.asks(1, 2, "reload")
    operator.asks(2, 3, "status")
    operator.asks(3, 4, "stop")
    files.serve(kernel)
    assert operator.result(2) == {"services": {"web": {"generation": 2}}}
    assert statuses(operator, 3) == {"web": ("serving", 2), "chat": ("serving", 2)}
    assert operator.events("service") == [{"event": "service", "service": "chat", "change": "added"}]


def test_a_service_is_removed_and_its_address_is_free_then(
    kernel: FakeKernel, log: Log, operator: Operator, web: Settings, chat: Settings, bind: UnixBind
) -> None:
    files = Files(web, but(chat, binds=(bind,)))
    kernel.at(1, lambda: files.becomes(web))
    operator.asks(2, 1, "reload")
    operator.asks(3, 2, "status")
    kernel.at(4, lambda: files.becomes(web, but(chat, service="talk", binds=(bind,))))
    operator.asks(5, 3, "reload")
    operator.asks(6, 4, "status")
    operator.asks(7, 5, "stop")
    files.serve(kernel)
    assert statuses(operator, 2) == {"web": ("serving", 2)}
    assert statuses(operator, 4) == {"web": ("serving", 2), "talk": ("serving", 2)}


def test_a_service_that_has_not_started_is_removed_with_its_sockets(
    kernel: FakeKernel, log: Log, operator: Operator, web: Settings, chat: Settings, bind: UnixBind
) -> None:
    chat = but(chat, depends=("web",), binds=(bind,))
    kernel.on_fork(lambda pid: None)
    files = Files(web, chat)
    kernel.at(1, lambda: files.becomes(web))
    operator.asks(2, 1, "reload")
    kernel.at(3, lambda: found.append(Path(bind.path).exists()))
    found: list[bool] = []
    operator.asks(4, 2, "stop")
    files.serve(kernel)
    assert found == [False]


def test_all_services_are_replaced_by_another_one(
    kernel: FakeKernel, log: Log, operator: Operator, web: Settings, chat: Settings
) -> None:
    files = Files(web)
    files.becomes(chat)
    operator.asks(1, 1, "reload")
    operator.asks(2, 2, "status")
    operator.asks(3, 3, "stop")
    files.serve(kernel)
    assert statuses(operator, 2) == {"chat": ("serving", 2)}


@pytest.mark.parametrize("way", ["control", "signal"])
def test_a_file_with_a_fault_changes_nothing(
    kernel: FakeKernel, log: Log, operator: Operator, web: Settings, way: str
) -> None:
    files = Files(web)
    files.fault = "hybrid.toml:2:1: unknown key 'wrokers'"
    if way == "control":
        operator.asks(1, 1, "reload")
    else:
        kernel.at(1, lambda: kernel.receives("SIGHUP"))
    operator.asks(2, 2, "status")
    operator.asks(3, 3, "stop")
    files.serve(kernel)
    if way == "control":
        assert operator.error(1) == ("failed", f"everything goes on as it was: {files.fault}")
    else:
        assert told(log, "not reloading") == [f"not reloading, everything goes on as it was: {files.fault}"]
    assert operator.result(2)["services"][0]["generation"] == 1


def test_an_added_service_whose_address_is_in_use_changes_nothing(
    kernel: FakeKernel, log: Log, operator: Operator, web: Settings, chat: Settings, bind: UnixBind
) -> None:
    files = Files(web)
    more = but(chat, service="more", binds=(bind,))
    found: list[bool] = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        clash = but(chat, binds=(parse_bind(f"127.0.0.1:{taken.getsockname()[1]}"),))
        files.becomes(but(web, workers=3), more, clash)
        operator.asks(1, 1, "reload")
        kernel.at(2, lambda: found.append(Path(bind.path).exists()))
        operator.asks(3, 2, "status")
        operator.asks(4, 3, "stop")
        files.serve(kernel)
    assert found == [False]
    code, reason = operator.error(1)
    assert code == "failed"
    assert reason.startswith("everything goes on as it was: service chat: cannot bind 127.0.0.1:")
    assert statuses(operator, 2) == {"web": ("serving", 2)}


def test_a_service_under_another_name_at_the_same_address_changes_nothing(
    kernel: FakeKernel, log: Log, operator: Operator, web: Settings, bind: UnixBind
) -> None:
    web = but(web, binds=(bind,))
    files = Files(web)
    files.becomes(but(web, service="shop"))
    operator.asks(1, 1, "reload")
    operator.asks(2, 2, "status")
    operator.asks(3, 3, "stop")
    files.serve(kernel)
    assert operator.error(1)[1].startswith("everything goes on as it was: service shop: cannot bind")
    assert statuses(operator, 2) == {"web": ("serving", 2)}


def test_a_service_that_still_stops_is_not_added_beside_itself(
    kernel: FakeKernel, log: Log, operator: Operator, web: Settings, chat: Settings
) -> None:
    files = Files(web, chat)
    kernel.at(0.5, lambda: kernel.ignores_terminate(4713))
    kernel.at(1, lambda: files.becomes(web))
    kernel.at(1, lambda: kernel.receives("SIGHUP"))
    kernel.at(2, lambda: files.becomes(web, chat))
    operator.asks(3, 1, "reload")
    kernel.at(4, lambda: kernel.dies(4713, How(code=0)))
    operator.asks(5, 2, "reload")
    operator.asks(6, 3, "status")
    operator.asks(7, 4, "stop")
    files.serve(kernel)
    reason = "everything goes on as it was: service chat: it is still stopping; reload once it has ended"
    assert operator.error(1) == ("failed", reason)
    assert statuses(operator, 3)["chat"] == ("serving", 2)


def test_a_service_that_has_failed_starts_again(
    kernel: FakeKernel, log: Log, operator: Operator, web: Settings, chat: Settings
) -> None:
    files = Files(web, but(chat, on_failure="stop"))
    kernel.on_fork(lambda pid: kernel.says_failed(pid, 3, "bad") if pid > 4712 else kernel.says_ready(pid))
    kernel.at(1, lambda: kernel.on_fork(kernel.says_ready))
    operator.asks(2, 1, "reload")
    operator.asks(3, 2, "status")
    operator.asks(4, 3, "stop")
    files.serve(kernel)
    assert statuses(operator, 2) == {"web": ("serving", 2), "chat": ("serving", 2)}


def test_a_service_that_has_failed_and_cannot_listen_is_left_as_it_is(
    kernel: FakeKernel, log: Log, operator: Operator, web: Settings, chat: Settings, bind: UnixBind
) -> None:
    files = Files(web, but(chat, on_failure="stop", binds=(bind,)))
    kernel.on_fork(lambda pid: kernel.says_failed(pid, 3, "bad") if pid > 4712 else kernel.says_ready(pid))
    kernel.at(1, lambda: kernel.on_fork(kernel.says_ready))
    kernel.at(1, Path(bind.path).touch)  # no socket, so it is not replaced
    operator.asks(2, 1, "reload")
    operator.asks(3, 2, "status")
    operator.asks(4, 3, "stop")
    files.serve(kernel)
    assert operator.result(1) == {"services": {"web": {"generation": 2}}}
    assert statuses(operator, 2) == {"web": ("serving", 2), "chat": ("failed", 0)}
    assert told(log, "cannot start again")


def test_while_the_supervisor_stops_the_file_is_not_read(
    kernel: FakeKernel, log: Log, operator: Operator, web: Settings, chat: Settings
) -> None:
    files = Files(web)
    files.becomes(web, chat)
    kernel.at(0.5, lambda: kernel.ignores_terminate(4711))
    kernel.at(1, lambda: kernel.receives("SIGTERM"))
    kernel.at(2, lambda: kernel.receives("SIGHUP"))
    files.serve(kernel)
    assert told(log, "stopping: not", "added") == ["stopping: not reloading"]


def test_the_log_level_of_the_file_is_that_of_the_supervisor(
    kernel: FakeKernel, log: Log, operator: Operator, web: Settings
) -> None:
    files = Files(web)
    seen: list[int] = []
    files.becomes(but(web, log_level="warning"))
    kernel.at(1, lambda: kernel.receives("SIGHUP"))
    kernel.at(2, lambda: seen.append(logging.getLogger("hybrid").level))
    operator.asks(3, 1, "stop")
    files.serve(kernel)
    assert seen == [logging.WARNING]


def test_the_log_level_of_an_operator_outlives_the_file(
    kernel: FakeKernel, log: Log, operator: Operator, web: Settings
) -> None:
    files = Files(web)
    seen: list[int] = []
    files.becomes(but(web, log_level="warning"))
    operator.asks(1, 1, "loglevel", level="debug", **{"for": 5})
    kernel.at(2, lambda: kernel.receives("SIGHUP"))
    kernel.at(3, lambda: seen.append(logging.getLogger("hybrid").level))
    kernel.at(7, lambda: seen.append(logging.getLogger("hybrid").level))
    operator.asks(8, 2, "stop")
    files.serve(kernel)
    assert seen == [logging.DEBUG, logging.WARNING]
