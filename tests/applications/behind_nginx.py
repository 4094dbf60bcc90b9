"""What applications behind a real proxy make of a request: links, facts, streams that wait for a second request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import witness
from flask import Flask, request, url_for

wsgi = Flask(__name__)
_released = threading.Event()
_waiting: list[asyncio.Event] = []  # of the streams that /release lets go on
_HEADERS = {"/events/buffering-off": [], "/asked-for": [(b"x-accel-buffering", b"no")]}  # path of a stream -> fields


@wsgi.get("/facts")
def facts() -> dict[str, Any]:
    return witness.facts_of_environ(request.environ)


@wsgi.get("/link")
def link() -> str:
    return url_for("link", _external=True)


@wsgi.get("/release")
def release() -> str:
    _released.set()
    return "released"


@wsgi.get("/events/buffering-off")
def stream() -> Any:
    def events() -> Iterator[str]:
        yield "data: first\n\n"
        _released.wait(20)
        yield "data: second\n\n"

    return wsgi.response_class(events(), mimetype="text/event-stream")


@wsgi.post("/upload")
def upload() -> str:
    return str(len(request.stream.read()))


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    path = scope.get("path")
    if path == "/release":
        for event in _waiting:
            event.set()
    if path not in _HEADERS:
        await witness.asgi(scope, receive, send)
        return
    fields = [(b"content-type", b"text/event-stream"), *_HEADERS[path]]
    _waiting.append(asyncio.Event())
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": b"data: first\n\n", "more_body": True})
    await _waiting[-1].wait()
    await send({"type": "http.response.body", "body": b"data: second\n\n"})
