"""A stream handler and an ASGI application that set the task factory which the client names."""

from __future__ import annotations

import asyncio
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any

FACTORIES: dict[str, Any] = {}
made: list[str] = []  # the factory of each task


class Named(asyncio.Task[Any]):
    """A task of a class of the application's."""


def two_arguments(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Make a task as factories did before Python 3.11 brought the argument `context`."""
    made.append("two_arguments")
    return Named(coroutine, loop=loop)


def wrapping(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    """Make a task around a coroutine of the factory's own, and schedule something more."""

    async def wrapper() -> Any:
        return await coroutine

    made.append("wrapping")
    task = asyncio.Task(wrapper(), loop=loop, **options)
    loop.call_soon(len, made)
    return task


def failing_once(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    """Raise, and step aside for the tasks that follow."""
    loop.set_task_factory(None)
    coroutine.close()
    raise LookupError("no task today")


FACTORIES = {"two_arguments": two_arguments, "wrapping": wrapping, "failing_once": failing_once, "none": None}
if sys.version_info >= (3, 12):

    def eager(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        """Make a task that begins at once."""
        made.append("eager")
        return asyncio.eager_task_factory(loop, coroutine, **options)

    FACTORIES |= {"eager": eager, "eager_task_factory": asyncio.eager_task_factory}


def _choose(name: str) -> None:
    asyncio.get_running_loop().set_task_factory(FACTORIES[name])


async def handle(reader: StreamReader, writer: StreamWriter) -> None:
    """Set the factory that the first line names, tell what has made this task, and echo the second line."""
    mine = made[-1] if made else "none"
    made.clear()
    name = (await reader.readline()).decode().strip()
    _choose(name)
    await asyncio.sleep(0)
    line = reader.readline() if name == "failing_once" else asyncio.create_task(reader.readline())
    writer.write(f"{mine} {await line!r}".encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def application(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """Set the factory that the path names, and tell what has made this task."""
    if scope["type"] != "http":
        raise NotImplementedError
    mine = made[-1] if made else "none"
    made.clear()
    name, _, waits = scope["path"].strip("/").partition("/")
    _choose(name)
    if waits:
        await asyncio.sleep(0)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(mine))]})
    await send({"type": "http.response.body", "body": mine.encode()})
