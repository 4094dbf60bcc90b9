"""Orphans: children of this process that it has not forked, because their parents died while it wanted such.

A zygote's workers come this way, and so may whatever applications leave behind at that moment. Nobody else would reap
those.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Collection
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_CHILDREN = Path("/proc/thread-self/children")  # proc_tid_children(5); a supervisor has one thread
_libc = ctypes.CDLL(None, use_errno=True)


class Orphans:
    """The adoption of orphans, and those that have been adopted. No method blocks."""

    def __init__(self) -> None:
        self._wanted = False
        self._known: set[int] = set()  # children that were there before, or were forked since
        self._adopted: set[int] = set()  # those that came besides, and are to be reaped

    def adopt(self, wanted: bool) -> None:
        """Be the parent of descendants whose own parent dies, or no longer (PR_SET_CHILD_SUBREAPER, prctl(2))."""
        if wanted == self._wanted:
            return
        self._wanted = wanted
        if wanted:
            self._known = _children()
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0)
        if not wanted:
            self._adopted |= _children() - self._known

    def forked(self, pid: int) -> None:
        """Note a child that we have forked."""
        if self._wanted:
            self._known.add(pid)

    def reap(self, others: Collection[int]) -> None:
        """Reap those that have died; `others` are workers, and somebody asks for them by their pids."""
        if not self._adopted:
            return
        self._adopted.difference_update(others)
        for pid in tuple(self._adopted):
            try:
                is_gone = os.waitpid(pid, os.WNOHANG)[0] != 0
            except ChildProcessError:  # somebody else has reaped it
                is_gone = True
            if is_gone:
                self._adopted.remove(pid)


def _children() -> set[int]:
    """Return the pids of all children; none where the kernel does not tell (CONFIG_PROC_CHILDREN)."""
    with contextlib.suppress(OSError):
        return set(map(int, _CHILDREN.read_text("ascii").split()))
    return set()
