"""One MiB each way over ASGI; the paths are those of `transfer_wsgi`."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from benchmarks.applications.transfer_wsgi import BODY

_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]


async def app(scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
    """Send, count or digest, as the path says."""
    if scope["type"] != "http":
        raise ValueError(f"no application for {scope['type']}")
    status, kind, body = 200, b"text/plain", b""
    match scope["path"]:
        case "/download":
            kind, body = b"application/octet-stream", BODY
        case "/upload":
            body = b"%d" % sum([len(piece) async for piece in _pieces(receive)])
        case "/digest":
            digest = hashlib.sha256()
            async for piece in _pieces(receive):
                digest.update(piece)
            body = digest.hexdigest().encode()
        case _:
            status = 404
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _pieces(receive: _Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise EOFError("the body ended early")
        more = event.get("more_body", False)
        yield event.get("body", b"")
