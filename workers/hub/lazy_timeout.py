"""A timeout that is set for every wait and hardly ever fires: one timer per direction of a socket, not one per call.

Setting a timer costs a heap operation, and cancelling it leaves it in the heap: a server that waits a thousand times a
second with a timeout of 30 s would keep thousands of them. Here a later deadline is only stored. A timer that fires
before the deadline starts again for the remaining time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class LazyTimeout:
    """At most one deadline at a time. Times are those of `loop.time()`, in seconds."""

    __slots__ = ("_at", "_callback", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._at = 0.0
        self._callback: Callable[[], object] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float, callback: Callable[[], object]) -> None:
        """Have the loop call `callback` in `seconds`, unless `clear` or `set` is called first."""
        self._at = self._loop.time() + seconds
        self._callback = callback
        if self._timer is not None and self._timer.when() > self._at:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._at, self._due)

    def clear(self) -> None:
        """Call nothing; the timer is left to run out."""
        self._callback = None

    def close(self) -> None:
        """Cancel the timer too."""
        self._callback = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        if self._callback is None:
            return
        if self._loop.time() < self._at:
            self._timer = self._loop.call_at(self._at, self._due)
            return
        callback, self._callback = self._callback, None
        callback()
