"""A timeout that is set for every wait and hardly ever rings: one timer per socket, not one per call.

Setting a timer costs a heap operation and leaves a cancelled one behind; a server that waits a thousand times a
second with a timeout of 30 s would keep thousands. Here a later deadline is only written down; the timer that rings
too early sets itself anew for the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    """At most one deadline at a time. Times are those of `loop.time()`, in seconds."""

    __slots__ = ("_at", "_loop", "_ring", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._at = 0.0
        self._ring: Callable[[], object] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float, ring: Callable[[], object]) -> None:
        """Have the loop call `ring` in `seconds`, unless cleared or set anew before."""
        self._at = self._loop.time() + seconds
        self._ring = ring
        if self._timer is not None and self._timer.when() > self._at:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._at, self._due)

    def clear(self) -> None:
        """Nothing rings any more; the timer is left to run out."""
        self._ring = None

    def close(self) -> None:
        """Give the timer back too."""
        self._ring = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        if self._ring is None:
            return
        if self._loop.time() < self._at:
            self._timer = self._loop.call_at(self._at, self._due)
            return
        ring, self._ring = self._ring, None
        ring()
