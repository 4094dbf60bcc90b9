"""`asyncio`: the standard library's loop, with our greenlets on top."""

from __future__ import annotations

import asyncio

from hybrid.workers.hub.reactor import LoopWatches
from hybrid.workers.hub.runtime import HubRuntime
from hybrid.workers.loops.native_streams import open_streams


class AsyncioDriver:
    """See `driver.Driver`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def prepare(self) -> None:
        """Nothing to prepare."""

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Return asyncio's selector loop, whatever policy the application set."""
        return asyncio.SelectorEventLoop()

    def runtime(self, loop: asyncio.AbstractEventLoop) -> HubRuntime:
        """Return greenlets over `add_reader` and asyncio's own streams."""
        return HubRuntime(self.name, loop, LoopWatches(loop), open_streams, type(loop).create_task)


driver = AsyncioDriver
