"""ASGI 3 applications over HTTP: the scope, `receive`, `send`, and what happens when an application fails.

Specification: https://asgi.readthedocs.io/en/latest/specs/www.html. Lifespan is in `lifespan`, WebSocket in
`asgi_websocket`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from hybrid.workers.common import forks
from hybrid.workers.common.fairness import give_way
from hybrid.workers.common.frames import forget_frames
from hybrid.workers.http import files
from hybrid.workers.http import head as heads
from hybrid.workers.http.exchange import PERCENT, AnswerError, ClientGoneError, Exchange, is_departure
from hybrid.workers.http.repeated import Likeness, Template
from hybrid.workers.tasks.cpython import mark_coroutine_function
from hybrid.workers.tasks.request_tasks import NAME, RequestTask

if TYPE_CHECKING:
    from hybrid.workers.http.forwarded import Forwarded

_ALL = Likeness.ALL
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


def not_final(status: int) -> heads.HeadError:
    """Return the error for an answer that would begin with 1xx: none of those ends one (RFC 9110, section 15.2)."""
    return heads.HeadError(f"status {status!r} cannot begin an answer: it is informational")


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


class AsgiExchange(Exchange):
    """A request for an ASGI application."""

    __slots__ = ("_asked", "_interrupted", "_is_sent", "_told", "_trailer_block", "_warned")

    # -- the hot path; benchmark: python -m benchmarks asgi ---------------------------------------------------------

    def start(self) -> None:
        """Call the application."""
        self._asked = False  # the whole body was handed over
        self._interrupted = False
        self._told = False  # the application has received `http.disconnect` while it could still answer
        self._warned = False
        connection = self.connection
        site = connection.site.interface
        self._is_sent = site.sent
        repeated = connection.reader.repeated
        template = None if repeated is None else repeated.template
        if template is not None and template.headers is self.headers and template.target is self.target:
            scope = template.made.copy()  # a third faster than to put one together
            scope["method"] = self.method
        else:
            scope = self._scope(site)
            if repeated is not None and repeated.likeness is _ALL:
                repeated.template = Template(self.headers, self.target, scope.copy())
        scope["asgi"] = scope["asgi"].copy()  # what an application changes there stays with its request
        scope["extensions"] = own_extensions(scope["extensions"])
        scope["headers"] = self.headers.copy()
        if site.state is not None:
            scope["state"] = site.state.copy()
        if connection.believes:
            believe(scope, self.said)
        task = site.tasks.run(self._serve(site.application, scope))
        if task is not None:
            site.works(task)
            if type(task) is RequestTask and task.get_name() is NAME:
                task.set_name(f"{self.method} {self._shown}")

    def _scope(self, site: Any) -> dict[str, Any]:
        connection = self.connection
        facts = connection.facts
        if facts is None:
            facts = connection.facts = site.facts(connection)
        scope: dict[str, Any] = facts.copy()
        scope["method"] = self.method
        locate(scope, self.target, site.root_path)
        if self.version == "1.0":
            scope["http_version"] = "1.0"
        return scope

    async def _serve(self, application: Callable[..., Awaitable[None]], scope: dict[str, Any]) -> None:
        try:
            await application(scope, self.receive, self.send)
        except BaseException as error:
            if self._settle(error):
                raise
            forget_frames(error)
        else:
            if not self.ended:
                self._settle(None)

    def _settle(self, error: BaseException | None) -> bool:
        """The application has returned, or raised: see to the answer. Return whether the error ends the task.

        Called first of all, whatever the application did: an application's exit is not the worker's.
        """
        if error is None:
            if self._told:
                self._leave()
            elif not self.ended and not self.gone:
                what = "an incomplete answer" if self.begun else "no answer"
                _log.error("the application returned with %s to %s %s", what, self.method, self._shown)
                self.fail()
            return False
        ends = isinstance(error, asyncio.CancelledError) and self.connection.site.interface.ending
        if not ends and is_departure(error, self.gone or self._told):
            self._leave()
            return False
        if not ends:
            self._log_failure(error)
        self.fail()
        return ends

    def _leave(self) -> None:
        """The application has given up because it was told that its client is gone: that is as it should be.

        A client that has closed its half gets no error of ours. It knows from the missing end that this is not whole.
        """
        if self.connection.half_closed and not (self.ended or self.gone):
            self.connection.drop()
            self.wake_waiters()
        else:  # it was told so because the worker stops, or all is over already
            self.fail()

    async def receive(self) -> Message:
        """The application's `receive`."""
        if self.complete and not (self._asked or self.gone or self.ended):
            self._asked = True
            body = self.take_body() if self.buffered else b""
            return {"type": "http.request", "body": body, "more_body": False}
        return await self._receive_slowly()

    def send(self, message: Message) -> Awaitable[None]:
        """The application's `send`: sends at once, and returns what to await before more is sent.

        No coroutine of its own: awaiting a future that is done costs half as much.
        """
        kind = message["type"]
        if kind == "http.response.body" and self.begun:
            if self.ended or self.gone:
                return self._send_rarely(kind, message)
            more = "more_body" in message and message["more_body"]
            body = message["body"] if "body" in message else b""  # noqa: SIM401 - a third faster
            if type(body) is not bytes:
                body = _as_bytes(body)
            self.write(body, more)
            if not more:
                if self._waiters:
                    self.wake_waiters()
            elif self.connection.paused or self.connection.transport.is_closing():
                return self._wait_for_room()
            elif self._is_sent.turn.is_due():
                return give_way(self._is_sent.turn)
            return self._is_sent  # type: ignore[no-any-return]
        if kind == "http.response.start" and not (self.begun or self.gone):
            status = message["status"]
            if status < 200:
                raise not_final(status)
            line = heads.status_line(status)
            self.head = heads.from_bytes(message.get("headers", ()))
            self.begun = True
            self.status = status
            self._line = line
            if message.get("trailers"):
                self._promise_trailers()
            return self._is_sent  # type: ignore[no-any-return]
        return self._send_rarely(kind, message)

    mark_coroutine_function(send)

    # -- less often ---------------------------------------------------------------------------------------------------

    async def _receive_slowly(self) -> Message:
        while True:
            if self.buffered and not (self.gone or self.ended):
                body = self.take_body()
                self._asked = self.complete
                return {"type": "http.request", "body": body, "more_body": not self.complete}
            if self.gone or self.ended or self._interrupted:
                self._told = True
                return {"type": "http.disconnect"}
            if self.complete and not self._asked:
                self._asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            if not self.complete:
                self.ask_for_body()
            await self.news()

    async def _wait_for_room(self) -> None:
        connection = self.connection
        # a lost connection is told in the loop's next turn, which an application that only sends would never let come
        while (connection.paused or connection.transport.is_closing()) and not self.gone:
            await self.news()
        if self.gone:
            raise ClientGoneError("the client is gone")

    async def _send_rarely(self, kind: str, message: Message) -> None:
        if self.gone:
            raise ClientGoneError("the client is gone")
        if kind not in MESSAGES:
            raise AnswerError(f"an application cannot send {kind!r} to an HTTP request")
        if self.ended:
            self._ignore(kind)
        elif kind == "http.response.early_hint":
            self._hint(message["links"])
        elif kind == "http.response.start":
            raise AnswerError("http.response.start was sent already")
        elif not self.begun:
            raise AnswerError(f"{kind} before http.response.start")
        elif kind == "http.response.trailers":
            self._send_trailers(message)
        elif PATHSEND not in self.connection.facts["extensions"]:
            raise AnswerError(f"{PATHSEND} was not offered: hybrid run --pathsend does that")
        else:
            await self._send_path(message["path"])
        if self.ended:
            self.wake_waiters()

    def _ignore(self, kind: str) -> None:
        """Ignore messages behind the end, as the specification says, and log that once."""
        if not self._warned:
            self._warned = True
            _log.warning("ignoring %s behind the end of the answer to %s %s", kind, self.method, self._shown)

    def _hint(self, links: Any) -> None:
        block = heads.from_bytes([(b"link", _as_bytes(link)) for link in links]).block
        self.inform(heads.status_line(103), block)

    def _promise_trailers(self) -> None:
        """Without `TE: trailers` a client may not know them (RFC 9110, section 6.5.1): they are ignored then."""
        self._trailer_block = b""
        self._warned = True
        tokens = [token.strip() for name, value in self.headers if name == b"te" for token in value.lower().split(b",")]
        if b"trailers" in tokens:
            self.with_trailers()

    def _send_trailers(self, message: Message) -> None:
        self._trailer_block += heads.from_bytes(message.get("headers", ())).block
        if not message.get("more_trailers", False):
            self.send_trailers(self._trailer_block)

    async def _send_path(self, path: str) -> None:
        if self.answered:
            raise AnswerError("http.response.pathsend cannot follow http.response.body")
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not hold the loop
        try:
            size = files.size_left(fd)
            if size is None:
                raise AnswerError(f"http.response.pathsend: {path!r} is not a regular file")
            if size:
                await files.send(self, fd, 0, size)
            else:
                await self._send_unsized(fd)
        finally:
            os.close(fd)

    async def _send_unsized(self, fd: int) -> None:
        """Send a file that says it is empty: it is, or it is one of the kernel's, whose size is unknown (proc(5))."""
        while block := os.read(fd, _BLOCK):
            self.write(block, more=True)
            await self._wait_for_room()
        self.write(b"", more=False)

    def fail(self) -> None:
        """Answer 500 or cut the answer; tasks that still wait for the client are told that all is over."""
        super().fail()
        self.wake_waiters()

    @property
    def _shown(self) -> str:
        return self.target.decode("latin-1")

    def _log_failure(self, error: BaseException) -> None:
        _log.error("the application failed at %s %s", self.method, self._shown, exc_info=error)

    # -- told by the connection ---------------------------------------------------------------------------------------

    body_arrived = resumed = disconnected = Exchange.wake_waiters

    def peer_done(self) -> bool:
        """A client that ends its half mostly is gone: tell a `receive` that waits for that; answers go on."""
        self.interrupt()
        return True

    def interrupt(self) -> None:
        """Tell a `receive` that waits that the client is gone."""
        self._interrupted = True
        self.wake_waiters()

    def draining(self) -> None:
        """An event stream never ends by itself, and its client comes back: end it now, whole.

        The application is told that the client has gone: by `receive`, and by `send` if it does not look there, as
        Starlette's streams do not.
        """
        if self.events and not self.ended:
            self.write(b"", more=False)
            self.gone = True
            self.interrupt()


# `ended`: in such a process no answer is, so that what the application does behind one comes to `_settle` too
forks.replace(AsgiExchange, ended=False, write=forks.finish, _send_rarely=forks.finish, _settle=forks.fail)
