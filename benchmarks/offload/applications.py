"""A greeting, and 100 ms of computing at `/busy`, over ASGI: four applications, which compute in different places.

`/pin` pins the worker to the first core, and its pool process, if it has one, to the second.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
from collections.abc import Awaitable, Callable
from typing import Any

import hybrid
from benchmarks import machine
from benchmarks.applications.mixed import BODY, BUSY_BODY, BUSY_PATH, compute
from benchmarks.offload import work

PIN_PATH = "/pin"
_WORKER_CORE, _POOL_CORE = machine.server_core(), machine.load_core()  # before any process is pinned
_Call = Callable[..., Awaitable[Any]]  # of a function


class Application:
    """Greets on the loop, and calls `compute` by `call`."""

    def __init__(self, call: _Call, *, has_pool: bool) -> None:
        self._call = call
        self._has_pool = has_pool

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            raise ValueError(f"no application for {scope['type']}")
        body = BODY
        if scope["path"] == BUSY_PATH:
            await self._call(compute)
            body = BUSY_BODY
        elif scope["path"] == PIN_PATH:
            await self._pin()
        headers = [
            (b"content-type", b"text/plain"),
            (b"content-length", b"%d" % len(body)),
            (b"x-worker", b"%d" % os.getpid()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _pin(self) -> None:
        if _WORKER_CORE is not None and _POOL_CORE is not None:
            work.pin_caller(_WORKER_CORE)
            if self._has_pool:
                await self._call(work.pin, _POOL_CORE)


async def _at_once(function: Callable[[], Any]) -> Any:
    return function()


_executor: concurrent.futures.ProcessPoolExecutor | None = None


async def _in_executor(function: Callable[..., Any], *arguments: Any) -> Any:
    global _executor
    if _executor is None:
        _executor = concurrent.futures.ProcessPoolExecutor(1)
    return await asyncio.get_running_loop().run_in_executor(_executor, function, *arguments)


async def _in_thread(function: Callable[..., Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, function)


in_the_loop = Application(_at_once, has_pool=False)
offloaded = Application(hybrid.offload, has_pool=True)
in_threads = Application(_in_thread, has_pool=False)
in_a_pool = Application(_in_executor, has_pool=True)
