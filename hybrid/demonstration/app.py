"""The demonstration, which `hybrid run` serves without a target: an ASGI 3 application without a framework.

    /            a page that shows which worker answered, and with JavaScript how the workers take turns
    /who         the same as JSON; closes the connection, so that the next request may go to another worker
    /events      a clock, as server-sent events
    /slow        answers after a second; others are served meanwhile
    /ws          a WebSocket that echoes messages

The files of the page are in this directory. They need no build step and load nothing from elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import html
import importlib.resources
import itertools
import json
import os
import string
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from hybrid.config.targets import DASHBOARD
from hybrid.demonstration.links import dashboard_url
from hybrid.workers.identity import current

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SLOW = 1.0  # seconds that /slow takes
TICK = 1.0  # seconds between two events of /events
_PROTECTION = (
    # the page may load its own two files and connect to its own server only, and may not be framed
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
_CLOSE = ((b"connection", b"close"),)
_TEXT = "text/plain; charset=utf-8"

_answered = itertools.count(1)  # responses of this worker that name it


async def handle(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one request, one WebSocket, or the lifespan of the process."""
    match scope["type"]:
        case "http":
            await _http(scope, receive, send)
        case "websocket":
            await _websocket(scope, receive, send)
        case "lifespan":
            await _lifespan(receive, send)
        case other:
            raise ValueError(f"the demonstration knows no scope of type {other!r}")


# --- http


async def _http(scope: Scope, receive: Receive, send: Send) -> None:
    view = _VIEWS.get(_path(scope))
    if view is None:
        await _respond(scope, send, "There is no such page here.\n", _TEXT, status=404)
    elif scope["method"] not in ("GET", "HEAD"):
        allow = ((b"allow", b"GET, HEAD"),)
        await _respond(scope, send, "Only GET and HEAD here.\n", _TEXT, status=405, extra=allow)
    else:
        await view(scope, receive, send)


def _path(scope: Scope) -> str:
    """Return the path below the one the application is mounted at (ASGI: `path` includes `root_path`)."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "").rstrip("/")) or "/"


async def _respond(
    scope: Scope,
    send: Send,
    text: str,
    kind: str,
    *,
    status: int = 200,
    extra: tuple[tuple[bytes, bytes], ...] = (),
) -> None:
    body = text.encode()
    length = (b"content-length", str(len(body)).encode())
    headers = [(b"content-type", kind.encode()), length, *_PROTECTION, *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def _page(scope: Scope, receive: Receive, send: Send) -> None:
    facts = {name: html.escape(str(value)) for name, value in _identity().items()}
    page = string.Template(_file("demo.html")).substitute(facts, dashboard=_dashboard(scope))
    await _respond(scope, send, page, "text/html; charset=utf-8", extra=_CLOSE)


def _dashboard(scope: Scope) -> str:
    """Return the paragraph with the link to the dashboard; empty if there is none that the browser can reach."""
    admin = os.environ.get(DASHBOARD)
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    url = dashboard_url(admin, host) if admin else None
    return "" if url is None else f'<p><a href="{html.escape(url)}">The dashboard</a> shows the workers live.</p>'


async def _identify(scope: Scope, receive: Receive, send: Send) -> None:
    await _respond(scope, send, json.dumps(_identity()) + "\n", "application/json", extra=_CLOSE)


async def _slow(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(SLOW)
    await _identify(scope, receive, send)


async def _script(scope: Scope, receive: Receive, send: Send) -> None:
    await _respond(scope, send, _file("demo.js"), "text/javascript; charset=utf-8")


async def _style(scope: Scope, receive: Receive, send: Send) -> None:
    await _respond(scope, send, _file("demo.css"), "text/css; charset=utf-8")


async def _events(scope: Scope, receive: Receive, send: Send) -> None:
    """Send the time until the client disconnects or the server stops; then the browser connects to another worker."""
    headers = [(b"content-type", b"text/event-stream; charset=utf-8"), *_PROTECTION]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    with contextlib.suppress(OSError):  # the client is gone
        if scope["method"] == "GET":
            await _tick(receive, send)
        await send({"type": "http.response.body", "body": b""})


async def _tick(receive: Receive, send: Send) -> None:
    gone = asyncio.ensure_future(_wait_for_disconnect(receive))
    try:
        await send(_chunk("retry: 1000\n\n"))  # milliseconds until a browser connects again
        while not gone.done():
            event = {"time": time.strftime("%H:%M:%S"), **_identity()}
            await send(_chunk(f"data: {json.dumps(event)}\n\n"))
            await asyncio.wait((gone,), timeout=TICK)
    finally:
        gone.cancel()


def _chunk(text: str) -> Message:
    return {"type": "http.response.body", "body": text.encode(), "more_body": True}


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


_VIEWS = {
    "/": _page,
    "/who": _identify,
    "/events": _events,
    "/slow": _slow,
    "/demo.js": _script,
    "/demo.css": _style,
}  # path -> view


def _identity() -> dict[str, Any]:
    return {**dataclasses.asdict(current()), "answers": next(_answered)}


@functools.cache
def _file(name: str) -> str:
    return importlib.resources.files("hybrid.demonstration").joinpath(name).read_text("utf-8")


# --- the rest


async def _websocket(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()  # websocket.connect
    if _path(scope) != "/ws":
        await send({"type": "websocket.close"})  # before it is accepted: the client gets a 403
        return
    await send({"type": "websocket.accept"})
    with contextlib.suppress(OSError):  # the client is gone
        while (message := await receive())["type"] == "websocket.receive":
            text = message.get("text")
            data = {"text": text} if text is not None else {"bytes": message["bytes"]}
            await send({"type": "websocket.send", **data})


async def _lifespan(receive: Receive, send: Send) -> None:
    """Confirm start-up and shutdown: there is nothing to prepare."""
    for _ in range(2):
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
