"""`uvloop`: libuv's loop, with our greenlets on top."""

from __future__ import annotations

import asyncio

import uvloop
from hybrid.workers.loops.asyncio_loop import AsyncioDriver


class UvloopDriver(AsyncioDriver):
    """See `driver.Driver`."""

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Return a uvloop loop."""
        return uvloop.new_event_loop()


driver = UvloopDriver
