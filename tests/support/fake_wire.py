"""A wire of messages in memory: a client and a server that exchange objects, without a byte of HTTP/1.

`FakeWire` is a connection with verbs for what its client and its worker do, `FakeExchange` one request on it. They keep
the contract of `hybrid.workers.http.exchange`, and `tests/contract/workers/test_exchanges.py` holds them to it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import logging
import os
from collections import deque
from collections.abc import Callable
from typing import Any

from hybrid.workers.http import head as heads
from hybrid.workers.http.clock import NEVER
from hybrid.workers.http.context import HttpContext
from hybrid.workers.http.exchange import NO_BODY_CAME, ClientGoneError, Fields, Request, ResponseError, Stage
from hybrid.workers.http.head import BODILESS, UNKNOWN, Head, Status
from hybrid.workers.http.websocket.frames import Closed
from support.http import in_callback

_WATER = 65_536  # bytes that wait for the application, or for the client
_BLOCK = 65_536  # bytes of a file that are one piece
_LINGER = 2.0  # seconds
_FAILED: Head = (b"content-type: text/plain; charset=utf-8\r\n", UNKNOWN, 0)
_log = logging.getLogger("hybrid")
WAITING, SENDING, WHOLE = Stage


@dataclasses.dataclass(frozen=True)
class Informational:
    """Something before the answer."""

    status: int
    fields: Fields


@dataclasses.dataclass(frozen=True)
class Start:
    """The answer begins."""

    status: int
    reason: str
    fields: Fields
    length: int | None
    """Bytes of the body that are promised."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """A part of the body, or bytes of another protocol behind an upgrade."""

    data: bytes


@dataclasses.dataclass(frozen=True)
class Trailers:
    """Fields behind the body."""

    fields: Fields


@dataclasses.dataclass(frozen=True)
class End:
    """The answer is whole."""


@dataclasses.dataclass(frozen=True)
class Refused:
    """The wire answers in place of the application."""

    status: int


Message = Informational | Start | Piece | Trailers | End | Refused


class FakeWire:
    """A connection: the `Peer` of its requests, and the `Upgraded` connection of one that takes it over."""

    def __init__(self, context: HttpContext, high_water: int = _WATER) -> None:
        self.context = context
        self.clock = context.clock
        self.client: tuple[str, int] | None = ("127.0.0.1", 4711)
        self.server: tuple[str, int | None] | None = ("127.0.0.1", 80)
        self.scheme = "http"
        self.trusts_proxy = False
        self.facts: Any = None
        self.deadline = NEVER
        self.paused = False
        self.half_closed = False
        self.persistent = True
        """True if another request may follow the current one."""
        self.bytes_in = self.bytes_out = 0  # there are no bytes, only messages
        self.current: FakeExchange | None = None
        self.received: list[Message] = []
        """What the client has got."""
        self.is_held_up = False
        """True if the server takes nothing from the client for now."""
        self.closing = False
        self.aborted = False
        """True if the server has broken off."""
        self.ended = False
        """True if the server has ended its half and waits for the client's end."""
        self.writes = 0
        self.changed: Callable[[], object] = lambda: None
        """Called when the client gets something, or loses the connection: for clients in another thread."""
        self._high_water = high_water
        self._takes = True
        self._unsent: list[Message] = []
        self._queue: deque[FakeExchange] = deque()  # requests that wait for earlier answers
        self._receiving: FakeExchange | None = None  # the request whose body comes
        self._rest = b""
        self._is_lost = False
        self._refusal: int | None = None  # the status of an answer of the wire's own, behind all others
        context.opened(self)  # type: ignore[arg-type]

    # -- what clients do -------------------------------------------------------------------------------------------

    async def asks(
        self,
        method: str = "GET",
        target: bytes = b"/",
        *fields: tuple[bytes, bytes],
        body: bytes | None = None,
        more: bool = False,
        expects: bool = False,
        closes: bool = False,
        upgrades: bool = False,
        version: str = "1.1",
        rest: bytes = b"",
    ) -> None:
        """Make a request. `body` comes at once, and so does the `rest` behind an upgrade; with `more` more follows."""
        request = Request(method, target, target, version, list(fields))
        exchange = FakeExchange(self, request, body, more, expects, upgrades)
        exchange.keep_alive = not closes and version == "1.1" and not upgrades
        self._rest += rest
        await in_callback(self._arrived, exchange)

    async def sends(self, piece: bytes, *, last: bool = False) -> None:
        """Send a piece of the body, or bytes behind an upgrade; a test error while the server takes nothing."""
        assert not self.is_held_up, "the server takes nothing: this would wait at the client"
        await in_callback(self.arrives, piece, last)

    async def ends_body(self) -> None:
        """Send no more of the body."""
        await in_callback(self._body_ended)

    def stops_taking(self) -> None:
        """Take nothing of what is sent from now on."""
        self._takes = False

    async def takes(self) -> None:
        """Take everything that waits, and what comes from now on."""
        self._takes = True
        self.received += self._unsent
        self._unsent.clear()
        if self.paused:
            await in_callback(self._resume)
        if self.closing:
            self._lose()

    async def ends_stream(self) -> None:
        """Half close: send no more, and go on taking."""
        await in_callback(self._stream_ended)

    async def leaves(self) -> None:
        """Go. The server is told in the loop's next turn."""
        self._drop()
        await asyncio.sleep(0)

    async def lets_time_pass(self) -> None:
        """Do nothing until the deadline of the connection."""
        self.clock.now = max(self.clock.now, self.deadline)
        await in_callback(self.expired)

    async def stops_worker(self) -> None:
        """The worker begins to stop."""
        await in_callback(self.drain)

    async def ends_worker(self) -> None:
        """The grace period of the worker is nearly over."""
        await in_callback(self.interrupt)

    @property
    def unsent(self) -> int:
        """Bytes that the client has not taken."""
        return sum(_size(message) for message in self._unsent)

    # -- requests --------------------------------------------------------------------------------------------------

    def _arrived(self, exchange: FakeExchange) -> None:
        if self.closing:
            return
        if self.trusts_proxy:
            self.context.apply_forwarded(self, exchange.request)  # type: ignore[arg-type]
        counts = self.context.counts
        if counts.is_idle:
            counts.begin_turn()
        exchange.began = counts.since
        if not exchange.complete:
            self._receiving = exchange
        if exchange.buffered >= _WATER:
            self.is_held_up = True
        self._queue.append(exchange)
        self._advance()

    def _advance(self) -> None:
        while self.current is None and self._queue and not (self._is_lost or self.paused):
            self.current = exchange = self._queue.popleft()
            context = self.context
            if exchange.upgrades and context.answer_websocket is not None:
                context.answer_websocket(exchange)
            else:
                context.answer(exchange)
        if self._refusal is not None and self.current is None and not (self._queue or self.closing):
            self.context.counts.refused(self._refusal)
            self.send(Refused(self._refusal))
            self.close()

    def arrives(self, piece: bytes, last: bool = False) -> None:
        """Let a piece arrive, now."""
        current, receiving = self.current, self._receiving
        if receiving is not None:
            receiving.body.append(piece)
            receiving.buffered += len(piece)
            if receiving.buffered >= _WATER:
                self.is_held_up = True
            self._tell_of_body(receiving)
            if last:
                self._body_ended()
        elif self.closing:
            pass
        elif current is not None and current.upgrades and current.listener is not None:
            current.listener.data_received(piece)
        else:
            self._rest += piece

    def _body_ended(self) -> None:
        receiving, self._receiving = self._receiving, None
        if receiving is not None:
            receiving.complete = True
            self._tell_of_body(receiving)

    def _tell_of_body(self, exchange: FakeExchange) -> None:
        if exchange is self.current and exchange.listener is not None:
            exchange.listener.body_arrived()

    def took(self, exchange: FakeExchange) -> None:
        """The application has taken of the body."""
        if exchange.buffered < _WATER:
            self.is_held_up = False

    def answered(self, exchange: FakeExchange) -> None:
        """The answer is whole."""
        self.context.counts.ended(exchange.status, exchange.began)
        exchange.listener = None
        if exchange is not self.current:
            return
        self.current = None
        has_more = bool(self._queue) or self._refusal is not None
        if not exchange.keep_alive or not (self.persistent or has_more):
            self._queue.clear()
            self.close()
        elif has_more:
            self.context.call_soon(self._advance)

    def _stream_ended(self) -> None:
        current, receiving = self.current, self._receiving
        if self.closing:
            return
        if self.ended:
            self.close()
            return
        self.half_closed = True
        self.persistent = False
        if receiving is not None:
            self._refuse(receiving, 400)
        elif current is not None and current.upgrades and current.listener is not None:
            if not current.listener.peer_done():
                self.close()
        elif current is not None and current.listener is not None:
            current.listener.peer_done()
        elif current is None and not self._queue:
            self.close()

    def _refuse(self, exchange: FakeExchange, status: int) -> None:
        """Take no more of a request, and answer it behind all others."""
        self._receiving = None
        exchange.gone = True
        if exchange is not self.current:
            if exchange in self._queue:
                self._queue.remove(exchange)
        elif exchange.stage is not WAITING:
            self.abort()
            return
        else:
            self.current = None
            listener, exchange.listener = exchange.listener, None
            if listener is not None:
                listener.disconnected()
        self._refusal = status
        self._advance()

    # -- sending ---------------------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Give a message to the client, or keep it; of a connection that closes it is lost."""
        if self.closing:
            return
        self.writes += 1
        if self._takes:
            self.received.append(message)
            self.changed()
            return
        self._unsent.append(message)
        self.changed()
        if self.unsent > self._high_water and not self.paused:
            self.paused = True
            self.deadline = self.clock.now + self.context.send_timeout

    def _resume(self) -> None:
        self.paused = False
        self.deadline = NEVER
        current = self.current
        if current is None:
            self._advance()
        elif current.listener is not None:
            current.listener.resumed()

    # -- what an upgraded exchange asks ----------------------------------------------------------------------------

    def get_extra_info(self, name: str) -> Any:
        """Return addresses of the loopback."""
        return {"sockname": ("127.0.0.1", 80), "peername": ("127.0.0.1", 4711)}.get(name)

    def is_closing(self) -> bool:
        """Return True if nothing more can be sent."""
        return self.closing

    def write(self, data: Any) -> None:
        """Send bytes of another protocol."""
        self.send(Piece(bytes(data)))

    def take_rest(self) -> bytes:
        """Return what arrived behind an upgrade before it was begun."""
        rest, self._rest = self._rest, b""
        return rest

    def pause_reading(self) -> None:
        """Take nothing from the client for now."""
        self.is_held_up = True

    def resume_reading(self) -> None:
        """Take from the client again."""
        self.is_held_up = False

    def close(self) -> None:
        """Close once the client has taken everything."""
        self.closing = True
        self.persistent = False
        if not self._unsent:
            self._lose()

    def linger(self) -> None:
        """End this half; the rest ends when the client has ended its own, or soon."""
        if self.half_closed:
            self.close()
        elif not self.closing:
            self.ended = True
            self.persistent = False
            self.deadline = self.clock.now + _LINGER

    def abort(self) -> None:
        """Break off."""
        if not self._is_lost:
            self.aborted = True
        self._drop()

    def _drop(self) -> None:
        self.closing = True
        self.persistent = False
        self._unsent.clear()
        self._lose()

    def drop(self) -> None:
        """Close now: the client has left, and the application knows."""
        self._drop()

    def _lose(self) -> None:
        if not self._is_lost:
            self._is_lost = True
            self.context.call_soon(self._lost)
            self.changed()

    def _lost(self) -> None:
        self.context.closed(self)  # type: ignore[arg-type]
        self._queue.clear()
        self._receiving = None
        current, self.current = self.current, None
        if current is not None:
            listener, stage = current.listener, current.stage
            if stage is not WHOLE:
                current.gone = True
                if listener is not None:
                    listener.disconnected()
            current.listener = None

    # -- what the worker asks --------------------------------------------------------------------------------------

    def expired(self) -> None:
        """The deadline has passed."""
        self.deadline = NEVER
        current = self.current
        if self._unsent or self.ended:
            self.abort()
        elif current is None:
            self.close()
        elif current.upgrades and current.listener is not None:
            current.listener.expired()

    def activity(self) -> tuple[int, int]:
        """Requests in progress, and sessions."""
        current = self.current
        is_session = current is not None and current.upgrades and current.status == 101
        return int(current is not None and not is_session), int(is_session)

    def drain(self) -> None:
        """The worker stops."""
        self.persistent = False
        if self.current is not None and self.current.listener is not None:
            self.current.listener.draining()

    @property
    def may_leave(self) -> bool:
        """It is kept, and is no session."""
        return self.persistent and not self.activity()[1] and (self.current is None or not self.current.status)

    @property
    def is_leaving(self) -> bool:
        """It closes after its next response."""
        return not (self.persistent or self.activity()[1])

    def leave(self) -> None:
        """Close after the next response."""
        self.persistent = False

    def close_idle(self) -> None:
        """Close if nothing is asked."""
        if self.current is None and not (self._queue or self._unsent):
            self.close()

    def interrupt(self) -> None:
        """The worker stops soon."""
        if self.current is None:
            self._queue.clear()
            self.close()
        elif self.current.listener is not None:
            self.current.listener.interrupt()

    def interrupt_upgraded(self) -> None:
        """The same for a connection that was taken over."""
        if self.current is not None and self.current.upgrades:
            self.interrupt()


class FakeExchange:
    """One request and its answer. See `Exchange`."""

    def __init__(
        self, wire: FakeWire, request: Request, body: bytes | None, more: bool, expects: bool, upgrades: bool
    ) -> None:
        self.connection = wire
        self.request = request
        self.repeated: Any = None
        self.listener: Any = None
        self.body: deque[bytes] = NO_BODY_CAME if body is None and not more else deque([body] if body else [])
        self.buffered = len(body or b"")
        self.complete = not more
        self.gone = False
        self.stage = WAITING
        self.status = 0
        self.sent = 0
        self.sent_head: bytes | None = None
        self.keep_alive = True
        self.upgrades = upgrades
        self._expects = expects
        self._left: int | None = None  # bytes of the body that were promised and not given
        self._is_bodiless = False
        self._promised = False  # trailers follow
        self._trailers_due = False
        self._waiters: list[asyncio.Future[None]] = []

    # -- the body of the request

    def take_body(self) -> bytes:
        data = b"".join(self.body)
        self.body.clear()
        self.took(len(data))
        return data

    def took(self, count: int) -> None:
        self.buffered -= count
        self.connection.took(self)

    def ask_for_body(self) -> None:
        if self._expects and self.stage is WAITING and not self.gone:
            self.connection.send(Informational(100, []))
        self._expects = False

    # -- the answer

    def start(self, status: Status, fields: Head, body: Any, more: bool) -> None:
        self._refuse_second_head()
        size = len(body)
        is_bodiless = self._has_no_body(status)
        _, told, _ = fields
        if not is_bodiless and told != UNKNOWN and (size > told or (size < told and not more)):
            raise ResponseError(f"the body has {size} bytes, and its Content-Length says {told}")
        known = size if told == UNKNOWN and not more and not self._promised else told
        self._begin(status, fields, known, size)
        self._give(body, more)

    def write(self, body: Any, more: bool) -> None:
        if self.stage is not SENDING:
            raise ResponseError(
                "the body precedes the head of the response" if self.stage is WAITING else "the response is complete"
            )
        self._give(body, more)

    def _refuse_second_head(self) -> None:
        if self.stage is not WAITING:
            raise ResponseError("the head of the response was already sent")

    def _has_no_body(self, status: Status) -> bool:
        return self.request.method == "HEAD" or status.number in BODILESS

    def _begin(self, status: Status, fields: Head, length: int, size: int) -> None:
        connection = self.connection
        self._is_bodiless = self._has_no_body(status)
        says_length = length != UNKNOWN
        if self._is_bodiless:
            says_length = says_length and status.number != 204 and (size > 0 or fields[1] != UNKNOWN)
        elif says_length:
            self._left = length
        if fields[2] & heads.CLOSE or not (connection.persistent and self.complete):
            self.keep_alive = False
        self.stage = SENDING
        self.status = status.number
        shown = length if says_length else None
        connection.send(Start(status.number, status.reason.decode("latin-1"), _lower(fields), shown))

    def _give(self, body: Any, more: bool) -> None:
        size = len(body)
        if self._trailers_due:
            raise ResponseError("the body has already ended: trailers are expected")
        if not self._is_bodiless:
            if self._left is not None:
                if size > self._left:
                    over = size - self._left
                    raise ResponseError(f"the body is longer than its Content-Length by {over} bytes")
                self._left -= size
            if size:
                self.connection.send(Piece(bytes(body)))
            self.sent += size
        if not more:
            self._end()

    def _end(self) -> None:
        if self._left:
            request = self.request
            target = request.target.decode("latin-1")
            why = f"the body is shorter than its Content-Length by {self._left} bytes"
            _log.error("%s %s: %s", request.method, target, why)
            self._cut()
            self.wake_waiters()
        elif self._promised and not self._is_bodiless:
            self._trailers_due = True
        else:
            self._finish()

    def _finish(self) -> None:
        self.stage = WHOLE
        self.connection.send(End())
        self.wake_waiters()
        self.connection.answered(self)

    def _cut(self) -> None:
        self.stage = WHOLE
        self.connection.abort()

    async def send_file(self, status: Status, fields: Head, fd: int, offset: int, count: int) -> None:
        self._refuse_second_head()
        _, told, _ = fields
        if count < told and not self._has_no_body(status):
            raise ResponseError(f"the file has {count} bytes, and its Content-Length says {told}")
        self._begin(status, fields, count if told == UNKNOWN else told, count)
        left = 0 if self._is_bodiless else (count if self._left is None else self._left)
        while left:
            block = os.pread(fd, min(_BLOCK, left), offset)
            if not block:
                raise OSError(errno.EIO, "the file was truncated while it was sent")
            offset += len(block)
            left -= len(block)
            self._give(block, more=True)
            while self.is_held() and not self.gone:
                await self.news()
            if self.gone:
                raise ClientGoneError("the client is gone")
        self._give(b"", more=False)

    def send_informational(self, status: Status, fields: Head) -> None:
        if self.request.version == "1.1" and self.stage is WAITING and not self.gone:
            self.connection.send(Informational(status.number, _lower(fields)))

    def announce_trailers(self) -> None:
        self._promised = self.request.version == "1.1"

    def send_trailers(self, fields: Head) -> None:
        if self.stage is not SENDING or not self._trailers_due:
            raise ResponseError("trailers were not announced, or the body has not ended yet")
        self.connection.send(Trailers(_lower(fields)))
        self._finish()

    def fail(self) -> None:
        if not (self.stage is WHOLE or self.gone or self.connection.closing):
            if self.stage is SENDING:
                self._cut()
            else:
                self._promised = False
                self.start(heads.status_of(500), _FAILED, b"Internal Server Error\n", more=False)
        self.wake_waiters()

    def leave(self) -> None:
        if self.connection.half_closed and not (self.stage is WHOLE or self.gone):
            self.connection.drop()
            self.wake_waiters()
        else:
            self.fail()

    # -- waiting

    def is_held(self) -> bool:
        return self.connection.paused or self.connection.closing

    def news(self) -> asyncio.Future[None]:
        waiter: asyncio.Future[None] = self.connection.context.loop.create_future()
        self._waiters.append(waiter)
        return waiter

    def forget(self, waiter: asyncio.Future[None]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def wake_waiters(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # -- a connection that is taken over

    def upgrade(self, status: Status, fields: Head) -> Callable[[Any], None]:
        self.stage = SENDING
        self.status = status.number
        self.connection.context.counts.upgraded()
        self.connection.send(Start(status.number, status.reason.decode("latin-1"), _lower(fields), None))
        return self.connection.write

    def take_over(self, status: int, head_size: int) -> None:
        self.stage = SENDING
        self.status = status
        self.sent = -head_size
        if status == 101:
            self.connection.context.counts.upgraded()
        self.complete = False

    @property
    def ended_by(self) -> Closed | None:
        return self.listener.ended_by if self.upgrades and self.listener is not None else None

    def keep_head(self) -> None:
        """Nothing to keep: this wire sends no bytes of a head."""

    def end_stream(self) -> bool:
        if self.stage is not SENDING or self._left is not None or self._is_bodiless:
            return False
        self._trailers_due = self._promised = False
        self._end()
        return True

    def abandon(self) -> None:
        self.gone = True

    def finish(self) -> None:
        self.stage = WHOLE
        self.connection.answered(self)


def _lower(head: Head) -> Fields:
    """Return the fields of a head, names in lower case."""
    return [(name.lower(), value) for name, value in heads.fields_of(head)]


def _size(message: Message) -> int:
    return len(message.data) if isinstance(message, Piece) else 0
