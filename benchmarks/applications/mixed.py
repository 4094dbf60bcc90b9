"""A greeting, and 100 ms of computing at `/busy`, over WSGI and over ASGI. Every answer tells the process it is from.

Processor time is counted, not the clock's: a worker that has to share its core computes no less.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

BODY = b"Hello, World!"
BUSY_BODY = b"computed"
BUSY_PATH = "/busy"
BUSY_SECONDS = 0.1
_STEPS = 1000  # of computing between two looks at the clock: some 50 us


def compute() -> None:
    """Use the processor, in Python, without giving way to anybody."""
    until = time.thread_time() + BUSY_SECONDS
    total = 0
    while time.thread_time() < until:
        for i in range(_STEPS):
            total += i * i


def _answer(path: str) -> bytes:
    if path != BUSY_PATH:
        return BODY
    compute()
    return BUSY_BODY


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Greet, or compute first."""
    body = _answer(environ["PATH_INFO"])
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), ("X-Worker", str(os.getpid()))]
    start_response("200 OK", headers)
    return [body]


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Greet, or compute first: on the loop, as code does that nobody has moved to a thread."""
    if scope["type"] != "http":
        raise ValueError(f"no application for {scope['type']}")
    body = _answer(scope["path"])
    headers = [
        (b"content-type", b"text/plain"),
        (b"content-length", b"%d" % len(body)),
        (b"x-worker", b"%d" % os.getpid()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
