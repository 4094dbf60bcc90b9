"""`HubLoop`: asyncio's own selector loop, given the hub's selector."""

from __future__ import annotations

import asyncio
from typing import IO, Any

from hybrid.workers.hub.handler_transport import HandlerTransport
from hybrid.workers.hub.selector import HubSelector
from hybrid.workers.pollers import open_poller


class HubLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop whose selector also serves greenlets and lean streams directly.

    `poller` is `select`, `poll` or `epoll`. Raises what `open_poller` raises.
    """

    def __init__(self, poller: str = "epoll") -> None:
        self.watches = HubSelector(open_poller(poller))
        super().__init__(self.watches)
        self.watches.call_soon = self.call_soon

    async def _sendfile_native(self, transp: Any, file: IO[bytes], offset: int, count: int | None) -> int:
        """Called by `sendfile`, which asyncio implements for its own transports only."""
        if isinstance(transp, HandlerTransport):
            return await transp.send_file(file, offset, count)
        return await super()._sendfile_native(transp, file, offset, count)  # type: ignore[misc, no-any-return]
