"""An ASGI application without a framework: start-up and shutdown, a clock as server-sent events, early hints.

    hybrid run --bind 127.0.0.1:9000 examples.asgi_plain:app
    curl http://127.0.0.1:9000/
    curl -N http://127.0.0.1:9000/clock
    curl -v http://127.0.0.1:9000/hinted                     shows 103 before 200

The clock ends when its client disconnects or the worker stops: `receive` returns `http.disconnect` in both cases.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

TICK = 1.0  # seconds between two events


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Serve one request, or the lifespan of the worker."""
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
    elif scope["type"] == "http":
        match scope["path"]:
            case "/":
                await answer(send, f"this worker began at {scope['state']['began']}\n".encode())
            case "/clock":
                await clock(receive, send)
            case "/hinted":
                await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload; as=style"]})
                await answer(send, b"the hint for the style sheet came before this page\n")
            case _:
                await answer(send, b"try /, /clock, /hinted\n", 404)


async def lifespan(scope: Message, receive: Receive, send: Send) -> None:
    """Set up resources once per worker, here only the time of its start. Requests find them in their `state`."""
    await receive()
    scope["state"]["began"] = time.strftime("%H:%M:%S")
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def answer(send: Send, body: bytes, status: int = 200) -> None:
    """Send a complete response."""
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def clock(receive: Receive, send: Send) -> None:
    """Send the time until the client disconnects or the worker stops."""
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    gone = asyncio.create_task(disconnected(receive))
    try:
        while not gone.done():
            event = f"data: {time.strftime('%H:%M:%S')}\n\n".encode()
            await send({"type": "http.response.body", "body": event, "more_body": True})
            await asyncio.wait([gone], timeout=TICK)
        await send({"type": "http.response.body"})
    except OSError:
        pass  # the client disconnected during a send
    finally:
        gone.cancel()


async def disconnected(receive: Receive) -> None:
    """Wait until the client disconnects or the worker stops."""
    while (await receive())["type"] != "http.disconnect":
        pass
