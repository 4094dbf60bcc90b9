"""`StreamWriter`: the writer of `handle(reader, writer)` on the hub, a subclass of asyncio's.

It sends immediately, and keeps bytes that do not fit. Until `start_tls` it is just the connection's writing half.
"""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from hybrid.workers.streams.drained import drained
from hybrid.workers.streams.stream_socket import StreamSocket

if TYPE_CHECKING:
    from hybrid.workers.streams.reader import StreamReader


class StreamWriter(asyncio.StreamWriter):
    """The writing side. Deleting the last reference closes an open connection."""

    __slots__ = ("_connection", "_reader", "drain", "write")
    _tls: Any = None  # asyncio's transport, after `start_tls`

    def __init__(self, connection: StreamSocket, reader: StreamReader) -> None:
        self._connection = connection
        self._reader = reader
        connection.drained = drained(connection.loop)
        connection.is_due = connection.drained.turn.is_due
        self.write: Callable[[Any], None] = connection.write  # type: ignore[assignment]
        """Send `data` (any bytes-like object), or keep the part that does not fit until it does; never blocks."""
        self.drain: Callable[[], Awaitable[None]] = connection.drain  # type: ignore[assignment]
        """Wait until the write buffer is below its low-water mark, if it rose above the high one (64 KiB).

        Raises `ConnectionResetError` or another `OSError` when the connection is lost.
        """

    def writelines(self, data: Iterable[Any]) -> None:
        """Write the concatenation of `data`, in one system call if it fits."""
        self.write(b"".join(data))

    def write_eof(self) -> None:
        """Close the writing half once everything is sent; reading continues."""
        self._connection.write_eof()

    def close(self) -> None:
        """Close the connection once everything is sent; gives up on a peer that does not read for 60 s."""
        self._connection.close()

    def is_closing(self) -> bool:
        """Return True if the connection is closed or closing."""
        return self._connection.closing

    async def wait_closed(self) -> None:
        """Wait until the connection is closed. Raises the error that broke it, if one did."""
        await self._connection.wait_closed()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return `peername`, `sockname` or `socket`; else `default`."""
        return self._connection.get_extra_info(name, default)

    async def start_tls(self, sslcontext: ssl.SSLContext, **options: Any) -> None:
        """Switch to TLS. Bytes of the handshake that the reader already holds are not lost.

        From then on the streams are asyncio's, over asyncio's TLS transport. Raises `ssl.SSLError`, `OSError`.
        """
        await self.drain()
        transport, reader = self._transport, self._reader
        if self._tls is None:
            transport.pause_reading()
            transport.give_back(reader._take(len(reader._buffer)))
        await super().start_tls(sslcontext, **options)

    # -- names that asyncio's methods use ----------------------------------------------------------------------------

    @property
    def _transport(self) -> Any:
        return self._tls or self._reader._transport

    @_transport.setter
    def _transport(self, transport: Any) -> None:
        self._tls = transport
        self.__class__ = TlsStreamWriter

    @property
    def _protocol(self) -> Any:
        return self._reader._transport.streams_protocol()

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return self._connection.loop

    def __del__(self, warnings: Any = warnings) -> None:
        if self.is_closing():
            return
        if self._loop.is_closed():
            self._connection.abort()
            warnings.warn("loop is closed", ResourceWarning, stacklevel=1)
        else:
            self.close()
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=1)


class TlsStreamWriter(StreamWriter):
    """The class of a writer after `start_tls`: all methods are asyncio's, over asyncio's transport."""

    __slots__ = ()
    write = asyncio.StreamWriter.write
    drain = asyncio.StreamWriter.drain
    writelines = asyncio.StreamWriter.writelines
    write_eof = asyncio.StreamWriter.write_eof
    close = asyncio.StreamWriter.close
    is_closing = asyncio.StreamWriter.is_closing
    wait_closed = asyncio.StreamWriter.wait_closed
    get_extra_info = asyncio.StreamWriter.get_extra_info
