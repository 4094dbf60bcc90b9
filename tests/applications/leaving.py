"""Streams and long polls of frameworks, whose clients leave before the end; and applications that then really fail."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

BLOCK = "x" * 1000
PAUSE = 0.02  # seconds between two pieces of a stream


async def pieces() -> AsyncIterator[str]:
    for number in itertools.count():
        yield f"{number} {BLOCK}\n"
        await asyncio.sleep(PAUSE)


async def sse(request: Request) -> Response:
    return EventSourceResponse(pieces())


async def streaming(request: Request) -> Response:
    return StreamingResponse(pieces(), media_type="text/plain")


async def poll(request: Request) -> Response:
    """Wait for news that never come, as long as the client does."""
    while not await request.is_disconnected():
        await asyncio.sleep(PAUSE)
    return PlainTextResponse("you have left")


starlette = Starlette(routes=[Route("/sse", sse), Route("/streaming", streaming), Route("/poll", poll)])


def _fastapi() -> Any:
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/streaming")
    async def fastapi_streaming() -> Response:
        return StreamingResponse(pieces())

    return app


def _quart() -> Any:
    from quart import Quart

    app = Quart(__name__)

    @app.get("/streaming")
    async def quart_streaming() -> Any:
        return pieces(), 200, {"content-type": "text/event-stream"}

    @app.get("/poll")
    async def quart_poll() -> str:
        await asyncio.Event().wait()
        return "never"

    return app


async def plain(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[..., Any]) -> None:
    """/poll: return without an answer when the client leaves; /crash: fail then; /careless: return at once."""
    assert scope["type"] == "http"
    if scope["path"] == "/begun":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    if scope["path"] == "/careless":
        return
    while (await receive())["type"] != "http.disconnect":
        pass
    match scope["path"]:
        case "/crash":
            raise LookupError("a reason of its own")
        case "/file":
            raise FileNotFoundError("no such file")
        case "/cancel":
            raise asyncio.CancelledError
        case "/answer":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"after all"})


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    try:
        while True:
            yield BLOCK.encode() * 20
    finally:
        environ["wsgi.errors"].write("closed\n")  # in one piece: `print` writes two, and threads get between them
        environ["wsgi.errors"].flush()
        if environ["PATH_INFO"] == "/crash":
            raise LookupError("a reason of its own")


APPLICATIONS: dict[str, Any] = {"starlette": starlette, "plain": plain}


async def asgi(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[..., Any]) -> None:
    """Serve /NAME/path by the application of that name; those of FastAPI and Quart are made when first asked for."""
    assert scope["type"] == "http"
    _, name, path = scope["path"].split("/")
    if name not in APPLICATIONS:
        APPLICATIONS[name] = {"fastapi": _fastapi, "quart": _quart}[name]()
    await APPLICATIONS[name]({**scope, "path": f"/{path}", "raw_path": f"/{path}".encode()}, receive, send)
