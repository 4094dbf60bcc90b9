"""Protocol factories, as for `loop.create_server`: one `asyncio.Protocol` per connection, on the loop's transport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hybrid.workers.apps.adapter import Adapter, serve_in_task
from hybrid.workers.common.connections import Connection, Connections
from hybrid.workers.runtime import Accepted, Transports


class ProtocolFactory(Adapter):
    """Gives each connection to a protocol made by the application's factory."""

    def __init__(self, factory: Callable[[], Any], runtime: Transports, connections: Connections) -> None:
        self._factory = factory
        self._connections = connections
        self._loop: Any = runtime.loop

    def connected(self, accepted: Accepted) -> None:
        """Serve a connection. Called from the loop."""
        self._connections.heartbeat.counts_request()
        connection = self._connections.add(accepted.address)
        task = serve_in_task(self._loop.create_task, self._serve(connection, accepted), connection, accepted.fd)
        if task is not None and not task.done():
            # in the next turn: a task cancelled before its first step would leave the descriptor open
            connection.end = lambda: self._loop.call_soon(task.cancel)

    async def _serve(self, connection: Connection, accepted: Accepted) -> None:
        sock = accepted.telling_socket(connection.closed, self._loop)
        try:
            transport, _ = await self._loop.connect_accepted_socket(self._factory, sock)
        except BaseException as error:
            sock.close()
            connection.failed(error)
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        sock.serves(transport)
        connection.end = transport.abort
