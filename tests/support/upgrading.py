"""A service that is upgraded: its pidfile names the current supervisor, which is stopped at the end too.

The new supervisor is no child of the test. It stays in the old one's process group, and writes the same log.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from support.process import DEADLINE, HybridProcess
from support.service import eventually, serving


class Upgrading:
    """The service under its current supervisor."""

    def __init__(self, process: HybridProcess, pidfile: Path) -> None:
        self.process = process
        """The first supervisor."""
        self._pidfile = pidfile

    @property
    def supervisor(self) -> int:
        """Return the pid that the pidfile names."""
        return int(self._pidfile.read_text())

    def upgrade(self, pid: int | None = None) -> int:
        """Send USR2 to the supervisor, wait until another one has replaced it and it is gone; return the new pid."""
        before = self.supervisor if pid is None else pid
        mark = len(self.process.lines)
        os.kill(before, signal.SIGUSR2)
        self.process.wait_for_log(f"upgraded: this supervisor has replaced {before}", since=mark)
        after = self.supervisor
        assert after != before
        eventually(lambda: not self.is_supervising(before), "the old supervisor has ended")
        return after

    def is_supervising(self, pid: int) -> bool:
        """True if a supervisor lives."""
        if pid == self.process.pid:
            return self.process.is_running()
        return is_alive(pid)

    def stop(self) -> None:
        """Stop the supervisor in the pidfile, and wait until no process of the service is left."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(self.supervisor, signal.SIGTERM)
        eventually(lambda: not self.process.survivors(), "all have ended", DEADLINE)


def is_alive(pid: int) -> bool:
    """Return True if the process exists and has not ended."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextmanager
def upgradable(
    target: str, *arguments: str, cwd: Path, pidfile: Path | None = None, executed: bool = False, **options: Any
) -> Iterator[Upgrading]:
    """Serve `target` with a pidfile, as `serving` does; stop the current supervisor at the end.

    An upgrade starts the interpreter with the words of the command. With `executed` the first supervisor starts so too.
    """
    pidfile = pidfile or cwd / "pid"
    with serving(target, "--pidfile", str(pidfile), *arguments, cwd=cwd, executed=executed, **options) as process:
        service = Upgrading(process, pidfile)
        try:
            yield service
            if process.is_running():
                return  # which `serving` stops and looks at
            service.stop()
            assert not pidfile.exists()
        finally:
            if not process.is_running():
                for pid in process.survivors():  # all are in a group of their own
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
