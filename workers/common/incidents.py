"""Log lines that any client can cause by its connections: they must not fill the log.

The first is logged at level INFO, so that a mistake of the configuration is seen at once. Those of the next minute go
to level DEBUG and are counted; the line after them says how many there were.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

INTERVAL = 60.0  # seconds between two lines at level INFO
_log = logging.getLogger("hybrid")


class Incidents:
    """The incidents of one worker, of all kinds. For any thread: a race costs a count at worst."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds."""
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
            message += " (%d more connections ended early since the last such line; level debug has them)"
            args = (*args, count)
        _log.info(message, *args)
