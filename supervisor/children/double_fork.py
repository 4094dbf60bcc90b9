"""How a zygote's fork becomes a child of the supervisor: the double fork, the adoption, the first message.

    supervisor ── zygote ── intermediate ── worker       the intermediate exits at once,
    supervisor ─┬ zygote                                 and the kernel gives the worker to the supervisor,
                └ worker                                 which is its subreaper (PR_SET_CHILD_SUBREAPER, prctl(2))

`posix` stands in for `os` where gevent patches `os` when the application is imported: its `os.fork` creates a hub, its
`os.close` waits for one.
"""

from __future__ import annotations

import contextlib
import os
import posix
import select
import signal
import time
import warnings
from collections.abc import Iterable

from hybrid.supervisor.children import spawn
from hybrid.workers.contract import log

_ADOPTION = 5.0  # seconds a worker waits to become the supervisor's child; it takes well under a millisecond
_PATIENCE = 5.0  # seconds from the first fork to the worker's first message; fork hooks of libraries run in between


def fork_quietly() -> int:
    """Fork. Raises `OSError` (EAGAIN, ENOMEM).

    Python 3.12 warns if there are other threads. The audit reports those, and a warning turned into an error would
    leave an unknown child.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return posix.fork()


def fork_error(number: int | None) -> str:
    """Return the text of a fork's errno. The log line names the child."""
    return os.strerror(number or 0)


def close_all(descriptors: Iterable[int]) -> None:
    """Close descriptors, also if gevent has patched `os`. Raises `OSError`."""
    for fd in descriptors:
        posix.close(fd)


def await_adoption(parent: int) -> None:
    """Wait until this process is no longer a child of `parent`, a few seconds at most.

    The kernel sends the signal of PR_SET_PDEATHSIG after it has reparented the child (`forget_original_parent`,
    kernel/exit.c). The signal is blocked, so sigtimedwait(2) can wait for it.
    """
    spawn.die_with_parent(signal.SIGCHLD)
    if os.getppid() == parent:
        signal.sigtimedwait((signal.SIGCHLD,), _ADOPTION)


def await_worker(pid: int, news: int) -> str | None:
    """Wait until the worker is confirmed or dead, and reap the intermediate; return why there is no worker, or None."""
    written = b""
    poll = log.unpatched("poll")()
    poll.register(news, select.POLLIN)
    until = time.monotonic() + _PATIENCE
    while poll.poll(max(0, until - time.monotonic()) * 1000):
        piece = os.read(news, 32)
        if not piece:
            _reap(pid)
            return _outcome(written)
        written += piece
    _kill(pid)
    if written and int(written) > 0:
        _kill(int(written))
    _reap(pid)
    return f"the new process was not ready within {_PATIENCE:g} s"


def _outcome(written: bytes) -> str | None:
    """Return why there is no worker, from the output of the intermediate; None if there is, or was, one."""
    if not written:
        return "the process between zygote and worker was killed"
    return None if int(written) > 0 else fork_error(-int(written))


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _reap(pid: int) -> None:
    """Reap an intermediate that is exiting; the kernel did if the application ignores SIGCHLD."""
    with contextlib.suppress(ChildProcessError):
        posix.waitpid(pid, 0)
