"""WSGI applications in this process: served in a thread of their own, asked by blocking clients in the test's.

Over HTTP/1 on sockets, or over messages in memory: the tests that name no bytes of HTTP/1 run over both.
"""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
import io
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any

import pytest

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
from support.websocket import HANDSHAKE
from support.wires import Answer as Message
from support.wires import MessageClient

Application = Callable[..., Any]
# loop, threads; gevent is for tests with a process of their own
PLACES = [
    (loop, threads)
    for loop, threads in (("epoll", 0), ("epoll", 3), ("asyncio", 0), ("asyncio", 3), ("uvloop", 0), ("uvloop", 3))
    if loop in LOOPS
]
WIRES = ["http1", "messages"]
over_http1 = pytest.mark.parametrize("wire", ["http1"])
"""Marks a test that looks at bytes of HTTP/1, or at what a reader of HTTP/1 takes for a request."""


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
    """A running server, seen by its clients on sockets."""

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

    def connected(self) -> AbstractContextManager[Any]:
        """Give a connection, for the methods below."""
        return connected(self.address)

    def get(self, target: str = "/", *fields: str, method: str = "GET", body: bytes = b"") -> Answer:
        """Ask once, on a connection of its own."""
        with self.connected() as sock:
            return self.get_on(sock, target, *fields, "connection: close", method=method, body=body)

    def get_on(self, sock: Any, target: str = "/", *fields: str, method: str = "GET", body: bytes = b"") -> Answer:
        """Ask on an open connection."""
        self.send_request(sock, target, *fields, method=method, body=body)
        return self.read_answer(sock, method)

    def send_request(
        self,
        sock: Any,
        target: str,
        *fields: str,
        method: str = "GET",
        body: bytes = b"",
        length: int | None = None,
    ) -> None:
        """Make a request; with `length` the rest of its body follows."""
        send_request(sock, target, *fields, method=method, body=body, length=length)

    def send(self, sock: Any, piece: bytes) -> None:
        """Send the next piece of a body."""
        sock.sendall(piece)

    def read_answer(self, sock: Any, method: str = "GET") -> Answer:
        """Read one answer. Raises `http.client.HTTPException` where it is cut."""
        return read_answer(sock, method)

    def take_little(self, sock: Any) -> None:
        """Take the beginning of an answer that is large, and no more of it."""
        assert sock.recv(1000)

    def ask_for_websocket(self, sock: Any, body: bytes = b"") -> None:
        """Send the handshake of a client, with a body that it must not have."""
        told = b"Content-Length: %d\r\n" % len(body) if body else b""
        sock.sendall(HANDSHAKE + told + b"\r\n" + body)

    def read_bytes(self, sock: Any, data: bytes) -> None:
        """Wait until these bytes, and no others, have come over a connection that was taken over."""
        assert sock.recv(len(data), socket.MSG_WAITALL) == data

    def read_to_the_end(self, sock: Any) -> tuple[int, bytes]:
        """Return what comes until the server closes, and the status of the answer that begins there, if one does."""
        data = read_all(sock)
        return _status_of(data), data

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


class MessageServer(Server):
    """The same, over messages in memory."""

    def ask(self, request: bytes) -> bytes:
        """There are no bytes of requests."""
        raise AssertionError("a test that sends bytes is one of HTTP/1 alone")

    def connected(self) -> AbstractContextManager[Any]:
        return self._connected()

    @contextmanager
    def _connected(self) -> Iterator[BlockingClient]:
        client = self.do(self._open)
        yield client
        client.does(client.leaves)

    def _open(self) -> BlockingClient:
        client = BlockingClient(self.adapter.site, self._loop)
        wire, proxies = client.connection, self.adapter.site.proxies
        wire.server = self.address[:2] if isinstance(self.address, tuple) else (self.address, None)
        if not isinstance(self.address, tuple):
            wire.client = None
        wire.believes = proxies is not None and proxies.trusts(wire.client[0] if wire.client else None)
        return client

    def send_request(
        self,
        sock: BlockingClient,
        target: str,
        *fields: str,
        method: str = "GET",
        body: bytes = b"",
        length: int | None = None,
    ) -> None:
        pairs = [field.encode("latin-1").partition(b":") for field in fields]
        given = [(name.lower(), value.strip()) for name, _, value in pairs]
        own = [pair for pair in given if pair[0] != b"connection"]
        closes = (b"connection", b"close") in given
        options = {"body": body or None, "length": length, "closes": closes, "host": b"test"}
        sock.does(sock.asks, method, target.encode("latin-1"), *own, **options)

    def send(self, sock: BlockingClient, piece: bytes) -> None:
        sock.does(sock.sends, piece)

    def read_answer(self, sock: BlockingClient, method: str = "GET") -> Answer:
        sock.does(sock.takes)
        message = sock.next_answer()
        if not message.is_whole:
            raise http.client.IncompleteRead(message.body)
        fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message.fields]
        if message.length is not None:
            fields.append(("content-length", str(message.length)))
        return Answer(message.status, message.reason, fields, message.body)

    def ask_for_websocket(self, sock: BlockingClient, body: bytes = b"") -> None:
        sock.does(sock.takes)
        sock.does(sock.asks_for_websocket, body=body or None)

    def read_bytes(self, sock: BlockingClient, data: bytes) -> None:
        sock.wait(lambda: sock.answers and len(sock.answers[0].body) >= len(data), "the bytes")
        assert sock.answers[0].body == data
        sock.connection.received.clear()

    def read_to_the_end(self, sock: BlockingClient) -> tuple[int, bytes]:
        sock.wait(lambda: sock.is_closed, "the end")
        answers = sock.answers
        if not answers:
            return 0, b""
        return answers[0].status or _status_of(answers[0].body), answers[0].body

    def take_little(self, sock: BlockingClient) -> None:
        sock.wait(lambda: sock.unsent, "something to take")


class BlockingClient(MessageClient):
    """A client whose verbs are called from another thread than the loop's. As a socket, it takes what it reads."""

    def __init__(self, site: Any, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(site)
        self._loop = loop
        self._news = threading.Condition()
        self._read = 0  # answers
        self.connection.changed = self._tell
        self.stops_taking()

    def _tell(self) -> None:
        with self._news:
            self._news.notify_all()

    def does(self, verb: Callable[..., Any], *args: Any, **options: Any) -> None:
        """Call a verb in the loop, and wait until it is done."""
        asyncio.run_coroutine_threadsafe(verb(*args, **options), self._loop).result(DEADLINE)

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Wait until something is true of what has come."""
        with self._news:
            assert self._news.wait_for(condition, DEADLINE), what

    def next_answer(self) -> Message:
        """Wait for the next answer; return it when it is whole or has broken off."""
        number, self._read = self._read, self._read + 1
        self.wait(lambda: self.is_closed or self._is_whole(number), "an answer")
        answers = self.answers
        if len(answers) <= number:
            raise http.client.RemoteDisconnected("the server has closed without an answer")
        return answers[number]

    def _is_whole(self, number: int) -> bool:
        answers = self.answers
        return len(answers) > number and answers[number].is_whole


def _status_of(data: bytes) -> int:
    return int(data[9:12]) if data.startswith(b"HTTP/1.1 ") else 0


def send_request(
    sock: socket.socket,
    target: str,
    *fields: str,
    method: str = "GET",
    body: bytes = b"",
    length: int | None = None,
) -> None:
    """Write a request with a Host, and with a Content-Length if it has a body; the rest of it may follow."""
    told = len(body) if length is None else length
    announced = [f"content-length: {told}"] if told else []
    lines = [f"{method} {target} HTTP/1.1", "host: test", *fields, *announced, "", ""]
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
    application: Application,
    loop: str,
    threads: int = 0,
    *,
    unix: str | None = None,
    wire: str = "http1",
    **settings: Any,
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

            if wire == "http1":
                event_loop.add_reader(listener.fileno(), accept)
            kind = Server if wire == "http1" else MessageServer
            started.append(kind(listener.getsockname(), log, event_loop, adapter))
            ready.set()
            try:
                while not stopped.is_set():
                    await asyncio.sleep(0.002)
            finally:
                event_loop.remove_reader(listener.fileno())
                adapter.end()
                connections.end_all()
                for connection in adapter.site.connections() if wire == "messages" else ():
                    connection.abort()
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


__all__ = [
    "PLACES",
    "TIMEOUT",
    "WIRES",
    "Answer",
    "Body",
    "Bytes",
    "MessageServer",
    "Server",
    "over_http1",
    "read_answer",
    "send_request",
    "serving_wsgi",
]
