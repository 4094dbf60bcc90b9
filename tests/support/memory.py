"""How much memory a worker takes while something happens."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from support.process import HybridProcess
from support.service import resident


class Peak:
    """The most bytes that a worker had more than at the start."""

    growth = 0


@contextmanager
def memory_of(process: HybridProcess) -> Iterator[Peak]:
    """Watch the memory of the only worker while the block runs."""
    (worker,) = process.worker_pids()
    peak = Peak()
    before = resident(worker)
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            peak.growth = max(peak.growth, resident(worker) - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()
        if os.environ.get("HYBRID_TEST_BODY_MIB"):
            print(f"{before / 2**20:.1f} MiB, at most {peak.growth / 2**20:.1f} MiB more")  # noqa: T201 - the figure
