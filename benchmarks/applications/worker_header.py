"""An ASGI middleware: every answer tells the process it is from, in X-Worker."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_Application = Callable[[_Scope, _Receive, _Send], Awaitable[None]]


class TellsWorker:
    """An ASGI application that does what another one does, and adds the header."""

    def __init__(self, application: _Application) -> None:
        self._application = application

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answer as the other one does; the lifespan is its own."""

        async def telling(event: MutableMapping[str, Any]) -> None:
            if event["type"] == "http.response.start":
                event = {**event, "headers": [*event.get("headers", ()), (b"x-worker", b"%d" % os.getpid())]}
            await send(event)

        await self._application(scope, receive, telling if scope["type"] == "http" else send)
