"""A WSGI application, an ASGI application and a handler; their hooks are in `hooks_sync`, `hooks_async` and others."""

from __future__ import annotations

from typing import Any

from hook_notes import note

note("imported")


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        note("lifespan starts")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        note("lifespan ends")
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"ok"})


def handle(sock: Any, address: Any) -> None:
    sock.sendall(sock.recv(100))
