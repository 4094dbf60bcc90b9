"""A Starlette application: a page, an upload, a WebSocket. Needs `pip install starlette`.

    hybrid run --bind 127.0.0.1:9000 --loop uvloop examples.web_starlette:app
    curl http://127.0.0.1:9000/hello/you
    curl -T README.md http://127.0.0.1:9000/size
    python -m websockets ws://127.0.0.1:9000/shout

`request.body()` would keep a whole upload in memory; `request.stream()` does not.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket


async def hello(request: Request) -> PlainTextResponse:
    """Greet."""
    return PlainTextResponse(f"hello, {request.path_params['name']}!\n")


async def size(request: Request) -> PlainTextResponse:
    """Count the bytes of an upload as they arrive, without keeping them in memory."""
    total = 0
    async for piece in request.stream():
        total += len(piece)
    return PlainTextResponse(f"{total}\n")


async def shout(websocket: WebSocket) -> None:
    """Echo every message in capitals."""
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text.upper())


app = Starlette(
    routes=[
        Route("/hello/{name}", hello),
        Route("/size", size, methods=["PUT", "POST"]),
        WebSocketRoute("/shout", shout),
    ]
)
