"""ASGI 3 applications over HTTP: the scope, `receive`, `send`, and the handling of failures.

Specification: https://asgi.readthedocs.io/en/latest/specs/www.html. `lifespan` has the lifespan protocol, `websocket`
WebSockets.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import re
import stat
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from hybrid.workers.common import forks
from hybrid.workers.common.fairness import give_way
from hybrid.workers.common.frames import forget_frames
from hybrid.workers.http.exchange import (
    PERCENT,
    ClientGoneError,
    Exchange,
    Likeness,
    ResponseError,
    Stage,
    Template,
    is_client_disconnect,
)
from hybrid.workers.http.head import UNKNOWN, Head, HeadError, Status, from_bytes, status_of
from hybrid.workers.tasks.cpython import mark_coroutine_function
from hybrid.workers.tasks.request_tasks import NAME, RequestTask

if TYPE_CHECKING:
    from hybrid.workers.apps.asgi.interface import Asgi
    from hybrid.workers.http.forwarded import Forwarded

_ALL = Likeness.ALL
_WAITING, _, _WHOLE = Stage
_EVENTS = re.compile(rb"^content-type:[ \t]*text/event-stream[ \t]*[;\r]", re.MULTILINE)  # in lower case
_log = logging.getLogger("hybrid")


def own_extensions(known: dict[str, Any]) -> dict[str, Any]:
    """Return the extensions of one HTTP request, a deep copy; `known` names those that not all connections have."""
    extensions: dict[str, Any] = {"http.response.trailers": {}, "http.response.early_hint": {}}
    if len(known) == len(extensions):  # nearly always
        return extensions
    if PATHSEND in known:
        extensions[PATHSEND] = {}
    if "tls" in known:
        extensions["tls"] = own_tls(known["tls"])
    return extensions


def own_tls(known: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of the extension `tls` with its own list."""
    return {**known, "client_cert_chain": known["client_cert_chain"].copy()}


PATHSEND = "http.response.pathsend"
"""An optional extension: middleware that modifies bodies does not see a file sent this way."""
EXTENSIONS = tuple(own_extensions({}))
"""The extensions of all HTTP requests."""
_BLOCK = 65_536  # bytes per read of a file of unknown size
SPEC_VERSION = "2.5"
"""Implemented version of the specification of HTTP and WebSocket messages."""
MESSAGES = frozenset({"http.response.start", "http.response.body", PATHSEND, *EXTENSIONS})
Message = MutableMapping[str, Any]


def locate(scope: dict[str, Any], target: bytes, root_path: str) -> None:
    """Set the path and query of a request in its scope, as sent by the client, below the root path."""
    raw_path, _, query = target.partition(b"?")
    if PERCENT in raw_path:
        path = unquote_to_bytes(raw_path).decode("utf-8", "replace")
    else:
        path = raw_path.decode("latin-1")
    if root_path:
        path = root_path + path
        raw_path = root_path.encode() + raw_path
    scope["path"] = path
    scope["raw_path"] = raw_path
    scope["query_string"] = query


def not_final(status: int) -> HeadError:
    """Return the error for a response with a 1xx status: it would not be final (RFC 9110, section 15.2)."""
    return HeadError(f"status {status!r} cannot start a response: it is informational")


def apply_forwarded(scope: dict[str, Any], forwarded: Forwarded) -> None:
    """Set the values from a trusted proxy in a request's scope; the headers already have its Host."""
    is_websocket = scope["type"] == "websocket"
    if forwarded.scheme == "https":
        scope["scheme"] = "wss" if is_websocket else "https"
    else:
        scope["scheme"] = "ws" if is_websocket else "http"
    scope["client"] = forwarded.client


def _as_bytes(body: Any) -> bytes:
    """Return a copy, safe from changes while it waits to be sent. Raises `TypeError` for anything but bytes."""
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    raise TypeError(f"the response body must be bytes, not {type(body).__name__}: {body!r:.80}")


class Received(enum.Enum):
    """The messages that the application has received."""

    NOTHING = "nothing, or a part of the body"
    BODY = "the whole body"
    DISCONNECT = "http.disconnect, while it could still respond"


_NOTHING, _BODY, _DISCONNECT = Received


def answer(interface: Asgi, make: type[AsgiCall], exchange: Exchange) -> None:
    """Call the application through `make`. See `HttpContext.answer`. Benchmark: python -m benchmarks asgi."""
    call = make(interface, exchange)
    request = exchange.request
    connection = exchange.connection
    repeated = exchange.repeated
    template = None if repeated is None else repeated.template
    if template is not None and template.headers is request.headers and template.target is request.target:
        scope = template.made.copy()  # a third faster than building one
        scope["method"] = request.method
    else:
        facts = connection.facts
        if facts is None:
            facts = connection.facts = interface.facts(connection)
        scope = facts.copy()
        scope["method"] = request.method
        locate(scope, request.target, interface.root_path)
        if request.version != "1.1":
            scope["http_version"] = request.version
        if repeated is not None and repeated.likeness is _ALL:
            repeated.template = Template(request.headers, request.target, scope.copy())
    scope["asgi"] = scope["asgi"].copy()  # so that an application's changes stay with its request
    scope["extensions"] = own_extensions(scope["extensions"])
    scope["headers"] = request.headers.copy()
    if interface.state is not None:
        scope["state"] = interface.state.copy()
    if connection.trusts_proxy:
        apply_forwarded(scope, request.forwarded)
    task = interface.tasks.run(call.serve(interface.application, scope))
    if task is not None:
        interface.works(task)
        if type(task) is RequestTask and task.get_name() is NAME:
            task.set_name(f"{request.method} {call.shown}")


class AsgiCall:
    """One request to an ASGI application. The listener of its exchange."""

    __slots__ = (
        "_exchange",
        "_fields",
        "_interface",
        "_is_interrupted",
        "_is_sent",
        "_received",
        "_status",
        "_trailers",
        "_warned",
    )

    _fields: Head  # of the response; set with its status

    def __init__(self, interface: Asgi, exchange: Exchange) -> None:
        exchange.listener = self
        self._interface = interface
        self._exchange = exchange
        self._is_sent = interface.sent
        self._status: Status | None = None  # of the response, once the application has sent it
        self._received = _NOTHING
        self._is_interrupted = False
        self._trailers: bytes | None = None  # collected so far; None: they were not announced
        self._warned = False

    async def serve(self, application: Callable[..., Awaitable[None]], scope: dict[str, Any]) -> None:
        """Call the application, and finish its response."""
        try:
            await application(scope, self.receive, self.send)
        except BaseException as error:
            if self._settle(error):
                raise
            forget_frames(error)
        else:
            if self._exchange.stage is not _WHOLE:
                self._settle(None)

    def _settle(self, error: BaseException | None) -> bool:
        """Finish the response after the application has returned or raised; return True if the error ends the task.

        Called first, whatever the application did: SystemExit in an application does not end the worker.
        """
        exchange = self._exchange
        is_told = self._received is _DISCONNECT
        if error is None:
            if is_told:
                exchange.leave()
            elif exchange.stage is not _WHOLE and not exchange.gone:
                what = "no response" if self._status is None else "an incomplete response"
                _log.error("the application returned with %s to %s %s", what, exchange.request.method, self.shown)
                exchange.fail()
            return False
        ends = isinstance(error, asyncio.CancelledError) and self._interface.ending
        if not ends and is_client_disconnect(error, exchange.gone or is_told):
            exchange.leave()
            return False
        if not ends:
            _log.error("the application failed at %s %s", exchange.request.method, self.shown, exc_info=error)
        exchange.fail()
        return ends

    # -- the hot path; benchmark: python -m benchmarks asgi ---------------------------------------------------------

    async def receive(self) -> Message:
        """The application's `receive`."""
        exchange = self._exchange
        if exchange.complete and self._received is _NOTHING and not (exchange.gone or exchange.stage is _WHOLE):
            self._received = _BODY
            body = exchange.take_body() if exchange.buffered else b""
            return {"type": "http.request", "body": body, "more_body": False}
        return await self._receive_slowly()

    def send(self, message: Message) -> Awaitable[None]:
        """The application's `send`: sends at once, and returns an awaitable for back-pressure.

        Not a coroutine function: awaiting a finished future costs half as much.
        """
        kind = message["type"]
        exchange = self._exchange
        status = self._status
        stage = exchange.stage
        if stage is _WHOLE or exchange.gone:
            return self._send_rarely(kind, message)
        if kind == "http.response.body" and status is not None:
            more = "more_body" in message and message["more_body"]
            body = message["body"] if "body" in message else b""  # noqa: SIM401 - a third faster
            if type(body) is not bytes:
                body = _as_bytes(body)
            if stage is _WAITING:
                exchange.start(status, self._fields, body, more)
            else:
                exchange.write(body, more)
            return self._after_piece() if more else self._is_sent
        if kind == "http.response.start" and status is None:
            number = message["status"]
            if number < 200:
                raise not_final(number)
            status = status_of(number)
            self._fields = from_bytes(message.get("headers", ()))
            self._status = status
            if message.get("trailers"):
                self._announce_trailers()
            return self._is_sent
        return self._send_rarely(kind, message)

    mark_coroutine_function(send)

    def _after_piece(self) -> Awaitable[None]:
        """Return an awaitable that delays the next piece if necessary."""
        if self._exchange.is_held():
            return self._wait_for_room()
        turn = self._is_sent.turn
        return give_way(turn) if turn.is_due() else self._is_sent

    # -- less often ---------------------------------------------------------------------------------------------------

    async def _receive_slowly(self) -> Message:
        exchange = self._exchange
        while True:
            is_over = exchange.gone or exchange.stage is _WHOLE
            if exchange.buffered and not is_over:
                body = exchange.take_body()
                if exchange.complete:
                    self._received = _BODY
                return {"type": "http.request", "body": body, "more_body": not exchange.complete}
            if is_over or self._is_interrupted:
                self._received = _DISCONNECT
                return {"type": "http.disconnect"}
            if exchange.complete and self._received is _NOTHING:
                self._received = _BODY
                return {"type": "http.request", "body": b"", "more_body": False}
            if not exchange.complete:
                exchange.ask_for_body()
            await exchange.news()

    async def _wait_for_room(self) -> None:
        exchange = self._exchange
        while exchange.is_held() and not exchange.gone:
            await exchange.news()
        if exchange.gone:
            raise ClientGoneError("the client is gone")

    async def _send_rarely(self, kind: str, message: Message) -> None:
        exchange = self._exchange
        if exchange.gone:
            raise ClientGoneError("the client is gone")
        if kind not in MESSAGES:
            raise ResponseError(f"an application cannot send {kind!r} to an HTTP request")
        if exchange.stage is _WHOLE:
            self._ignore(kind)
        elif kind == "http.response.early_hint":
            links = [(b"link", _as_bytes(link)) for link in message["links"]]
            exchange.send_informational(status_of(103), from_bytes(links))
        elif kind == "http.response.start":
            raise ResponseError("http.response.start was already sent")
        elif self._status is None:
            raise ResponseError(f"{kind} before http.response.start")
        elif kind == "http.response.trailers":
            self._send_trailers(message)
        elif PATHSEND not in exchange.connection.facts["extensions"]:
            raise ResponseError(f"{PATHSEND} was not offered: enable it with hybrid run --pathsend")
        else:
            await self._send_path(self._status, message["path"])

    def _ignore(self, kind: str) -> None:
        """Ignore a message after the end of the response, as the specification requires, and log that once."""
        if not self._warned:
            self._warned = True
            method = self._exchange.request.method
            _log.warning("ignoring %s after the end of the response to %s %s", kind, method, self.shown)

    def _announce_trailers(self) -> None:
        """Announce trailers if the client accepts them (`TE: trailers`, RFC 9110, section 6.5.1), else ignore them."""
        self._trailers = b""
        self._warned = True
        headers = self._exchange.request.headers
        tokens = [token.strip() for name, value in headers if name == b"te" for token in value.lower().split(b",")]
        if b"trailers" in tokens:
            self._exchange.announce_trailers()

    def _send_trailers(self, message: Message) -> None:
        if self._trailers is None:
            raise ResponseError("http.response.trailers were not announced in http.response.start")
        block, _, _ = from_bytes(message.get("headers", ()))
        self._trailers += block
        if not message.get("more_trailers", False):
            self._exchange.send_trailers((self._trailers, UNKNOWN, 0))

    async def _send_path(self, status: Status, path: str) -> None:
        exchange = self._exchange
        if exchange.stage is not _WAITING:
            raise ResponseError("http.response.pathsend cannot follow http.response.body")
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # opening a pipe must not block the loop
        try:
            size = _size_left(fd)
            if size is None:
                raise ResponseError(f"http.response.pathsend: {path!r} is not a regular file")
            if size:
                await exchange.send_file(status, self._fields, fd, 0, size)
            else:
                await self._send_unsized(status, fd)
        finally:
            os.close(fd)

    async def _send_unsized(self, status: Status, fd: int) -> None:
        """Send a file of size 0: it may be empty, or a kernel file, whose size is unknown (proc(5))."""
        exchange = self._exchange
        block = os.read(fd, _BLOCK)
        exchange.start(status, self._fields, block, more=bool(block))
        while block:
            await self._wait_for_room()
            block = os.read(fd, _BLOCK)
            exchange.write(block, more=bool(block))

    @property
    def shown(self) -> str:
        """The target of the request as text."""
        return self._exchange.request.target.decode("latin-1")

    # -- callbacks of the wire --------------------------------------------------------------------------------------

    def body_arrived(self) -> None:
        """Wake the waiters."""
        self._exchange.wake_waiters()

    resumed = disconnected = body_arrived

    def peer_done(self) -> bool:
        """Wake a waiting `receive`: a client that closes its sending side is mostly gone. The response continues."""
        self.interrupt()
        return True

    def interrupt(self) -> None:
        """Tell a waiting `receive` that the client is gone."""
        self._is_interrupted = True
        self._exchange.wake_waiters()

    def draining(self) -> None:
        """End an event stream, completely: it never ends by itself, and its client reconnects.

        The application is told that its client is gone: by `receive`, or by `send` if it never calls `receive`, like
        Starlette's streams.
        """
        exchange = self._exchange
        if exchange.stage is Stage.SENDING and _is_event_stream(self._fields) and exchange.end_stream():
            exchange.abandon()
            self.interrupt()


def _is_event_stream(fields: Head) -> bool:
    """Return True for an event stream: by its Content-Type (RFC 9110, section 8.3.1), in any case."""
    block = fields[0].lower()
    return b"text/event-stream" in block and _EVENTS.search(block) is not None


def _size_left(fd: int) -> int | None:
    """Return the bytes from the position of a regular file to its end; None for any other kind of file."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return None
    return max(0, status.st_size - os.lseek(fd, 0, os.SEEK_CUR))


forks.replace(AsgiCall, _send_rarely=forks.finish, _settle=forks.fail)
