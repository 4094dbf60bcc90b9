"""`asyncio.start_server`: one task for every connection; on the loop that `run` brings."""

from __future__ import annotations

import asyncio

from benchmarks.handlers import async_echo
from benchmarks.peers import BACKLOG, HOST, announce


async def serve() -> None:
    """Serve the async handler for ever."""
    server = await asyncio.start_server(async_echo, HOST, 0, backlog=BACKLOG)
    announce(server.sockets[0].getsockname()[1])
    await server.serve_forever()
