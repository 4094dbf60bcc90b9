"""Hints for the demonstration: commands to try, added to the supervisor's log of its addresses."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator

from hybrid.config.targets import DEMONSTRATION
from hybrid.workers.contract.log import LOGGER_NAME

_LISTENING = re.compile(r"listening on (\S+)")
_SERVING = "serving with "


class Hints(logging.Filter):
    """Remembers the logged addresses, and adds commands that reach them to "serving with N workers".

    A logging filter, because only the log has the real address if the port is 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self._addresses: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass; extend the one that reports readiness."""
        message = record.getMessage()
        if match := _LISTENING.fullmatch(message):
            self._addresses.append(match[1])
        elif message.startswith(_SERVING):
            hints = [f"try: {hint}" for address in self._addresses for hint in hints_for(address)]
            own = f"this is the demonstration ({DEMONSTRATION}); for your own: hybrid run module:attribute"
            record.msg, record.args = "\n".join([message, *hints, own]), None
        return True


@contextlib.contextmanager
def logging_hints() -> Iterator[None]:
    """Log hints while a supervisor in this process serves the demonstration."""
    logger, hints = logging.getLogger(LOGGER_NAME), Hints()
    logger.addFilter(hints)
    try:
        yield
    finally:
        logger.removeFilter(hints)


def hints_for(address: str) -> list[str]:
    """Return commands that reach the demonstration at a logged address."""
    if address.startswith("unix:@"):
        return []
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        return [f"curl --unix-socket {path} http://localhost/who"]
    if "://" in address:
        return []
    host, _, port = address.rpartition(":")
    # a client cannot connect to the wildcard address
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
    return [f"curl http://{host}:{port}/who"]
