"""asyncio's own streams for a connection that we accepted: the loops that are not ours keep theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from hybrid.workers.fairness import Turn, give_way, turn_of
from hybrid.workers.hub.transport import served
from hybrid.workers.runtime import Accepted, Runtime, TellingSocket

T = TypeVar("T")
LIMIT = 64 * 1024  # bytes; asyncio's default
_read = asyncio.StreamReader.read
_readuntil = asyncio.StreamReader.readuntil
_readexactly = asyncio.StreamReader.readexactly
_drain = asyncio.StreamWriter.drain


class StreamReader(asyncio.StreamReader):
    """asyncio's. Reads from its buffer do not wait, so they are counted: see `fairness`.

    What a method returns is mostly asyncio's own coroutine: one around it for each read cost an echo up to a tenth of
    its messages (`python -m benchmarks echo`).
    """

    def __init__(self, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit, loop)
        self._turn = turn_of(loop)
        self._is_due = self._turn.is_due

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
    """Await an operation that rarely waits; then let the loop go on if its turn has lasted long enough."""
    result = await operation
    await give_way(turn)
    return result


class StreamProtocol(asyncio.StreamReaderProtocol):
    """asyncio's; tells the socket before the transport closes it."""

    def __init__(self, reader: StreamReader, loop: asyncio.AbstractEventLoop, sock: TellingSocket) -> None:
        super().__init__(reader, loop=loop)
        self._sock = sock

    def connection_lost(self, exc: Exception | None) -> None:
        """Called once, last."""
        self._sock.lost()
        super().connection_lost(exc)


class StreamWriter(asyncio.StreamWriter):
    """asyncio's. While the peer reads fast, `drain` does not wait, so it is counted: see `fairness`."""

    def __init__(self, transport: Any, protocol: Any, reader: StreamReader, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(transport, protocol, reader, loop)
        self._turn = turn_of(loop)
        self._is_due = self._turn.is_due

    def drain(self) -> Coroutine[Any, Any, None]:
        """As asyncio's."""
        return _then_give_way(_drain(self), self._turn) if self._is_due() else _drain(self)


async def open_streams(
    runtime: Runtime, accepted: Accepted, closed: Callable[[], None]
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
    protocol._client_connected_cb = served
    sock.serves(transport)
    # `protocol` holds the only strong reference to itself through the transport: StreamReaderProtocol refers to the
    # reader weakly, so the reader must stay referenced by the handler, as with asyncio.open_connection
    return reader, StreamWriter(transport, protocol, reader, loop)
