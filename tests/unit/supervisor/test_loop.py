"""The shell's life over a fake kernel: no process is made and no time passes, but sockets and channels are real."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest
from support.fake_kernel import FakeKernel
from support.shell import Log, deployment, run

from hybrid.supervisor import start
from hybrid.supervisor.core.events import How
from hybrid.supervisor.listeners.addresses import parse_bind
from hybrid.supervisor.listeners.sockets import Listeners
from hybrid.supervisor.listeners.steering import SteeringError
from hybrid.workers.contract.exits import Exit

KILLED = How(signal="SIGKILL")


def first(kernel: FakeKernel) -> int:
    return min(kernel.alive)


def test_a_life_from_start_to_stop(kernel: FakeKernel, log: Log) -> None:
    kernel.at(60, lambda: kernel.receives("SIGTERM"))
    assert run(kernel) is Exit.OK
    assert log()[0].startswith("listening on 127.0.0.1:")
    assert log()[1:] == [
        "serving with 2 workers",
        "stopping: draining 2 workers (at most 30 s); press Ctrl-C again to end at once",
        "stopped",
    ]
    assert [name for _, name in kernel.sent] == ["SIGTERM", "SIGTERM"]


def test_while_all_serve_it_wakes_less_than_five_times_a_second(kernel: FakeKernel, log: Log) -> None:
    waits: list[float | None] = []
    wait = kernel.wait

    def counting_wait(timeout: float | None) -> list[int]:
        waits.append(timeout)
        return wait(timeout)

    kernel.wait = counting_wait  # type: ignore[method-assign]
    kernel.at(100, lambda: kernel.receives("SIGQUIT"))
    assert run(kernel) is Exit.KILLED
    assert len(waits) < 500


def test_signals_scale_by_one_and_reload_and_others_are_answered(kernel: FakeKernel, log: Log) -> None:
    for second, name in enumerate(("SIGTTIN", "SIGTTOU", "SIGTTOU", "SIGTTOU", "SIGHUP", "SIGUSR1", "SIGTERM")):
        kernel.at(second + 1.0, lambda name=name: kernel.receives(name))
    assert run(kernel) is Exit.OK
    assert log()[2:-2] == [
        "scaling from 2 to 3 workers",
        "scaling from 3 to 2 workers",
        "worker retired",
        "scaling from 2 to 1 worker",
        "worker retired",
        "not scaling to 0: the number of workers is 1 to 1024",
        "reloading: starting generation 2 beside generation 1",
        "generation 2 serves; replacing 1 worker of older ones",
        "reload complete: 1 worker of generation 2",
        "worker retired",
        "nothing to reopen: neither --log-file nor --access-log-file is set",
    ]


def test_the_second_interrupt_kills_draining_workers(kernel: FakeKernel, log: Log) -> None:
    def be_deaf(pid: int) -> None:
        kernel.ignores_terminate(pid)
        kernel.says_ready(pid)

    kernel.on_fork(be_deaf)
    kernel.at(1, lambda: kernel.receives("SIGINT"))
    kernel.at(2, lambda: kernel.receives("SIGINT"))
    assert run(kernel) is Exit.KILLED
    assert kernel.now() < 1010


def test_an_interrupt_and_a_request_to_stop_at_the_same_moment_are_one(kernel: FakeKernel, log: Log) -> None:
    """A process manager sends SIGTERM when it gets Ctrl-C; of signals that are pending the order is not known."""

    def both() -> None:
        kernel.receives("SIGTERM")
        kernel.receives("SIGINT")

    kernel.at(1, both)
    assert run(kernel) is Exit.OK
    assert not any("stopping at once" in line for line in log())


def test_a_target_that_cannot_be_loaded_ends_the_start_in_one_line(kernel: FakeKernel, log: Log) -> None:
    kernel.on_fork(lambda pid: kernel.says_failed(pid, Exit.TARGET, "no module named app"))
    assert run(kernel) is Exit.TARGET
    assert log()[1:] == ["no module named app"]


def test_a_kernel_that_does_not_steer_is_complained_of_once(
    kernel: FakeKernel, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Listeners, slots: tuple[int, ...], datagrams: tuple[int, ...] | None = None) -> None:
        raise SteeringError("the kernel refuses to steer connections: not here")

    monkeypatch.setattr(Listeners, "steer", refuse)
    for second in (1, 2, 3):
        kernel.at(second, lambda: kernel.dies(first(kernel), KILLED))
    kernel.at(9, lambda: kernel.receives("SIGTERM"))
    assert run(kernel) is Exit.OK
    assert sum("refuses to steer" in line for line in log()) == 1


def test_a_port_in_use_ends_the_start_in_one_line(kernel: FakeKernel, log: Log) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run(kernel, binds=(parse_bind(f"127.0.0.1:{port}"),)) is Exit.BIND
    holder = "this process, which has bound it already"
    assert log() == [f"cannot bind 127.0.0.1:{port}: address already in use by {holder}"]


def test_a_pidfile_is_kept_while_we_live(kernel: FakeKernel, log: Log, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    seen: list[str] = []
    kernel.at(1, lambda: seen.append(path.read_text()))
    kernel.at(2, lambda: kernel.receives("SIGTERM"))
    assert run(kernel, pidfile=path) is Exit.OK
    assert seen == [f"{os.getpid()}\n"]
    assert not path.exists()


def test_a_pidfile_that_cannot_be_taken_ends_the_start(kernel: FakeKernel, log: Log, tmp_path: Path) -> None:
    assert run(kernel, pidfile=tmp_path / "missing" / "pid") is Exit.ERROR
    assert "cannot write the pidfile" in log()[0]


def test_a_failure_of_our_own_leaves_no_worker(kernel: FakeKernel, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    kernel.at(1, fail)
    with pytest.raises(ZeroDivisionError):
        run(kernel)
    assert kernel.alive == {}
    assert {name for _, name in kernel.sent} == {"SIGKILL"}


def test_a_supervisor_runs_in_the_main_thread_only() -> None:
    errors: list[str] = []

    def try_it() -> None:
        try:
            start.supervise(deployment())
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join()
    assert "main thread" in errors[0]


def test_the_addresses_of_a_web_application_are_logged_as_links(kernel: FakeKernel, log: Log) -> None:
    kernel.scheme = "https"
    kernel.at(1, lambda: kernel.receives("SIGTERM"))
    assert run(kernel) is Exit.OK
    address = log()[0].removeprefix("listening on ")
    assert log()[1:3] == ["serving with 2 workers", f"reachable at https://{address}"]


@pytest.mark.parametrize("is_pid_one", [False, True])
def test_the_program_for_events_runs_beside_the_workers(kernel: FakeKernel, log: Log, is_pid_one: bool) -> None:
    """Its death is no worker's, and is reaped together with theirs: as PID 1, a second reap would find nothing."""
    if is_pid_one:
        kernel.becomes_pid_one()
    born: list[int] = []

    def bear(pid: int) -> None:
        born.append(pid)
        if len(born) <= 2:
            kernel.says_ready(pid)

    kernel.on_fork(bear)
    kernel.at(1, lambda: kernel.dies(born[2], How(code=3)))
    kernel.at(20, lambda: kernel.receives("SIGTERM"))
    assert run(kernel, on_event=("notify",)) is Exit.OK
    assert log().count("--on-event: it ended with exit code 3") == 1
    assert "--on-event: killed after 10 s" in log(), "the second one, for the other worker"
    assert not [line for line in log() if "died" in line]
    assert kernel.alive == {}
