"""numpy starts threads of OpenBLAS at import: it is preloaded, and computes in all forks."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support.clients import connected
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import serving
from support.wsgi import read_answer, send_request

HAS_POOL = len(os.sched_getaffinity(0)) > 1  # OpenBLAS starts no more threads than there are cores


def computed_by(process: HybridProcess) -> int:
    """Have a worker compute, in several threads; return its pid."""
    with connected(process.address) as sock:
        send_request(sock, "/", "connection: close")
        answer = read_answer(sock)
    assert answer.status == 200, process.stderr
    pid, threads = map(int, answer.body.split())
    assert threads > 1 or not HAS_POOL
    return pid


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
@pytest.mark.parametrize("loop", LOOPS)
def test_numpy_is_preloaded_and_computes_in_threads_after_the_fork(loop: str, interface: str, tmp_path: Path) -> None:
    arguments = ("--workers", "1", "--loop", loop)
    with serving(f"computing:{interface}", *arguments, cwd=tmp_path) as process:
        assert "not preloading" not in process.stderr
        first = computed_by(process)
        os.kill(first, signal.SIGKILL)
        process.wait_for_log(" ready on ", count=2)
        assert computed_by(process) != first


@pytest.mark.parametrize("loop", LOOPS)
def test_a_worker_that_has_computed_becomes_the_zygote_of_workers_that_compute(loop: str, tmp_path: Path) -> None:
    arguments = ("--workers", "1", "--loop", loop, "--refork-after", "2")
    with serving("computing:wsgi", *arguments, cwd=tmp_path) as process:
        before = {computed_by(process) for _ in range(2)}
        process.wait_for_log("refork complete: 1 worker of generation 2")
        assert before
        for _ in range(2):
            computed_by(process)
