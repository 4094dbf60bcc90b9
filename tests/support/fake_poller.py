"""A poller without a kernel: descriptors are numbers, verbs set their readiness, time passes only in `wait`.

It keeps the contract of `hybrid.workers.pollers.contract`; the same suite runs over it and over the real ones.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import os
from collections.abc import Callable

from hybrid.workers.pollers.contract import ERROR, HANGUP, READ, WRITE


class FakePoller:
    """See above. A descriptor is open from `opens` to `is_closed`; it stays ready until a verb changes that."""

    def __init__(self) -> None:
        self.waits: list[float | None] = []  # the timeout of each wait, in order
        self.calls: list[tuple[str, int, int]] = []  # (method, fd, mask) of each change, in order
        self.now = 1000.0  # seconds
        self._masks: dict[int, int] | None = {}  # fd -> mask
        self._ready: dict[int, int] = {}  # open fd -> mask of ready directions
        self._numbers = itertools.count(100)
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []  # (time, order, action)
        self._order = itertools.count()
        self._refusal: OSError | None = None

    # --- verbs

    def opens(self, ready: int = 0) -> int:
        """Let a descriptor exist; return its number."""
        fd = next(self._numbers)
        self._ready[fd] = ready
        return fd

    def becomes(self, fd: int, ready: int) -> None:
        """Let exactly these bits of a descriptor be ready; also opens a number anew."""
        self._ready[fd] = ready

    def is_closed(self, fd: int) -> None:
        """Let a descriptor be closed without being removed first."""
        del self._ready[fd]

    def at(self, seconds: float, what: Callable[[], object]) -> None:
        """Schedule an action `seconds` from now, during a `wait`."""
        heapq.heappush(self._agenda, (self.now + seconds, next(self._order), what))

    def refuses_next(self, number: int) -> None:
        """Let the next add or modify fail with this errno."""
        self._refusal = OSError(number, os.strerror(number))

    def mask_of(self, fd: int) -> int | None:
        """Return the watched mask of a descriptor; None if it is not watched."""
        return None if self._masks is None else self._masks.get(fd)

    # --- the poller

    def add(self, fd: int, mask: int) -> None:
        masks = self._open("add", fd, mask)
        if fd in masks:
            raise FileExistsError(f"file descriptor {fd} is already watched")
        if fd not in self._ready:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        masks[fd] = mask

    def modify(self, fd: int, mask: int) -> None:
        masks = self._open("modify", fd, mask)
        if fd not in masks:
            raise FileNotFoundError(f"file descriptor {fd} is not watched")
        masks[fd] = mask

    def remove(self, fd: int) -> None:
        self.calls.append(("remove", fd, 0))
        if self._masks is not None:
            self._masks.pop(fd, None)

    def wait(self, timeout: float | None = None) -> list[tuple[int, int]]:
        self._open("wait", -1, 0)
        self.waits.append(timeout)
        end = None if timeout is None else self.now + max(0.0, timeout)
        while not (found := self._found()):
            if self._agenda and (end is None or self._agenda[0][0] <= end):
                self.now, _, what = heapq.heappop(self._agenda)
                what()
            elif end is None:
                raise AssertionError("waits forever, and nothing is on the agenda")
            else:
                self.now = end
                return []
        return found

    def close(self) -> None:
        self._masks = None

    def _open(self, method: str, fd: int, mask: int) -> dict[int, int]:
        if self._masks is None:
            raise ValueError("this poller is closed")
        if method != "wait":
            self.calls.append((method, fd, mask))
            refusal, self._refusal = self._refusal, None
            if refusal is not None:
                raise refusal
        return self._masks

    def _found(self) -> list[tuple[int, int]]:
        assert self._masks is not None
        found = []
        for fd, mask in list(self._masks.items()):
            if fd not in self._ready:
                del self._masks[fd]
                found.append((fd, ERROR))
            elif bits := self._ready[fd] & (mask & (READ | WRITE) | ERROR | HANGUP):
                found.append((fd, bits))
        return found
