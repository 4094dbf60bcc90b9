"""Hints for the demonstration: commands to try, added to the supervisor's log of its addresses."""

from __future__ import annotations

import collections
import contextlib
import logging
import re
from collections.abc import Collection, Iterator

from hybrid.config.admin import ADMIN
from hybrid.config.targets import DEMONSTRATION
from hybrid.workers.contract.log import LOGGER_NAME

_LISTENING = re.compile(r"listening on (\S+)")
_SERVING = "serving with "


class Hints(logging.Filter):
    """Remembers the logged addresses, and adds commands that reach them to "serving with N workers".

    A logging filter, because only the log has the real address if the port is 0.
    """

    def __init__(self, services: Collection[str]) -> None:
        """`services`: the names of those that serve the demonstration."""
        super().__init__()
        self._services = services
        self._addresses: dict[str, list[str]] = collections.defaultdict(list)  # service -> its addresses

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass; extend the one that reports readiness."""
        message, service = record.getMessage(), str(getattr(record, "service", ""))
        if match := _LISTENING.fullmatch(message):
            self._addresses[service].append(match[1])
        elif message.startswith(_SERVING) and service in self._services:
            hints = [f"try: {hint}" for address in self._addresses[service] for hint in hints_for(address)]
            hints += [f"dashboard: {url}" for address in self._addresses[ADMIN] if (url := _url(address))]
            own = f"this is the demonstration ({DEMONSTRATION}); for your own: hybrid run module:attribute"
            record.msg, record.args = "\n".join([message, *hints, own]), None
        return True


@contextlib.contextmanager
def logging_hints(services: Collection[str]) -> Iterator[None]:
    """Log hints while a supervisor in this process serves the demonstration, as these services."""
    logger, hints = logging.getLogger(LOGGER_NAME), Hints(services)
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
    url = _url(address)
    return [] if url is None else [f"curl {url}/who"]


def _url(address: str) -> str | None:
    if address.startswith("unix:") or "://" in address:
        return None
    host, _, port = address.rpartition(":")
    # a client cannot connect to the wildcard address
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
    return f"http://{host}:{port}"
