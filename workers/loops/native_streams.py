"""asyncio's own streams for a connection that we accepted: the loops that are not ours keep theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hybrid.workers.fairness import give_way, turn_of
from hybrid.workers.hub.transport import served
from hybrid.workers.runtime import Accepted, Runtime, TellingSocket

LIMIT = 64 * 1024  # bytes; asyncio's default


class StreamReader(asyncio.StreamReader):
    """asyncio's. Reads from its buffer do not wait, so they are counted: see `fairness`."""

    def __init__(self, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit, loop)
        self._turn = turn_of(loop)

    async def read(self, n: int = -1) -> bytes:
        """As asyncio's."""
        data = await super().read(n)
        if self._turn.is_due():
            await give_way(self._turn)
        return data

    async def readuntil(self, separator: Any = b"\n") -> bytes:
        """As asyncio's; `readline` goes through it too."""
        data = await super().readuntil(separator)
        if self._turn.is_due():
            await give_way(self._turn)
        return data

    async def readexactly(self, n: int) -> bytes:
        """As asyncio's."""
        data = await super().readexactly(n)
        if self._turn.is_due():
            await give_way(self._turn)
        return data


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

    async def drain(self) -> None:
        """As asyncio's."""
        await super().drain()
        if self._turn.is_due():
            await give_way(self._turn)


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
