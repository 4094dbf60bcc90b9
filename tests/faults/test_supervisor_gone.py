"""The supervisor is killed or stopped: its workers notice the one and do not mind the other, on every loop."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support.clients import ask, connected, read_all
from support.loops import LOOPS
from support.service import UNSTEERED, assert_free, eventually, is_stopped, serving


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=("blocking:handle", "coroutines:handle"))
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


def test_workers_finish_requests_in_flight_and_end_when_the_supervisor_is_killed(
    target: str, loop: str, tmp_path: Path
) -> None:
    with serving(target, "--workers", "2", "--loop", loop, cwd=tmp_path) as process:
        with connected(process.address) as client:
            client.sendall(b"ask\n")
            assert client.recv(1) == b"?"
            process.signal(signal.SIGKILL)
            eventually(lambda: len(process.survivors()) == 1, "the worker without a connection has ended")
            client.sendall(b"olleh")
            assert read_all(client) == b"hello"
        assert process.wait() == -signal.SIGKILL
        eventually(lambda: not process.survivors(), "both workers have ended")
        assert_free(process)


def test_a_worker_stuck_in_a_handler_ends_when_the_supervisor_is_killed(loop: str, tmp_path: Path) -> None:
    """Neither its loop nor a supervisor can end it: the kernel does, when the grace period is over."""
    arguments = ("--workers", "1", "--loop", loop, "--graceful-timeout", "200ms")
    with serving("blocking:handle", *arguments, cwd=tmp_path) as process, connected(process.address) as client:
        client.sendall(b"spin\n")
        assert client.recv(1) == b"?"
        process.signal(signal.SIGKILL)
        eventually(lambda: not process.survivors(), "the worker has ended")
        process.wait()


@pytest.mark.parametrize("target", ["gated:handle", "gated_import:handle"])
def test_a_worker_that_is_booting_ends_when_the_supervisor_is_killed(target: str, tmp_path: Path, gate: Path) -> None:
    arguments = ("--workers", "2", "--preload", "off")
    with serving(target, *arguments, cwd=tmp_path, ready=False, env={"GATE": str(gate)}) as process:
        process.wait_for_log("at the gate", count=2)
        process.signal(signal.SIGKILL)
        eventually(lambda: not process.survivors(), "the workers have ended")
        process.wait()


def test_workers_serve_while_the_supervisor_is_stopped(loop: str, tmp_path: Path) -> None:
    with serving("coroutines:handle", "--workers", "2", "--loop", loop, *UNSTEERED, cwd=tmp_path) as process:
        workers = set(process.worker_pids())
        stop(process.pid)
        try:
            assert {int(ask(process.address, b"pid\n")) for _ in range(40)} == workers
        finally:
            process.signal(signal.SIGCONT)


@pytest.mark.parametrize(
    ("target", "env"),
    [
        pytest.param("gated_import:handle", {}, id="room-in-the-channel"),
        pytest.param("bad_messages:handle", {"BAD_MESSAGES": "full"}, id="full-channel"),
    ],
)
def test_workers_begin_to_serve_while_the_supervisor_is_stopped(
    target: str, env: dict[str, str], loop: str, tmp_path: Path, gate: Path
) -> None:
    """Their messages wait, in the channel or before it, until the supervisor continues."""
    arguments = ("--workers", "2", "--loop", loop, "--preload", "off")
    env = {**env, "GATE": str(gate)}
    with serving(target, *arguments, cwd=tmp_path, ready=False, env=env) as process:
        process.wait_for_log("at the gate", count=2)
        stop(process.pid)
        opened = os.open(gate, os.O_RDWR)  # does not wait for a reader (fifo(7))
        try:
            process.wait_for_log(r" ready on \w+ \(", count=2)
            assert int(ask(process.address, b"")) > 0
            assert "serving with" not in process.stderr
        finally:
            os.close(opened)
            process.signal(signal.SIGCONT)
        process.wait_for_log("serving with 2 workers")


def stop(pid: int) -> None:
    """Stop a process, and wait until it is."""
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: is_stopped(pid), "it is stopped")
