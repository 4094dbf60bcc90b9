"""A Dask cluster on this machine: a real scheduler and two workers, as processes without hybrid."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from support.service import APPLICATIONS, eventually
from support.tcp import unused_port

_TAKE_AWAY = """
import sys
from distributed import Client

async def take_away(dask_scheduler):
    (address,) = [one.address for one in dask_scheduler.workers.values() if one.processing]
    await dask_scheduler.remove_worker(address, stimulus_id="test", expected=True, close=False)

with Client(sys.argv[1]) as client:
    client.run_on_scheduler(take_away)
"""


class DaskProcesses:
    """Starts processes of Dask; see `support.dask_processes`."""

    def __init__(self, directory: Path) -> None:
        """They run in a directory, and can import a module with functions for calls."""
        code = directory / "code"
        code.mkdir()
        shutil.copy(APPLICATIONS / "clustered_work.py", code)
        program = Path(__file__).parent / "dask_processes.py"
        with (directory / "dask.log").open("wb") as log:
            self._program = subprocess.Popen(
                [sys.executable, "-P", str(program)],
                cwd=directory,
                env={**os.environ, "PYTHONPATH": str(code), "DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "fork"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def starts(self, what: str, where: object) -> int:
        """Start a `scheduler` on a port or a `worker` of an address; return its pid once it is ready."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(f"{what} {where}\n")
        self._program.stdin.flush()
        pid = int(self._program.stdout.readline())
        assert pid, f"the {what} has not started"
        return pid

    def close(self) -> None:
        """End all of them."""
        self._program.communicate()


class DaskCluster:
    """A scheduler and two workers, of which each runs one call at a time."""

    def __init__(self, made: DaskProcesses) -> None:
        """Start them."""
        self._made = made
        self._workers: list[int] = []
        self._port = unused_port()
        self.address = f"tcp://127.0.0.1:{self._port}"
        self.starts()

    def starts(self) -> None:
        """Start the scheduler and its workers."""
        self._scheduler = self._made.starts("scheduler", self._port)
        self._workers = [self._made.starts("worker", self.address) for _ in range(2)]

    def stops(self) -> None:
        """Kill the scheduler and its workers."""
        for pid in (self._scheduler, *self._workers):
            _kill(pid)

    def kills(self, pid: int) -> None:
        """Kill a worker, and start another one."""
        _kill(pid)
        self.replaces(pid)

    def takes_away(self, pid: int) -> None:
        """Have the scheduler remove the worker that runs something, as if that left in good order; start another."""
        told = subprocess.run([sys.executable, "-P", "-c", _TAKE_AWAY, self.address], capture_output=True, text=True)
        assert told.returncode == 0, told.stderr
        self.kills(pid)

    def replaces(self, pid: int) -> None:
        """Start another worker in place of one that has died."""
        self._workers.remove(pid)
        self._workers.append(self._made.starts("worker", self.address))


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "it is gone")


@contextlib.contextmanager
def dask_cluster(made: DaskProcesses) -> Iterator[DaskCluster]:
    """Run a cluster."""
    cluster = DaskCluster(made)
    try:
        yield cluster
    finally:
        cluster.stops()
