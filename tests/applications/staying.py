"""For connections that stay: handlers answer each line with the pid of the worker, applications each request."""

from __future__ import annotations

import os
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from typing import Any


def handle(sock: socket.socket, address: object) -> None:
    """Answer until the client leaves."""
    while sock.recv(100):
        sock.sendall(b"%d\n" % os.getpid())


async def answer(reader: StreamReader, writer: StreamWriter) -> None:
    """Do the same, async."""
    while await reader.readline():
        writer.write(b"%d\n" % os.getpid())
        await writer.drain()
    writer.close()


def wsgi(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
    """Tell the pid, over HTTP."""
    body = b"%d" % os.getpid()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[dict[str, Any]], Any]) -> None:
    """Do the same."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%d" % os.getpid()})
