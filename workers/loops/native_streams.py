"""asyncio's own streams for a connection that we accepted: the loops that are not ours keep theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hybrid.workers.runtime import Accepted, Runtime

LIMIT = 64 * 1024  # bytes; asyncio's default


class _CountedProtocol(asyncio.StreamReaderProtocol):
    """`StreamReaderProtocol` that tells when the connection is gone."""

    def __init__(
        self, reader: asyncio.StreamReader, loop: asyncio.AbstractEventLoop, closed: Callable[[], None]
    ) -> None:
        super().__init__(reader, loop=loop)
        self._tell_closed = closed

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the transport, once."""
        super().connection_lost(exc)
        self._tell_closed()


async def open_streams(
    runtime: Runtime, accepted: Accepted, closed: Callable[[], None]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return asyncio's reader and writer over `accepted`; `closed()` is called once the connection is lost."""
    loop: Any = runtime.loop
    sock = accepted.socket()
    try:
        reader = asyncio.StreamReader(limit=LIMIT, loop=loop)
        transport, protocol = await loop.connect_accepted_socket(lambda: _CountedProtocol(reader, loop, closed), sock)
    except BaseException:
        sock.close()
        closed()
        raise
    # `protocol` holds the only strong reference to itself through the transport: StreamReaderProtocol refers to the
    # reader weakly, so the reader must stay referenced by the handler, as with asyncio.open_connection
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
