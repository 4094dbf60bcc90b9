"""Orphans: processes that this process adopted because their parents died.

A zygote's workers arrive this way, and so do leftovers of applications: processes of a pool whose worker was killed,
and background processes. Leftovers are ended: forks of a worker, or processes of `multiprocessing`, that became our
children when a worker died. Workers go on using the leftovers of their zygote, such as a manager that the import
started: these end with the last of the workers. A process in its own session (setsid(2)) is a daemon, and an executed
program has a life of its own: both are reaped, and otherwise left alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Collection
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_CHILDREN = Path("/proc/thread-self/children")  # proc_tid_children(5); a supervisor has one thread
PATIENCE = 1.0
"""Seconds from SIGTERM to SIGKILL for the leftovers of a dead worker."""
_PF_EXITING = 0x4  # include/linux/sched.h: on its way out, or a zombie
_PF_FORKNOEXEC = 0x40  # forked, and no program executed since
# in the command lines of programs that `multiprocessing` and `multiprocess` execute as processes of a pool
_POOLS = (b"--multiprocessing-fork", b"multiprocessing.forkserver", b"multiprocess.forkserver")
_libc = ctypes.CDLL(None, use_errno=True)


class Orphans:
    """Adopts orphans, and tracks those adopted. No method blocks."""

    def __init__(self) -> None:
        self._wanted = False
        self._known: set[int] = set()  # children that existed before, or were forked since
        self._adopted: set[int] = set()  # other children, to be reaped
        self._kept: dict[int, frozenset[int]] = {}  # adopted pid -> children that use it; it ends with the last of them
        self._ending: dict[int, float] = {}  # adopted pid that got SIGTERM -> when SIGKILL follows, monotonic
        self._is_bereaved = False  # one of `_ending` has died, and may have left others

    def adopt(self, wanted: bool) -> None:
        """Start or stop adopting orphaned descendants (PR_SET_CHILD_SUBREAPER, prctl(2))."""
        if wanted == self._wanted:
            return
        self._wanted = wanted
        if wanted:
            self._known = _children()
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0)
        if not wanted:
            self._adopted |= _children() - self._known

    def forked(self, pid: int) -> None:
        """Note a child forked by this process."""
        if self._wanted:
            self._known.add(pid)

    def reap(self, others: Collection[int]) -> None:
        """Reap dead orphans; `others` are workers, which are reaped by pid."""
        if not self._adopted:
            return
        self._adopted.difference_update(others)
        for pid in tuple(self._adopted):
            try:
                is_gone = os.waitpid(pid, os.WNOHANG)[0] != 0
            except ChildProcessError:  # reaped elsewhere
                is_gone = True
            if is_gone:
                self._adopted.remove(pid)
                self._kept.pop(pid, None)
                self._is_bereaved |= self._ending.pop(pid, None) is not None

    def end(self, others: Collection[int], *, is_bereaved: bool, heirs: Collection[int] = ()) -> float | None:
        """Collect the processes adopted since the last call; if a child has died, send SIGTERM to its leftovers.

        `heirs` are children that use the leftovers too: then SIGTERM waits for the death of the last heir.
        Returns the seconds until the next call; None if no leftover is ending.
        """
        if not self._wanted:
            return None
        children = _children()
        self._known = self._known & children | set(others)
        added = children - self._known - self._adopted
        is_bereaved |= self._is_bereaved
        if added and not is_bereaved and any(map(_is_dying, (*others, *self._ending))):
            added = set()  # their parent is known in a moment, when that death is reported
        self._adopted |= added
        now = time.monotonic()
        if is_bereaved:
            self._is_bereaved = False
            self._kept |= dict.fromkeys(filter(_is_leftover, added), frozenset(heirs))
        for pid, users in tuple(self._kept.items()):
            if users.isdisjoint(others):
                del self._kept[pid]
                _send(pid, signal.SIGTERM)
                self._ending[pid] = now + PATIENCE
        for pid, when in self._ending.items():
            if when <= now:
                _send(pid, signal.SIGKILL)
                self._ending[pid] = now + PATIENCE  # uninterruptible, or traced
        return min(self._ending.values()) - now if self._ending else None


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it may run as another user
        os.kill(pid, number)


def _session_and_flags(pid: int) -> tuple[int, int]:
    """Read proc_pid_stat(5). Raises `OSError`, `ValueError`, `IndexError` for a process that is gone."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()  # from "state" on
    return int(fields[3]), int(fields[6])


def _is_dying(pid: int) -> bool:
    """Return True if a process is exiting or dead: its children may be ours before its death is reported.

    waitid(2) cannot tell: it reports a death when all threads are gone, and the children are ours before that.
    """
    try:
        return bool(_session_and_flags(pid)[1] & _PF_EXITING)
    except (OSError, ValueError, IndexError):  # gone
        return False


def _is_leftover(pid: int) -> bool:
    """Return True for a fork of a worker, or a process spawned by `multiprocessing`, that is no daemon."""
    try:
        session, flags = _session_and_flags(pid)
        if session != os.getsid(0):
            return False
        if flags & _PF_FORKNOEXEC:
            return True
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        return any(word in command for word in _POOLS)
    except (OSError, ValueError, IndexError):  # gone
        return False


def _children() -> set[int]:
    """Return the pids of all children; empty if the kernel lacks CONFIG_PROC_CHILDREN."""
    with contextlib.suppress(OSError):
        return set(map(int, _CHILDREN.read_text("ascii").split()))
    return set()
