"""The connections a worker is serving: counted, told when they end, ended when it must be."""

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

    __slots__ = ("address", "end", "registry")

    def __init__(self, registry: Connections, address: Any) -> None:
        self.registry = registry
        self.address = address
        self.end: Callable[[], object] | None = None
        """Ends the handler early (cancels the task, kills the greenlet); set once there is something to end."""

    def closed(self) -> None:
        """The connection is gone; may be called twice."""
        self.registry.discard(self)

    def failed(self, error: BaseException | None) -> None:
        """Log how a handler ended, if not well: one line for what the peer did, one record for the handler's error."""
        report(error, self.address, self.registry.incidents)


class Connections:
    """All connections of a worker. Belongs to the loop's thread."""

    def __init__(self, heartbeat: Heartbeat | None = None) -> None:
        self.heartbeat = heartbeat or Heartbeat()
        """Where connections and requests are counted."""
        self.incidents = Incidents()
        """Where lines go that clients can cause at will."""
        self._open: set[Connection] = set()
        self._emptied: asyncio.Event | None = None
        self.on_discard: list[Callable[[], object]] = []
        """Called after each end: an acceptor that waits for room resumes."""
        self.ending = False
        """Whether `end_all` was called: what is still unsent will not be."""

    def __len__(self) -> int:
        return len(self._open)

    def add(self, address: Any) -> Connection:
        """Enter a connection from `address`."""
        connection = Connection(self, address)
        self._open.add(connection)
        self.heartbeat.numbers[ACTIVE] = len(self._open)
        return connection

    def discard(self, connection: Connection) -> None:
        """Take a connection out."""
        if connection in self._open:
            self._open.discard(connection)
            self.heartbeat.numbers[ACTIVE] = len(self._open)
            if self._emptied is not None and not self._open:
                self._emptied.set()
            for callback in self.on_discard:
                callback()

    async def wait_empty(self, timeout: float) -> bool:
        """Wait until no connection is left, nor lingers, at most `timeout` seconds; tell whether that is so."""
        ends = time.monotonic() + timeout
        self._emptied = asyncio.Event()
        if self._open:
            try:
                async with asyncio.timeout(max(timeout, 0)):
                    await self._emptied.wait()
            except TimeoutError:
                if self._open:
                    return False
        if not await lingering.wait_none(ends - time.monotonic()):  # they have had what time there was
            lingering.end_all(running_loop())
        return True

    def end_all(self) -> int:
        """End every handler early; return how many there were. They get one chance to clean up."""
        self.ending = True
        ending = list(self._open)
        for connection in ending:
            if connection.end is not None:
                connection.end()
        lingering.end_all(running_loop())
        return len(ending)


def report(error: BaseException | None, address: Any, incidents: Incidents) -> None:
    """Log the error a handler ended with, and take its traceback from it. Does not block.

    A peer that went away is no fault of the application's: an incident. Being ended by us is not worth a
    line.
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
