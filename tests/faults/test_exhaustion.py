"""Exhausted resources: descriptors of a worker, readers of the log."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.clients import ask, connected, read_all
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import eventually, serving

from hybrid.workers.contract.exits import Exit

LIMIT = 48  # descriptors a process may have
TOO_MANY = 70  # connections
HYBRID = (sys.executable, "-P", "-m", "hybrid")


@pytest.mark.parametrize("target", ["blocking:handle", "coroutines:handle"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_worker_without_descriptors_rests_says_so_once_and_resumes(target: str, loop: str, tmp_path: Path) -> None:
    executable = ["prlimit", f"--nofile={LIMIT}:{LIMIT}", "--", *HYBRID]
    arguments = ("--workers", "1", "--loop", loop)
    with serving(target, *arguments, cwd=tmp_path, executable=executable) as process:
        worker = psutil.Process(process.worker_pids()[0])
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connected(process.address)) for _ in range(TOO_MANY)]
            process.wait_for_log(r"ERROR .*cannot accept: .* \d+ connections are open")
            busy = sum(worker.cpu_times()[:2])
            clients[0].sendall(b"ask\n")  # accepted connections are served
            assert clients[0].recv(1) == b"?"
            for client in clients[1:]:
                client.sendall(b"pid\n")
                assert int(read_all(client)) == worker.pid
                client.close()
            assert sum(worker.cpu_times()[:2]) - busy < 0.5
        assert int(ask(process.address, b"pid\n")) == worker.pid
        process.wait_for_log("accepting connections again")
        records = [line for line in process.lines if "cannot accept" in line or "accepting connections" in line]
        assert len(records) <= 4, records  # it may run out again while the queue empties; not once for each try


# --- a log without a reader


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short one: the path of a UNIX socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="hybrid") as name:
        yield Path(name)


def is_served(path: Path) -> int:
    """Return the pid of the worker that responds at a UNIX socket; 0 if there is none."""
    try:
        return int(ask(str(path), b"") or 0)
    except OSError:
        return 0


def assert_supervised(process: HybridProcess, path: Path) -> None:
    """Check that a killed worker is replaced, repeatedly, and that a stop is obeyed."""
    for _ in range(3):
        worker = eventually(lambda: is_served(path), "it serves")
        os.kill(worker, signal.SIGKILL)
        eventually(lambda worker=worker: is_served(path) not in (0, worker), "a successor serves")  # type: ignore[misc]
    assert process.stop() == Exit.OK


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "<&- >&- 2>&-"])
def test_a_supervisor_that_cannot_write_its_log_supervises(redirection: str, directory: Path) -> None:
    path = directory / "a.sock"
    executable = ["bash", "-c", f'exec "$@" {redirection}', "sh", *HYBRID]
    arguments = ("--bind", f"unix:{path}", "--workers", "1", "--backoff", "10ms")
    with serving("plain:tell_pid", *arguments, cwd=directory, ready=False, executable=executable) as process:
        assert_supervised(process, path)


def test_a_supervisor_whose_log_has_no_reader_supervises(directory: Path) -> None:
    """Its stderr is a pipe that is full from the beginning."""
    path = directory / "a.sock"
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, b"x" * 4096)
        os.set_blocking(writer, True)
        executable = ["bash", "-c", f'exec "$@" 2>&{writer} {writer}>&-', "sh", *HYBRID]
        arguments = ("--bind", f"unix:{path}", "--workers", "1", "--backoff", "10ms")
        options = {"executable": executable, "pass_fds": (writer,)}
        with serving("plain:tell_pid", *arguments, cwd=directory, ready=False, **options) as process:
            assert_supervised(process, path)
    finally:
        os.close(reader)
        os.close(writer)


def test_descriptor_2_never_becomes_a_connection(directory: Path) -> None:
    """Started without standard streams, the lowest numbers are free; the log must not be sent to a client."""
    path = directory / "a.sock"
    executable = ["bash", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *HYBRID]
    arguments = ("--bind", f"unix:{path}", "--workers", "1", "--log-level", "debug")
    with serving("blocking:handle", *arguments, cwd=directory, ready=False, executable=executable) as process:
        eventually(path.exists, "it listens")
        (worker,) = eventually(process.worker_pids, "it has a worker")
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connected(str(path))) for _ in range(5)]
            for client in clients:
                client.sendall(b"ask\n")
                assert client.recv(1) == b"?"
            ask(str(path), b"fail\n")
            for fd in range(3):
                assert not os.readlink(f"/proc/{worker}/fd/{fd}").startswith("socket:")  # noqa: PTH115
            for client in clients:
                client.sendall(b"olleh")
                assert read_all(client) == b"hello"
