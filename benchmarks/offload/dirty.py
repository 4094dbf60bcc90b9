"""A caller inside gunicorn, whose pool consists of its "dirty" workers: started by `rows`, with gunicorn's own command.

The application serves no requests. At its start-up it listens for tasks, as the other callers do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from gunicorn.dirty import DirtyApp, get_dirty_client_async

from benchmarks.offload import waiting, work
from benchmarks.offload.task import line, task_of
from benchmarks.peers import BACKLOG, HOST, announce

_FUNCTIONS = {function.__name__: function for function in vars(work).values() if callable(function)}


class Functions(DirtyApp):  # type: ignore[misc]  # gunicorn has no types
    """The functions that pools call: dirty workers run methods of applications, and know no others."""

    def call(self, name: str, *arguments: Any) -> Any:
        """Call one of `work`."""
        return _FUNCTIONS[name](*arguments)


async def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    client = await get_dirty_client_async()  # one for each task, as it keeps it in a context variable
    return await client.execute_async(f"{__name__}:Functions", "call", function.__name__, *arguments)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(line(await waiting.measure(task_of(await reader.readline()), _call)))
    await writer.drain()
    writer.close()


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Listen for tasks from the start-up on."""
    assert scope["type"] == "lifespan", "no requests come"
    await receive()
    server = await asyncio.start_server(_answer, HOST, 0, backlog=BACKLOG)
    await send({"type": "lifespan.startup.complete"})
    announce(server.sockets[0].getsockname()[1])
    await receive()
    server.close()
    await send({"type": "lifespan.shutdown.complete"})
