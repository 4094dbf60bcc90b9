"""One request of HTTP/1.1 and its answer: how the answer is framed, and its end."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hybrid.workers.common import forks
from hybrid.workers.http import head as heads
from hybrid.workers.http.exchange import NO_BODY_CAME, AnswerError, Request, Stage
from hybrid.workers.http.h1 import files
from hybrid.workers.http.head import BODILESS, CLOSE, OWN_DATE, OWN_SERVER, UNKNOWN, Head, Status

if TYPE_CHECKING:
    from hybrid.workers.http.exchange import Repetition
    from hybrid.workers.http.h1.connection import HttpConnection
    from hybrid.workers.http.websocket.frames import Closed

_LARGE = 65_536  # bytes of a body that are not copied to go out in one call with the head
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_MOST_LENGTHS = 1024
_CLOSE = b"connection: close\r\n\r\n"
_OWN_FIELDS = OWN_DATE | OWN_SERVER
_LENGTHS = [b"content-length: %d\r\n\r\n" % size for size in range(_MOST_LENGTHS)]
_FAILED = Head(b"content-type: text/plain; charset=utf-8\r\n", UNKNOWN, 0)
_log = logging.getLogger("hybrid")


class Style(enum.Enum):
    """What a request asks of the frame of its answer. The connection knows."""

    PLAIN = "nothing: HTTP/1.1, kept alive, not HEAD"
    CLOSING = "that the connection is closed behind it, and nothing else"
    SPECIAL = "something else"
    TRAILED = "something else, and the application has promised trailers"
    UPGRADE = "another protocol: it takes the connection over"


class Framing(enum.Enum):
    """How the body of an answer is framed."""

    LENGTH = "Content-Length"
    CHUNKED = "chunks"
    UNTIL_CLOSE = "the end of the connection"
    NOTHING = "there is no body, whatever the application gives"
    TRAILERS = "it has ended, and its trailers are due"


PLAIN, CLOSING, SPECIAL, TRAILED, UPGRADE = Style
LENGTH, CHUNKED, UNTIL_CLOSE, NOTHING, TRAILERS = Framing
WAITING, SENDING, WHOLE = Stage


class Http1Exchange:
    """See `Exchange`. Made when its header fields are complete; started when all earlier answers are out."""

    __slots__ = (
        "_framing",
        "_left",
        "_waiters",
        "began",
        "body",
        "buffered",
        "complete",
        "connection",
        "gone",
        "keep_alive",
        "listener",
        "repeated",
        "request",
        "sent",
        "sent_head",
        "stage",
        "status",
        "style",
    )

    _framing: Framing  # set with the head
    _left: int  # bytes of a body with a length that are not given yet; set with the head
    began: float
    """When the header fields were complete, by `time.perf_counter`; set by the journal, where there is one."""

    def __init__(
        self,
        connection: HttpConnection,
        request: Request,
        style: Style,
        keep_alive: bool,
        complete: bool,
        repeated: Repetition | None,
    ) -> None:
        self.connection = connection
        self.request = request
        self.style = style
        self.keep_alive = keep_alive
        self.complete = complete
        self.repeated = repeated
        self.listener: Any = None
        self.body: deque[bytes] = NO_BODY_CAME
        self.buffered = 0
        self.gone = False
        self.stage = WAITING
        self.status = 0
        """Of the answer; 0: none is sent."""
        self.sent = 0
        """Bytes of the answer's body that are sent."""
        self.sent_head: bytes | None = None
        """The head of the answer, if it is to be kept; b"" until it is sent."""
        self._waiters: list[asyncio.Future[None]] | None = None  # coroutines that wait for news of the connection

    # -- the answer; benchmarks: python -m benchmarks wsgi asgi ----------------------------------------------------

    def start(self, status: Status, fields: Head, body: Any, more: bool) -> None:
        """See `Exchange`."""
        if not more and self.complete and (number := status.number) not in BODILESS and self.stage is WAITING:
            block, length, flags = fields
            connection = self.connection
            size = len(body)
            style = self.style
            if length != UNKNOWN and length != size:
                pass  # an error, which `_start_slowly` raises
            elif style is PLAIN and not flags and size < _LARGE and connection.persistent:
                # nearly always: the whole answer at once, framed in the plainest way; `_open` knows all of them
                self.stage = WHOLE
                self.status = number
                self.sent = size
                end = _LENGTHS[size] if size < _MOST_LENGTHS else b"content-length: %d\r\n\r\n" % size
                connection.write_last(b"".join((status.line, block, connection.clock.fields, end, body)))
                if self._waiters is not None:
                    self.wake_waiters()
                connection.exchange_ended(self)
                return
            elif style is CLOSING and size < _MOST_LENGTHS and not flags & _OWN_FIELDS and self.sent_head is None:
                self._answer_and_close(status, block, body, size)
                return
        self._start_slowly(status, fields, body, more)

    def _answer_and_close(self, status: Status, block: bytes, body: Any, size: int) -> None:
        """Send a small answer at once that is the only one of its connection."""
        self.stage = WHOLE
        self.status = status.number
        self.keep_alive = False
        self.sent = size
        connection = self.connection
        length_field = _LENGTHS[size][:-2]
        connection.write_end(b"".join((status.line, block, connection.clock.fields, length_field, _CLOSE, body)))
        if self._waiters is not None:
            self.wake_waiters()
        connection.exchange_ended(self)

    def write(self, body: Any, more: bool) -> None:
        """See `Exchange`."""
        if self.stage is not SENDING:
            raise AnswerError("a body before the head of the answer" if self.stage is WAITING else "the answer is over")
        size = len(body)
        self._send(self._frame(body, size, more), size, more)

    def keep_head(self) -> None:
        """See `Exchange`."""
        self.sent_head = b""
        if self.style is PLAIN:
            self.style = SPECIAL  # the head of others is one piece

    # -- less often ---------------------------------------------------------------------------------------------------

    def _start_slowly(self, status: Status, fields: Head, body: Any, more: bool) -> None:
        if self.stage is not WAITING:
            raise AnswerError("the head of the answer is sent already")
        size = len(body)
        data = self._open(status, fields, size, more)
        if self._framing is LENGTH and (size > self._left or (size < self._left and not more)):
            # nothing is out: it can become a 500
            raise AnswerError(f"the body has {size} bytes, and its Content-Length says {self._left}")
        self._is_open(status.number, data)
        if self._framing is not NOTHING:
            if size < _LARGE:
                data += self._frame(body, size, more)
            else:
                self.connection.write(data)
                data = self._frame(body, size, more)
        self._send(data, size, more)

    def _is_open(self, status: int, head: bytes) -> None:
        """The head is on its way."""
        self.stage = SENDING
        self.status = status
        if self.sent_head is not None:
            self.sent_head = head

    def _send(self, data: Any, size: int, more: bool) -> None:
        """Send bytes in which `size` bytes of the body are."""
        if data:
            if not more and self.style is CLOSING and self.complete:
                self.connection.write_end(data)
            else:
                self.connection.write(data)
        if self._framing is not NOTHING:
            self.sent += size
        if not more:
            self._end()

    def _open(self, status: Status, fields: Head, size: int, more: bool) -> bytes:
        """Return the head with its framing; decides how the body is framed and whether the connection stays open."""
        block, length, flags = fields
        connection = self.connection
        clock = connection.clock
        if flags & _OWN_FIELDS:
            block += b"" if flags & OWN_SERVER else clock.server_field
            block += b"" if flags & OWN_DATE else clock.date_field
        else:
            block += clock.fields
        if length == UNKNOWN and not more and self.style is not TRAILED:
            length = size
        block += self._choose_framing(status.number, fields.length, length, size)
        persistent = connection.persistent or connection.has_more()
        if not (persistent and self.keep_alive and self.complete) or flags & CLOSE:
            self.keep_alive = False
            return b"%b%bconnection: close\r\n\r\n" % (status.line, block)
        if self.request.version == "1.0":
            block += b"connection: keep-alive\r\n"
        return b"%b%b\r\n" % (status.line, block)

    def _choose_framing(self, status: int, told: int, length: int, size: int) -> bytes:
        """Decide how a body is framed of which `size` bytes are here; return the field that says so.

        `told` is the length that the application has given, `length` the one that is known now.
        """
        if self.request.method == "HEAD" or status in BODILESS:
            self._framing = NOTHING
            if status == 204 or (not size and told == UNKNOWN):
                return b""  # an empty answer to HEAD says nothing about the length of GET's
        elif length != UNKNOWN:
            self._framing = LENGTH
            self._left = length
        elif self.request.version == "1.1":
            self._framing = CHUNKED
            return b"transfer-encoding: chunked\r\n"
        else:
            self._framing = UNTIL_CLOSE
            self.keep_alive = False
        return b"" if length == UNKNOWN else b"content-length: %d\r\n" % length

    def _frame(self, body: Any, size: int, more: bool) -> Any:
        """Return a piece of the body as it goes over the wire."""
        framing = self._framing
        if framing is LENGTH:
            left = self._left
            if size > left:
                raise AnswerError(f"the body is longer than its Content-Length by {size - left} bytes")
            self._left = left - size
            return body
        if framing is CHUNKED:
            end = b"" if more or self.style is TRAILED else b"0\r\n\r\n"
            return b"%x\r\n%b\r\n%b" % (size, body, end) if size else end
        if framing is TRAILERS:
            raise AnswerError("the body has ended already: its trailers are due")
        return body if framing is UNTIL_CLOSE else b""

    def promise_trailers(self) -> None:
        """See `Exchange`."""
        self.style = TRAILED

    def send_trailers(self, fields: Head) -> None:
        """See `Exchange`. In chunks: RFC 9112, section 7.1.2."""
        if self.stage is not SENDING or self._framing is not TRAILERS:
            raise AnswerError("trailers were not promised, or the body has not ended yet")
        self.connection.write(b"0\r\n%b\r\n" % fields.block)
        self._finish()

    def inform(self, status: Status, fields: Head) -> None:
        """See `Exchange`. HTTP/1.0 clients do not know informational answers: none is sent."""
        if self.request.version == "1.1" and self.stage is WAITING and not self.gone:
            self.connection.write(b"%b%b\r\n" % (status.line, fields.block))

    def _end(self) -> None:
        if self._framing is LENGTH and self._left > 0:
            self._abort(f"the body is shorter than its Content-Length by {self._left} bytes")
        elif self.style is TRAILED and self._framing is CHUNKED:  # nothing else has a place for them
            self._framing = TRAILERS
        else:
            self._finish()

    def _finish(self) -> None:
        self.stage = WHOLE
        if self._waiters is not None:
            self.wake_waiters()
        self.connection.exchange_ended(self)

    def fail(self) -> None:
        """See `Exchange`."""
        if not (self.stage is WHOLE or self.gone or self.connection.transport.is_closing()):
            if self.stage is SENDING:
                self.stage = WHOLE
                self.connection.abort()
            else:
                if self.style is TRAILED:
                    self.style = SPECIAL
                self.start(heads.status_of(500), _FAILED, b"Internal Server Error\n", more=False)
        self.wake_waiters()

    def _abort(self, why: str) -> None:
        request = self.request
        _log.error("%s %s: %s", request.method, request.target.decode("latin-1"), why)
        self.stage = WHOLE
        self.connection.abort()
        self.wake_waiters()

    def abandon(self) -> None:
        """See `Exchange`."""
        self.gone = True

    def leave(self) -> None:
        """See `Exchange`.

        A client that has closed its half gets no error of ours. It knows from the missing end that this is not whole.
        """
        if self.connection.half_closed and not (self.stage is WHOLE or self.gone):
            self.connection.drop()
            self.wake_waiters()
        else:  # it was told so because the worker stops, or all is over already
            self.fail()

    @property
    def is_answered(self) -> bool:
        """True if bytes of the final answer are out."""
        return self.stage is not WAITING

    # -- the request's body --------------------------------------------------------------------------------------

    def ask_for_body(self) -> None:
        """See `Exchange`. RFC 9110, section 10.1.1."""
        connection = self.connection
        if connection.takes_expectation(self) and self.stage is WAITING and not self.gone:
            connection.write(_CONTINUE)
        connection.awaits_body(self)

    def take_body(self) -> bytes:
        """See `Exchange`."""
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
        """See `Exchange`."""
        self.buffered -= count
        self.connection.took_body()

    # -- waiting -------------------------------------------------------------------------------------------------

    def is_held(self) -> bool:
        """See `Exchange`."""
        connection = self.connection
        # a lost connection is told in the loop's next turn, which an application that only sends would never let come
        return connection.paused or connection.transport.is_closing()

    def news(self) -> asyncio.Future[None]:
        """See `Exchange`."""
        waiter: asyncio.Future[None] = self.connection.site.loop.create_future()
        if self._waiters:  # without those of waits that were cancelled: there may be thousands until there is news
            self._waiters = [other for other in self._waiters if not other.done()]
            self._waiters.append(waiter)
        else:
            self._waiters = [waiter]
        return waiter

    def forget(self, waiter: asyncio.Future[None]) -> None:
        """See `Exchange`."""
        if self._waiters and waiter in self._waiters:
            self._waiters.remove(waiter)

    def wake_waiters(self) -> None:
        """See `Exchange`."""
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    # -- files, see `files` ------------------------------------------------------------------------------------------

    async def send_file(self, status: Status, fields: Head, fd: int, offset: int, count: int) -> None:
        """See `Exchange`."""
        await files.send(self, self._begin_file(status, fields, count), fd, offset)

    def _begin_file(self, status: Status, fields: Head, count: int) -> int:
        """Send the head; return how many of the file's `count` bytes belong to the body."""
        if self.stage is not WAITING:
            raise AnswerError("the head of the answer is sent already")
        if count < fields.length and self.request.method != "HEAD" and status.number not in BODILESS:
            raise AnswerError(f"the file has {count} bytes, and its Content-Length says {fields.length}")
        head = self._open(status, fields, count, more=False)
        self._is_open(status.number, head)
        self.connection.write(head)
        if self._framing is NOTHING:
            return 0
        return min(count, self._left) if self._framing is LENGTH else count

    @property
    def is_plain(self) -> bool:
        """True if the body goes over the wire as it is."""
        return self._framing is LENGTH or self._framing is UNTIL_CLOSE

    def count_sent(self, count: int) -> None:
        """`count` bytes of the body have gone to the client past `write`."""
        self.sent += count
        if self._framing is LENGTH:
            self._left -= count

    # -- a connection that is taken over ---------------------------------------------------------------------------

    def upgrade(self, status: Status, fields: Head) -> Callable[[Any], None]:
        """See `Exchange`. RFC 9110, section 7.8."""
        block, _, flags = fields
        clock = self.connection.clock
        block += b"" if flags & OWN_SERVER else clock.server_field
        block += b"" if flags & OWN_DATE else clock.date_field
        head = b"%b%b\r\n" % (status.line, block)
        self.stage = SENDING
        self.status = status.number
        self._framing = UNTIL_CLOSE
        if self.sent_head is not None:
            self.sent_head = head
        self.connection.write(head)
        return self.connection.write if self.connection.site.journal is None else self._write_counted

    def take_over(self, status: int, head_size: int) -> None:
        """See `Exchange`."""
        self.stage = SENDING
        self.status = status
        self.sent = -head_size
        self.complete = False  # the client goes on sending: unread input must not become a reset
        self._framing = UNTIL_CLOSE

    def _write_counted(self, data: Any) -> None:
        self.sent += len(data)
        self.connection.write(data)

    @property
    def ended_by(self) -> Closed | None:
        """See `Exchange`."""
        if self.style is not UPGRADE or self.status != 101 or self.listener is None:
            return None
        closed: Closed | None = self.listener.ended_by
        return closed

    def finish(self) -> None:
        """See `Exchange`."""
        self.stage = WHOLE
        self.connection.exchange_ended(self)


# `stage`: in such a process no answer is whole, so that what the application does behind one is told as well
forks.replace(Http1Exchange, stage=SENDING, start=forks.finish, write=forks.finish)
