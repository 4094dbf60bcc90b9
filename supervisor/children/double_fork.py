"""How a zygote's fork becomes the supervisor's child: the double fork, the adoption, the first message.

    supervisor ── zygote ── intermediate ── worker       the intermediate ends at once,
    supervisor ─┬ zygote                                 and the kernel gives the worker to the supervisor,
                └ worker                                 which is its subreaper (PR_SET_CHILD_SUBREAPER, prctl(2))

`posix` and not `os` for what gevent replaces when the application is imported: its `os.fork` makes a hub, its
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

    Python 3.12 warns where there are other threads. That is for the audit to say, and a warning that is made an error
    would leave an unknown child.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return posix.fork()


def why_not_forked(number: int | None) -> str:
    """Return why a fork failed with this error number. The log line names the child that was to be forked."""
    return os.strerror(number or 0)


def close_all(descriptors: Iterable[int]) -> None:
    """Close descriptors, also where gevent has patched `os`. Raises `OSError`."""
    for fd in descriptors:
        posix.close(fd)


def await_adoption(parent: int) -> None:
    """Wait until this process is no more a child of `parent`, a few seconds at most.

    The kernel sends the signal of PR_SET_PDEATHSIG when it has given the child away (`forget_original_parent`,
    kernel/exit.c). It is blocked, and so can be waited for.
    """
    spawn.die_with_parent(signal.SIGCHLD)
    if os.getppid() == parent:
        signal.sigtimedwait((signal.SIGCHLD,), _ADOPTION)


def await_worker(pid: int, news: int) -> str | None:
    """Wait for the worker's birth or death and reap the intermediate; return why there is no worker, if so."""
    said = b""
    poll = log.unpatched("poll")()
    poll.register(news, select.POLLIN)
    until = time.monotonic() + _PATIENCE
    while poll.poll(max(0, until - time.monotonic()) * 1000):
        piece = os.read(news, 32)
        if not piece:
            _reap(pid)
            return _outcome(said)
        said += piece
    _kill(pid)
    if said and int(said) > 0:
        _kill(int(said))
    _reap(pid)
    return f"the new process was not there within {_PATIENCE:g} s"


def _outcome(said: bytes) -> str | None:
    """Return what the word of an intermediate means: None if there is, or was, a worker."""
    if not said:
        return "the process between zygote and worker was killed"
    return None if int(said) > 0 else why_not_forked(-int(said))


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _reap(pid: int) -> None:
    """Reap an intermediate that is ending; nothing is left of it if the application has SIGCHLD ignored."""
    with contextlib.suppress(ChildProcessError):
        posix.waitpid(pid, 0)
