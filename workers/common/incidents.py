"""Log lines that any client can cause with its connections; they must not fill the log.

The first one is logged at level INFO, so that a configuration mistake is seen immediately. Those of the next minute are
logged at level DEBUG and counted; the next line at level INFO gives the count.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

INTERVAL = 60.0  # seconds between two lines at level INFO
_log = logging.getLogger("hybrid")


class Incidents:
    """All incidents of one worker. May be used from any thread: at worst a race loses a count."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns seconds."""
        self._clock = clock
        self._quiet_until = 0.0
        self._unlogged = 0

    def log(self, message: str, *args: object) -> None:
        """Log a line, as `logging` formats it. Does not block."""
        now = self._clock()
        if now < self._quiet_until:
            self._unlogged += 1
            _log.debug(message, *args)
            return
        self._quiet_until = now + INTERVAL
        count, self._unlogged = self._unlogged, 0
        if count:
            message += " (%d more connections ended early since the last such line; logged at level debug)"
            args = (*args, count)
        _log.info(message, *args)
