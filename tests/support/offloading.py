"""A service of `offloading`, the application whose requests offload calls: ask it, and look at its offload workers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support import processes
from support.clients import TIMEOUT, ask
from support.descriptors import links
from support.process import HybridProcess
from support.service import eventually, serving

HELD = 3
"""Descriptors that the supervisor holds for one offload worker: the queue, its channel, memory for its stacks."""


@contextmanager
def offloading(
    tmp_path: Path,
    *arguments: str,
    target: str = "app",
    workers: int = 1,
    loop: str = "epoll",
    more_growth: int = 0,
    **options: Any,
) -> Iterator[HybridProcess]:
    """Serve it with one worker, and so many offload workers once there is a call.

    The supervisor holds `more_growth` descriptors for other pools.
    """
    words = ("--workers", "1", "--offload-workers", str(workers), "--loop", loop, *arguments)
    growth = HELD + 2 * (workers - 1) + more_growth
    with serving(f"offloading:{target}", *words, cwd=tmp_path, growth=growth, **options) as process:
        yield process


def get(process: HybridProcess, target: str, timeout: float = TIMEOUT) -> str:
    """Return the body of the response to a request: the outcome of its call."""
    request = f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    head, _, body = ask(process.address, request.encode(), timeout).partition(b"\r\n\r\n")
    assert b" 200 " in head, head
    return body.decode()


def offload_workers(process: HybridProcess, pool: str = "cpu") -> list[int]:
    """Return the pids of the living offload workers of a pool, oldest first."""
    return [pid for pid in process.worker_pids() if re.fullmatch(rf"web\.{pool}/\d+", processes.name(pid) or "")]


def strength(process: HybridProcess, count: int, *, besides: int = 0, pool: str = "cpu") -> list[int]:
    """Wait until so many offload workers of a pool are ready, none of them `besides`; return their pids."""

    def found() -> list[int] | None:
        pids = offload_workers(process, pool)
        ready = re.findall(rf"web\.{pool}/\d+ gen=\d+ pid=(\d+) ready for offloaded calls", process.stderr)
        return pids if len(pids) == count and besides not in pids and set(map(str, pids)) <= set(ready) else None

    pids = eventually(found, f"{count} offload workers of {pool} are ready")
    assert pids is not None
    return pids


def wait_runs(path: Path) -> int:
    """Wait until the call that waits for a file runs; return the pid of its process."""
    runs = Path(f"{path}.runs")
    eventually(runs.exists, f"the call for {path.name} runs")
    return int(runs.read_text())


def is_gone(pid: int) -> bool:
    """Return True once a process has ended and is reaped, or is about to be."""
    return not processes.is_alive(pid)


def descriptors(pid: int) -> Counter[str]:
    """Return how many descriptors of each kind a process has."""
    return Counter(re.sub(r"[\d\[\]]+", "", link) for link in links(pid).values())


def wait_no_more(before: dict[int, Counter[str]]) -> None:
    """Wait until no process has more descriptors than before."""
    eventually(lambda: all(descriptors(pid) <= kinds for pid, kinds in before.items()), "no descriptor is left")
