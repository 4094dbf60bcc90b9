"""asyncio's own streams over an accepted connection, for asyncio, uvloop and gevent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from hybrid.workers.common.fairness import Turn, turn_of
from hybrid.workers.runtime import Accepted, TellingSocket, Transports
from hybrid.workers.streams.write_transport import served
from hybrid.workers.tasks.cpython import serve_by

T = TypeVar("T")
LIMIT = 64 * 1024  # bytes; asyncio's default
_read = asyncio.StreamReader.read
_readuntil = asyncio.StreamReader.readuntil
_readexactly = asyncio.StreamReader.readexactly
_drain = asyncio.StreamWriter.drain
_set_exception = asyncio.StreamReader.set_exception


class StreamReader(asyncio.StreamReader):
    """asyncio's reader. Reads from its buffer do not wait, so they are counted: see `fairness`.

    Methods mostly return asyncio's own coroutine: wrapping it in another one for each read cost an echo server up to a
    tenth of its messages (`python -m benchmarks echo`).
    """

    def __init__(self, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit, loop)
        self.has_failed = False
        """True once `set_exception` was called."""
        self._turn = turn_of(loop)
        self._is_due = self._turn.is_due

    def set_exception(self, exc: Exception) -> None:
        """As asyncio's."""
        self.has_failed = True
        _set_exception(self, exc)

    def read(self, n: int = -1) -> Coroutine[Any, Any, bytes]:
        """As asyncio's."""
        return _then_give_way(_read(self, n), self._turn) if self._is_due() else _read(self, n)

    def readuntil(self, separator: Any = b"\n") -> Coroutine[Any, Any, bytes]:
        """As asyncio's; `readline` goes through it too."""
        reading = _readuntil(self, separator)
        return _then_give_way(reading, self._turn) if self._is_due() else reading

    def readexactly(self, n: int) -> Coroutine[Any, Any, bytes]:
        """As asyncio's."""
        return _then_give_way(_readexactly(self, n), self._turn) if self._is_due() else _readexactly(self, n)


async def _then_give_way(operation: Coroutine[Any, Any, T], turn: Turn) -> T:
    """Await an operation that rarely waits; then let the loop continue if its turn has lasted long enough."""
    result = await operation
    if turn.is_long():
        await asyncio.sleep(0)
    return result


class StreamProtocol(asyncio.StreamReaderProtocol):
    """asyncio's protocol; also calls the socket before the transport closes it, and knows if the writer must wait."""

    def __init__(self, reader: StreamReader, loop: asyncio.AbstractEventLoop, sock: TellingSocket) -> None:
        super().__init__(reader, loop=loop)
        self._sock = sock
        self.has_room = True
        """True while the connection is open and its buffer is below the high-water mark: `drain` need not wait."""

    def pause_writing(self) -> None:
        """The transport's buffer is above its high-water mark."""
        self.has_room = False
        super().pause_writing()

    def resume_writing(self) -> None:
        """The transport's buffer is below its low-water mark again."""
        self.has_room = True
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called once, last."""
        self.has_room = False
        self._sock.lost()
        super().connection_lost(exc)


class StreamWriter(asyncio.StreamWriter):
    """asyncio's writer. While the peer reads fast, `drain` does not wait, so it is counted: see `fairness`."""

    def __init__(self, transport: asyncio.Transport, protocol: StreamProtocol, reader: StreamReader, loop: Any) -> None:
        super().__init__(transport, protocol, reader, loop)
        self._is_closing = transport.is_closing
        self._flow = protocol
        self._source = reader
        self._turn = turn_of(loop)
        self._is_due = self._turn.is_due

    async def drain(self) -> None:
        """As asyncio's, which makes four calls for the same checks. Benchmark: `python -m benchmarks echo`."""
        if self._flow.has_room and not self._source.has_failed and not self._is_closing():
            if self._is_due() and self._turn.is_long():
                await asyncio.sleep(0)
        else:
            await _drain(self)

    async def start_tls(self, *args: Any, **options: Any) -> None:
        """As asyncio's."""
        await super().start_tls(*args, **options)
        self._is_closing = self.transport.is_closing


async def open_streams(
    runtime: Transports, accepted: Accepted, closed: Callable[[], None]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return asyncio's reader and writer over `accepted`; `closed()` is called once the connection is lost."""
    loop: Any = runtime.loop
    sock = accepted.telling_socket(closed, loop)
    try:
        reader = StreamReader(limit=LIMIT, loop=loop)
        transport, protocol = await loop.connect_accepted_socket(lambda: StreamProtocol(reader, loop, sock), sock)
    except BaseException:
        sock.close()
        raise
    serve_by(protocol, served)
    sock.serves(transport)
    # `protocol` holds the only strong reference to itself through the transport: StreamReaderProtocol refers to the
    # reader weakly, so the reader must stay referenced by the handler, as with asyncio.open_connection
    return reader, StreamWriter(transport, protocol, reader, loop)
