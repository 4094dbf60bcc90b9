"""Applications with pools of processes or threads: a worker ends in time, and its pool with it."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from support.clients import connected
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import serving
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


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_worker_with_a_process_pool_stops_at_once(loop: str, interface: str, tmp_path: Path) -> None:
    with serving(f"pooling:{interface}", "--loop", loop, *ARGUMENTS, cwd=tmp_path) as process:
        worker, pooled = pids(process)
        assert worker != pooled
        began = time.monotonic()
        assert process.stop() == Exit.OK
        assert time.monotonic() - began < SOON
        assert process.survivors() == []


@pytest.mark.parametrize("kind", ["pool", "threads", "spawn", "forkserver"])
def test_so_does_one_with_a_pool_of_another_kind(kind: str, tmp_path: Path) -> None:
    with serving("pooling:wsgi", *ARGUMENTS, cwd=tmp_path, env={"POOL": kind}) as process:
        pids(process)
        began = time.monotonic()
        assert process.stop() == Exit.OK
        assert time.monotonic() - began < SOON


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
    arguments = ("--workers", "1", "--graceful-timeout", "0.4")
    with serving("pooling:stubborn", *arguments, cwd=tmp_path) as process:
        assert fetch(process) == b""
        assert process.stop() == Exit.OK
        assert "leaving without thread 'stubborn'" in process.stderr
