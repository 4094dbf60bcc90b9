"""A WSGI and an ASGI application that answer with a given size; `/fork/N` leaves a child that holds the connection."""

from __future__ import annotations

import os
from typing import Any

_reader, _writer = os.pipe()
os.set_inheritable(_writer, False)


def _body(path: str) -> bytes:
    kind, size = path.strip("/").split("/")
    if kind == "fork" and not os.fork():
        os.close(_writer)
        os.read(_reader, 1)  # until the worker ends
        os._exit(0)
    return b"x" * int(size)


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body = _body(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise RuntimeError("this application has no start")
    body = _body(scope["path"])
    await send({"type": "http.response.start", "status": 200})
    for start in range(0, len(body), 65_536):
        await send({"type": "http.response.body", "body": body[start : start + 65_536], "more_body": True})
    await send({"type": "http.response.body"})
