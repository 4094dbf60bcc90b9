"""`StreamReader` and `StreamWriter`: what `handle(reader, writer)` gets on the hub, with the methods of asyncio's.

asyncio's streams push: bytes arrive in a buffer whether anybody reads or not, and a transport, a protocol and a
flow-control object stand between socket and handler. These pull: `read` takes from the socket what the handler asks
for, so an unread connection fills the kernel's buffer and TCP slows the peer down by itself. Writing tries at once
and keeps what does not fit.

Differences from asyncio's that a handler can see: a reset is noticed by the next read or write, not before.
Benchmark: `python -m benchmarks echo`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from hybrid.workers.hub.connection import Connection, drained
from hybrid.workers.hub.futures import Readiness
from hybrid.workers.hub.runtime import HubRuntime
from hybrid.workers.hub.transport import StreamTransport
from hybrid.workers.runtime import Accepted

LIMIT = 64 * 1024  # bytes; asyncio's default for the longest line
_EAGER = 32  # full reads in a row that may skip the poller, as in `sockets`
_MOST = 256 * 1024  # bytes one read takes from the socket at most
_CHUNK = 64 * 1024  # bytes asked for where the caller named no size
_scratch = bytearray(_CHUNK)  # one for the process: filled and emptied without a switch in between
_scratch_view = memoryview(_scratch)


_BUSY = "read() called while another coroutine is already waiting for incoming data"


class StreamReader:
    """The reading side. Every coroutine raises `ConnectionResetError` and its kin when the peer is gone."""

    __slots__ = (
        "_buffer",
        "_connection",
        "_eager",
        "_eof",
        "_exception",
        "_limit",
        "_plain",
        "_readiness",
        "_recv",
        "_watch",
    )

    def __init__(self, connection: Connection, limit: int = LIMIT) -> None:
        self._connection = connection
        self._watch = connection.watch
        self._readiness = Readiness(connection.loop, connection.watches, connection.watch)
        self._recv = connection.sock.recv
        self._limit = limit
        self._buffer: bytearray | None = None  # what readline and its kin took too much of
        self._eager = 1  # reads that may be tried before waiting: a new connection often brings its first bytes
        self._eof = False
        self._exception: BaseException | None = None
        self._plain = True  # nothing buffered, no end, no error: the one flag the hot path looks at

    # -- the hot path; benchmark: python -m benchmarks echo ------------------------------------------------------

    async def read(self, n: int = -1) -> bytes:
        """Return up to `n` bytes as soon as there are any, b"" at the end; all until the end if `n` is negative."""
        if n <= 0 or not self._plain:
            return await self._read_slowly(n)
        if n > _MOST:
            n = _MOST
        if self._eager:
            self._eager -= 1
        else:
            if self._watch.on_readable is not None:
                raise RuntimeError(_BUSY)
            await self._readiness
            self._eager = _EAGER
        while True:
            try:
                data = self._recv(n)
            except BlockingIOError:
                await self._wait()
                continue
            except OSError as error:
                if self._ended_by(error):
                    return b""
                raise self._exception or error from None
            if len(data) != n:
                self._eager = 0
                if not data:
                    self._eof = True
                    self._plain = False
            return data

    # -- everything else ------------------------------------------------------------------------------------------

    def _wait(self) -> Readiness:
        """Return what to await until the socket is readable."""
        if self._watch.on_readable is not None:
            raise RuntimeError(_BUSY)
        return self._readiness

    async def _read_slowly(self, n: int) -> bytes:
        if self._exception is not None:
            raise self._exception
        if n == 0:
            return b""
        if n > 0:
            return self._take(min(n, len(self._buffer or b"")))  # nothing is left of it at the end
        parts = [self._take(len(self._buffer or b""))]
        while not self._eof and (block := await self.read(_CHUNK)):
            parts.append(block)
        return b"".join(parts)

    async def readline(self) -> bytes:
        r"""Return a line with its b"\n"; at the end what is left.

        Raises `ValueError` for a line longer than the limit (64 KiB), after dropping what came of it, as asyncio does.
        """
        try:
            return await self.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            return error.partial
        except asyncio.LimitOverrunError as error:
            buffer = self._buffer or bytearray()
            if buffer.startswith(b"\n", error.consumed):
                del buffer[: error.consumed + 1]
            else:
                buffer.clear()
            raise ValueError(error.args[0]) from None

    async def readuntil(self, separator: bytes | tuple[bytes, ...] = b"\n") -> bytes:
        """Return the bytes up to and with `separator` (the first to match of a tuple, as in Python 3.13).

        Raises `IncompleteReadError` at the end, `LimitOverrunError` beyond the limit (the bytes stay), `ValueError`
        for an empty separator.
        """
        separators = separator if isinstance(separator, tuple) else (separator,)
        if not separators or not all(separators):
            raise ValueError("Separator should contain at least one byte")
        longest = max(map(len, separators))
        searched = 0
        while True:
            buffer = self._buffer or b""
            ends = [(at + len(item), at) for item in separators if (at := buffer.find(item, searched)) >= 0]
            if ends:
                end, at = min(ends)
                if at > self._limit:
                    raise asyncio.LimitOverrunError("Separator is found, but chunk is longer than limit", at)
                return self._take(end)
            searched = max(0, len(buffer) + 1 - longest)
            if searched > self._limit:
                raise asyncio.LimitOverrunError("Separator is not found, and chunk exceed the limit", searched)
            if not await self._fill():
                raise asyncio.IncompleteReadError(self._take(len(self._buffer or b"")), None)

    async def readexactly(self, n: int) -> bytes:
        """Return exactly `n` bytes. Raises `IncompleteReadError` at the end, `ValueError` for a negative `n`."""
        if n < 0:
            raise ValueError("readexactly size can not be less than zero")
        while len(self._buffer or b"") < n:
            if not await self._fill():
                raise asyncio.IncompleteReadError(self._take(len(self._buffer or b"")), n)
        return self._take(n)

    async def _fill(self) -> bool:
        """Append what the socket has to the buffer; False at the end."""
        if self._exception is not None:
            raise self._exception
        if self._eof:
            return False
        if self._eager:
            self._eager -= 1
        else:
            await self._wait()
            self._eager = _EAGER
        while True:
            try:
                count = self._connection.sock.recv_into(_scratch)
            except BlockingIOError:
                await self._wait()
                continue
            except OSError as error:
                if self._ended_by(error):
                    return False
                raise self._exception or error from None
            break
        if count != _CHUNK:
            self._eager = 0
        if self._buffer is None:
            self._buffer = bytearray()
        self._buffer += _scratch_view[:count]
        self._plain = False
        self._eof = count == 0
        return not self._eof

    def _take(self, count: int) -> bytes:
        if not count or self._buffer is None:
            return b""
        taken = bytes(memoryview(self._buffer)[:count])
        del self._buffer[:count]
        self._plain = not self._buffer and not self._eof and self._exception is None
        return taken

    def _ended_by(self, error: OSError) -> bool:
        """Take note of a failed read: True if this side closed the connection meanwhile, which reads as the end."""
        if self._connection.closed and self._connection.error is None:
            self._eof = True
            self._plain = False
            return True
        self._plain = False
        self._exception = self._connection.error or error
        self._connection.failed(error)
        return False

    def at_eof(self) -> bool:
        """Whether the end was seen and everything before it was read."""
        return self._eof and not self._buffer

    def exception(self) -> BaseException | None:
        """The error that ended the reading, if any."""
        return self._exception

    def __aiter__(self) -> StreamReader:
        return self

    async def __anext__(self) -> bytes:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line


class StreamWriter:
    """The writing side. When the last reference goes, an open connection is closed."""

    __slots__ = ("__weakref__", "_connection", "drain", "write")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        connection.drained = drained(connection.loop)
        self.write: Callable[[Any], None] = connection.write
        """Send `data` (any bytes-like object) or keep what does not fit until it does; never blocks."""
        self.drain: Callable[[], Awaitable[None]] = connection.drain
        """Wait until the write buffer is below its low-water mark, if it rose above the high one (64 KiB).

        Raises `ConnectionResetError` and its kin when the connection is lost.
        """

    def writelines(self, data: Iterable[Any]) -> None:
        """Write the concatenation of `data`, in one system call if it fits."""
        self.write(b"".join(data))

    def can_write_eof(self) -> bool:
        """TCP and UNIX streams can be half closed."""
        return True

    def write_eof(self) -> None:
        """Close the writing half once everything is sent; reading goes on."""
        self._connection.write_eof()

    def close(self) -> None:
        """Close the connection once everything is sent; a peer that does not read has 60 s for that."""
        self._connection.close()

    def is_closing(self) -> bool:
        """Whether the connection is closed or about to be."""
        return self._connection.closing

    async def wait_closed(self) -> None:
        """Wait until the connection is closed. Raises the error that broke it, if one did."""
        await self._connection.wait_closed()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`peername`, `sockname` or `socket`; else `default`."""
        return self._connection.get_extra_info(name, default)

    @property
    def transport(self) -> StreamTransport:
        """An `asyncio.Transport` for code that wants one (`abort`, write buffer limits)."""
        return StreamTransport(self._connection)

    def __del__(self) -> None:
        self._connection.close()


async def open_streams(
    runtime: HubRuntime, accepted: Accepted, closed: Callable[[], None]
) -> tuple[StreamReader, StreamWriter]:
    """Return reader and writer over an accepted connection; `closed()` is called when it is closed. Does not block."""
    connection = Connection(runtime.loop, runtime.watches, accepted.socket(), closed, accepted.address)
    return StreamReader(connection), StreamWriter(connection)
