"""`HubLoop`: asyncio's own selector loop, given the hub's selector."""

from __future__ import annotations

from hybrid.workers.hub.selector import HubSelector
from hybrid.workers.pollers import open_poller
from hybrid.workers.tasks.cpython import SendfileLoop


class HubLoop(SendfileLoop):
    """An asyncio event loop whose selector also calls greenlets and lean streams directly.

    `poller` is `select`, `poll` or `epoll`. Raises the same errors as `open_poller`.
    """

    def __init__(self, poller: str = "epoll") -> None:
        self.watches = HubSelector(open_poller(poller))
        super().__init__(self.watches)
        self.watches.call_soon = self.call_soon
