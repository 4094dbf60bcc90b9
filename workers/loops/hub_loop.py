"""`select`, `poll`, `epoll`: the hub over three pollers."""

from __future__ import annotations

import asyncio
import resource
from functools import partial
from typing import cast

from hybrid.workers.hub.hub_runtime import HubRuntime
from hybrid.workers.hub.loop import HubLoop
from hybrid.workers.pollers.select import FD_SETSIZE
from hybrid.workers.streams.reader import open_streams
from hybrid.workers.streams.stepping import begin_task
from hybrid.workers.streams.tls_transport import open_transport


class HubDriver:
    """See `driver.Driver`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def prepare(self) -> None:
        """For select(2), let accept(2) fail with EMFILE before a descriptor number is too large to be watched."""
        if self.name == "select":
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            if soft == resource.RLIM_INFINITY or soft > FD_SETSIZE:
                resource.setrlimit(resource.RLIMIT_NOFILE, (FD_SETSIZE, hard))

    def new_loop(self) -> HubLoop:
        """Return a hub."""
        return HubLoop(self.name)

    def runtime(self, loop: asyncio.AbstractEventLoop) -> HubRuntime:
        """Return greenlets, sockets and lean streams over the hub."""
        hub = cast(HubLoop, loop)
        watches = hub.watches
        opens = partial(open_transport, hub, watches)
        return HubRuntime(self.name, hub, watches, open_streams, begin_task, opens, watches.observe)


driver = HubDriver
