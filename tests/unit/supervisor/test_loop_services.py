"""The shell with several services over a fake kernel: sockets and channels are real, no process is made."""

from __future__ import annotations

import logging
import socket
from collections.abc import Collection

import pytest
from support.fake_kernel import FakeKernel
from support.shell import Log, NoProgram, settings

from hybrid.supervisor import start
from hybrid.supervisor.core.events import How
from hybrid.supervisor.core.policy import Intensity
from hybrid.supervisor.deployment import Deployment, ServiceSpec
from hybrid.workers.contract.exits import Exit

KILLED = How(signal="SIGKILL")


def run(kernel: FakeKernel, *names: str, **first: object) -> Exit:
    """Be the supervisor of services with one worker each; `first`: settings of the first one."""
    specs = [
        ServiceSpec(settings(service=name, workers=1, **(first if number == 0 else {})), NoProgram())
        for number, name in enumerate(names)
    ]
    return start.run(Deployment.of(*specs, name="all"), kernel, None)


@pytest.fixture
def searches(kernel: FakeKernel) -> list[tuple[float, set[int], set[int]]]:
    """When leftovers were searched, the pids that are none, and the children that lived then."""
    found: list[tuple[float, set[int], set[int]]] = []

    def end_orphans(pids: Collection[int], *, is_bereaved: bool, heirs: Collection[int] = ()) -> None:
        found.append((kernel.now(), set(pids), set(kernel.alive)))

    kernel.end_orphans = end_orphans  # type: ignore[assignment]
    return found


def test_services_live_and_end_together(kernel: FakeKernel, log: Log, caplog: pytest.LogCaptureFixture) -> None:
    kernel.at(60, lambda: kernel.receives("SIGTERM"))
    assert run(kernel, "web", "chat") is Exit.OK
    told = [(record.__dict__.get("service"), record.getMessage()) for record in caplog.records]
    assert ("web", "serving with 1 worker") in told
    assert ("chat", "serving with 1 worker") in told
    assert [name for name, text in told if text == "stopped"] == ["web", "chat"]


def test_a_service_that_ends_closes_its_sockets_and_leaves_the_children_of_others_alone(
    kernel: FakeKernel, log: Log, searches: list[tuple[float, set[int], set[int]]]
) -> None:
    refused: list[int] = []

    def try_it() -> None:
        port = int(log()[0].rpartition(":")[2])
        with socket.socket() as client:
            refused.append(client.connect_ex(("127.0.0.1", port)))

    kernel.at(1, lambda: kernel.dies(min(kernel.alive), KILLED))
    kernel.at(2, lambda: kernel.dies(max(kernel.alive), KILLED))  # its successor: one death too many
    kernel.at(3, try_it)
    kernel.at(9, lambda: kernel.receives("SIGTERM"))
    assert run(kernel, "web", "chat", intensity=Intensity(1, 10.0), on_failure="stop") is Exit.OK
    assert refused == [111]
    assert all(alive <= pids for _, pids, alive in searches), "a child was taken for a leftover"
    assert not any(name == "SIGKILL" for _, name in kernel.sent)


def test_leftovers_are_searched_once_for_all_services_in_a_look(
    kernel: FakeKernel, log: Log, searches: list[tuple[float, set[int], set[int]]]
) -> None:
    kernel.at(30, lambda: kernel.receives("SIGTERM"))
    assert run(kernel, *(f"s{number}" for number in range(20)), stall_threshold=0.01) is Exit.OK
    assert len(searches) < 30 * 5


def test_the_supervisor_of_many_quiet_services_wakes_no_more_often(kernel: FakeKernel, log: Log) -> None:
    logging.getLogger("hybrid").setLevel(logging.WARNING)
    waits: list[float | None] = []
    wait = kernel.wait

    def counting_wait(timeout: float | None) -> list[int] | None:
        waits.append(timeout)
        return wait(timeout)

    kernel.wait = counting_wait  # type: ignore[method-assign]
    kernel.at(100, lambda: kernel.receives("SIGQUIT"))
    assert run(kernel, *(f"s{number}" for number in range(20))) is Exit.KILLED
    assert len(waits) < 1000
