"""Two ASGI applications that tell the process an answer is from, in X-Worker: one at rest, one busy half of the time.

The busy one holds up its loop for 20 ms, lets it turn for 20 ms, and so on, from its first call. It holds it up by
sleeping, so four such workers use no processor time that the measurement needs.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

BODY = b"here"
TURN_SECONDS = 0.02
_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]
_turns: list[asyncio.Task[None]] = []  # the task of this process: a loop refers to its tasks only weakly


async def app(scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
    """Answer; start and stop with the server."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
        return
    headers = [(b"content-length", b"%d" % len(BODY)), (b"x-worker", b"%d" % os.getpid())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


async def busy(scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
    """Do the same, in a process whose loop is busy from the first call on."""
    if not _turns:
        _turns.append(asyncio.ensure_future(_hold_up()))
    await app(scope, receive, send)


async def _live(receive: _Receive, send: _Send) -> None:
    while True:
        event = await receive()
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return


async def _hold_up() -> None:
    while True:
        time.sleep(TURN_SECONDS)
        await asyncio.sleep(TURN_SECONDS)
