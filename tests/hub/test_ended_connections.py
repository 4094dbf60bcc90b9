"""An ended connection of a web application leaves nothing behind on the hub, whichever side ended it."""

from __future__ import annotations

import functools
import gc
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.hub import run_on, until

from hybrid.workers.accepting.acceptor import Acceptor
from hybrid.workers.apps.asgi.interface import Asgi
from hybrid.workers.apps.wsgi.interface import Wsgi
from hybrid.workers.common.connections import Connections
from hybrid.workers.http.settings import HttpSettings
from hybrid.workers.hub.hub_runtime import HubRuntime
from hybrid.workers.runtime import Accepted

COUNT = 20  # connections, one after another
ENDS = {
    "asks-to-close": b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n",
    "is-of-1.0": b"GET / HTTP/1.0\r\n\r\n",
    "goes-after-the-answer": b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
    "is-refused": b"GET / HTTP/1.1\r\n\r\n",
    "sends-nothing": b"",
}


def wsgi(environ: Any, start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.mark.parametrize("request_", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
@pytest.mark.parametrize("loop", ["select", "poll", "epoll"])
def test_an_ended_connection_leaves_nothing_to_the_garbage_collector(loop: str, kind: str, request_: bytes) -> None:
    """Otherwise each new connection would cost its share of a collection, and memory until then."""

    async def main(runtime: HubRuntime) -> int:
        connections = Connections()
        make: Any = {"wsgi": functools.partial(Wsgi, wsgi), "asgi": functools.partial(Asgi, asgi)}[kind]
        web = make(runtime, connections, HttpSettings())
        count = 0

        def connected(connection: Accepted) -> None:
            nonlocal count
            count += 1
            web.connected(connection)

        async def visit() -> None:
            before = count
            with socket.create_connection(listener.getsockname()) as client:
                client.sendall(request_)
                client.setblocking(False)
                await until(lambda: count > before)
                if request_:
                    await until(lambda: arrived(client))
            await until(lambda: len(connections) == 0)

        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            acceptor = Acceptor(runtime.loop, listener, connected, connections, 0, runtime.listen)
            acceptor.start()
            await visit()  # creates objects that are made only once
            with no_collection():
                for _ in range(COUNT):
                    await visit()
                left = gc.collect()
            acceptor.pause()
            return left

    assert run_on(loop, main) < COUNT


def arrived(client: socket.socket) -> bytes | None:
    try:
        return client.recv(4096)
    except BlockingIOError:
        return None


@contextmanager
def no_collection() -> Iterator[None]:
    gc.freeze()  # the following collections then look only at new objects, not at all those that pytest holds
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
