"""WSGI and ASGI applications that answer with the token of the query, the worker's pid and its generation.

`/busy?ms=100&token=x` computes that long before it answers; `/broken?token=x` answers with another token.
"""

from __future__ import annotations

import os
import time
from typing import Any
from urllib.parse import parse_qs

from hybrid.workers.identity import current


def _answer(path: str, query: str) -> bytes:
    given = parse_qs(query)
    if path == "/busy":
        until = time.monotonic() + float(given["ms"][0]) / 1000
        while time.monotonic() < until:
            pass
    token = "another" if path == "/broken" else given["token"][0]
    return f"{token} {os.getpid()} {current().generation}".encode()


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
