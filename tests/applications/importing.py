"""Applications of each kind; at its end, each worker notes which modules of hybrid it has imported after the fork."""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_known: set[str] = set()


def _ours() -> set[str]:
    return {name for name in sys.modules if name.partition(".")[0] == "hybrid"}


def _note() -> None:
    with Path(os.environ["NOTES"]).open("a") as file:
        file.write(f"imported after the fork: {sorted(_ours() - _known)}\n")


os.register_at_fork(after_in_child=lambda: _known.update(_ours()))
atexit.register(_note)


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/fail":
        raise RuntimeError("on purpose")
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("content-length", str(len(body)))])
    return [body]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})
    else:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


def sync_stream(sock: Any, address: object) -> None:
    sock.sendall(sock.recv(1000))


async def async_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.read(1000))
    await writer.drain()


class Protocol(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        self.transport.close()
