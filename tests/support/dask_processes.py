"""A program that forks a Dask scheduler and workers as it is told: importing Dask takes a second, a fork does not.

Each line of its input is `scheduler PORT`, or `worker ADDRESS`; the answer is the pid of a process that is ready.
Nothing of it is left once the input has ended. Its processes have no hybrid.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import Any

sys.modules["hybrid"] = None  # type: ignore[assignment]  # an import of it fails from here on

from distributed import Scheduler, Worker  # noqa: E402


async def _serve(made: Any, ready: int) -> None:
    async with made as server:
        os.write(ready, b".")
        os.close(ready)
        await server.finished()


async def _be(what: str, where: str, ready: int) -> None:
    if what == "scheduler":
        await _serve(Scheduler(host="127.0.0.1", port=int(where), dashboard=False), ready)
    else:  # it can hold the largest results of the tests
        await _serve(Worker(where, nthreads=1, host="127.0.0.1", dashboard=False, memory_limit="1GB"), ready)


def _forked(what: str, where: str) -> int:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        os.setpgid(0, 0)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            asyncio.run(_be(what, where, write))
        finally:
            os._exit(0)
    os.close(write)
    is_ready = os.read(read, 1)
    os.close(read)
    return pid if is_ready else 0


def main() -> None:
    """Obey until the input ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    pids = []
    for line in sys.stdin:
        pids.append(_forked(*line.split()))
        print(pids[-1], flush=True)  # noqa: T201
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
