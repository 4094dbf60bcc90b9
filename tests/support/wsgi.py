"""WSGI applications in this process: served in a thread of their own, asked by blocking clients in the test's."""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
import io
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from hybrid.workers.apps.wsgi.interface import Wsgi
from hybrid.workers.common.connections import Connections
from hybrid.workers.http.settings import HttpSettings
from hybrid.workers.loops import registry
from hybrid.workers.loops.driver import run
from hybrid.workers.runtime import Accepted, Runtime
from support.clients import TIMEOUT, connected, read_all
from support.hub import DEADLINE
from support.loops import LOOPS
from support.records import logged

Application = Callable[..., Any]
# loop, threads; gevent is for tests with a process of their own
PLACES = [
    (loop, threads)
    for loop, threads in (("epoll", 0), ("epoll", 3), ("asyncio", 0), ("asyncio", 3), ("uvloop", 0), ("uvloop", 3))
    if loop in LOOPS
]


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer as it came over the wire."""

    status: int
    reason: str
    headers: list[tuple[str, str]]  # names in lower case
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the value of a field; None without one, a test error if there are several."""
        found = [value for key, value in self.headers if key == name]
        assert len(found) < 2, found
        return found[0] if found else None


class Server:
    """A running server, seen by its clients."""

    def __init__(self, address: Any, log: list[str], loop: asyncio.AbstractEventLoop, adapter: Wsgi) -> None:
        self.address = address
        self.log = log
        self.adapter = adapter
        self._loop = loop

    def ask(self, request: bytes) -> bytes:
        """Send a request and return all that comes until the server closes."""
        with connected(self.address) as sock:
            sock.sendall(request)
            return read_all(sock)

    def get(self, target: str = "/", *fields: str, method: str = "GET", body: bytes = b"") -> Answer:
        """Ask once, on a connection of its own."""
        with connected(self.address) as sock:
            return self.get_on(sock, target, *fields, "connection: close", method=method, body=body)

    @staticmethod
    def get_on(sock: socket.socket, target: str = "/", *fields: str, method: str = "GET", body: bytes = b"") -> Answer:
        """Ask on an open connection."""
        send_request(sock, target, *fields, method=method, body=body)
        return read_answer(sock, method)

    def do(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function in the loop; return what it returns."""
        done: list[Any] = []
        called = threading.Event()

        def call() -> None:
            done.append(function(*args))
            called.set()

        self._loop.call_soon_threadsafe(call)
        assert called.wait(DEADLINE)
        return done[0]


def send_request(sock: socket.socket, target: str, *fields: str, method: str = "GET", body: bytes = b"") -> None:
    """Write a request with a Host, and with a Content-Length if it has a body."""
    length = [f"content-length: {len(body)}"] if body else []
    lines = [f"{method} {target} HTTP/1.1", "host: test", *fields, *length, "", ""]
    sock.sendall("\r\n".join(lines).encode("latin-1") + body)


def read_answer(sock: socket.socket, method: str = "GET") -> Answer:
    """Read one answer. Raises `http.client.HTTPException`, `EOFError` where it is cut."""
    with closing(http.client.HTTPResponse(sock, method=method)) as response:
        response.begin()
        body = response.read()
        fields = [(name.lower(), value) for name, value in response.getheaders()]
        return Answer(response.status, response.reason, fields, body)


@contextmanager
def serving_wsgi(
    application: Application, loop: str, threads: int = 0, *, unix: str | None = None, **settings: Any
) -> Iterator[Server]:
    """Serve `application` on `loop`, in greenlets or in `threads`; `settings` are those of `HttpSettings`.

    At the end, everything is closed and no request may be running.
    """
    started: list[Server | BaseException] = []
    ready, stopped = threading.Event(), threading.Event()
    with logged() as log, _listener(unix) as listener:

        async def main(runtime: Runtime) -> None:
            connections = Connections()
            adapter = Wsgi(application, runtime, connections, HttpSettings(threads=threads, **settings))
            event_loop = runtime.loop

            def accept() -> None:
                sock, address = listener.accept()
                adapter.connected(Accepted(sock.detach(), address, listener))

            event_loop.add_reader(listener.fileno(), accept)
            started.append(Server(listener.getsockname(), log, event_loop, adapter))
            ready.set()
            try:
                while not stopped.is_set():
                    await asyncio.sleep(0.002)
            finally:
                event_loop.remove_reader(listener.fileno())
                adapter.end()
                connections.end_all()
                await connections.wait_empty(DEADLINE)
                ended = await adapter.wait_idle(DEADLINE)
                await adapter.shut_down(1)
            assert ended, "a request does not end"

        def serve() -> None:
            try:
                run(registry.load(loop), main)
            except BaseException as error:  # noqa: BLE001 - raised in the test
                started.append(error)
            finally:
                ready.set()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            assert ready.wait(DEADLINE)
            server = started[0]
            if isinstance(server, BaseException):
                raise server
            yield server
        finally:
            stopped.set()
            thread.join(DEADLINE)
            for one in threading.enumerate():
                if one.name.startswith("wsgi-"):  # it may still hold the socket of its last request
                    one.join(DEADLINE)
        if isinstance(started[-1], BaseException):
            raise started[-1]


@contextmanager
def _listener(unix: str | None) -> Iterator[socket.socket]:
    if unix is None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            yield listener
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(unix)
            listener.listen()
            yield listener


class Body:
    """An iterable that counts how often it is closed, with verbs for how it ends."""

    def __init__(self, *pieces: bytes | BaseException) -> None:
        self._pieces = iter(pieces)
        self.closed = 0
        self.was_closed = threading.Event()

    def __iter__(self) -> Body:
        return self

    def __next__(self) -> bytes:
        piece = next(self._pieces)
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def close(self) -> None:
        self.closed += 1
        self.was_closed.set()


class Bytes(io.BytesIO):
    """A file object that is no file, and tells whether it was closed."""


__all__ = ["PLACES", "TIMEOUT", "Answer", "Body", "Bytes", "Server", "read_answer", "send_request", "serving_wsgi"]
