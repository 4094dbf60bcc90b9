"""A WebSocket without a framework: echoes every message, text or binary.

    hybrid run --bind 127.0.0.1:9000 examples.websocket_echo:app
    python -m websockets ws://127.0.0.1:9000/

The server handles pings, their timeouts, compression and the size limit of messages: see `hybrid run --help`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Serve one WebSocket; answer plain HTTP requests with 426."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 426, "headers": [(b"upgrade", b"websocket")]})
        await send({"type": "http.response.body", "body": b"this is a WebSocket\n"})
    elif scope["type"] == "websocket":
        await receive()  # websocket.connect
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})
    else:
        raise NotImplementedError("no lifespan")
