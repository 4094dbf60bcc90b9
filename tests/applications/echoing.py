"""WSGI and ASGI applications that answer with the token of the query, the worker's pid and its generation.

`/busy?ms=100&token=x` computes that long before it answers; `/asleep?ms=100&token=x` sleeps so long, in C and on every
loop; `/computing?until=FILE&token=x` and `/sleeping?until=FILE&token=x` do so until there is a file of that name.
`/growing?kib=100&token=x` holds so much more memory for good; `/broken?token=x` answers with another token.
"""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any
from urllib.parse import parse_qs

from hybrid.workers.identity import current

_held: list[bytes] = []
_usleep = ctypes.CDLL(None).usleep  # not time.sleep, which gevent replaces


def _answer(path: str, query: str) -> bytes:
    given = parse_qs(query)
    if path == "/busy":
        until = time.monotonic() + float(given["ms"][0]) / 1000
        while time.monotonic() < until:
            pass
    elif path == "/asleep":
        _sleep(float(given["ms"][0]) / 1000)
    elif path == "/computing":
        while not os.access(given["until"][0], os.F_OK):
            pass
    elif path == "/sleeping":
        while not os.access(given["until"][0], os.F_OK):
            _usleep(100_000)
    elif path == "/growing":
        _held.append(b"x" * 1024 * int(given["kib"][0]))
    token = "another" if path == "/broken" else given["token"][0]
    return f"{token} {os.getpid()} {current().generation}".encode()


def _sleep(seconds: float) -> None:
    """Sleep to the end, whatever signals come."""
    until = time.monotonic() + seconds
    while (remaining := until - time.monotonic()) > 0:
        _usleep(int(min(remaining, 0.9) * 1e6))  # at most a second (usleep(3))


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body = _answer(environ["PATH_INFO"], environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    body = _answer(scope["path"], scope["query_string"].decode())
    fields = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": body})
