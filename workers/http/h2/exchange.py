"""One stream of HTTP/2: a request and its response."""

from __future__ import annotations

import asyncio
import enum
import errno
import logging
import os
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hybrid.workers.common import forks
from hybrid.workers.http import head as heads
from hybrid.workers.http.exchange import NO_BODY_CAME, ClientGoneError, Request, ResponseError, Stage
from hybrid.workers.http.h2 import fields as h2_fields
from hybrid.workers.http.h2.session import CONNECTION_WINDOW, STREAM_WINDOW, ErrorCode
from hybrid.workers.http.head import BODILESS, CLOSE, UNKNOWN, Head, Status

if TYPE_CHECKING:
    from hybrid.workers.http.exchange import Repetition
    from hybrid.workers.http.h1.deadlines import BodyRate
    from hybrid.workers.http.h2.connection import Http2Connection
    from hybrid.workers.http.websocket.frames import Closed

WATER = 65_536
"""Bytes of a response that may wait for the client's window before the application waits."""
_SHARED = 16_384  # bytes of a response from which on it takes turns with others: a frame
_BLOCK = 65_536  # bytes of a file that are read at once
_FAILED: Head = (b"content-type: text/plain; charset=utf-8\r\n", UNKNOWN, 0)
_log = logging.getLogger("hybrid")


class Framing(enum.Enum):
    """What is known about the end of a response body."""

    LENGTH = "the application has said its length"
    STREAM = "it ends when the application says so"
    NOTHING = "no body is sent, even if the application gives one"
    TRAILERS = "the body has ended, and its trailers are due"


LENGTH, STREAM, NOTHING, TRAILERS = Framing
WAITING, SENDING, WHOLE = Stage


class Http2Exchange:
    """See `Exchange`. Belongs to the loop's thread, but for the members that `Exchange` names."""

    __slots__ = (
        "_framing",
        "_is_trailed",
        "_left",
        "_waiters",
        "_window",
        "began",
        "body",
        "buffered",
        "complete",
        "connection",
        "continues",
        "gone",
        "is_full",
        "is_open",
        "is_plain",
        "is_settled",
        "is_shared",
        "keep_alive",
        "listener",
        "mark",
        "rate",
        "rate_at",
        "received",
        "repeated",
        "request",
        "sent",
        "sent_head",
        "stage",
        "status",
        "stream",
        "was_cut",
        "wire",
    )

    _framing: Framing  # set with the head
    _left: int  # bytes missing from a body with a length; set with the head
    began: float
    """See `Exchange`; set by the connection."""
    rate_at: float
    """When to look at the rate next, on the worker's clock; set with `rate`."""

    is_tunnel = False
    """True if a WebSocket takes the stream over."""

    def __init__(self, wire: Http2Connection, stream: int, request: Request, complete: bool) -> None:
        self.wire = wire
        """The connection with all its streams."""
        self.connection: Any = wire
        self.stream = stream
        """Its number."""
        self.request = request
        self.complete = complete
        self.body: deque[bytes] = NO_BODY_CAME if complete else deque()
        self.buffered = 0
        self.received = 0
        """Bytes of the request body received so far."""
        self.repeated: Repetition | None = None
        self.listener: Any = None
        self.keep_alive = True
        self.continues = False
        """True if the client waits for 100 Continue."""
        self.gone = False
        self.is_open = True
        """True until the stream is closed on both sides."""
        self.is_full = False
        """True if as much of the response waits as may."""
        self.is_shared = False
        """True if the response takes turns with others, or in the order that the client has asked for."""
        self.was_cut = False
        """True if this side has broken the response off."""
        self.mark = 0
        """Bytes of the response that waited for the client's window at the last look."""
        self.rate: BodyRate | None = None
        """Set while the application waits for the body."""
        self.stage = WAITING
        self.status = 0
        self.sent = 0
        self.sent_head: bytes | None = None
        self.is_plain = request.method != "HEAD"
        """True if nothing special is known about the response: it has a body, no trailers, and its head is not kept."""
        self.is_settled = False
        """True if the request was read, and answered at once: nothing is left to do when its stream closes."""
        self._is_trailed = False
        self._window = STREAM_WINDOW
        self._waiters: list[asyncio.Future[None]] | None = None

    # -- the response; benchmark: python -m benchmarks h2 --------------------------------------------------------------

    def start(self, status: Status, fields: Head, body: Any, more: bool) -> None:
        """See `Exchange`."""
        if self.stage is not WAITING:
            raise ResponseError("the head of the response was already sent")
        number = status.number
        size = len(body)
        wire = self.wire
        told = fields[1]
        if (
            not more
            and told in (UNKNOWN, size)
            and self.is_plain
            and number not in BODILESS
            and not fields[2] & CLOSE
            and size <= _SHARED
            and wire.persistent
        ):  # nearly always: the whole response at once, with nothing special about it; the rest handles all others
            self.stage = WHOLE
            self.status = number
            self.sent = size
            self.is_settled = self.complete and not self.buffered
            wire.session.respond(self.stream, h2_fields.head_of(number, fields, wire.clock, size), body, False)
            wire.flush_soon()
            if self._waiters is not None:
                self.wake_waiters()
            wire.exchange_ended(self)
            return
        length = size if told == UNKNOWN and not more and not self._is_trailed else told
        if number in BODILESS or self.request.method == "HEAD":
            self._framing = NOTHING
            if number == 204 or (not size and told == UNKNOWN):
                length = UNKNOWN
        elif length == UNKNOWN:
            self._framing = STREAM
        elif size > length or (size < length and not more):
            # nothing was sent: the response can become a 500
            raise ResponseError(f"the body has {size} bytes, and its Content-Length says {length}")
        else:
            self._framing = LENGTH
            self._left = length - size
        self._open(status, fields)
        pairs = h2_fields.head_of(number, fields, wire.clock, length)
        if self._framing is NOTHING:
            wire.session.respond(self.stream, pairs, b"", False)
        else:
            self.sent = size
            goes_on = more or self._is_trailed
            wire.session.respond(self.stream, pairs, body, goes_on)
            if size > _SHARED and not self.is_shared:
                self._share()
            if goes_on:
                self._look_for_room()
        wire.flush_soon()
        if not more:
            self._end()

    def write(self, body: Any, more: bool) -> None:
        """See `Exchange`."""
        if self.stage is not SENDING:
            raise ResponseError(
                "the body precedes the head of the response" if self.stage is WAITING else "the response is complete"
            )
        framing = self._framing
        size = len(body)
        if framing is TRAILERS:
            raise ResponseError("the body has already ended: trailers are expected")
        if framing is NOTHING:
            if not more:
                self._end()
            return
        if framing is LENGTH:
            if size > self._left:
                raise ResponseError(f"the body is longer than its Content-Length by {size - self._left} bytes")
            self._left -= size
            if self._left and not more:
                self._cut_short()
                return
        self.sent += size
        wire = self.wire
        goes_on = more or self._is_trailed
        if size or not goes_on:
            wire.session.send(self.stream, body, goes_on)
            wire.flush_soon()
        if goes_on:
            self._look_for_room()
        if not more:
            self._end()

    def _open(self, status: Status, fields: Head) -> None:
        """Note that the head is sent."""
        wire = self.wire
        self.stage = SENDING
        self.status = status.number
        if not wire.persistent:
            self.keep_alive = False
        elif fields[2] & CLOSE:
            self.keep_alive = False
            wire.retire()
        if self.sent_head is not None:
            self.sent_head = b"%b%b%b\r\n" % (status.line, fields[0], wire.clock.fields)

    def _share(self) -> None:
        """Let other responses of the connection have their turns with this one."""
        self.is_shared = True
        self.wire.session.share(self.stream)

    def _look_for_room(self) -> None:
        """Let the application wait if too much of the response waits."""
        wire = self.wire
        if not self.is_full and wire.session.queued(self.stream) >= wire.water():
            self.is_full = True
            wire.fills(self)
            if not self.is_shared:
                self._share()

    # -- less often ----------------------------------------------------------------------------------------------------

    def keep_head(self) -> None:
        """See `Exchange`. It is kept in the form of HTTP/1."""
        self.is_plain = False
        self.sent_head = b""

    def announce_trailers(self) -> None:
        """See `Exchange`."""
        self.is_plain = False
        self._is_trailed = True

    def send_trailers(self, fields: Head) -> None:
        """See `Exchange`. RFC 9113, section 8.1."""
        if self.stage is not SENDING or self._framing is not TRAILERS:
            raise ResponseError("trailers were not announced, or the body has not ended yet")
        pairs = h2_fields.pairs_of(fields[0])
        if pairs:
            self.wire.session.send_trailers(self.stream, pairs)
        else:
            self.wire.session.send(self.stream, b"", more=False)
        self.wire.flush_soon()
        self._finish()

    def send_informational(self, status: Status, fields: Head) -> None:
        """See `Exchange`."""
        if self.stage is WAITING and not self.gone:
            self.wire.session.inform(self.stream, h2_fields.informational(status.number, fields))
            self.wire.flush_soon()

    def _end(self) -> None:
        if self._is_trailed and self._framing is not NOTHING:
            self._framing = TRAILERS
        else:
            self._finish()

    def _finish(self) -> None:
        self.stage = WHOLE
        if self._waiters is not None:
            self.wake_waiters()
        self.wire.exchange_ended(self)

    def _cut_short(self) -> None:
        request = self.request
        target = request.target.decode("latin-1")
        why = f"the body is shorter than its Content-Length by {self._left} bytes"
        _log.error("%s %s: %s", request.method, target, why)
        self.cut(ErrorCode.INTERNAL_ERROR)

    def cut(self, code: ErrorCode) -> None:
        """Break the response off, so that it does not look complete."""
        self.stage = WHOLE
        self.was_cut = True
        self.wire.session.reset(self.stream, code)
        self.wire.flush_soon()
        self.wake_waiters()

    def fail(self) -> None:
        """See `Exchange`."""
        wire = self.wire
        if not (self.stage is WHOLE or self.gone or wire.is_closing()):
            if self.stage is SENDING:
                self.cut(ErrorCode.INTERNAL_ERROR)
            else:
                self._is_trailed = False
                ids = wire.context.request_ids
                fields = _FAILED if ids is None else ids.with_id(_FAILED, self.request)
                self.start(heads.status_of(500), fields, b"Internal Server Error\n", more=False)
        self.wake_waiters()

    def end_stream(self) -> bool:
        """See `Exchange`."""
        if self.stage is not SENDING or self._framing in (LENGTH, NOTHING):
            return False
        self.wire.session.send(self.stream, b"", more=False)
        self.wire.flush_soon()
        self._finish()
        return True

    def abandon(self) -> None:
        """See `Exchange`."""
        self.gone = True

    def leave(self) -> None:
        """See `Exchange`. A client that has closed its sending side gets a reset in place of an error response."""
        if self.wire.half_closed and not (self.stage is WHOLE or self.gone):
            self.cut(ErrorCode.CANCEL)
        else:  # the application was told because the worker stops, or the response is complete already
            self.fail()

    async def send_file(self, status: Status, fields: Head, fd: int, offset: int, count: int) -> None:
        """See `Exchange`."""
        told = fields[1]
        is_bodiless = self.request.method == "HEAD" or status.number in BODILESS
        if not is_bodiless and count < told and self.stage is WAITING:
            raise ResponseError(f"the file has {count} bytes, and its Content-Length says {told}")
        length = count if told == UNKNOWN else told
        if is_bodiless:
            self.start(status, (fields[0], length, fields[2]), b"", more=False)
            return
        self.start(status, (fields[0], length, fields[2]), b"", more=True)
        while length:
            block = os.pread(fd, min(_BLOCK, length), offset)
            if not block:
                raise OSError(errno.EIO, "the file was truncated while it was sent")
            offset += len(block)
            length -= len(block)
            self.write(block, more=True)
            while self.is_held() and not self.gone:
                await self.news()
            if self.gone:
                raise ClientGoneError("the client is gone")
        self.write(b"", more=False)

    # -- the request body ----------------------------------------------------------------------------------------------

    def ask_for_body(self) -> None:
        """See `Exchange`. RFC 9110, section 10.1.1."""
        if self.continues:
            self.continues = False
            self.send_informational(heads.status_of(100), (b"", UNKNOWN, 0))
        if not self.complete and self.rate is None:
            self.wire.awaits_body(self)

    def take_body(self) -> bytes:
        """See `Exchange`."""
        body = self.body
        if len(body) == 1:
            data = body.popleft()
        else:
            data = b"".join(body)
            body.clear()
        self.took(len(data))
        return data

    def took(self, count: int) -> None:
        """See `Exchange`."""
        self.buffered -= count
        if not self.is_open or not count:
            return
        wire = self.wire
        wire.session.consumed(self.stream, count)
        if not self.buffered and not self.complete and self.received >= self._window < CONNECTION_WINDOW:
            self._window *= 2  # the application keeps up: a distant client needs a larger window
            wire.session.widen(self.stream, self._window)
        wire.flush_soon()

    # -- waiting -------------------------------------------------------------------------------------------------------

    def is_held(self) -> bool:
        """See `Exchange`."""
        wire = self.wire
        return self.is_full or wire.paused or not self.is_open or wire.is_closing()

    def news(self) -> asyncio.Future[None]:
        """See `Exchange`."""
        waiter: asyncio.Future[None] = self.wire.context.loop.create_future()
        # cancelled waiters are dropped: thousands may accumulate before the next event
        self._waiters = [*(other for other in self._waiters or () if not other.done()), waiter]
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

    # -- taking over the connection: only a `tunnel` can ---------------------------------------------------------------

    def upgrade(self, status: Status, fields: Head) -> Callable[[Any], None]:
        """Raise `ResponseError`: HTTP/2 has no upgrades (RFC 9113, section 8.6)."""
        raise ResponseError("a request of HTTP/2 cannot take its connection over")

    def take_over(self, status: int, head_size: int) -> None:
        """Raise `ResponseError`, as `upgrade` does."""
        raise ResponseError("a request of HTTP/2 cannot take its connection over")

    @property
    def ended_by(self) -> Closed | None:
        """See `Exchange`."""
        return None

    def finish(self) -> None:
        """See `Exchange`."""
        self._finish()


# as for HTTP/1: no response is complete in a forked process, so that errors after a response are reported as well
forks.replace(
    Http2Exchange,
    stage=SENDING,
    start=forks.finish,
    write=forks.finish,
    upgrade=forks.finish,
    take_over=forks.finish,
)
