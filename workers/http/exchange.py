"""One request and its answer, whatever the interface: what came in, how the answer is framed, and its end.

A subclass per interface runs the application. It is told by `start`, `body_arrived`, `resumed` and `disconnected`, and
answers through `begin`, `write` and `fail`. All of it happens in the loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from typing import TYPE_CHECKING, Any

from hybrid.workers.http import head as heads
from hybrid.workers.http.head import BODILESS, CLOSE, OWN_DATE, OWN_SERVER, UNKNOWN, Head

if TYPE_CHECKING:
    from hybrid.workers.http.connection import HttpConnection
    from hybrid.workers.http.forwarded import Forwarded

CHUNKED, UNTIL_CLOSE, NO_BODY, TRAILERS = -1, -2, -3, -4  # values of `_left` beside a number of bytes
NO_BODY_CAME: deque[bytes] = deque(maxlen=0)
"""The body of requests that have none: one for all."""
_LARGE = 65_536  # bytes of a body that are not copied to go out in one call with the head
PERCENT = ord("%")  # as a number: to look for one in bytes costs a tenth of what looking for bytes does
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_EVENTS = re.compile(rb"^content-type:[ \t]*text/event-stream[ \t]*[;\r]", re.MULTILINE)  # in lower case
_MOST_LENGTHS = 1024
_CLOSE = b"connection: close\r\n\r\n"
_OWN_FIELDS = OWN_DATE | OWN_SERVER
_LENGTHS = [b"content-length: %d\r\n\r\n" % size for size in range(_MOST_LENGTHS)]
_log = logging.getLogger("hybrid")


class AnswerError(RuntimeError):
    """The application answers in a way that HTTP does not allow: too much body, a second head, a body before a head."""


class ClientGoneError(ConnectionResetError):
    """Raised in the application when it writes to, or reads from, a client that is gone (ASGI 2.4: an OSError)."""


_DEPARTURES = frozenset({"ClientDisconnect", "WebSocketDisconnect", "ClientDisconnectedError"})  # Starlette's, Quart's


def is_departure(error: BaseException, told: bool) -> bool:
    """Return True if `error` only reports that the client is gone, which is no fault of the application.

    It is a `ClientGoneError`, was raised from one or in the place of one (`from None`), or is a group of such errors.
    Once the application has been `told` that its client is gone, the errors by which frameworks pass that on count as
    well. An error that merely came up after the client had left does not: it has a reason of its own.
    """
    if isinstance(error, BaseExceptionGroup):  # of a task group in which something was sent
        return all(is_departure(each, told) for each in error.exceptions)
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ClientGoneError):
            return True
        # `raise ... from None` puts an error in the place of the one that is being handled
        seen = seen.__context__ if seen.__suppress_context__ and seen.__cause__ is None else seen.__cause__
    return told and (isinstance(error, asyncio.CancelledError) or type(error).__name__ in _DEPARTURES)


class Exchange:
    """One request. Made when its header fields are complete; started when all earlier answers are out."""

    __slots__ = (
        "_left",
        "_line",
        "_sent",
        "_trailers",
        "_waiters",
        "answered",
        "begun",
        "body",
        "buffered",
        "closing",
        "complete",
        "connection",
        "continues",
        "ended",
        "events",
        "gone",
        "head",
        "headers",
        "keep_alive",
        "method",
        "said",
        "sent_target",
        "simple",
        "started",
        "status",
        "target",
        "version",
    )

    is_websocket = False
    """Whether it takes the connection over once it has started."""
    said: Forwarded
    """What the proxy says about the request; set only where `connection.believes`."""
    # set with `begun`:
    status: int
    head: Head | None  # the head while it is not sent yet
    _line: bytes  # the first line of the answer
    # set with `answered`:
    _left: int
    _sent: int  # bytes of the answer's body

    def __init__(
        self,
        connection: HttpConnection,
        method: str,
        target: bytes,
        version: str,
        headers: list[tuple[bytes, bytes]],
        keep_alive: bool,
    ) -> None:
        self.connection = connection
        self.method = method
        self.target = target
        """The path with its query, as the client wrote them."""
        self.sent_target = target
        """The whole target: of a URL it has scheme and authority too."""
        self.version = version
        """`1.0` or `1.1`."""
        self.headers = headers
        """Names in lower case."""
        self.keep_alive = keep_alive
        self.simple = False
        """Whether nothing of the request asks for a special frame of its answer: see `write`. The connection knows."""
        self.closing = False
        """Whether nothing does but that the connection is to be closed behind it."""
        self.body: deque[bytes] = NO_BODY_CAME
        """The part of the request's body that has arrived and was not taken."""
        self.buffered = 0  # bytes in it
        self.complete = False
        """Whether all of the request's body has arrived."""
        self.continues = False  # the client waits for 100 Continue
        self.gone = False
        """Whether the client is gone, or refused: nothing more comes, nothing can be sent."""
        self.started = False  # the application was called; set by the connection
        self.begun = False
        """Whether the application has told status and header fields."""
        self.answered = False
        """Whether bytes of the final answer are out."""
        self.ended = False
        """Whether the answer is whole."""
        self.events = False
        """Whether the answer is a stream of server-sent events, which has no end of its own."""
        self._trailers = False  # they follow the body, which does not end the answer then
        self._waiters: list[asyncio.Future[None]] | None = None  # coroutines that wait for news of the connection

    # -- what a subclass does ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Run the application. Must not raise; called once, by the connection, in the loop."""
        raise NotImplementedError

    def body_arrived(self) -> None:
        """More of the body is there, or `complete` has become true."""

    def resumed(self) -> None:
        """The client has taken enough: wake those that wait to send."""

    def disconnected(self) -> None:
        """`gone` has become true: wake all that wait."""

    @property
    def owed(self) -> int:
        """Bytes of the current WebSocket frame that have not come yet; 0 where the application parses frames itself."""
        return 0

    def peer_done(self) -> bool:
        """The client sends no more: it may be gone, or wait for the answer with its writing half closed.

        Returns whether the connection stays open.
        """
        return True

    def draining(self) -> None:
        """The worker stops. What has no end of its own ends now."""

    def interrupt(self) -> None:
        """The worker stops soon: what is still under way is told that the client is gone."""

    def news(self) -> asyncio.Future[None]:
        """Return what a coroutine waits for until something of the above happens. Several may wait."""
        waiter: asyncio.Future[None] = self.connection.site.loop.create_future()
        if self._waiters:  # without those of waits that were cancelled: there may be thousands until there is news
            self._waiters = [other for other in self._waiters if not other.done()]
            self._waiters.append(waiter)
        else:
            self._waiters = [waiter]
        return waiter

    def forget(self, waiter: asyncio.Future[None]) -> None:
        """`waiter`, which `news` returned, is no longer of interest."""
        if self._waiters and waiter in self._waiters:
            self._waiters.remove(waiter)

    def wake_waiters(self) -> None:
        """There is news."""
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    # -- the request's body --------------------------------------------------------------------------------------

    def ask_for_body(self) -> None:
        """The application wants the body: let a client that waits for it begin (RFC 9110, section 10.1.1)."""
        if self.continues and not self.answered and not self.gone:
            self.continues = False
            self.connection.write(_CONTINUE)
        self.connection.awaits_body(self)

    def take_body(self) -> bytes:
        """Return what has arrived; b"" if nothing has. The client may send as much again."""
        body = self.body
        if len(body) == 1:
            data = body.popleft()
        else:
            data = b"".join(body)
            body.clear()
        self.buffered = 0
        self.connection.took_body()
        return data

    def took(self, count: int) -> None:
        """A thread has taken `count` bytes out of `body` by itself."""
        self.buffered -= count
        self.connection.took_body()

    # -- the answer; benchmarks: python -m benchmarks wsgi asgi ----------------------------------------------------

    def begin(self, status: int, line: bytes, fields: Head) -> None:
        """Take the head of the answer. It goes out with the first bytes of the body. Raises `AnswerError`."""
        if self.answered:
            raise AnswerError("the head of the answer is sent already")
        self.begun = True
        self.status = status
        self._line = line
        self.head = fields

    def write(self, body: Any, more: bool) -> None:
        """Send a piece of the body, the head first. Without `more` it is the last. Raises `AnswerError`."""
        fields = self.head
        if fields is not None and not more and self.complete and self.status not in BODILESS:
            block, length, flags = fields
            connection = self.connection
            size = len(body)
            if length != UNKNOWN and length != size:
                pass  # an error, which `_write_slowly` raises
            elif self.simple and not flags and size < _LARGE and connection.persistent:
                # nearly always: the whole answer at once, framed in the plainest way; `_open` knows all of them
                self.head = None
                self.answered = self.ended = True
                self._left = 0
                self._sent = size
                end = _LENGTHS[size] if size < _MOST_LENGTHS else b"content-length: %d\r\n\r\n" % size
                connection.write_last(b"".join((self._line, block, connection.clock.fields, end, body)))
                connection.exchange_ended(self)
                return
            elif self.closing and size < _MOST_LENGTHS and not flags & _OWN_FIELDS:  # the only answer here
                self.head = None
                self.answered = self.ended = True
                self.keep_alive = False
                self._left = 0
                self._sent = size
                length_field = _LENGTHS[size][:-2]
                connection.write_end(b"".join((self._line, block, connection.clock.fields, length_field, _CLOSE, body)))
                connection.exchange_ended(self)
                return
        self._write_slowly(fields, body, more)

    def _write_slowly(self, fields: Head | None, body: Any, more: bool) -> None:
        size = len(body)
        data: Any
        if fields is None:
            data = self._frame(body, size, more)
        else:
            self.head = None
            self.answered = True
            data = self._open(fields, size, more)
            left = self._left
            if left >= 0 and (size > left or (size < left and not more)):  # nothing is out: it can become a 500
                self.head = fields
                self.answered = False
                raise AnswerError(f"the body has {size} bytes, and its Content-Length says {left}")
            if left != NO_BODY:
                if size < _LARGE:
                    data += self._frame(body, size, more)
                else:
                    self.connection.write(data)
                    data = self._frame(body, size, more)
        if data:
            if not more and self.closing and self.complete:
                self.connection.write_end(data)
            else:
                self.connection.write(data)
        self._sent += size
        if not more:
            self._end()

    def _open(self, fields: Head, size: int, more: bool) -> bytes:
        """Return the head with its framing; decides how the body is framed and whether the connection stays open."""
        self._sent = 0
        block, length, flags = fields
        connection = self.connection
        clock = connection.clock
        if flags & _OWN_FIELDS:
            block += b"" if flags & OWN_SERVER else clock.server_field
            block += b"" if flags & OWN_DATE else clock.date_field
        else:
            block += clock.fields
        if length == UNKNOWN and not more and not self._trailers:
            length = size
        block += self._choose_framing(fields, length, size)
        persistent = connection.persistent or connection.has_more()
        if not (persistent and self.keep_alive and self.complete) or flags & CLOSE:
            self.keep_alive = False
            return b"%b%bconnection: close\r\n\r\n" % (self._line, block)
        if self.version == "1.0":
            block += b"connection: keep-alive\r\n"
        return b"%b%b\r\n" % (self._line, block)

    def _choose_framing(self, fields: Head, length: int, size: int) -> bytes:
        """Decide how a body is framed of which `size` bytes are here; return the field that says so."""
        if self.method == "HEAD" or self.status in BODILESS:
            self._left = NO_BODY
            if self.status == 204 or (not size and fields.length == UNKNOWN):
                return b""  # an empty answer to HEAD says nothing about the length of GET's
        elif length != UNKNOWN:
            self._left = length
        elif self.version == "1.1":
            self._left = CHUNKED
            self.events = _is_event_stream(fields.block)
            return b"transfer-encoding: chunked\r\n"
        else:
            self._left = UNTIL_CLOSE
            self.events = _is_event_stream(fields.block)
            self.keep_alive = False
        return b"" if length == UNKNOWN else b"content-length: %d\r\n" % length

    def _frame(self, body: Any, size: int, more: bool) -> Any:
        """Return a piece of the body as it goes over the wire."""
        left = self._left
        if left >= 0:
            if size > left:
                raise AnswerError(f"the body is longer than its Content-Length by {size - left} bytes")
            self._left = left - size
            return body
        if left == CHUNKED:
            end = b"" if more or self._trailers else b"0\r\n\r\n"
            return b"%x\r\n%b\r\n%b" % (size, body, end) if size else end
        if left == TRAILERS:
            raise AnswerError("the body has ended already: its trailers are due")
        return body if left == UNTIL_CLOSE else b""

    def with_trailers(self) -> None:
        """Trailers follow: the last piece of the body does not end the answer. Called before the head is sent."""
        self._trailers = True
        self.simple = self.closing = False

    def send_trailers(self, block: bytes) -> None:
        """End the answer with trailer fields (RFC 9112, section 7.1.2). Raises `AnswerError` unless they are due."""
        if not self.answered or self._left != TRAILERS:
            raise AnswerError("trailers were not promised, or the body has not ended yet")
        self.connection.write(b"0\r\n%b\r\n" % block)
        self._finish()

    def inform(self, line: bytes, block: bytes) -> None:
        """Send an informational answer, such as 103 Early Hints. HTTP/1.0 clients do not know them: none is sent."""
        if self.version == "1.1" and not self.answered and not self.gone:
            self.connection.write(b"%b%b\r\n" % (line, block))

    def _end(self) -> None:
        if self._left > 0:
            self._abort(f"the body is shorter than its Content-Length by {self._left} bytes")
        elif self._trailers and self._left == CHUNKED:  # nothing else has a place for them
            self._left = TRAILERS
        else:
            self._finish()

    def _finish(self) -> None:
        if not self.ended:
            self.ended = True
            self.connection.exchange_ended(self)

    def fail(self) -> None:
        """The application failed: 500 if nothing is out yet, else cut the answer, so that it is not taken for whole."""
        if self.ended or self.gone or self.connection.transport.is_closing():
            return
        if self.answered:
            self.ended = True
            self.connection.abort()
            return
        self._trailers = False
        self.begin(500, heads.status_line(500), heads.from_bytes([(b"content-type", b"text/plain; charset=utf-8")]))
        self.write(b"Internal Server Error\n", more=False)

    def _abort(self, why: str) -> None:
        _log.error("%s %s: %s", self.method, self.target.decode("latin-1"), why)
        self.ended = True
        self.connection.abort()

    @property
    def sent(self) -> int:
        """Bytes of the answer's body that were sent."""
        return 0 if not self.answered or self._left == NO_BODY else self._sent

    # -- files, see `files` ------------------------------------------------------------------------------------------

    def begin_file(self, count: int) -> int:
        """Send the head, if it is not out; return how many of the file's `count` bytes belong to the body.

        Raises `AnswerError` for a file that is shorter than the answer says, before anything is sent.
        """
        if not self.begun:
            raise AnswerError("a file before the head of the answer")
        fields = self.head
        if fields is not None:
            if count < fields.length and self.method != "HEAD" and self.status not in BODILESS:
                raise AnswerError(f"the file has {count} bytes, and its Content-Length says {fields.length}")
            self.head = None
            self.answered = True
            self.connection.write(self._open(fields, count, more=False))
        if self._left == NO_BODY:
            return 0
        return count if self._left < 0 else min(count, self._left)

    @property
    def is_plain(self) -> bool:
        """Whether the body goes over the wire as it is."""
        return self._left not in (CHUNKED, NO_BODY)

    def count_sent(self, count: int) -> None:
        """`count` bytes of the body have gone to the client past `write`."""
        self._sent += count
        if self._left > 0:
            self._left -= count


def _is_event_stream(block: bytes) -> bool:
    """Whether header fields say so: in Content-Type, however it is written (RFC 9110, section 8.3.1)."""
    block = block.lower()
    return b"text/event-stream" in block and _EVENTS.search(block) is not None
