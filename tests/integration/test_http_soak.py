"""Many requests on few connections that are never closed: the worker's memory does not grow.

HYBRID_TEST_SOAK is the number of requests on each loop; a hundred thousand are intended, the default is a quick check.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.loops import LOOPS
from support.service import resident, serving
from support.steady import Steady

REQUESTS = int(os.environ.get("HYBRID_TEST_SOAK", "20000"))
CONNECTIONS = 8
GROWTH = 1024 * 1024  # bytes; ten bytes a request would show in a hundred thousand
ARGUMENTS = ("--workers", "1", "--max-requests-per-connection", "0")


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
@pytest.mark.parametrize("loop", LOOPS)
def test_memory_stays_flat_over_many_requests(loop: str, interface: str, tmp_path: Path) -> None:
    with serving(f"pressed:{interface}", "--loop", loop, *ARGUMENTS, cwd=tmp_path) as process:
        (worker,) = process.worker_pids()
        ask(process.address, REQUESTS // 5)
        before = resident(worker)
        ask(process.address, REQUESTS - REQUESTS // 5)
        growth = resident(worker) - before
    print(f"{loop} {interface}: {growth / 1024:+.0f} KiB")  # noqa: T201 - read with `pytest -s`
    assert growth < GROWTH


def ask(address: tuple[str, int], requests: int) -> None:
    """Send this many requests, and check that all were answered on the original connections."""
    load = Steady(address, CONNECTIONS, most=requests)
    try:
        load.run()
        assert load.failures == []
        assert (load.answered, load.announced) == (requests, 0)
    finally:
        load.close()
