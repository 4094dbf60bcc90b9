"""`loop.create_server`: callbacks and no task at all; on the loop that `run` brings."""

from __future__ import annotations

import asyncio

from benchmarks.peers import BACKLOG, HOST, announce
from benchmarks.protocols import EchoProtocol


async def serve() -> None:
    """Serve the protocol for ever."""
    server = await asyncio.get_running_loop().create_server(EchoProtocol, HOST, 0, backlog=BACKLOG)
    announce(server.sockets[0].getsockname()[1])
    await server.serve_forever()
