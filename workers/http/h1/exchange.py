"""One HTTP/1.1 request and its response: the framing of the response, and its end."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hybrid.workers.common import forks
from hybrid.workers.http import head as heads
from hybrid.workers.http.exchange import NO_BODY_CAME, Request, ResponseError, Stage
from hybrid.workers.http.h1 import files
from hybrid.workers.http.head import BODILESS, CLOSE, OWN_DATE, OWN_SERVER, UNKNOWN, Head, Status

if TYPE_CHECKING:
    from hybrid.workers.http.exchange import Repetition
    from hybrid.workers.http.h1.connection import HttpConnection
    from hybrid.workers.http.websocket.frames import Closed

_LARGE = 65_536  # bytes; larger bodies are not copied to be sent in one call with the head
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_MOST_LENGTHS = 1024
_CLOSE = b"connection: close\r\n\r\n"
_OWN_FIELDS = OWN_DATE | OWN_SERVER
_LENGTHS = [b"content-length: %d\r\n\r\n" % size for size in range(_MOST_LENGTHS)]
_FAILED: Head = (b"content-type: text/plain; charset=utf-8\r\n", UNKNOWN, 0)
_log = logging.getLogger("hybrid")


class Style(enum.Enum):
    """How a request affects the framing of its response. Chosen by the connection."""

    PLAIN = "no special framing: HTTP/1.1, kept alive, not HEAD"
    CLOSING = "the only special framing is `Connection: close`"
    SPECIAL = "any other special framing"
    TRAILED = "special framing with announced trailers"
    UPGRADE = "the request takes the connection over for another protocol"


class Framing(enum.Enum):
    """The framing of a response body."""

    LENGTH = "Content-Length"
    CHUNKED = "chunks"
    UNTIL_CLOSE = "the end of the connection"
    NOTHING = "no body is sent, even if the application gives one"
    TRAILERS = "the body has ended, and its trailers are due"


PLAIN, CLOSING, SPECIAL, TRAILED, UPGRADE = Style
LENGTH, CHUNKED, UNTIL_CLOSE, NOTHING, TRAILERS = Framing
WAITING, SENDING, WHOLE = Stage


class Http1Exchange:
    """See `Exchange`. Made when the header fields are complete; started when all earlier responses are sent."""

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
    _left: int  # bytes missing from a body with a length; set with the head
    began: float
    """See `Exchange`; set by the connection."""

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
        """Status of the response; 0: none sent yet."""
        self.sent = 0
        """Bytes of the response body sent so far."""
        self.sent_head: bytes | None = None
        """The head of the response, if it is to be kept; b"" until it is sent."""
        self._waiters: list[asyncio.Future[None]] | None = None  # futures of coroutines that wait for an event

    # -- the response; benchmarks: python -m benchmarks wsgi asgi --------------------------------------------------

    def start(self, status: Status, fields: Head, body: Any, more: bool) -> None:
        """See `Exchange`."""
        if not more and self.complete and self.stage is WAITING and (number := status.number) not in BODILESS:
            block, length, flags = fields
            connection = self.connection
            size = len(body)
            if self.style is PLAIN and not flags and size < _LARGE and (length == size or length == UNKNOWN):  # noqa: SIM109
                # nearly always: the whole response at once, with the simplest framing; `_open` handles all the others
                if connection.persistent:
                    self.stage = WHOLE
                    self.status = number
                    self.sent = size
                    end = _LENGTHS[size] if size < _MOST_LENGTHS else b"content-length: %d\r\n\r\n" % size
                    data = b"".join((status.line, block, connection.clock.fields, end, body))
                    connection.bytes_out += len(data)
                    connection.write_last(data)
                    if self._waiters is not None:
                        self.wake_waiters()
                    connection.exchange_ended(self)
                    return
            elif (
                self.style is CLOSING
                and size < _MOST_LENGTHS
                and length in (UNKNOWN, size)
                and not flags & _OWN_FIELDS
                and self.sent_head is None
            ):
                self._answer_and_close(status, block, body, size)
                return
        self._start_slowly(status, fields, body, more)

    def _answer_and_close(self, status: Status, block: bytes, body: Any, size: int) -> None:
        """Send a small response at once, the only one of its connection."""
        self.stage = WHOLE
        self.status = status.number
        self.keep_alive = False
        self.sent = size
        connection = self.connection
        length_field = _LENGTHS[size][:-2]
        data = b"".join((status.line, block, connection.clock.fields, length_field, _CLOSE, body))
        connection.bytes_out += len(data)
        connection.write_end(data)
        if self._waiters is not None:
            self.wake_waiters()
        connection.exchange_ended(self)

    def write(self, body: Any, more: bool) -> None:
        """See `Exchange`."""
        if self.stage is not SENDING:
            raise ResponseError(
                "the body precedes the head of the response" if self.stage is WAITING else "the response is complete"
            )
        size = len(body)
        self._send(self._frame(body, size, more), size, more)

    def keep_head(self) -> None:
        """See `Exchange`."""
        self.sent_head = b""
        if self.style is PLAIN:
            self.style = SPECIAL  # the fast path sends the head and the body as one piece

    # -- less often ---------------------------------------------------------------------------------------------------

    def _start_slowly(self, status: Status, fields: Head, body: Any, more: bool) -> None:
        if self.stage is not WAITING:
            raise ResponseError("the head of the response was already sent")
        size = len(body)
        data = self._open(status, fields, size, more)
        if self._framing is LENGTH and (size > self._left or (size < self._left and not more)):
            # nothing was sent: the response can become a 500
            raise ResponseError(f"the body has {size} bytes, and its Content-Length says {self._left}")
        self._is_open(status.number, data)
        if self._framing is not NOTHING:
            if size < _LARGE:
                data += self._frame(body, size, more)
            else:
                self.connection.write(data)
                data = self._frame(body, size, more)
        self._send(data, size, more)

    def _is_open(self, status: int, head: bytes) -> None:
        """Record that the head is being sent."""
        self.stage = SENDING
        self.status = status
        if self.sent_head is not None:
            self.sent_head = head

    def _send(self, data: Any, size: int, more: bool) -> None:
        """Send bytes that contain `size` bytes of the body."""
        if data:
            if not more and self.style is CLOSING and self.complete:
                self.connection.bytes_out += len(data)
                self.connection.write_end(data)
            else:
                self.connection.write(data)
        if self._framing is not NOTHING:
            self.sent += size
        if not more:
            self._end()

    def _open(self, status: Status, fields: Head, size: int, more: bool) -> bytes:
        """Return the head with its framing; decides on the framing and on keep-alive."""
        block, told, flags = fields
        connection = self.connection
        clock = connection.clock
        if flags & _OWN_FIELDS:
            block += b"" if flags & OWN_SERVER else clock.server_field
            block += b"" if flags & OWN_DATE else clock.date_field
        else:
            block += clock.fields
        length = size if told == UNKNOWN and not more and self.style is not TRAILED else told
        block += self._choose_framing(status.number, told, length, size)
        persistent = connection.persistent or connection.has_more()
        if not (persistent and self.keep_alive and self.complete) or flags & CLOSE:
            self.keep_alive = False
            return b"%b%bconnection: close\r\n\r\n" % (status.line, block)
        if self.request.version == "1.0":
            block += b"connection: keep-alive\r\n"
        return b"%b%b\r\n" % (status.line, block)

    def _choose_framing(self, status: int, told: int, length: int, size: int) -> bytes:
        """Choose the framing for a body with `size` bytes at hand; return the header field for it.

        `told` is the length given by the application, `length` the one known now.
        """
        if self.request.method == "HEAD" or status in BODILESS:
            self._framing = NOTHING
            if status == 204 or (not size and told == UNKNOWN):
                return b""  # an empty response to HEAD gives no information about the length for GET
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
        """Return a piece of the body as framed on the wire."""
        framing = self._framing
        if framing is LENGTH:
            left = self._left
            if size > left:
                raise ResponseError(f"the body is longer than its Content-Length by {size - left} bytes")
            self._left = left - size
            return body
        if framing is CHUNKED:
            end = b"" if more or self.style is TRAILED else b"0\r\n\r\n"
            return b"%x\r\n%b\r\n%b" % (size, body, end) if size else end
        if framing is TRAILERS:
            raise ResponseError("the body has already ended: trailers are expected")
        return body if framing is UNTIL_CLOSE else b""

    def announce_trailers(self) -> None:
        """See `Exchange`."""
        self.style = TRAILED

    def send_trailers(self, fields: Head) -> None:
        """See `Exchange`. Sent in chunked coding: RFC 9112, section 7.1.2."""
        if self.stage is not SENDING or self._framing is not TRAILERS:
            raise ResponseError("trailers were not announced, or the body has not ended yet")
        block, _, _ = fields
        self.connection.write(b"0\r\n%b\r\n" % block)
        self._finish()

    def send_informational(self, status: Status, fields: Head) -> None:
        """See `Exchange`. HTTP/1.0 has no informational responses: none is sent."""
        if self.request.version == "1.1" and self.stage is WAITING and not self.gone:
            block, _, _ = fields
            self.connection.write(b"%b%b\r\n" % (status.line, block))

    def _end(self) -> None:
        if self._framing is LENGTH and self._left > 0:
            self._abort(f"the body is shorter than its Content-Length by {self._left} bytes")
        elif self.style is TRAILED and self._framing is CHUNKED:  # only chunked coding can carry trailers
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
                ids = self.connection.context.request_ids
                fields = _FAILED if ids is None else ids.with_id(_FAILED, self.request)
                self.start(heads.status_of(500), fields, b"Internal Server Error\n", more=False)
        self.wake_waiters()

    def _abort(self, why: str) -> None:
        request = self.request
        _log.error("%s %s: %s", request.method, request.target.decode("latin-1"), why)
        self.stage = WHOLE
        self.connection.abort()
        self.wake_waiters()

    def end_stream(self) -> bool:
        """See `Exchange`. The last chunk ends the trailers as well, if the client expects some."""
        if self.stage is not SENDING or self._framing is LENGTH or self._framing is NOTHING:
            return False
        if self._framing is not UNTIL_CLOSE:
            self.connection.write(b"0\r\n\r\n")
        self._finish()
        return True

    def abandon(self) -> None:
        """See `Exchange`."""
        self.gone = True

    def leave(self) -> None:
        """See `Exchange`.

        A client that has closed its sending side gets no error response. The missing end tells it that this response is
        incomplete.
        """
        if self.connection.half_closed and not (self.stage is WHOLE or self.gone):
            self.connection.drop()
            self.wake_waiters()
        else:  # the application was told because the worker stops, or the response is complete already
            self.fail()

    # -- the request body ----------------------------------------------------------------------------------------

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
        # a lost connection is reported in the loop's next turn, which an application that only sends would never allow
        return connection.paused or connection.transport.is_closing()

    def news(self) -> asyncio.Future[None]:
        """See `Exchange`."""
        waiter: asyncio.Future[None] = self.connection.context.loop.create_future()
        if self._waiters:  # drops cancelled waiters: thousands may accumulate before the next event
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
            raise ResponseError("the head of the response was already sent")
        _, length, _ = fields
        if count < length and self.request.method != "HEAD" and status.number not in BODILESS:
            raise ResponseError(f"the file has {count} bytes, and its Content-Length says {length}")
        head = self._open(status, fields, count, more=False)
        self._is_open(status.number, head)
        self.connection.write(head)
        if self._framing is NOTHING:
            return 0
        return min(count, self._left) if self._framing is LENGTH else count

    @property
    def is_plain(self) -> bool:
        """True if the body is sent without further framing."""
        return self._framing is LENGTH or self._framing is UNTIL_CLOSE

    def count_sent(self, count: int) -> None:
        """Account for `count` bytes of the body sent without `write`."""
        self.sent += count
        self.connection.context.counts.sent(count)
        if self._framing is LENGTH:
            self._left -= count

    # -- taking over the connection --------------------------------------------------------------------------------

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
        self._is_upgraded(status.number)
        self.connection.write(head)
        return self.connection.write if self.connection.context.access_events is None else self._write_counted

    def take_over(self, status: int, head_size: int) -> None:
        """See `Exchange`."""
        self.stage = SENDING
        self.status = status
        self.sent = -head_size
        self._is_upgraded(status)
        self.complete = False  # the client goes on sending: unread input must not become a reset
        self._framing = UNTIL_CLOSE

    def _is_upgraded(self, status: int) -> None:
        if status == 101:  # another one is an ordinary response, and is counted at its end
            context = self.connection.context
            context.counts.upgraded()
            context.taken_over.add(self.connection)

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
        self.connection.context.taken_over.discard(self.connection)
        self.connection.exchange_ended(self)


# `stage`: no response is complete in a forked process, so that errors after a response are reported as well
forks.replace(
    Http1Exchange,
    stage=SENDING,
    start=forks.finish,
    write=forks.finish,
    upgrade=forks.finish,
    take_over=forks.finish,
)
