"""The registry of a worker's open connections: counts them, notes their end, and ends them at the deadline."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Callable
from typing import Any

import greenlet

from hybrid.workers.common import lingering
from hybrid.workers.common.frames import forget_frames
from hybrid.workers.common.heartbeat import Heartbeat
from hybrid.workers.common.incidents import Incidents
from hybrid.workers.contract.scoreboard import ACTIVE
from hybrid.workers.tasks.cpython import running_loop

_log = logging.getLogger("hybrid")


class Connection:
    """One entry of the registry, from accept to close."""

    __slots__ = ("address", "began", "end", "registry")

    def __init__(self, registry: Connections, address: Any) -> None:
        self.registry = registry
        self.address = address
        self.began: float
        """When it was accepted, if it counts as a request: see `Counts.since`."""
        self.end: Callable[[], object] | None = None
        """Ends the handler early (cancels the task, kills the greenlet); set once there is something to end."""

    def closed(self) -> None:
        """The connection is gone; may be called twice."""
        self.registry.discard(self)

    def failed(self, error: BaseException | None) -> None:
        """Log a failed handler: one line if the peer caused it, a record with traceback for the handler's own error."""
        report(error, self.address, self.registry.incidents)


class Connections:
    """All connections of a worker. Belongs to the loop's thread."""

    def __init__(self, heartbeat: Heartbeat | None = None) -> None:
        self.heartbeat = heartbeat or Heartbeat()
        """Counts connections and requests."""
        self.incidents = Incidents()
        """Logs events that clients can cause at will."""
        self._open: set[Connection] = set()
        self._emptied: asyncio.Event | None = None
        self.on_discard: list[Callable[[], object]] = []
        """Called after each end: a paused acceptor resumes."""
        self.are_requests = False
        """True if each counts as one request: connections and datagrams of handlers."""
        self.ending = False
        """True once `end_all` was called: unsent bytes are lost."""

    def __len__(self) -> int:
        return len(self._open)

    def add(self, address: Any) -> Connection:
        """Register a connection from `address`."""
        connection = Connection(self, address)
        if self.are_requests:
            counts = self.heartbeat.counts
            if counts.is_idle:
                counts.begin_turn()
            connection.began = counts.since
        self._open.add(connection)
        self.heartbeat.numbers[ACTIVE] = len(self._open)
        return connection

    def discard(self, connection: Connection) -> None:
        """Remove a connection."""
        if connection in self._open:
            self._open.discard(connection)
            if self.are_requests:
                self.heartbeat.counts.handled(connection.began)
            self.heartbeat.numbers[ACTIVE] = len(self._open)
            if self._emptied is not None and not self._open:
                self._emptied.set()
            if self.on_discard:
                for callback in self.on_discard.copy():  # each may remove itself
                    callback()

    def recount(self) -> None:
        """Store the count again: a sibling that passes a connection on raises it, and another may adopt that one."""
        self.heartbeat.numbers[ACTIVE] = len(self._open)

    async def wait_empty(self, timeout: float) -> bool:
        """Wait, at most `timeout` seconds, until no connection is open or lingers; return True if none is open."""
        ends = time.monotonic() + timeout
        self._emptied = asyncio.Event()
        if self._open:
            try:
                async with asyncio.timeout(max(timeout, 0)):
                    await self._emptied.wait()
            except TimeoutError:
                if self._open:
                    return False
        if not await lingering.wait_none(ends - time.monotonic()):  # their time is over
            lingering.end_all(running_loop())
        return True

    def end_all(self) -> int:
        """End all handlers early; return their number. They get one chance to clean up."""
        self.ending = True
        ending = list(self._open)
        for connection in ending:
            if connection.end is not None:
                connection.end()
        lingering.end_all(running_loop())
        return len(ending)


def report(error: BaseException | None, address: Any, incidents: Incidents) -> None:
    """Log the error that ended a handler, and drop its traceback. Does not block.

    A lost connection is not the application's fault: it is an incident. A handler ended by the worker is not logged.
    """
    if error is None:
        return
    if isinstance(error, ConnectionError):
        incidents.log("connection from %s lost: %s", printable(address), error)
    elif not isinstance(error, (greenlet.GreenletExit, asyncio.CancelledError)):
        _log.error(
            "handler failed: %s%s (connection from %s)",
            "".join(traceback.format_exception_only(error)).strip(),
            _place(error),
            printable(address),
            exc_info=error,
        )
    forget_frames(error)


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f", {frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""


def printable(address: Any) -> str:
    """Return a peer's address for a log line: `127.0.0.1:4711`, `[::1]:4711`, or `a UNIX socket`."""
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return f"UNIX socket {address}" if address else "a UNIX socket"
