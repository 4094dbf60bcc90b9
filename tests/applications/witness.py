"""The same pages over WSGI and ASGI: what the server believes about a client, and answers that end in every way."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

BLOCK = b"x" * 65_536


def facts_of_environ(environ: dict[str, Any]) -> dict[str, Any]:
    names = {"scheme": "wsgi.url_scheme", "host": "HTTP_HOST", "name": "SERVER_NAME", "port": "SERVER_PORT"}
    client = [environ["REMOTE_ADDR"], int(environ["REMOTE_PORT"])] if environ["REMOTE_ADDR"] else None
    return {**{name: environ.get(key) for name, key in names.items()}, "client": client}


def facts_of_scope(scope: dict[str, Any]) -> dict[str, Any]:
    hosts = [value.decode() for name, value in scope["headers"] if name == b"host"]
    name, port = scope["server"]
    client = list(scope["client"]) if scope["client"] else None
    host = hosts[0] if len(hosts) == 1 else None
    return {"scheme": scope["scheme"], "host": host, "name": name, "port": str(port), "client": client}


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Page", environ["PATH_INFO"])])
    match environ["PATH_INFO"]:
        case "/facts":
            yield json.dumps(facts_of_environ(environ)).encode()
        case "/upload":
            yield b"%d" % len(environ["wsgi.input"].read())
        case "/half":
            yield b"part"
            raise LookupError("a broken page")
        case "/endless":
            while True:
                yield BLOCK
        case _:
            yield b"hello"


async def asgi(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[..., Any]) -> None:
    if scope["type"] == "websocket":
        await talk(scope, receive, send)
        return
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    fields = [(b"content-type", b"text/plain"), (b"x-page", scope["path"].encode())]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    body = b"hello"
    match scope["path"]:
        case "/facts":
            body = json.dumps(facts_of_scope(scope)).encode()
        case "/upload":
            body = b"%d" % await size_of(receive)
        case "/half":
            await send({"type": "http.response.body", "body": b"part", "more_body": True})
            raise LookupError("a broken page")
        case "/endless":
            while True:
                await send({"type": "http.response.body", "body": BLOCK, "more_body": True})
    await send({"type": "http.response.body", "body": body})


async def size_of(receive: Callable[[], Awaitable[Any]]) -> int:
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        size += len(message["body"])
        more = message["more_body"]
    return size


async def talk(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[..., Any]) -> None:
    """Tell the facts on a WebSocket and end it; stay at /stay, never stop at /flood, let nobody in at /closed."""
    await receive()
    if scope["path"] == "/closed":
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.accept", "headers": [(b"x-page", scope["path"].encode())]})
    await send({"type": "websocket.send", "text": json.dumps(facts_of_scope(scope))})
    if scope["path"] == "/stay":
        await receive()
    while scope["path"] == "/flood":
        await send({"type": "websocket.send", "bytes": BLOCK})
