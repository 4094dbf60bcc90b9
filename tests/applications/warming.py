"""Applications that their first request warms up: it fills a cache. They note imports and fills in the file $NOTES.

Their answers are those of `echoing`. `/thread` starts a thread that goes on.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import echoing

SIZE = 32 << 20  # bytes of the cache
NOTES = Path(os.environ["NOTES"])
_cache: list[bytes] = []
_filling = threading.Lock()
_begun: list[int] = []  # pids that have run the start-up of `once`, and their ancestors'


def _note(what: str) -> None:
    with NOTES.open("a") as file:
        file.write(f"{what} {os.getpid()}\n")


_note("import")


def _warm_up() -> None:
    with _filling:
        if not _cache:
            _cache.append(b"x" * SIZE)  # not zeros: the kernel has one page of them for all processes
            _note("fill")


def _start_thread() -> None:
    threading.Thread(target=threading.Event().wait, name="exporter", daemon=True).start()


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    _warm_up()
    if environ["PATH_INFO"] == "/thread":
        _start_thread()
    return echoing.wsgi(environ, start_response)


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    _warm_up()
    if scope["path"] == "/thread":
        _start_thread()
    await echoing.asgi(scope, receive, send)


async def once(scope: Any, receive: Any, send: Any) -> None:
    """As `asgi`, but its start-up fails where it has run before."""
    if scope["type"] == "http":
        await echoing.asgi(scope, receive, send)
        return
    await receive()
    if _begun:
        await send({"type": "lifespan.startup.failed", "message": "the pool exists"})
        return
    _begun.append(os.getpid())
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


def handle(sock: Any, address: Any) -> None:
    """Answer with the pid, and stay until the peer ends."""
    _warm_up()
    sock.sendall(b"%d" % os.getpid())
    while sock.recv(100):
        pass


async def handle_async(reader: Any, writer: Any) -> None:
    """As `handle`."""
    _warm_up()
    writer.write(b"%d" % os.getpid())
    await writer.drain()
    while await reader.read(100):
        pass
    writer.close()
