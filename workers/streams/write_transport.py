"""`WriteTransport`: the writing half of `asyncio.Transport` over a `StreamSocket`."""

from __future__ import annotations

import asyncio
from typing import Any

from hybrid.workers.streams.stream_socket import StreamSocket


def served(*_: object) -> None:
    """Callback that marks an `asyncio.StreamReaderProtocol` as a server's, as `start_tls` expects."""


class WriteTransport(asyncio.WriteTransport):
    """The writing half of `asyncio.Transport`; subclasses add the reading half.

    They do not call the constructor of asyncio's class, which makes a dict of extra information for each transport.
    """

    __slots__ = ()

    _connection: StreamSocket  # set by subclasses

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return `peername`, `sockname` or `socket`; else `default`."""
        return self._connection.get_extra_info(name, default)

    def write(self, data: Any) -> None:
        """Send `data` or keep the part that does not fit; never blocks."""
        self._connection.write(data)

    def can_write_eof(self) -> bool:
        """Return True: TCP and UNIX streams can be half closed."""
        return True

    def write_eof(self) -> None:
        """Close the writing half once everything is sent."""
        self._connection.write_eof()

    def close(self) -> None:
        """Close once everything is sent."""
        self._connection.close()

    def abort(self) -> None:
        """Close now; unsent bytes are lost."""
        self._connection.abort()

    def is_closing(self) -> bool:
        """Return True if the connection is closed or closing."""
        return self._connection.closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the water marks in bytes. Raises `ValueError`."""
        self._connection.set_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the water marks (low, high) in bytes."""
        return self._connection.limits()

    def get_write_buffer_size(self) -> int:
        """Return the number of unsent bytes."""
        return len(self._connection.unsent or b"")
