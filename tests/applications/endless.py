"""Handlers that never have to wait while their client is fast; the first line, or the path, says what they do."""

from __future__ import annotations

import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Iterator
from typing import Any

PIECE = b"x" * 1000


async def coroutines(reader: StreamReader, writer: StreamWriter) -> None:
    match (await reader.readline()).strip():
        case b"send":
            while True:
                writer.write(PIECE)
                await writer.drain()
        case b"readline":
            while await reader.readline():
                pass
        case b"readexactly":
            while True:
                await reader.readexactly(4)
        case _:
            writer.write(b"hello")
            writer.close()


def blocking(sock: socket.socket, address: object) -> None:
    with sock.makefile("rb") as file:
        match file.readline().strip():
            case b"send":
                while True:
                    sock.sendall(PIECE)
            case b"readline":
                while file.readline():
                    pass
            case _:
                sock.sendall(b"hello")


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            await send({"type": "websocket.send", "bytes": PIECE})
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while scope["path"] == "/send":
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        if scope["path"] == "/receive":
            while (await receive()).get("more_body"):
                pass
        await send({"type": "http.response.body", "body": b"hello"})


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Length", "5")] if environ["PATH_INFO"] == "/" else [])
    while environ["PATH_INFO"] == "/send":
        yield PIECE
    if environ["PATH_INFO"] == "/receive":
        while environ["wsgi.input"].read(1000):
            pass
    yield b"hello"
