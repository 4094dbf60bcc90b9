"""Applications with pools of processes or threads: a worker ends in time, and its pool with it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from support.clients import connected
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import assert_free, eventually, serving
from support.wsgi import read_answer, send_request

from hybrid.workers.contract.exits import Exit

GRACE = 20.0  # seconds: far more than the end of a pool takes
SOON = 10.0  # seconds, on a busy machine; it takes a fifth of one
ARGUMENTS = ("--workers", "1", "--graceful-timeout", f"{GRACE}")


def fetch(process: HybridProcess) -> bytes:
    with connected(process.address) as sock:
        send_request(sock, "/", "Connection: close")
        return read_answer(sock).body


def pids(process: HybridProcess) -> tuple[int, int]:
    """Return the pids of a worker and of a process of its pool."""
    worker, pooled = fetch(process).split()
    return int(worker), int(pooled)


def stops_soon(process: HybridProcess) -> None:
    began = time.monotonic()
    assert process.stop() == Exit.OK
    assert time.monotonic() - began < SOON


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_worker_with_a_process_pool_stops_at_once(loop: str, interface: str, tmp_path: Path) -> None:
    with serving(f"pooling:{interface}", "--loop", loop, *ARGUMENTS, cwd=tmp_path) as process:
        worker, pooled = pids(process)
        assert worker != pooled
        stops_soon(process)
        assert process.survivors() == []


def test_so_does_one_with_a_pool_of_threads(tmp_path: Path) -> None:
    with serving("pooling:wsgi", *ARGUMENTS, cwd=tmp_path, env={"POOL": "threads"}) as process:
        pids(process)
        stops_soon(process)


@pytest.mark.parametrize("preload", ["on", "off"])
def test_a_worker_with_a_process_pool_is_reloaded_at_once(preload: str, tmp_path: Path) -> None:
    with serving("pooling:wsgi", "--preload", preload, *ARGUMENTS, cwd=tmp_path) as process:
        old, pooled = pids(process)
        process.signal(signal.SIGHUP)
        process.wait_for_log("worker retired", SOON)
        new, anew = pids(process)
        assert {old, pooled}.isdisjoint({new, anew})
        assert process.stop() == Exit.OK


def test_a_thread_that_never_ends_is_named_and_left(tmp_path: Path) -> None:
    arguments = ("--workers", "1", "--graceful-timeout", "1.5")
    with serving("pooling:stubborn", *arguments, cwd=tmp_path) as process:
        assert fetch(process) == b""
        assert process.stop() == Exit.OK
        assert "leaving without thread 'stubborn'" in process.stderr


# --- a worker that is killed


@pytest.mark.parametrize("loop", LOOPS)
def test_the_pool_of_a_killed_worker_holds_no_listener_and_ends_with_it(loop: str, tmp_path: Path) -> None:
    """A process that a handler forks would keep the address in use when all others are gone."""
    with serving("pooling:wsgi", "--loop", loop, *ARGUMENTS, cwd=tmp_path) as process:
        worker, pooled = pids(process)
        with pytest.raises(AssertionError):
            assert_free(process)  # the supervisor and the worker listen
        listeners = {one.fd for one in psutil.Process(pooled).net_connections("tcp") if one.status == "LISTEN"}
        assert listeners == set()
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: not psutil.pid_exists(pooled), "the process of its pool has ended and was reaped")
        assert pids(process)[0] != worker


@pytest.mark.parametrize("kind", ["pool", "spawn", "forkserver"])
def test_a_pool_of_another_kind_ends_with_its_worker_too_whether_that_is_killed_or_stops(
    kind: str, tmp_path: Path
) -> None:
    with serving("pooling:wsgi", *ARGUMENTS, cwd=tmp_path, env={"POOL": kind}) as process:
        worker, pooled = pids(process)
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: not psutil.pid_exists(pooled), "the process of its pool has ended and was reaped")
        successor, its_pooled = pids(process)
        assert successor != worker
        stops_soon(process)
        assert not psutil.pid_exists(its_pooled)


def test_leftovers_of_a_worker_that_ignore_sigterm_are_killed(tmp_path: Path) -> None:
    """However the worker ends; and the service ends after them."""
    with serving("pooling:left", *ARGUMENTS, cwd=tmp_path) as process:
        for number in (signal.SIGKILL, signal.SIGTERM):
            worker, child = pids(process)
            os.kill(worker, number)
            eventually(lambda: not psutil.pid_exists(child), "it has been killed")  # noqa: B023 - asked at once
        _, child = pids(process)
        assert process.stop() == Exit.OK
        assert not psutil.pid_exists(child)


def test_a_daemon_of_the_application_outlives_its_worker_and_the_service(tmp_path: Path) -> None:
    with serving("pooling:daemon", *ARGUMENTS, cwd=tmp_path) as process:
        worker, daemon = pids(process)
        try:
            os.kill(worker, signal.SIGKILL)
            process.wait_for_log("worker died")
            assert pids(process)[0] != worker
            assert process.stop() == Exit.OK
            assert psutil.pid_exists(daemon)
        finally:
            os.kill(daemon, signal.SIGKILL)
