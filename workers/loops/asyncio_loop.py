"""`asyncio`: the standard library's loop, with hybrid's greenlets on top."""

from __future__ import annotations

import asyncio
import os
import selectors
from collections.abc import Callable
from functools import partial
from typing import Any

from hybrid.workers.common import forks
from hybrid.workers.common.heartbeat import Heartbeat
from hybrid.workers.hub.hub_runtime import HubRuntime
from hybrid.workers.hub.loop_watches import LoopWatches
from hybrid.workers.loops.native_streams import open_streams
from hybrid.workers.loops.native_transport import open_transport


class AsyncioDriver:
    """See `driver.Driver`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def prepare(self) -> None:
        """Nothing to prepare."""

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Return asyncio's selector loop, whatever policy the application set."""
        self._selector = selectors.DefaultSelector()
        return asyncio.SelectorEventLoop(self._selector)

    def runtime(self, loop: asyncio.AbstractEventLoop) -> HubRuntime:
        """Return greenlets over `add_reader` and asyncio's own streams."""
        watches = LoopWatches(loop, self._abandon)
        make_task = type(loop).create_task
        opens = partial(open_transport, loop)
        return HubRuntime(self.name, loop, watches, open_streams, make_task, opens, self._observe)

    def _observe(self, heartbeat: Heartbeat) -> None:
        select: Callable[[float | None], Any] = heartbeat.watching(self._selector.select)
        self._selector.select = select  # type: ignore[method-assign, assignment]

    def _abandon(self) -> None:
        """In a forked child, replace the epoll set that it shares with the worker by /dev/null."""
        fileno = getattr(self._selector, "fileno", None)
        if fileno is not None:  # a selector over select or poll shares nothing
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, fileno(), inheritable=False)
            os.close(null)
        self._selector.select = forks.leave  # type: ignore[method-assign]


driver = AsyncioDriver
