"""ASGI 3 applications over HTTP: the scope, `receive`, `send`, and what happens when an application fails.

Specification: https://asgi.readthedocs.io/en/latest/specs/www.html. Lifespan is in `lifespan`, WebSocket in
`asgi_websocket`.
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
    AnswerError,
    ClientGoneError,
    Exchange,
    Likeness,
    Stage,
    Template,
    is_departure,
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
    """Return the extensions of one HTTP request, which shares no part of them; `known` says which are not for all."""
    extensions: dict[str, Any] = {"http.response.trailers": {}, "http.response.early_hint": {}}
    if PATHSEND in known:
        extensions[PATHSEND] = {}
    if "tls" in known:
        extensions["tls"] = own_tls(known["tls"])
    return extensions


def own_tls(known: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of the extension `tls` with a list of its own."""
    return {**known, "client_cert_chain": known["client_cert_chain"].copy()}


PATHSEND = "http.response.pathsend"
"""An extension that is offered on request: middleware that changes bodies does not see a file that is sent so."""
EXTENSIONS = tuple(own_extensions({}))
"""Those of all HTTP requests."""
_BLOCK = 65_536  # bytes for one read of a file whose size is not known
SPEC_VERSION = "2.5"
"""Of the specification of HTTP and WebSocket messages that is followed here."""
MESSAGES = frozenset({"http.response.start", "http.response.body", PATHSEND, *EXTENSIONS})
Message = MutableMapping[str, Any]


def locate(scope: dict[str, Any], target: bytes, root_path: str) -> None:
    """Put the path of a request, as its client wrote it, below the root path into its scope, with its query."""
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
    """Return the error for an answer that would begin with 1xx: none of those ends one (RFC 9110, section 15.2)."""
    return HeadError(f"status {status!r} cannot begin an answer: it is informational")


def believe(scope: dict[str, Any], said: Forwarded) -> None:
    """Put into the scope of a request what a trusted proxy says about it; its Host stands in the headers already."""
    is_websocket = scope["type"] == "websocket"
    if said.scheme == "https":
        scope["scheme"] = "wss" if is_websocket else "https"
    else:
        scope["scheme"] = "ws" if is_websocket else "http"
    scope["client"] = said.client


def _as_bytes(body: Any) -> bytes:
    """Return a copy of what may change while it waits to be sent. Raises `TypeError` for what is no bytes."""
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    raise TypeError(f"the body of an answer must be bytes, not {type(body).__name__}: {body!r:.80}")


class Heard(enum.Enum):
    """What the application has received."""

    NOTHING = "nothing, or a part of the body"
    BODY = "the whole body"
    LEAVE = "that the client is gone, while it could still answer"


_NOTHING, _BODY, _LEAVE = Heard


def answer(interface: Asgi, exchange: Exchange) -> None:
    """Call the application. See `Site.answer`. Benchmark: python -m benchmarks asgi."""
    call = AsgiCall(interface, exchange)
    request = exchange.request
    connection = exchange.connection
    repeated = exchange.repeated
    template = None if repeated is None else repeated.template
    if template is not None and template.headers is request.headers and template.target is request.target:
        scope = template.made.copy()  # a third faster than to put one together
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
    scope["asgi"] = scope["asgi"].copy()  # what an application changes there stays with its request
    scope["extensions"] = own_extensions(scope["extensions"])
    scope["headers"] = request.headers.copy()
    if interface.state is not None:
        scope["state"] = interface.state.copy()
    if connection.believes:
        believe(scope, request.said)
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
        "_heard",
        "_interface",
        "_is_interrupted",
        "_is_sent",
        "_status",
        "_trailers",
        "_warned",
    )

    _fields: Head  # of the answer; set with its status
    _trailers: bytes  # those that were given; set where they are promised

    def __init__(self, interface: Asgi, exchange: Exchange) -> None:
        exchange.listener = self
        self._interface = interface
        self._exchange = exchange
        self._is_sent = interface.sent
        self._status: Status | None = None  # of the answer, once the application has told it
        self._heard = _NOTHING
        self._is_interrupted = False
        self._warned = False

    async def serve(self, application: Callable[..., Awaitable[None]], scope: dict[str, Any]) -> None:
        """Call the application, and see to what it leaves behind."""
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
        """The application has returned, or raised: see to the answer. Return whether the error ends the task.

        Called first of all, whatever the application did: an application's exit is not the worker's.
        """
        exchange = self._exchange
        is_told = self._heard is _LEAVE
        if error is None:
            if is_told:
                exchange.leave()
            elif exchange.stage is not _WHOLE and not exchange.gone:
                what = "no answer" if self._status is None else "an incomplete answer"
                _log.error("the application returned with %s to %s %s", what, exchange.request.method, self.shown)
                exchange.fail()
            return False
        ends = isinstance(error, asyncio.CancelledError) and self._interface.ending
        if not ends and is_departure(error, exchange.gone or is_told):
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
        if exchange.complete and self._heard is _NOTHING and not (exchange.gone or exchange.stage is _WHOLE):
            self._heard = _BODY
            body = exchange.take_body() if exchange.buffered else b""
            return {"type": "http.request", "body": body, "more_body": False}
        return await self._receive_slowly()

    def send(self, message: Message) -> Awaitable[None]:
        """The application's `send`: sends at once, and returns what to await before more is sent.

        No coroutine of its own: awaiting a future that is done costs half as much.
        """
        kind = message["type"]
        exchange = self._exchange
        status = self._status
        if kind == "http.response.body" and status is not None:
            stage = exchange.stage
            if stage is _WHOLE or exchange.gone:
                return self._send_rarely(kind, message)
            more = "more_body" in message and message["more_body"]
            body = message["body"] if "body" in message else b""  # noqa: SIM401 - a third faster
            if type(body) is not bytes:
                body = _as_bytes(body)
            if stage is _WAITING:
                exchange.start(status, self._fields, body, more)
            else:
                exchange.write(body, more)
            return self._after_piece() if more else self._is_sent
        if kind == "http.response.start" and status is None and not exchange.gone:
            number = message["status"]
            if number < 200:
                raise not_final(number)
            status = status_of(number)
            self._fields = from_bytes(message.get("headers", ()))
            self._status = status
            if message.get("trailers"):
                self._promise_trailers()
            return self._is_sent
        return self._send_rarely(kind, message)

    mark_coroutine_function(send)

    def _after_piece(self) -> Awaitable[None]:
        """Return what to await before the next piece is sent."""
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
                    self._heard = _BODY
                return {"type": "http.request", "body": body, "more_body": not exchange.complete}
            if is_over or self._is_interrupted:
                self._heard = _LEAVE
                return {"type": "http.disconnect"}
            if exchange.complete and self._heard is _NOTHING:
                self._heard = _BODY
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
            raise AnswerError(f"an application cannot send {kind!r} to an HTTP request")
        if exchange.stage is _WHOLE:
            self._ignore(kind)
        elif kind == "http.response.early_hint":
            links = [(b"link", _as_bytes(link)) for link in message["links"]]
            exchange.inform(status_of(103), from_bytes(links))
        elif kind == "http.response.start":
            raise AnswerError("http.response.start was sent already")
        elif self._status is None:
            raise AnswerError(f"{kind} before http.response.start")
        elif kind == "http.response.trailers":
            self._send_trailers(message)
        elif PATHSEND not in exchange.connection.facts["extensions"]:
            raise AnswerError(f"{PATHSEND} was not offered: hybrid run --pathsend does that")
        else:
            await self._send_path(self._status, message["path"])

    def _ignore(self, kind: str) -> None:
        """Ignore messages behind the end, as the specification says, and log that once."""
        if not self._warned:
            self._warned = True
            method = self._exchange.request.method
            _log.warning("ignoring %s behind the end of the answer to %s %s", kind, method, self.shown)

    def _promise_trailers(self) -> None:
        """Without `TE: trailers` a client may not know them (RFC 9110, section 6.5.1): they are ignored then."""
        self._trailers = b""
        self._warned = True
        headers = self._exchange.request.headers
        tokens = [token.strip() for name, value in headers if name == b"te" for token in value.lower().split(b",")]
        if b"trailers" in tokens:
            self._exchange.promise_trailers()

    def _send_trailers(self, message: Message) -> None:
        self._trailers += from_bytes(message.get("headers", ())).block
        if not message.get("more_trailers", False):
            self._exchange.send_trailers(Head(self._trailers, UNKNOWN, 0))

    async def _send_path(self, status: Status, path: str) -> None:
        exchange = self._exchange
        if exchange.stage is not _WAITING:
            raise AnswerError("http.response.pathsend cannot follow http.response.body")
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not hold the loop
        try:
            size = _size_left(fd)
            if size is None:
                raise AnswerError(f"http.response.pathsend: {path!r} is not a regular file")
            if size:
                await exchange.send_file(status, self._fields, fd, 0, size)
            else:
                await self._send_unsized(status, fd)
        finally:
            os.close(fd)

    async def _send_unsized(self, status: Status, fd: int) -> None:
        """Send a file that says it is empty: it is, or it is one of the kernel's, whose size is unknown (proc(5))."""
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

    # -- told by the wire -------------------------------------------------------------------------------------------

    def body_arrived(self) -> None:
        """Wake those that wait."""
        self._exchange.wake_waiters()

    resumed = disconnected = body_arrived

    def peer_done(self) -> bool:
        """A client that ends its half mostly is gone: tell a `receive` that waits for that; answers go on."""
        self.interrupt()
        return True

    def interrupt(self) -> None:
        """Tell a `receive` that waits that the client is gone."""
        self._is_interrupted = True
        self._exchange.wake_waiters()

    def draining(self) -> None:
        """An event stream never ends by itself, and its client comes back: end it now, whole.

        The application is told that the client has gone: by `receive`, and by `send` if it does not look there, as
        Starlette's streams do not.
        """
        exchange = self._exchange
        if exchange.stage is Stage.SENDING and exchange.request.method != "HEAD" and _is_event_stream(self._fields):
            exchange.write(b"", more=False)
            exchange.abandon()
            self.interrupt()


def _is_event_stream(fields: Head) -> bool:
    """Tell by Content-Type, however it is written (RFC 9110, section 8.3.1), and by a length that is not known."""
    block = fields.block.lower()
    return fields.length == UNKNOWN and b"text/event-stream" in block and _EVENTS.search(block) is not None


def _size_left(fd: int) -> int | None:
    """Return the bytes from the position of a regular file to its end; None for any other kind of file."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return None
    return max(0, status.st_size - os.lseek(fd, 0, os.SEEK_CUR))


forks.replace(AsgiCall, _send_rarely=forks.finish, _settle=forks.fail)
