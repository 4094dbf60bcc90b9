"""Applications that label their requests: /busy takes processor time, /idle waits for /go."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from typing import Any

import hybrid

BUSY = 0.02
"""Seconds of processor time of /busy."""
_waiting: list[asyncio.Event] = []
_threads_wait = threading.Event()


def spin(seconds: float) -> None:
    """Use the processor; a greenlet holds the loop meanwhile."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def _header(path: str) -> list[tuple[str, str]]:
    values = {"/head": "by header", "/both": "by header", "/strange": "\xe9"}
    label = [("X-Route", values[path])] if path in values else []
    return [("X-Kept", path), *label]


def _label(path: str) -> None:
    if path == "/many":
        for number in range(3):
            hybrid.label(f"label {number}")
    elif path not in ("/none", "/head", "/strange", "/child", "/await"):
        hybrid.label(path[1:])


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    path = environ["PATH_INFO"]
    _label(path)
    match path:
        case "/busy":
            spin(BUSY)
        case "/fail":
            raise ValueError(path)
        case "/modules":
            start_response("200 OK", [])
            return [_modules()]
        case "/idle":
            _wait_in_greenlet_or_thread()
        case "/await":
            hybrid.await_(_child())
        case "/go":
            _go()
    status = "404 Not Found" if path == "/missing" else "200 OK"
    start_response(status, iter(_header(path)))
    return [b"x"]


_greenlets_wait = [False]


def _wait_in_greenlet_or_thread() -> None:
    try:
        hybrid.sleep(0)
    except RuntimeError:
        _threads_wait.wait(20)
        return
    _greenlets_wait[0] = True
    while _greenlets_wait[0]:
        hybrid.sleep(0.02)


def _go() -> None:
    _threads_wait.set()
    _greenlets_wait[0] = False
    while _waiting:
        _waiting.pop().set()


def _modules() -> bytes:
    return b"yes" if "hybrid.workers.common.accounting" in sys.modules else b"no"


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        hybrid.label("start-up")  # belongs to no request
        for _ in range(2):
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
        return
    if scope["type"] == "websocket":
        await _chat(receive, send)
        return
    path = scope["path"]
    _label(path)
    match path:
        case "/busy":
            spin(BUSY)
        case "/child":
            await asyncio.create_task(_child())
        case "/idle":
            event = asyncio.Event()
            _waiting.append(event)
            await event.wait()
        case "/go":
            _go()
        case "/fail":
            raise ValueError(path)
    status = 404 if path == "/missing" else 200
    fields = [(name.encode(), value.encode("latin-1")) for name, value in _header(path)]
    await send({"type": "http.response.start", "status": status, "headers": iter(fields)})
    await send({"type": "http.response.body", "body": _modules() if path == "/modules" else b"x"})


async def _child() -> None:
    """Label the request that has started this task, and use the processor in two steps."""
    spin(BUSY / 2)
    await asyncio.sleep(0)
    hybrid.label("by child")
    spin(BUSY / 2)


async def _chat(receive: Any, send: Any) -> None:
    await receive()
    hybrid.label("chat")
    await send({"type": "websocket.accept", "headers": [(b"x-route", b"socket")]})
    while (await receive())["type"] != "websocket.disconnect":
        spin(BUSY)
        await send({"type": "websocket.send", "text": "x"})


def handle(sock: socket.socket, address: Any) -> None:
    while data := sock.recv(100):
        hybrid.label(data.decode())
        if data == b"busy":
            spin(BUSY)
        sock.sendall(b"x")


async def coroutine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        hybrid.label(data.decode())
        if data == b"busy":
            spin(BUSY)
        writer.write(b"x")
        await writer.drain()
    writer.close()
