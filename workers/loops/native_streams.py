"""asyncio's own streams for a connection that we accepted: the loops that are not ours keep theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hybrid.workers.runtime import Accepted, Runtime

LIMIT = 64 * 1024  # bytes; asyncio's default


def _served(*_: object) -> None:
    """Mark a protocol as the server's end: asyncio's `StreamWriter.start_tls` looks for a callback there."""


async def open_streams(
    runtime: Runtime, accepted: Accepted, closed: Callable[[], None]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return asyncio's reader and writer over `accepted`; `closed()` is called once the connection is lost."""
    loop: Any = runtime.loop
    sock = accepted.telling_socket(closed)
    try:
        reader = asyncio.StreamReader(limit=LIMIT, loop=loop)
        transport, protocol = await loop.connect_accepted_socket(
            lambda: asyncio.StreamReaderProtocol(reader, loop=loop), sock
        )
    except BaseException:
        sock.close()
        raise
    protocol._client_connected_cb = _served
    # `protocol` holds the only strong reference to itself through the transport: StreamReaderProtocol refers to the
    # reader weakly, so the reader must stay referenced by the handler, as with asyncio.open_connection
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
