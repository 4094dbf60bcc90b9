"""How many control frames a client may send: a SETTINGS, PING or WINDOW_UPDATE costs a server more than a client.

A client needs some of them for its requests and for the bodies it reads and sends. So it earns them by those, and by
time; a flood earns nothing (CVE-2019-9511 to 9518). Go's client sends the most for a body: two WINDOW_UPDATE for 4 KiB.
"""

from __future__ import annotations

BURST = 1000
"""Control frames at once."""
PER_SECOND = 50
PER_REQUEST = 4
BYTES_EACH = 1024
"""Bytes of bodies, sent or received, that earn one."""


class Allowance:
    """The control frames that the client of one connection may still send."""

    __slots__ = ("_left", "_since")

    def __init__(self, now: float) -> None:
        """`now`: seconds, as in the other methods."""
        self._left = float(BURST)
        self._since = now

    def earn(self, requests: int, size: int) -> None:
        """Add for requests and for `size` bytes of bodies."""
        self._left += requests * PER_REQUEST + size / BYTES_EACH

    def spend(self, frames: int, now: float) -> bool:
        """Account for control frames; return False if there are too many."""
        earned = (now - self._since) * PER_SECOND
        self._since = now
        self._left = min(self._left + earned, BURST) - frames
        return self._left >= 0
