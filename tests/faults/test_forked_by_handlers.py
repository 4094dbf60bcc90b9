"""A process that a handler forks shares the worker's descriptors, and must not act for the worker."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.clients import ask, connected, read_all
from support.loops import LOOPS
from support.service import serving

# gevent's own os.fork brings its hub along; libuv gives the child an epoll set of its own, and its loop goes on there
ENDING = [loop for loop in LOOPS if loop not in ("gevent", "uvloop")]


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("target", ["forking:terminated", "forking:terminated_by_thread"])
def test_terminating_a_child_does_not_drain_the_worker(target: str, loop: str, tmp_path: Path) -> None:
    with serving(target, "--workers", "1", "--loop", loop, cwd=tmp_path) as process:
        (worker,) = process.worker_pids()
        for _ in range(2):
            assert ask(process.address, b"go") == f"-15 {worker}".encode()
        assert "draining" not in process.stderr


@pytest.mark.parametrize("target", ["forking:closed_in_child", "forking:closed_in_child_sync"])
def test_a_child_that_closes_the_connection_leaves_the_workers_alone(target: str, loop: str, tmp_path: Path) -> None:
    with serving(target, "--workers", "1", "--loop", loop, cwd=tmp_path) as process, connected(process.address) as sock:
        sock.sendall(b"go")
        assert sock.recv(6) == b"forked"
        sock.sendall(b"still here")
        assert read_all(sock) == b"still here"


@pytest.mark.parametrize("loop", ENDING, indirect=True)
def test_a_child_that_returns_to_the_loop_is_ended(loop: str, tmp_path: Path) -> None:
    with serving("forking:returned_in_child", "--workers", "1", "--loop", loop, cwd=tmp_path) as process:
        assert ask(process.address, b"go") == b"1"
        process.wait_for_log("returned to the event loop: ending it")


def test_a_child_that_ends_before_its_parent_goes_on_is_waited_for(loop: str, tmp_path: Path) -> None:
    """For gevent listens to SIGCHLD after its first fork only, which is too late for such a child."""
    arguments = ("--workers", "1", "--loop", loop)
    slow = {"SLOW_PARENT": "1"}
    with (
        serving("forking:closed_in_child_sync", *arguments, cwd=tmp_path, env=slow) as process,
        connected(process.address) as sock,
    ):
        sock.sendall(b"go")
        assert sock.recv(6) == b"forked"
