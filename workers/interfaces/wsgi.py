"""WSGI applications (PEP 3333): the environ, `start_response`, `write`, and the iterable that is closed exactly once.

A request runs in a greenlet, or in a thread of a pool where greenlets cannot wait (see `runners`). All calls to the
connection go through the runner, which brings them to the loop's thread.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any
from urllib.parse import unquote_to_bytes

from hybrid.workers.common import forks
from hybrid.workers.common.frames import forget_frames
from hybrid.workers.http import files
from hybrid.workers.http import head as heads
from hybrid.workers.http.exchange import NO_BODY_CAME, PERCENT, AnswerError, Exchange, is_departure
from hybrid.workers.http.head import BODILESS
from hybrid.workers.http.repeated import Likeness, Template
from hybrid.workers.interfaces.wsgi_file import FileWrapper, extent_of
from hybrid.workers.interfaces.wsgi_input import ClientGoneError, Input

_log = logging.getLogger("hybrid")
_NONE = Likeness.NONE
_MOST_KEYS = 1024
_OWN_KEYS = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}
_keys: dict[bytes, str] = _OWN_KEYS.copy()  # name of a header field -> its key in the environ
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


class WsgiExchange(Exchange):
    """A request for a WSGI application."""

    __slots__ = ("carrier", "ending", "flushed", "given", "interface", "out", "waiting")

    carrier: Any
    """The greenlet of an application that waits; the runner's."""
    interface: Any
    """What has the application and the runner; set with the start."""

    # -- the hot path; benchmark: python -m benchmarks wsgi ---------------------------------------------------------

    def start(self) -> None:
        """Have the runner call `run`."""
        self.waiting: Any = None  # what the runner waits with
        self.given = 0  # bytes of the body that the application gave
        self.flushed = False  # `write` was called: the head is out, or on its way from a thread
        self.out = 0  # bytes of them that the loop has taken over from a thread
        self.ending = False  # the worker ends it early
        self.interface = interface = self.connection.site.interface
        interface.runner.start(self)

    def run(self) -> None:
        """Call the application and send what it gives. Runs in a greenlet or a thread; raises nothing.

        In a process that the application forked it ends the process instead of sending anything.
        """
        interface = self.interface
        try:
            result = interface.application(self._environ(interface), self.start_response)
            if (
                type(result) is list
                and len(result) == 1
                and type(piece := result[0]) is bytes
                and self.begun
                and interface.is_direct
                and not (self.gone or self.ended)
            ):  # nearly always; a list has nothing to close
                self.given += len(piece)
                self.write(piece, False)
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

    def parked(self, carrier: Any) -> None:
        """Told by the pool of greenlets."""
        self.interface.runner.parked(self, carrier)

    def _environ(self, interface: Any) -> dict[str, Any]:
        connection = self.connection
        repeated = connection.reader.repeated
        template = None if repeated is None else repeated.template
        if template is not None and template.headers is self.headers:
            environ = template.made.copy()
            if template.target is not self.target:
                self._put_target(environ)
            environ["REQUEST_METHOD"] = self.method
        else:
            environ = self._fields(interface)
            self._put_target(environ)
            environ["REQUEST_METHOD"] = self.method
            if repeated is not None and repeated.likeness is not _NONE:
                repeated.template = Template(self.headers, self.target, environ.copy())
        if self.version == "1.0":
            environ["SERVER_PROTOCOL"] = "HTTP/1.0"
        if self.body is not NO_BODY_CAME:
            environ["wsgi.input"] = Input(self)
        environ["wsgi.early_hints"] = self.early_hints
        if connection.believes:
            said = self.said
            environ["wsgi.url_scheme"] = said.scheme
            if connection.client is None:  # a UNIX socket has no port: it is the scheme's
                environ["SERVER_PORT"] = "443" if said.scheme == "https" else "80"
            if said.client is not None:
                environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = said.client[0], str(said.client[1])
        return environ

    def _put_target(self, environ: dict[str, Any]) -> None:
        path, _, query = self.target.partition(b"?")
        environ["PATH_INFO"] = (
            (unquote_to_bytes(path) if PERCENT in path else path).decode("latin-1") if path != b"*" else ""
        )
        environ["QUERY_STRING"] = query.decode("latin-1") if query else ""
        environ["RAW_URI"] = environ["REQUEST_URI"] = self.sent_target.decode("latin-1")

    def _fields(self, interface: Any) -> dict[str, Any]:
        """Return what is the same in all requests of this connection with these header fields."""
        connection = self.connection
        facts = connection.facts
        if facts is None:
            facts = connection.facts = interface.facts(connection)
        environ: dict[str, Any] = facts.copy()
        for name, value in self.headers:
            key = _keys.get(name) or _learn(name)
            if key in environ and key.startswith("HTTP_"):
                separator = "; " if key == "HTTP_COOKIE" else ","  # RFC 9110 section 5.3, RFC 6265 section 5.4
                environ[key] = environ[key] + separator + value.decode("latin-1")
            else:
                environ[key] = value.decode("latin-1")
        return environ

    def _answer(self, result: Iterable[bytes]) -> None:
        """Send what the application returned."""
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
                if self.method == "HEAD" or self.status in BODILESS:
                    break  # the head is out and nothing follows it: the rest, which may be endless, is not asked for
        self._give(b"", more=False)

    def _give(self, piece: bytes, more: bool) -> None:
        """Send a piece of the body; wait while the client takes too little."""
        if not self.begun:
            raise AnswerError("the application has not called start_response")
        if type(piece) is not bytes:
            piece = _as_bytes(piece)
        runner = self.interface.runner
        if self.ended or self.gone:
            if self.gone:
                raise ClientGoneError("the client is gone")
            return
        self.given += len(piece)
        runner.call(self, self.write, piece, more)
        if more:
            runner.wait_for_room(self)

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """As PEP 3333 has it; returns `write`."""
        if exc_info is not None:
            try:
                if self.answered or self.given or self.flushed:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.begun:
            raise AnswerError("start_response was called before, and this time without exc_info")
        line, number = _status(status)
        fields = heads.from_text(headers)
        if self.answered:
            raise AnswerError("the head of the answer is sent already")
        self.begun = True
        self.status = number
        self._line = line
        self.head = fields
        return self._write

    # -- less often ---------------------------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        """The `write` of PEP 3333: data goes out now; the head does even without any."""
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
        """`wsgi.early_hints`, as gunicorn has it: send 103 with `headers`. Too late, or to HTTP/1.0, it does nothing.

        Raises `HeadError`, `TypeError` for fields that cannot be sent.
        """
        fields = heads.from_text([(name, value) for name, value in headers])
        if not (self.given or self.flushed):
            self.interface.runner.call(self, self.inform, heads.status_line(103), fields.block)

    def _send_file(self, wrapper: FileWrapper) -> bool:
        """Send a real file without reading it; tell whether that could be done."""
        extent = extent_of(wrapper.file)
        if extent is None or not self.begun or self.given or self.flushed:
            return False
        if self.gone:
            raise ClientGoneError("the client is gone")
        self.given = extent.size
        self.interface.runner.await_(files.send(self, *extent))
        return True

    def _failed(self, error: BaseException) -> None:
        self.failed(error)
        forget_frames(error)
        with contextlib.suppress(Exception):
            self.interface.runner.call(self, self.fail)

    def failed(self, error: BaseException) -> None:
        """Log an error of the application, or of what it wanted to send."""
        if not (self.ending or is_departure(error, self.gone)):
            _log.error("the application failed at %s %s", self.method, self.target.decode("latin-1"), exc_info=error)

    # -- told by the connection --------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if not self.started:
            return  # the body comes with the head
        if self.waiting is not None:
            self.interface.runner.wake(self)
        if self._waiters is not None:
            self.wake_waiters()

    body_arrived = resumed = disconnected = _wake


forks.replace(WsgiExchange, write=forks.finish, _answer=forks.finish, _give=forks.finish, _failed=forks.fail)


def _as_bytes(piece: Any) -> bytes:
    """Return a copy of what may change while it waits to be sent. Raises `TypeError` for what is no bytes."""
    if isinstance(piece, (bytes, bytearray, memoryview)):
        return bytes(piece)
    raise TypeError(f"the application gave a {type(piece).__name__} as a piece of the body, not bytes")


_statuses: dict[str, tuple[bytes, int]] = {}  # status as applications write it -> first line, number


def _status(status: str) -> tuple[bytes, int]:
    """Return the first line for `200 OK`. Raises `HeadError`, `TypeError`."""
    known = _statuses.get(status)
    if known is not None:
        return known
    if not isinstance(status, str):
        raise TypeError(f"the status is a {type(status).__name__}, not a str like '200 OK'")
    number, _, reason = status.partition(" ")
    if len(number) != 3 or not (number.isascii() and number.isdigit()):
        raise heads.HeadError(f"the status {status!r:.80} does not begin with three digits and a space")
    if number[0] in "01":
        raise heads.HeadError(f"the status {status!r:.80} does not end a request (RFC 9110, section 15.2)")
    try:
        line = heads.status_line(int(number), reason.encode("latin-1"))
    except UnicodeEncodeError:
        raise heads.HeadError(f"the status {status!r:.80} is not latin-1 text") from None
    found = line, int(number)
    if len(_statuses) < _MOST_KEYS:
        _statuses[status] = found
    return found


def _learn(name: bytes) -> str:
    global _keys  # bound anew, for other threads look into it
    key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
    if len(_keys) >= _MOST_KEYS:  # a client invents names: forget them, or no new ones could be kept
        _keys = _OWN_KEYS.copy()
    _keys[name] = key
    return key
