"""Stream handlers, sync and async: each class passes accepted connections to the application's handler.

`handle(sock, address)` is called as by `gevent.server.StreamServer`, `async handle(reader, writer)` as by
`asyncio.start_server`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from hybrid.workers.apps.adapter import Adapter, serve_in_task
from hybrid.workers.common.connections import Connection, Connections
from hybrid.workers.common.frames import forget_frames
from hybrid.workers.runtime import Accepted, Greenlets, Transports

_log = logging.getLogger("hybrid")


class SyncStream(Adapter):
    """Runs a sync handler in a greenlet per connection. The socket is closed when the handler returns."""

    def __init__(self, handler: Callable[..., Any], runtime: Greenlets, connections: Connections) -> None:
        self._handler = handler
        self._runtime = runtime
        self._connections = connections

    def connected(self, accepted: Accepted) -> None:
        """Serve a connection. Called from the loop; runs the handler until it first waits."""
        runtime = self._runtime
        self._connections.heartbeat.counts_request()
        connection = self._connections.add(accepted.address)

        def ended(error: BaseException | None) -> None:
            connection.failed(error)
            if self.guessed and isinstance(error, TypeError):
                self._hint()
            connection.closed()

        try:
            started = runtime.start_handler(self._handler, accepted, ended)
        except BaseException:
            connection.closed()
            raise
        connection.end = lambda: runtime.kill(started)

    def _hint(self) -> None:
        """Log a hint, once, that the target may be a WSGI application: it may have called an argument as a function."""
        self.guessed = False
        _log.warning(
            "the target was detected as a stream handler, handle(sock, address); "
            "if it is a WSGI application, add --interface wsgi"
        )


class AsyncStream(Adapter):
    """Runs a coroutine handler in a task per connection.

    As with `asyncio.start_server`, a handler that returns leaves the connection open for code that still holds its
    writer; if it raises, the connection is closed.
    """

    def __init__(self, handler: Callable[..., Any], runtime: Transports, connections: Connections) -> None:
        self._handler = handler
        self._runtime = runtime
        self._connections = connections
        self._loop = runtime.loop

    def connected(self, accepted: Accepted) -> None:
        """Serve a connection. Called from the loop."""
        self._connections.heartbeat.counts_request()
        connection = self._connections.add(accepted.address)
        task = serve_in_task(self._runtime.create_task, self._serve(connection, accepted), connection, accepted.fd)
        if task is not None and not task.done():
            # in the next turn: a task cancelled before its first step would leave the descriptor open
            connection.end = lambda: self._loop.call_soon(task.cancel)

    async def _serve(self, connection: Connection, accepted: Accepted) -> None:
        try:
            reader, writer = await self._runtime.open_streams(accepted, connection.closed)
        except OSError as error:
            connection.failed(error)
            connection.closed()
            return
        try:
            await self._handler(reader, writer)
        except asyncio.CancelledError as error:
            if self._connections.ending:
                writer.transport.abort()
            else:
                writer.close()
            forget_frames(error)  # the task references the error ...
            connection.end = None  # ... and its traceback this frame, which must not reference the task
            raise
        except BaseException as error:  # noqa: BLE001 - a handler's exit is not the worker's
            connection.failed(error)
            writer.close()
        else:
            connection.end = writer.transport.abort  # not the writer: dropping its last reference closes the connection
