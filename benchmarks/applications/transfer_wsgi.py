"""One MiB each way over WSGI.

    GET  /download   1 MiB that is ready in memory
    POST /upload     how many bytes came, read in pieces as a program does that stores them
    POST /digest     the SHA-256 of what came: shows before the measurement that every byte arrives

The body that is sent is one piece, as most frameworks give it to their server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

SIZE = 1 << 20
BODY = bytes(range(256)) * (SIZE // 256)
_PIECE = 65536  # bytes; asked for at once


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Send, count or digest, as the path says."""
    match environ["PATH_INFO"]:
        case "/download":
            body, kind = BODY, "application/octet-stream"
        case "/upload":
            body, kind = b"%d" % sum(len(piece) for piece in _pieces(environ)), "text/plain"
        case "/digest":
            digest = hashlib.sha256()
            for piece in _pieces(environ):
                digest.update(piece)
            body, kind = digest.hexdigest().encode(), "text/plain"
        case _:
            start_response("404 Not Found", [("Content-Length", "0")])
            return []
    start_response("200 OK", [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]


def _pieces(environ: dict[str, Any]) -> Iterator[bytes]:
    left = int(environ["CONTENT_LENGTH"])
    while left:
        piece = environ["wsgi.input"].read(min(_PIECE, left))
        if not piece:
            raise EOFError("the body ended early")
        left -= len(piece)
        yield piece
