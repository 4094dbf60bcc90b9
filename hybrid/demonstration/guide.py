"""What to try, told where the demonstration is served: added to the supervisor's own words on the addresses."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator

from hybrid.config.targets import DEMONSTRATION
from hybrid.workers.contract.log import LOGGER_NAME

_LISTENING = re.compile(r"listening on (\S+)")
_SERVING = "serving with "


class Guide(logging.Filter):
    """Remembers the addresses that are logged, and adds to "serving with N workers" how to reach them.

    A filter, because only the log tells the real address where the port was asked to be any.
    """

    def __init__(self) -> None:
        super().__init__()
        self._addresses: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass; lengthen the one that says that all is ready."""
        message = record.getMessage()
        if match := _LISTENING.fullmatch(message):
            self._addresses.append(match[1])
        elif message.startswith(_SERVING):
            hints = [f"try: {hint}" for address in self._addresses for hint in what_to_try(address)]
            own = f"this is the demonstration ({DEMONSTRATION}); for your own: hybrid run module:attribute"
            record.msg, record.args = "\n".join([message, *hints, own]), None
        return True


@contextlib.contextmanager
def guided() -> Iterator[None]:
    """Log what to try while a supervisor of this process serves the demonstration."""
    logger, guide = logging.getLogger(LOGGER_NAME), Guide()
    logger.addFilter(guide)
    try:
        yield
    finally:
        logger.removeFilter(guide)


def what_to_try(address: str) -> list[str]:
    """Return what reaches the demonstration at an address of the log."""
    if address.startswith("unix:@"):
        return []
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        return [f"curl --unix-socket {path} http://localhost/who"]
    if "://" in address:
        return []
    host, _, port = address.rpartition(":")
    # the address of all interfaces is none to connect to
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
    return [f"curl http://{host}:{port}/who"]
