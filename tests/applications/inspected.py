"""Applications that wait in functions with names to look for, until they get bytes or their client is gone.

The web applications wait at `/wait` for a request of `/release`, and stall at `/spin` and `/hold` until there is a file
of the name `?FILE`.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import threading
from typing import Any

import hybrid

_held = threading.Event()
_usleep = ctypes.PyDLL(None).usleep  # keeps the interpreter


def sync_waits_in_recv(sock: socket.socket, address: object) -> None:
    sock.sendall(b"?")
    sync_waits_deeper(sock)


def sync_waits_deeper(sock: socket.socket) -> None:
    sock.recv(1)


def spawning(sock: socket.socket, address: object) -> None:
    """Leave a greenlet that sleeps until the connection ends."""
    started = hybrid.spawn(spawned_sleeps)
    sock.sendall(b"?")
    sock.recv(1)
    started.kill()


def spawned_sleeps() -> None:
    hybrid.sleep(3600)


async def async_waits_for_future(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Await a future inside nested coroutines until the client is gone."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ends = asyncio.create_task(reader.read(1))
    ends.add_done_callback(lambda _: future.set_result(None))
    writer.write(b"?")
    await async_waits_deeper(future)
    writer.close()


async def async_waits_deeper(future: asyncio.Future[None]) -> None:
    await future


async def async_reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"?")
    await reader.read(1)
    writer.close()


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    if environ["PATH_INFO"] == "/wait":
        wsgi_waits()
    elif environ["PATH_INFO"] == "/release":
        _held.set()
    _stall(environ["PATH_INFO"], environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


def wsgi_waits() -> None:
    while not _held.is_set():
        _pause()


def _pause() -> None:
    try:
        hybrid.sleep(0.01)
    except RuntimeError:  # a thread
        _held.wait(0.01)


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    if scope["path"] == "/wait":
        await asgi_sleeps()
    elif scope["path"] == "/release":
        _held.set()
    _stall(scope["path"], scope["query_string"].decode())
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def asgi_sleeps() -> None:
    while not _held.is_set():
        await asyncio.sleep(0.01)


def _stall(path: str, name: str) -> None:
    if path == "/spin":
        spins_in_python(name)
    elif path == "/hold":
        holds_the_interpreter(name)


def spins_in_python(name: str) -> None:
    while not os.access(name, os.F_OK):
        pass


def holds_the_interpreter(name: str) -> None:
    """Be in C code for seconds at a time, in which no other Python code runs."""
    while not os.access(name, os.F_OK):
        _usleep(900_000)
