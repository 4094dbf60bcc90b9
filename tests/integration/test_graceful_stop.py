"""A stop on every loop: what is in flight or queued is answered; what does not end is ended, with time to clean up."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clients import connected, read_all
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import UNSTEERED, eventually, is_stopped, serving

from hybrid.workers.contract.exits import Exit

QUEUED = 40


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=("blocking:handle", "coroutines:handle"))
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextlib.contextmanager
def several(address: tuple[str, int], count: int) -> Iterator[list[socket.socket]]:
    """Give that many connections that the kernel has completed."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(connected(address)) for _ in range(count)]


def begin_stop(process: HybridProcess) -> None:
    """Ask for a graceful stop, and wait until each worker has taken note of it."""
    count = len(process.worker_pids())
    process.signal(signal.SIGTERM)
    process.wait_for_log(r"draining \d+ connections", count=count)


def test_handlers_in_flight_finish_and_are_answered(target: str, loop: str, tmp_path: Path) -> None:
    with serving(target, "--workers", "2", "--loop", loop, *UNSTEERED, cwd=tmp_path) as process:
        with several(process.address, 10) as clients:
            for client in clients:
                client.sendall(b"ask\n")
                assert client.recv(1) == b"?"
            begin_stop(process)
            for client in clients:
                client.sendall(b"olleh")
                assert read_all(client) == b"hello"
        assert process.wait() == Exit.OK


def test_connections_queued_at_the_stop_are_answered(target: str, loop: str, tmp_path: Path) -> None:
    """The worker is stopped while they arrive, and so has accepted none of them when it is told to drain."""
    with serving(target, "--workers", "1", "--loop", loop, cwd=tmp_path) as process:
        (worker,) = process.worker_pids()
        os.kill(worker, signal.SIGSTOP)
        eventually(lambda: is_stopped(worker), "the worker is stopped")
        with several(process.address, QUEUED) as clients:
            process.signal(signal.SIGTERM)
            process.wait_for_log("stopping: draining 1 worker")
            os.kill(worker, signal.SIGCONT)
            for client in clients:
                client.sendall(b"pid\n")
                assert int(read_all(client)) == worker
        assert process.wait() == Exit.OK


def test_after_the_deadline_handlers_are_ended_and_clean_up(target: str, loop: str, tmp_path: Path) -> None:
    """The worker ends them a little before its own end is enforced: nothing has to be killed."""
    arguments = ("--workers", "1", "--loop", loop, "--graceful-timeout", "1")
    with serving(target, *arguments, cwd=tmp_path) as process:
        with several(process.address, 3) as clients:
            for client in clients:
                client.sendall(b"wait\n")
                assert client.recv(1) == b"?"
            begin_stop(process)
            for client in clients:
                assert client.recv(1) == b""
        assert process.wait() == Exit.OK
        process.wait_for_log("3 connections did not end within the grace period; ending them")
    cause = "ended by GreenletExit" if target.startswith("blocking") else "ended by CancelledError"
    assert sorted((tmp_path / "notes").read_text().splitlines()) == [cause] * 3 + ["finally"] * 3


def test_a_worker_that_does_not_react_is_killed_and_the_exit_code_shows_it(loop: str, tmp_path: Path) -> None:
    arguments = ("--workers", "1", "--loop", loop, "--graceful-timeout", "500ms")
    with serving("blocking:handle", *arguments, cwd=tmp_path) as process:
        with connected(process.address) as client:
            client.sendall(b"spin\n")
            assert client.recv(1) == b"?"
            process.signal(signal.SIGTERM)
            assert process.wait() == Exit.KILLED
        assert "worker still not drained after 0.5 s: killing it" in process.stderr
