"""`StreamReader`: the reader of `handle(reader, writer)` on the hub, a subclass of asyncio's.

asyncio pushes input into its reader's buffer even if the handler does not read, through a transport, a protocol and a
flow-control object. This reader pulls: `read` receives from the socket when the handler calls it. An unread connection
fills the kernel's buffer, and TCP itself slows the peer down.

A reader made by its constructor, or whose transport has begun to push (see `handler_transport`), is *fed*: it works
like asyncio's, with asyncio's code where speed does not matter. For that reason the shared names (`_buffer`, `_eof`,
`_exception`, `_waiter`, `_paused`, `_transport`) are asyncio's. CPython's own tests of streams run on this class and
`writer` (tests/integration/test_cpython_streams.py). The manual lists the differences. Benchmark: `python -m benchmarks
echo`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from hybrid.workers.common import lingering
from hybrid.workers.common.fairness import give_way
from hybrid.workers.hub.hub_runtime import HubRuntime
from hybrid.workers.hub.watch import Watch
from hybrid.workers.runtime import Accepted
from hybrid.workers.streams.drained import failing
from hybrid.workers.streams.handler_transport import HandlerTransport
from hybrid.workers.streams.readiness import Readiness
from hybrid.workers.streams.stream_socket import StreamSocket
from hybrid.workers.streams.writer import StreamWriter

LIMIT = 64 * 1024  # bytes; asyncio's default for the longest line
_EAGER = 32  # full reads in a row that may skip the poller, as in `sockets`
_MOST = 256 * 1024  # bytes that one read takes from the socket at most
_CHUNK = 64 * 1024  # bytes per recv(2) if the caller gave no size
_scratch = bytearray(_CHUNK)  # one per process: filled and emptied without a switch in between
_scratch_view = memoryview(_scratch)


_BUSY = "read() called while another coroutine is already waiting for incoming data"


def _find_first(buffer: bytes, separators: tuple[bytes, ...], start: int) -> tuple[int, int]:
    """Return position and length of the separator that ends first, the shortest of several; (-1, 0) for none."""
    ends = [(at + len(item), len(item)) for item in separators if (at := buffer.find(item, start)) >= 0]
    if not ends:
        return -1, 0
    end, length = min(ends)
    return end - length, length


class StreamReader(asyncio.StreamReader):
    """The reading side. All coroutines raise `ConnectionResetError` or another `OSError` when the peer is gone."""

    __slots__ = (
        "_buffer",
        "_connection",
        "_eager",
        "_eof",
        "_exception",
        "_limit",
        "_loop",
        "_plain",
        "_readiness",
        "_recv",
        "_watch",
    )
    _buffer: Any  # b"" until readline or a similar method has received too much, then a bytearray
    _connection: StreamSocket | None
    """The connection to pull from; None if the reader is fed."""
    _eager: int
    """Reads to try before waiting."""
    _eof: bool
    _exception: Exception | None
    _limit: int
    _loop: asyncio.AbstractEventLoop
    _plain: bool
    """It pulls; nothing buffered, no end, no error: the only flag that the hot path checks."""
    _readiness: Readiness
    _recv: Callable[[int], bytes]
    _watch: Watch
    _paused = False
    _waiter: asyncio.Future[None] | None = None

    def __init__(self, limit: int = LIMIT, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._connection = None
        self._eager = 0
        self._plain = False
        super().__init__(limit, loop)

    @classmethod
    def of(cls, connection: StreamSocket, limit: int = LIMIT) -> StreamReader:
        """Return a reader that pulls from `connection`."""
        self = cls.__new__(cls)
        self._connection = connection
        self._loop = connection.loop
        self._watch = connection.watch
        self._readiness = Readiness(connection.loop, connection.watches, connection.watch)
        self._recv = connection.sock.recv
        self._limit = limit
        self._buffer = b""
        self._eager = 1  # the first bytes have often arrived with the connection
        self._eof = False
        self._exception = None
        self._plain = True
        return self

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
            if not self._plain:  # it was fed
                return await self._read_slowly(n)  # type: ignore[unreachable]
            self._eager = _EAGER
        while True:
            try:
                data = self._recv(n)
            except BlockingIOError:
                await self._wait()
                if not self._plain:
                    return await self._read_slowly(n)  # type: ignore[unreachable]
                continue
            except OSError as error:
                if self._ended_by(error):
                    return b""
                raise self._exception or error from None
            if len(data) != n:
                self._eager = 0
                if not data:
                    self._ended()
            return data

    # -- everything else ------------------------------------------------------------------------------------------

    def _wait(self) -> Readiness:
        """Return an awaitable that waits until the socket is readable."""
        if self._watch.on_readable is not None:
            raise RuntimeError(_BUSY)
        return self._readiness

    async def _read_slowly(self, n: int) -> bytes:
        if self._exception is not None:
            raise self._exception
        if n == 0:
            return b""
        if n > 0:
            while not self._buffer and await self._fill("read"):
                pass
            return self._take(n)
        parts = [self._take(len(self._buffer))]
        while block := await self.read(_CHUNK):
            parts.append(block)
        return b"".join(parts)

    async def readline(self) -> bytes:
        r"""Return a line with its b"\n"; at the end of the stream the remaining bytes.

        Raises `ValueError` for a line longer than the limit (64 KiB), after dropping the received part, like asyncio.
        """
        try:
            return await self.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            return error.partial
        except asyncio.LimitOverrunError as error:
            found = self._buffer.startswith(b"\n", error.consumed)
            self._take(error.consumed + 1 if found else len(self._buffer))
            raise ValueError(error.args[0]) from None

    async def readuntil(self, separator: Any = b"\n") -> bytes:
        """Return the bytes up to and with `separator` (the first to match of a tuple, as in Python 3.13).

        Raises `IncompleteReadError` at the end, `LimitOverrunError` beyond the limit (the bytes stay), `ValueError`
        for an empty separator.
        """
        several = isinstance(separator, tuple)
        if several and not separator:
            raise ValueError("Separator should contain at least one element")
        if not (all(separator) if several else separator):
            raise ValueError("Separator should be at least one-byte string")
        if self._exception is not None:
            raise self._exception
        length = longest = max(map(len, separator)) if several else len(separator)
        searched = 0
        while True:
            buffer = self._buffer
            if several:
                at, length = _find_first(buffer, separator, searched)
            else:
                at = buffer.find(separator, searched)
            if at >= 0:
                if at > self._limit:
                    raise asyncio.LimitOverrunError("Separator is found, but chunk is longer than limit", at)
                connection = self._connection
                if connection is not None and connection.is_due():
                    await give_way(connection.drained.turn)  # type: ignore[union-attr]
                return self._take(at + length)
            searched = max(0, len(buffer) + 1 - longest)
            if searched > self._limit:
                raise asyncio.LimitOverrunError("Separator is not found, and chunk exceed the limit", searched)
            if not await self._fill("readuntil"):
                raise asyncio.IncompleteReadError(self._take(len(self._buffer)), None)

    async def readexactly(self, n: int) -> bytes:
        """Return exactly `n` bytes. Raises `IncompleteReadError` at the end, `ValueError` for a negative `n`."""
        if n < 0:
            raise ValueError("readexactly size can not be less than zero")
        if self._exception is not None:
            raise self._exception
        while len(self._buffer) < n:
            if not await self._fill("readexactly"):
                raise asyncio.IncompleteReadError(self._take(len(self._buffer)), n)
        connection = self._connection
        if connection is not None and connection.is_due():
            await give_way(connection.drained.turn)  # type: ignore[union-attr]
        return self._take(n)

    async def _fill(self, caller: str) -> bool:
        """Wait until there may be more in the buffer; return False at the end of the stream."""
        if self._exception is not None:
            raise self._exception
        if self._eof:
            return False
        if self._connection is None:
            await self._wait_for_data(caller)  # type: ignore[attr-defined]  # asyncio's
            return True
        if self._eager:
            self._eager -= 1
        else:
            await self._wait()
            self._eager = _EAGER
        self._pull()
        return True

    def _pull(self) -> None:
        """Read from the socket into the buffer; store its end or its error."""
        if self._connection is None or self._eof or self._exception is not None:
            return  # it was fed meanwhile
        try:
            count = self._connection.sock.recv_into(_scratch)
        except BlockingIOError:
            self._eager = 0
            return
        except OSError as error:
            self._ended_by(error)
            return
        if count != _CHUNK:
            self._eager = 0
        self._plain = False
        if count:
            self._own_buffer()
            self._buffer += _scratch_view[:count]
        else:
            self._ended()

    def _own_buffer(self) -> None:
        if type(self._buffer) is bytes:
            self._buffer = bytearray()

    def _ended(self) -> None:
        self._eof = True
        self._plain = False
        assert self._connection is not None
        self._connection.forks = lingering.NEVER  # no more input can cause a reset

    def _take(self, count: int) -> bytes:
        buffer = self._buffer
        if count < len(buffer):
            taken = bytes(memoryview(buffer)[:count])
            del buffer[:count]
        elif buffer:
            taken = bytes(buffer)
            buffer.clear()
            self._plain = not self._eof and self._exception is None and self._connection is not None
        else:
            return b""
        if self._paused:
            self._maybe_resume_transport()  # type: ignore[attr-defined]  # asyncio's
        return taken

    def _ended_by(self, error: OSError) -> bool:
        """Store the error of a read; return True if this side has closed the connection, which reads as the end."""
        connection = self._connection
        assert connection is not None
        self._plain = False
        if connection.closed and connection.error is None:
            self._eof = True
            return True
        self._exception = connection.error or error
        connection.failed(error)
        return False

    def at_eof(self) -> bool:
        """Return True at the end of the stream, once everything before it was read.

        A reader that pulls tries the socket now, unless a coroutine is waiting for it.
        """
        if not self._buffer and self._connection is not None and self._watch.on_readable is None:
            self._pull()
        return self._eof and not self._buffer

    def exception(self) -> Exception | None:
        """Return the error that ended reading, if any."""
        if self._exception is None and self._connection is not None:
            return self._connection.error
        return self._exception

    # -- being fed -------------------------------------------------------------------------------------------------

    def feed_data(self, data: Iterable[Any]) -> None:
        """Append `data` to the input."""
        self._own_buffer()
        super().feed_data(data)
        self._was_fed()

    def feed_eof(self) -> None:
        """End the input."""
        super().feed_eof()
        self._was_fed()

    def set_exception(self, exc: Exception) -> None:
        """Make every read, and the writer's `drain`, raise `exc`."""
        super().set_exception(exc)
        if self._connection is not None:
            self._connection.drained = failing(self._loop, exc)
        self._was_fed()

    def _was_fed(self) -> None:
        self._plain = False
        if self._connection is not None and self._watch.on_readable is not None:
            self._loop.call_soon(self._watch.wake_waiters)

    def is_fed_by(self, transport: HandlerTransport) -> None:
        """Stop pulling: from now on `transport` feeds this reader."""
        if self._connection is not None:
            self._own_buffer()
            self._was_fed()
            self._connection = None
            self._transport = transport

    @property
    def _transport(self) -> Any:
        connection = self._connection
        if connection is None:
            return self.__dict__.get("_transport")
        found = connection.transport
        if found is None:
            found = HandlerTransport(connection, self)
            if not connection.closed:
                connection.transport = found
        return found

    @_transport.setter
    def _transport(self, transport: Any) -> None:
        self.__dict__["_transport"] = transport


async def open_streams(
    runtime: HubRuntime, accepted: Accepted, closed: Callable[[], None]
) -> tuple[StreamReader, StreamWriter]:
    """Return reader and writer of an accepted connection; `closed()` is called when it is closed. Does not block."""
    connection = StreamSocket(runtime.loop, runtime.watches, accepted.socket(), closed, accepted.address)
    reader = StreamReader.of(connection)
    return reader, StreamWriter(connection, reader)
