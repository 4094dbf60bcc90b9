"""WSGI and ASGI applications for clients that behave badly: large answers, and a file of notes on how each call ended.

The notes are in the file that NOTES names, with `.seen` behind it: a path and a word on each line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

BLOCK = bytes(range(256)) * 256  # 64 KiB
BLOCKS = 1600  # of them: 100 MiB
NOTES = os.environ.get("NOTES", os.devnull)


def remember(path: str, what: str) -> None:
    """Write down what the client cannot see."""
    with open(f"{NOTES}.seen", "a") as file:  # noqa: PTH123
        file.write(f"{path} {what}\n")


# --- WSGI


class Pieces:
    """An iterable that remembers its end."""

    def __init__(self, path: str, pieces: Iterator[bytes]) -> None:
        self._path = path
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def close(self) -> None:
        """Called once by the server."""
        remember(self._path, "closed")


def wsgi(environ: dict[str, Any], start_response: Any) -> Any:
    """Do what the path says."""
    path = environ["PATH_INFO"]
    if path == "/leave":
        sys.exit(3)
    if path == "/read":
        size = _read(environ["wsgi.input"], path)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"%d" % size]
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    match path:
        case "/whole":
            return [BLOCK * BLOCKS]
        case "/pieces":
            return Pieces(path, (BLOCK for _ in range(int(environ["QUERY_STRING"] or BLOCKS))))
        case "/endless":
            return Pieces(path, iter(lambda: BLOCK, b""))
        case _:
            return [b"hello " + environ["QUERY_STRING"].encode()]


def _read(source: Any, path: str) -> int:
    size = 0
    try:
        while piece := source.read(65_536):
            size += len(piece)
    except OSError:
        remember(path, "OSError")
        raise
    return size


# --- ASGI


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Do what the path says."""
    path = scope["path"]
    if path == "/leave":
        sys.exit(3)
    if path == "/read":
        await _read_all(path, receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    match path:
        case "/whole":
            await send({"type": "http.response.body", "body": BLOCK * BLOCKS})
        case "/pieces":
            await _give(path, send, int(scope["query_string"] or BLOCKS))
        case "/endless":
            await _give(path, send, sys.maxsize)
        case _:
            await send({"type": "http.response.body", "body": b"hello " + scope["query_string"]})


async def _read_all(path: str, receive: Any, send: Any) -> None:
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            remember(path, "http.disconnect")
            return
        size += len(message["body"])
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"%d" % size})


async def _give(path: str, send: Any, blocks: int) -> None:
    try:
        for _ in range(blocks):
            await send({"type": "http.response.body", "body": BLOCK, "more_body": True})
    except OSError:
        remember(path, "OSError")
        raise
    await send({"type": "http.response.body"})
