"""`WriteTransport`: the writing half of `asyncio.Transport` over a lean connection, for the transports of the hub."""

from __future__ import annotations

import asyncio
from typing import Any

from hybrid.workers.streams.stream_socket import StreamSocket


def served(*_: object) -> None:
    """Mark an `asyncio.StreamReaderProtocol` as a server's: `start_tls` takes one with a callback for that."""


class WriteTransport(asyncio.WriteTransport):
    """The writing half of `asyncio.Transport`; reading belongs to the `StreamReader`."""

    def __init__(self, connection: StreamSocket) -> None:
        super().__init__()
        self._connection = connection

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`peername`, `sockname` or `socket`; else `default`."""
        return self._connection.get_extra_info(name, default)

    def write(self, data: Any) -> None:
        """Send `data` or keep what does not fit; never blocks."""
        self._connection.write(data)

    def can_write_eof(self) -> bool:
        """TCP and UNIX streams can be half closed."""
        return True

    def write_eof(self) -> None:
        """Close the writing half once everything is sent."""
        self._connection.write_eof()

    def close(self) -> None:
        """Close once everything is sent."""
        self._connection.close()

    def abort(self) -> None:
        """Close now; what is unsent is lost."""
        self._connection.abort()

    def is_closing(self) -> bool:
        """Whether the connection is closed or about to be."""
        return self._connection.closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the water marks in bytes. Raises `ValueError`."""
        self._connection.set_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The water marks (low, high) in bytes."""
        return self._connection.limits()

    def get_write_buffer_size(self) -> int:
        """How many bytes wait to be sent."""
        return len(self._connection.unsent or b"")
