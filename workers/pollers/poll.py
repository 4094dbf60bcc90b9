"""poll(2) as a poller; see `contract` for the clauses. The list of descriptors lives in user space."""

from __future__ import annotations

import math
import os
import select

from hybrid.workers.pollers.contract import ERROR

_INVALID = select.POLLNVAL


class Poller:
    """`select.poll`. READ, WRITE, ERROR and HANGUP are the kernel's own bits."""

    def __init__(self) -> None:
        self._poll: select.poll | None = select.poll()
        self._watched: set[int] = set()

    def add(self, fd: int, mask: int) -> None:
        """Watch `fd`. Raises `FileExistsError`, `OSError` (EBADF)."""
        poll = self._open()
        if fd in self._watched:
            raise FileExistsError(f"file descriptor {fd} is already watched")
        os.fstat(fd)  # poll(2) itself would report it only at the next wait
        poll.register(fd, mask)
        self._watched.add(fd)

    def modify(self, fd: int, mask: int) -> None:
        """Replace the mask of `fd`. Raises `FileNotFoundError`."""
        poll = self._open()
        if fd not in self._watched:
            raise FileNotFoundError(f"file descriptor {fd} is not watched")
        poll.modify(fd, mask)

    def remove(self, fd: int) -> None:
        """Stop watching `fd`; never raises."""
        if self._poll is not None and fd in self._watched:
            self._watched.discard(fd)
            self._poll.unregister(fd)

    def wait(self, timeout: float | None = None) -> list[tuple[int, int]]:
        """Return the ready descriptors; `timeout` in seconds, None blocks."""
        poll = self._open()
        ready = poll.poll(None if timeout is None else math.ceil(timeout * 1000))
        for index, (fd, mask) in enumerate(ready):
            if mask & _INVALID:
                self.remove(fd)
                ready[index] = (fd, ERROR)
        return ready

    def close(self) -> None:
        """Forget everything."""
        self._poll = None
        self._watched.clear()

    def _open(self) -> select.poll:
        if self._poll is None:
            raise ValueError("this poller is closed")
        return self._poll
