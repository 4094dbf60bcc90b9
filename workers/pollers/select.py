"""select(2) as a poller; see `contract` for the clauses. Its lists are kept as sets.

select(2) takes only descriptors below FD_SETSIZE (1,024), and checks all of them in every call.
"""

from __future__ import annotations

import errno
import os
import select

from hybrid.workers.pollers.contract import ERROR, READ, WRITE

FD_SETSIZE = 1024  # glibc's; a larger fd would write past the end of the set, so CPython refuses it


class Poller:
    """`select.select`."""

    def __init__(self) -> None:
        self._masks: dict[int, int] | None = {}  # fd -> mask
        self._readers: set[int] = set()
        self._writers: set[int] = set()

    def add(self, fd: int, mask: int) -> None:
        """Watch `fd`. Raises `FileExistsError`, `OSError` (EBADF; EMFILE for a descriptor of 1,024 or more)."""
        masks = self._open()
        if fd in masks:
            raise FileExistsError(f"file descriptor {fd} is already watched")
        if fd >= FD_SETSIZE:
            raise OSError(errno.EMFILE, f"select(2) cannot watch descriptor {fd}: its limit is {FD_SETSIZE}")
        os.fstat(fd)
        self._set(masks, fd, mask)

    def modify(self, fd: int, mask: int) -> None:
        """Replace the mask of `fd`. Raises `FileNotFoundError`."""
        masks = self._open()
        if fd not in masks:
            raise FileNotFoundError(f"file descriptor {fd} is not watched")
        self._set(masks, fd, mask)

    def remove(self, fd: int) -> None:
        """Stop watching `fd`; never raises."""
        if self._masks is not None and self._masks.pop(fd, None) is not None:
            self._readers.discard(fd)
            self._writers.discard(fd)

    def wait(self, timeout: float | None = None) -> list[tuple[int, int]]:
        """Return the ready descriptors; `timeout` in seconds, None blocks."""
        masks = self._open()
        try:
            # The third list is for out-of-band data only (select(2)): errors show as readable and writable.
            readable, writable, _ = select.select(self._readers, self._writers, (), timeout)
        except (OSError, ValueError):  # EBADF; ValueError for a negative one
            closed = self._drop_closed(masks)
            if not closed:
                raise
            return closed
        ready = dict.fromkeys(readable, READ)
        for fd in writable:
            ready[fd] = ready.get(fd, 0) | WRITE
        return list(ready.items())

    def close(self) -> None:
        """Forget everything."""
        self._masks = None
        self._readers.clear()
        self._writers.clear()

    def _open(self) -> dict[int, int]:
        if self._masks is None:
            raise ValueError("this poller is closed")
        return self._masks

    def _set(self, masks: dict[int, int], fd: int, mask: int) -> None:
        masks[fd] = mask
        (self._readers.add if mask & READ else self._readers.discard)(fd)
        (self._writers.add if mask & WRITE else self._writers.discard)(fd)

    def _drop_closed(self, masks: dict[int, int]) -> list[tuple[int, int]]:
        """Forget and report the closed descriptors: select(2) fails with EBADF without naming them."""
        closed = [fd for fd in masks if not _is_open(fd)]
        for fd in closed:
            self.remove(fd)
        return [(fd, ERROR) for fd in closed]


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except (OSError, ValueError):
        return False
    return True
