"""WSGI applications (PEP 3333): the environ, `start_response`, `write`, and the iterable, closed exactly once.

A request runs in a greenlet, or in a thread of a pool where greenlets cannot wait (see `runners`). All calls to the
connection go through the runner, which makes them in the loop's thread.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any
from urllib.parse import unquote_to_bytes

from hybrid.workers.apps.wsgi.file import FileWrapper, extent_of
from hybrid.workers.apps.wsgi.input import ClientGoneError, Input
from hybrid.workers.common import forks
from hybrid.workers.common.frames import forget_frames
from hybrid.workers.http import head as heads
from hybrid.workers.http.exchange import (
    NO_BODY_CAME,
    PERCENT,
    Exchange,
    Likeness,
    Request,
    ResponseError,
    Stage,
    Template,
    is_client_disconnect,
)
from hybrid.workers.http.head import BODILESS, Head, Status

_log = logging.getLogger("hybrid")
_NONE = Likeness.NONE
_WAITING, _, _WHOLE = Stage
_MOST_KEYS = 1024
_OWN_KEYS = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}
_keys: dict[bytes, str] = _OWN_KEYS.copy()  # name of a header field -> its key in the environ
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def answer(interface: Any, make: type[WsgiCall], exchange: Exchange) -> None:
    """Have the runner call the application through `make`. See `HttpContext.answer`."""
    interface.runner.start(make(interface, exchange))


class WsgiCall:
    """One request to a WSGI application. The listener of its exchange."""

    __slots__ = (
        "ending",
        "exchange",
        "fields",
        "flushed",
        "given",
        "interface",
        "out",
        "pool_worker",
        "status",
        "waiting",
    )

    pool_worker: Any
    """The greenlet of a waiting application; set by the runner."""
    fields: Head
    """Of the response; set with its status."""

    # -- the hot path; benchmark: python -m benchmarks wsgi ---------------------------------------------------------

    def __init__(self, interface: Any, exchange: Exchange) -> None:
        exchange.listener = self
        self.exchange = exchange
        self.interface = interface
        """Provides the application and the runner."""
        self.status: Status | None = None
        """Of the response; set by `start_response`."""
        self.waiting: Any = None
        """The object that the runner waits with."""
        self.given = 0
        """Bytes of the body from the application."""
        self.flushed = False
        """True if `write` was called: the head is sent, or on its way from a thread."""
        self.out = 0
        """Bytes of `given` that the loop has received from a thread."""
        self.ending = False
        """True if the worker ends the request early."""

    def run(self) -> None:
        """Call the application and send its response. Runs in a greenlet or a thread; raises nothing.

        In a process forked by the application, it ends the process instead of sending anything.
        """
        interface = self.interface
        exchange = self.exchange
        try:
            result = interface.application(self._environ(exchange), self.start_response)
            if (
                type(result) is list
                and len(result) == 1
                and type(piece := result[0]) is bytes
                and (status := self.status) is not None
                and interface.is_direct
                and exchange.stage is _WAITING
                and not exchange.gone
            ):  # nearly always; a list has nothing to close
                exchange.start(status, self.fields, piece, False)
            else:
                try:
                    self._answer(result)
                finally:
                    close = getattr(result, "close", None)
                    if close is not None:
                        close()
        except BaseException as error:  # noqa: BLE001 - logged; an application's exit is not the worker's
            self._failed(error)
        if interface.runner.running:
            interface.runner.ended(self)

    def parked(self, pool_worker: Any) -> None:
        """Called by the greenlet pool."""
        self.interface.runner.parked(self, pool_worker)

    def _environ(self, exchange: Exchange) -> dict[str, Any]:
        request = exchange.request
        connection = exchange.connection
        repeated = exchange.repeated
        template = None if repeated is None else repeated.template
        if template is not None and template.headers is request.headers:
            environ = template.made.copy()
            if template.target is not request.target:
                _put_target(environ, request)
            environ["REQUEST_METHOD"] = request.method
        else:
            facts = connection.facts
            if facts is None:
                facts = connection.facts = self.interface.facts(connection)
            environ = facts.copy()
            _put_fields(environ, request.headers)
            _put_target(environ, request)
            environ["REQUEST_METHOD"] = request.method
            if repeated is not None and repeated.likeness is not _NONE:
                repeated.template = Template(request.headers, request.target, environ.copy())
        if request.version != "1.1":
            environ["SERVER_PROTOCOL"] = f"HTTP/{request.version}"
        if exchange.body is not NO_BODY_CAME:
            environ["wsgi.input"] = Input(self)
        environ["wsgi.early_hints"] = self.early_hints
        if connection.trusts_proxy:
            forwarded = request.forwarded
            environ["wsgi.url_scheme"] = forwarded.scheme
            if connection.client is None:  # a UNIX socket has no port: use the scheme's default
                environ["SERVER_PORT"] = "443" if forwarded.scheme == "https" else "80"
            if forwarded.client is not None:
                environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = forwarded.client[0], str(forwarded.client[1])
        return environ

    def _answer(self, result: Iterable[bytes]) -> None:
        """Send the application's return value."""
        if isinstance(result, FileWrapper) and self._send_file(result):
            return
        try:
            single = len(result) == 1  # type: ignore[arg-type]  # PEP 3333: then its length is known
        except TypeError:
            single = False
        for piece in self._pieces(result):
            if piece or single:
                self._give(piece, more=not single)
                if single:
                    return
                if self._has_no_body():
                    break  # the response ends with its head: do not iterate over the rest, which may be endless
        self._give(b"", more=False)

    def _has_no_body(self) -> bool:
        status = self.status
        return self.exchange.request.method == "HEAD" or (status is not None and status.number in BODILESS)

    def _give(self, piece: bytes, more: bool) -> None:
        """Send a piece of the body; wait while the client reads too slowly."""
        if self.status is None:
            raise ResponseError("the application has not called start_response")
        if type(piece) is not bytes:
            piece = _as_bytes(piece)
        runner = self.interface.runner
        exchange = self.exchange
        if exchange.stage is _WHOLE or exchange.gone:
            if exchange.gone:
                raise ClientGoneError("the client is gone")
            return
        self.given += len(piece)
        runner.call(self, self.send, piece, more)
        if more:
            runner.wait_for_room(self)

    def send(self, piece: bytes, more: bool) -> None:
        """Send a piece of the body, after the head. Called in the loop's thread."""
        exchange = self.exchange
        if exchange.stage is _WAITING:
            assert self.status is not None
            exchange.start(self.status, self.fields, piece, more)
        else:
            exchange.write(piece, more)

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """See PEP 3333; returns `write`."""
        if exc_info is not None:
            try:
                if self.exchange.stage is not _WAITING or self.given or self.flushed:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.status is not None:
            raise ResponseError("start_response was called again without exc_info")
        known = _status(status)
        self.fields = heads.from_text(headers)
        self.status = known
        return self._write

    # -- less often ---------------------------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        """The `write` of PEP 3333: sends data at once, and the head even without data."""
        self._give(data, more=True)
        self.flushed = True

    @staticmethod
    def _pieces(result: Any) -> Iterable[bytes]:
        if result is None:
            raise TypeError("the application returned None, not an iterable of bytes")
        if isinstance(result, (bytes, bytearray, str)):
            raise TypeError(f"the application returned {type(result).__name__}, not an iterable of bytes: write [body]")
        return result  # type: ignore[no-any-return]

    def early_hints(self, headers: Iterable[tuple[str, str]]) -> None:
        """`wsgi.early_hints`, as in gunicorn: send 103 with `headers`, unless it is too late or for HTTP/1.0.

        Raises `HeadError`, `TypeError` for fields that cannot be sent.
        """
        fields = heads.from_text([(name, value) for name, value in headers])
        if not (self.given or self.flushed):
            self.interface.runner.call(self, self.exchange.send_informational, heads.status_of(103), fields)

    def _send_file(self, wrapper: FileWrapper) -> bool:
        """Send a real file without reading it; return True on success."""
        extent = extent_of(wrapper.file)
        status, exchange = self.status, self.exchange
        if extent is None or status is None or self.given or self.flushed:
            return False
        if exchange.gone:
            raise ClientGoneError("the client is gone")
        self.given = extent.size
        self.interface.runner.await_(exchange.send_file(status, self.fields, *extent))
        return True

    def _failed(self, error: BaseException) -> None:
        self.failed(error)
        forget_frames(error)
        with contextlib.suppress(Exception):
            self.interface.runner.call(self, self.exchange.fail)

    def failed(self, error: BaseException) -> None:
        """Log an error raised by the application or caused by its response."""
        if not (self.ending or is_client_disconnect(error, self.exchange.gone)):
            request = self.exchange.request
            target = request.target.decode("latin-1")
            _log.error("the application failed at %s %s", request.method, target, exc_info=error)

    # -- callbacks of the wire ---------------------------------------------------------------------------------------

    def body_arrived(self) -> None:
        """Wake the application if it waits."""
        if self.waiting is not None:
            self.interface.runner.wake(self)
        self.exchange.wake_waiters()

    resumed = disconnected = body_arrived

    def peer_done(self) -> bool:
        """Continue: the client may wait for the response."""
        return True

    def draining(self) -> None:
        """Continue: the response ends by itself."""

    def interrupt(self) -> None:
        """Continue: WSGI has no way to notify the application."""


forks.replace(WsgiCall, _answer=forks.finish, _give=forks.finish, _failed=forks.fail)


def _put_target(environ: dict[str, Any], request: Request) -> None:
    path, _, query = request.target.partition(b"?")
    environ["PATH_INFO"] = (
        (unquote_to_bytes(path) if PERCENT in path else path).decode("latin-1") if path != b"*" else ""
    )
    environ["QUERY_STRING"] = query.decode("latin-1") if query else ""
    environ["RAW_URI"] = environ["REQUEST_URI"] = request.sent_target.decode("latin-1")


def _put_fields(environ: dict[str, Any], fields: Iterable[tuple[bytes, bytes]]) -> None:
    """Add the header fields of a request to an environ with the connection's values."""
    for name, value in fields:
        key = _keys.get(name) or _learn(name)
        if key in environ and key.startswith("HTTP_"):
            separator = "; " if key == "HTTP_COOKIE" else ","  # RFC 9110 section 5.3, RFC 6265 section 5.4
            environ[key] = environ[key] + separator + value.decode("latin-1")
        else:
            environ[key] = value.decode("latin-1")


def _as_bytes(piece: Any) -> bytes:
    """Return a copy, safe from changes while it waits to be sent. Raises `TypeError` for anything but bytes."""
    if isinstance(piece, (bytes, bytearray, memoryview)):
        return bytes(piece)
    raise TypeError(f"the application gave a {type(piece).__name__} as a piece of the body, not bytes")


_statuses: dict[str, Status] = {}  # as written by applications -> as sent


def _status(status: str) -> Status:
    """Return the status for `200 OK`. Raises `HeadError`, `TypeError`."""
    known = _statuses.get(status)
    if known is not None:
        return known
    if not isinstance(status, str):
        raise TypeError(f"the status is a {type(status).__name__}, not a str like '200 OK'")
    number, _, reason = status.partition(" ")
    if len(number) != 3 or not (number.isascii() and number.isdigit()):
        raise heads.HeadError(f"the status {status!r:.80} does not begin with three digits and a space")
    if number[0] in "01":
        raise heads.HeadError(f"the status {status!r:.80} is not final (RFC 9110, section 15.2)")
    try:
        found = heads.status_of(int(number), reason.encode("latin-1"))
    except UnicodeEncodeError:
        raise heads.HeadError(f"the status {status!r:.80} is not latin-1 text") from None
    if len(_statuses) < _MOST_KEYS:
        _statuses[status] = found
    return found


def _learn(name: bytes) -> str:
    global _keys  # rebound, not cleared: other threads read it
    key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
    if len(_keys) >= _MOST_KEYS:  # a client invents names: drop them, or no new ones could be cached
        _keys = _OWN_KEYS.copy()
    _keys[name] = key
    return key
