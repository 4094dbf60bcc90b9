"""The keys of `status`, and their types: programs rely on them. A new key is a new line in a table here.

A key is never removed, and no type is narrowed or widened, without a new version of the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.fake_kernel import FakeKernel
from support.operators import Operator
from support.shell import Log, settings, tree

from hybrid.supervisor.core.events import How
from hybrid.supervisor.listeners.addresses import parse_bind
from hybrid.supervisor.settings import Pool
from hybrid.workers.contract.messages import Readiness

SUPERVISOR = {
    "name": "str",
    "pid": "int",
    "version": "str",
    "python": "str",
    "phase": "str",
    "up": "float",
    "at": "float",
    "since": "float",
    "log_dropped": "int",
    "services": "list",
}
SERVICE = {
    "name": "str",
    "kind": "str",
    "target": "str",
    "phase": "str",
    "loop": "str",
    "interface": "str",
    "generation": "int",
    "addresses": "list",
    "wanted": "int",
    "ready": "int",
    "is_reloading": "bool",
    "depends": "list",
    "last_reload": "dict | null",
    "last_death": "dict | null",
    "failure": "str | null",
    "counts": "dict",
    "is_sidecar": "bool",
    "ready_min": "int",
    "max_connections": "int",
    "backlog": "int",
    "queue": "int | null",
    "queues": "list",
    "workers": "list",
    "past": "list",
    "companions": "list",
    "offload": "dict | null",
}
OFFLOAD = {"pools": "list", "cluster": "dict | null"}
POOL = {
    "pool": "str",
    "workers": "int",
    "has_started": "bool",
    "running": "int",
    "waiting": "int",
    "calls": "dict",
    "seconds": "float",
    "queue_seconds": "float",
}
CLUSTER = {
    "scheduler": "str",
    "connected": "bool | null",
    "since": "int | null",
    "trouble": "str | null",
    "in_flight": "int",
    "fallback": "str",
}
WORKER = {
    "slot": "int",
    "pid": "int | null",
    "state": "str",
    "generation": "int",
    "up": "float | null",
    "restarts": "int",
    "stalled": "float | null",
    "where": "str | null",
    "not_ready": "str | null",
    "queue": "int | null",
    "requests": "int | null",
    "connections": "int | null",
    "accepted": "int | null",
    "adopted": "int | null",
    "lag_p99": "float | null",
    "memory": "int | null",
    "busy": "float | null",
    "requests_per_second": "float | null",
    "in_flight": "int | null",
    "websockets": "int | null",
    "responses": "dict | null",
    "bytes_in": "int | null",
    "bytes_out": "int | null",
    "busy_seconds": "float | null",
    "cpu_seconds": "float | null",
    "durations": "dict | null",
    "log_dropped": "int | null",
}
QUEUE = {"address": "str", "slot": "int | null", "waiting": "int", "limit": "int"}
COMPANION = {"companion": "str", **WORKER}
LAST_RELOAD = {"outcome": "str", "reason": "str", "at": "float", "generation": "int"}
LAST_DEATH = {"how": "str", "at": "float", "slot": "int", "pid": "int", "generation": "int"}


@pytest.fixture
def status(kernel: FakeKernel, log: Log, operator: Operator, path: Path) -> dict[str, Any]:
    """A status with a worker that serves, one that is starting, a slot that waits, and a service that has failed."""
    kernel.on_fork(lambda pid: kernel.says_failed(pid, 3, "bad") if pid == 4714 else kernel.says_ready(pid))
    operator.asks(1, 1, "reload", service="web")
    kernel.at(2, lambda: kernel.on_fork(lambda pid: kernel.dies(pid, How(signal="SIGKILL"))))
    kernel.at(2.1, lambda: kernel.dies(max(kernel.alive), How(signal="SIGKILL")))
    kernel.at(3, lambda: kernel.on_fork(lambda pid: None))
    kernel.at(3.1, lambda: kernel.dies(min(kernel.alive), How(signal="SIGKILL")))
    operator.asks(3.2, 2, "status")
    operator.asks(4, 3, "stop", now=True)
    web = settings(
        workers=3,
        pools=(Pool("cpu", 2, to="tcp://scheduler:8786"), Pool("ml")),
        companions=(("mailer", 1),),
        control=str(path),
        backoff=60.0,
        backoff_max=60.0,
        boot_attempts=9,
    )
    tree(kernel, web, settings(service="bad", workers=1, on_failure="stop", control=str(path)))
    return operator.result(2)


def misfits(found: Mapping[str, Any], table: Mapping[str, str]) -> list[str]:
    """Return what is in one of them only, and the values of another type."""
    keys = [f"{key}: only in {'the status' if key in found else 'the table'}" for key in found.keys() ^ table.keys()]
    return keys + [
        f"{key}: {value!r} is no {table[key]}"
        for key, value in found.items()
        if key in table and ("null" if value is None else type(value).__name__) not in table[key].split(" | ")
    ]


def test_a_status_has_these_keys(status: dict[str, Any]) -> None:
    assert misfits(status, SUPERVISOR) == []


def test_a_service_has_these_keys_in_each_phase(status: dict[str, Any]) -> None:
    assert [service["phase"] for service in status["services"]] == ["serving", "failed"]
    assert [misfits(service, SERVICE) for service in status["services"]] == [[], []]


def test_a_queue_has_these_keys(kernel: FakeKernel, operator: Operator, path: Path, tmp_path: Path) -> None:
    operator.asks(1, 1, "status")
    operator.asks(2, 2, "stop", now=True)
    shared = f"unix:{tmp_path}/shared"
    tree(kernel, settings(workers=2, control=str(path), binds=(parse_bind("127.0.0.1:0"), parse_bind(shared))))
    queues = operator.result(1)["services"][0]["queues"]
    assert [misfits(queue, QUEUE) for queue in queues] == [[], [], []]
    assert [queue["slot"] for queue in queues] == [0, 1, None]
    assert queues[2]["address"] == shared


def test_a_worker_has_these_keys_in_each_state(status: dict[str, Any]) -> None:
    workers = status["services"][0]["workers"]
    assert {worker["state"] for worker in workers} == {"ready", "booting", "waiting"}
    assert [misfits(worker, WORKER) for worker in workers] == [[], [], []]


def test_a_companion_has_these_keys_too(status: dict[str, Any]) -> None:
    companions = status["services"][0]["companions"]
    assert [(row["companion"], row["slot"]) for row in companions] == [("mailer", 0)]
    assert [misfits(row, COMPANION) for row in companions] == [[]]


def test_what_is_offloaded_has_these_keys(status: dict[str, Any]) -> None:
    web, ended = status["services"]
    assert misfits(web["offload"], OFFLOAD) == []
    assert misfits(web["offload"]["cluster"], CLUSTER) == []
    assert [misfits(pool, POOL) for pool in web["offload"]["pools"]] == [[], []]
    assert [(pool["pool"], pool["workers"]) for pool in web["offload"]["pools"]] == [("cpu", 2), ("ml", 1)]
    assert ended["offload"] is None


def test_the_last_reload_and_the_last_death_have_these_keys(status: dict[str, Any]) -> None:
    web = status["services"][0]
    assert misfits(web["last_reload"], LAST_RELOAD) == []
    assert misfits(web["last_death"], LAST_DEATH) == []


def test_a_worker_that_is_not_ready_serves_and_says_why(kernel: FakeKernel, operator: Operator, path: Path) -> None:
    kernel.at(1, lambda: kernel.says(min(kernel.alive), Readiness("no database")))
    operator.asks(2, 1, "status")
    kernel.at(3, lambda: kernel.says(min(kernel.alive), Readiness("x" * 1_000)))
    operator.asks(4, 2, "status")
    kernel.at(5, lambda: kernel.says(min(kernel.alive), Readiness("")))
    operator.asks(6, 3, "status")
    operator.asks(7, 4, "stop", now=True)
    tree(kernel, settings(workers=1, control=str(path)))
    workers = [operator.result(number)["services"][0]["workers"][0] for number in (1, 2, 3)]
    assert [worker["not_ready"] for worker in workers] == ["no database", "x" * 200, None]
    assert [worker["state"] for worker in workers] == ["ready"] * 3
