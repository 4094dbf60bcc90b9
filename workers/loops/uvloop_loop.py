"""`uvloop`: libuv's loop, with hybrid's greenlets on top."""

from __future__ import annotations

import asyncio

import uvloop

from hybrid.workers.common.heartbeat import Heartbeat
from hybrid.workers.loops.asyncio_loop import AsyncioDriver


class UvloopDriver(AsyncioDriver):
    """See `driver.Driver`."""

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Return a uvloop loop."""
        return uvloop.new_event_loop()

    def _observe(self, heartbeat: Heartbeat) -> None:
        """Do nothing: libuv does not report when it waits, so only answers to pings show that the loop turns."""

    def _abandon(self) -> None:
        """Do nothing: libuv gives a forked child its own epoll set (uv_loop_fork)."""


driver = UvloopDriver
