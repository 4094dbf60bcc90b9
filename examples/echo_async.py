"""An echo service with `async` and `await`, as for `asyncio.start_server`: one task for every connection.

    hybrid run --workers auto --loop epoll --bind 127.0.0.1:9000 examples.echo_async:handle
    nc 127.0.0.1 9000

`--loop asyncio` and `--loop uvloop` run it on those loops. `asyncio.timeout`, tasks, queues and all libraries for
asyncio work in it as they do elsewhere.
"""

from __future__ import annotations

import asyncio

SILENCE = 300.0  # seconds after which a silent client is disconnected


async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echo every line until the client closes or is silent for too long."""
    try:
        async with asyncio.timeout(SILENCE) as deadline:
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
                deadline.reschedule(asyncio.get_running_loop().time() + SILENCE)
    except TimeoutError:
        writer.write(b"still there? goodbye\r\n")
    writer.close()
    await writer.wait_closed()
