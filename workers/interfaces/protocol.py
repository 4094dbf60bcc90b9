"""Protocol factories, as for `loop.create_server`: one `asyncio.Protocol` per connection, on the loop's transport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hybrid.workers.connections import Connection, Connections
from hybrid.workers.runtime import Accepted, Runtime


class ProtocolFactory:
    """Gives each connection to a protocol made by the application's factory."""

    def __init__(self, factory: Callable[[], Any], runtime: Runtime, connections: Connections) -> None:
        self._factory = factory
        self._connections = connections
        self._loop: Any = runtime.loop

    def connected(self, accepted: Accepted) -> None:
        """Serve a connection. Called from the loop."""
        connection = self._connections.add(accepted.address)
        task = self._loop.create_task(self._serve(connection, accepted))
        # soon: a task that is cancelled before its first step would leave the descriptor open
        connection.end = lambda: self._loop.call_soon(task.cancel)

    async def _serve(self, connection: Connection, accepted: Accepted) -> None:
        sock = accepted.socket()
        try:
            transport, _ = await self._loop.connect_accepted_socket(lambda: self._make(connection), sock)
        except BaseException as error:
            sock.close()
            connection.failed(error)
            connection.closed()
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        connection.end = transport.abort

    def _make(self, connection: Connection) -> Any:
        protocol = self._factory()
        _tell_when_lost(protocol, connection.closed)
        return protocol


def _tell_when_lost(protocol: Any, closed: Callable[[], None]) -> None:
    """Have `closed` called after the protocol's own `connection_lost`.

    The attribute is set on the instance; a proxy in between would cost a call for every piece of data and would not
    be an instance of the application's class. A protocol with `__slots__` gets a subclass made for it instead.
    """
    lost = protocol.connection_lost

    def connection_lost(exc: Exception | None) -> None:
        try:
            lost(exc)
        finally:
            closed()

    try:
        protocol.connection_lost = connection_lost
    except AttributeError:
        cls = type(protocol)

        def connection_lost_of(self: Any, exc: Exception | None) -> None:
            connection_lost(exc)

        protocol.__class__ = type(cls.__name__, (cls,), {"__slots__": (), "connection_lost": connection_lost_of})
