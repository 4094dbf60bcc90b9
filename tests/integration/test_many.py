"""Large numbers: ten thousand connections over four workers, fifty thousand greenlets and tasks in one."""

from __future__ import annotations

import collections
from pathlib import Path

import pytest
from support.clients import connected, read_all
from support.service import UNSTEERED, resident, serving

CONNECTIONS = 10_000
MOST_UNEVEN = 1.3  # connections of the busiest worker / those of the least busy one
ALIVE = 50_000


def test_ten_thousand_connections_are_spread_evenly_over_four_workers(tmp_path: Path) -> None:
    with serving("plain:tell_pid", "--workers", "4", *UNSTEERED, cwd=tmp_path) as process:
        served: collections.Counter[int] = collections.Counter()
        for _ in range(CONNECTIONS):
            with connected(process.address) as sock:
                served[int(read_all(sock))] += 1
        assert set(served) == set(process.worker_pids())
    spread = max(served.values()) / min(served.values())
    print(f"spread {spread:.3f}")  # noqa: T201 - read with `pytest -s`
    assert spread <= MOST_UNEVEN, served


@pytest.mark.parametrize("target", ["blocking:handle", "coroutines:handle"])
def test_fifty_thousand_greenlets_or_tasks_live_in_one_worker(target: str, tmp_path: Path) -> None:
    with serving(target, "--workers", "1", cwd=tmp_path) as process:
        (worker,) = process.worker_pids()
        before = resident(worker)
        with connected(process.address, timeout=60) as sock:
            sock.sendall(b"many %d\n" % ALIVE)
            assert int(read_all(sock)) == ALIVE
        print(f"{target}: {(resident(worker) - before) >> 20} MiB more")  # noqa: T201 - read with `pytest -s`
        assert process.worker_pids() == [worker]
