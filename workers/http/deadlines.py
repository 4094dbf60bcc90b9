"""How long a connection waits, and the rate that a body must come at."""

from __future__ import annotations

from hybrid.workers import lingering

BODY_GRACE = 5.0  # seconds before the rate of a body is looked at
LINGER = lingering.SECONDS  # to read what a client still sends after its last answer (RFC 9112, section 9.6)


class BodyRate:
    """The rate of a body that an application waits for. Made when it begins to."""

    __slots__ = ("_mark", "_since")

    def __init__(self, now: float, received: int) -> None:
        self._since = now
        self._mark = received

    def holds(self, now: float, received: int, least: float) -> bool:
        """Return True if at least `least` bytes per second have come since the last look; begin anew if so."""
        if received - self._mark < least * (now - self._since):
            return False
        self._since, self._mark = now, received
        return True
