"""Slow clients of a web application: 500 with endless heads, and two that read nothing; others are served."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from support.clients import connected
from support.loops import LOOPS
from support.offenders import Crawlers, Deaf
from support.process import HybridProcess
from support.service import descriptors, eventually, resident, serving
from support.wsgi import read_answer, send_request

CRAWLERS = 500
SECONDS = 1.0  # both time limits
STEP = SECONDS / 4  # interval at which a worker checks its deadlines
LIMITS = ("--workers", "1", "--header-timeout", f"{SECONDS}", "--send-timeout", f"{SECONDS}")
ANSWER = 100 * 2**20  # bytes of a response that is never read
BOUND = ANSWER * 9 // 4  # bytes of memory: the response in one piece, a copy of its unsent part, and little else


def hello(process: HybridProcess) -> int:
    """Send a request as a well-behaved client; return the status."""
    with connected(process.address) as sock:
        send_request(sock, "/hello", "connection: close")
        return read_answer(sock).status


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
@pytest.mark.parametrize("loop", LOOPS)
def test_slow_clients_are_closed_at_their_deadline_and_cost_little(loop: str, interface: str, tmp_path: Path) -> None:
    """One response comes in pieces, which wait for their client; the other in one piece, which the worker keeps."""
    with serving(f"pressed:{interface}", "--loop", loop, *LIMITS, cwd=tmp_path) as process:
        (worker,) = process.worker_pids()
        assert hello(process) == 200
        held, before, peak = descriptors(worker), resident(worker), 0
        with Crawlers(process.address, CRAWLERS) as crawlers, ExitStack() as stack:
            # the worker has read the first byte of each by now; without a request there would be no 408
            assert hello(process) == 200
            first, second = (stack.enter_context(Deaf(process.address, path)) for path in ("/pieces", "/whole"))
            while crawlers or not (first.is_cut and second.is_cut):
                crawlers.crawl(0.05)
                assert hello(process) == 200
                peak = max(peak, resident(worker) - before)
            ends = crawlers.ended
            assert max(first.listen(), second.listen()) < ANSWER
        print(f"{loop} {interface}: {peak >> 20} MiB, {min(ends)[0]:.2f} to {max(ends)[0]:.2f} s")  # noqa: T201
        assert peak < BOUND
        assert {said.partition(b"\r\n")[0] for _, said in ends} == {b"HTTP/1.1 408 Request Timeout"}
        assert min(ends)[0] >= SECONDS - STEP
        eventually(lambda: descriptors(worker) <= held, "nothing is left of them")
        assert "Traceback" not in process.stderr
