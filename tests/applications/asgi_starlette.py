"""An application of Starlette's in the manner of its documentation: routing, middleware, forms, files, streams."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

NOTES = Path(os.environ["NOTES"])


def note(line: str) -> None:
    with NOTES.open("a") as file:
        file.write(line + "\n")


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    note("startup")
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep_forever)  # as a pool of connections has its own tasks
        yield {"greeting": "hello", "visits": []}
        group.cancel_scope.cancel()
    note("shutdown")


class Stamp(BaseHTTPMiddleware):
    """Puts a header field into each answer; runs the application in a task of its own."""

    async def dispatch(self, request: Request, call_next: Any) -> Any:
        request.state.stamp = "stamped"
        answer = await call_next(request)
        answer.headers["x-stamp"] = request.state.stamp
        return answer


async def homepage(request: Request) -> PlainTextResponse:
    request.state.visits.append(1)
    return PlainTextResponse(f"{request.state.greeting}, {request.url_for('user', username='Änne')}")


class User(HTTPEndpoint):
    async def get(self, request: Request) -> JSONResponse:
        return JSONResponse({"user": request.path_params["username"], "query": dict(request.query_params)})

    async def put(self, request: Request) -> JSONResponse:
        return JSONResponse({"saved": await request.json()}, status_code=201)


def in_a_thread(request: Request) -> PlainTextResponse:
    return PlainTextResponse(threading.current_thread().name)


async def upload(request: Request) -> JSONResponse:
    digest = hashlib.sha256()
    async for piece in request.stream():
        digest.update(piece)
    return JSONResponse({"digest": digest.hexdigest()})


async def numbers(request: Request) -> StreamingResponse:
    async def generate() -> AsyncIterator[str]:
        for number in range(int(request.query_params["count"])):
            yield f"{number}\n"
            await asyncio.sleep(0)

    def generate_in_threads() -> Iterator[str]:
        for number in range(int(request.query_params["count"])):
            yield f"{number}\n"

    threads = request.query_params.get("threads")
    return StreamingResponse(generate_in_threads() if threads else generate(), media_type="text/plain")


async def ticks(request: Request) -> StreamingResponse:
    async def generate() -> AsyncIterator[str]:
        try:
            while not await request.is_disconnected():
                yield "data: tick\n\n"
                await anyio.sleep(0.01)
        finally:
            note("no more ticks")

    return StreamingResponse(generate(), media_type="text/event-stream")


async def download(request: Request) -> FileResponse:
    return FileResponse(request.query_params["path"], filename="täst.bin")


async def signup(request: Request) -> JSONResponse:
    async def welcome(name: str) -> None:
        await anyio.sleep(0.05)
        note(f"welcome {name} {await anyio.to_thread.run_sync(threading.current_thread) is not None}")

    async with request.form() as form:
        name = str(form["name"])
        content = await form["file"].read() if "file" in form else b""  # type: ignore[union-attr]
    task = BackgroundTask(welcome, name)
    return JSONResponse({"name": name, "digest": hashlib.sha256(content).hexdigest()}, background=task)


async def too_slow(request: Request) -> PlainTextResponse:
    with anyio.move_on_after(0.01) as scope:
        await anyio.sleep(60)
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 60)
        group.cancel_scope.cancel()
    return PlainTextResponse(f"cancelled {scope.cancelled_caught}")


async def broken(request: Request) -> None:
    raise LookupError("a broken page")


async def forbidden(request: Request) -> None:
    raise HTTPException(403, "not for you")


async def not_found(request: Request, error: Exception) -> PlainTextResponse:
    return PlainTextResponse(f"nothing at {request.url.path}", status_code=404)


class Echo(WebSocketEndpoint):
    encoding = "text"

    async def on_receive(self, websocket: WebSocket, data: str) -> None:
        await websocket.send_text(f"Message text was: {data}")

    async def on_disconnect(self, websocket: WebSocket, close_code: int) -> None:
        note(f"disconnected {close_code}")


async def refuse(websocket: WebSocket) -> None:
    await websocket.send_denial_response(JSONResponse({"why": "no ticket"}, status_code=401))


app = Starlette(
    routes=[
        Route("/", homepage),
        Route("/user/{username}", User, name="user"),
        Route("/thread", in_a_thread),
        Route("/upload", upload, methods=["POST"]),
        Route("/numbers", numbers),
        Route("/ticks", ticks),
        Route("/download", download),
        Route("/signup", signup, methods=["POST"]),
        Route("/too-slow", too_slow),
        Route("/broken", broken),
        Route("/forbidden", forbidden),
        Route("/old", lambda request: RedirectResponse("/user/new")),
        Mount("/static", StaticFiles(directory=NOTES.parent)),
        WebSocketRoute("/ws", Echo),
        WebSocketRoute("/refuse", refuse),
    ],
    middleware=[Middleware(Stamp), Middleware(GZipMiddleware, minimum_size=1000)],
    exception_handlers={404: not_found},
    lifespan=lifespan,
)
