"""`LentSocket`: the socket of a connection as handlers see it, `writer.get_extra_info("socket")`."""

from __future__ import annotations

import socket
from asyncio.trsock import TransportSocket
from typing import TYPE_CHECKING

from hybrid.workers.common import lingering

if TYPE_CHECKING:
    from hybrid.workers.streams.stream_socket import StreamSocket


class LentSocket(TransportSocket):
    """A socket that a handler may share by its descriptor. Once it has asked for that, a close does not drop input."""

    __slots__ = ("_connection",)

    def __init__(self, sock: socket.socket, connection: StreamSocket) -> None:
        super().__init__(sock)
        self._connection = connection

    def fileno(self) -> int:
        """Return the descriptor, which the caller may share."""
        self._connection.forks = lingering.NEVER
        return super().fileno()

    def dup(self) -> socket.socket:
        """Return a socket on a duplicate of the descriptor."""
        self._connection.forks = lingering.NEVER
        return super().dup()
