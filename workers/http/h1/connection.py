"""One HTTP/1.1 connection: its transport, its deadlines, its start and its end. Independent of the loop.

It has the methods of `asyncio.Protocol`, called by the loop's transport. A `RequestReader` turns bytes into requests.
`Responses` queues work that has to wait, and is made when that first happens.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from hybrid.workers.common import lingering
from hybrid.workers.http.clock import NEVER
from hybrid.workers.http.context import HttpContext
from hybrid.workers.http.exchange import Refused, Request
from hybrid.workers.http.h1 import deadlines
from hybrid.workers.http.h1.connection_state import ConnectionState
from hybrid.workers.http.h1.deadlines import BODY_GRACE, LINGER, BodyRate
from hybrid.workers.http.h1.exchange import CLOSING, PLAIN, SPECIAL, UPGRADE, WAITING, WHOLE, Http1Exchange
from hybrid.workers.http.h1.extras import Extras, Fields
from hybrid.workers.http.h1.phases import ReaderPhase
from hybrid.workers.http.h1.reader import RequestReader
from hybrid.workers.http.h1.repeated import Repeated
from hybrid.workers.http.h1.responses import BODY_WATER, Responses

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER without a wait (socket(7))
UPGRADED = ReaderPhase.UPGRADED


OPEN, HALF_CLOSED, LINGERING, CUT, CLOSED = ConnectionState


class HttpConnection:
    """The protocol of one connection. All methods belong to the loop's thread.

    Exceptions: `facts` and `reader.repeated` are made and read where the application runs, which may be a thread. They
    need no lock: only one exchange of a connection is in progress at a time, it uses them before it responds, and the
    next one starts after that response.
    """

    __slots__ = (
        "_awaited",
        "bytes_in",
        "bytes_out",
        "client",
        "clock",
        "context",
        "current",
        "deadline",
        "facts",
        "paused",
        "persistent",
        "reader",
        "responses",
        "scheme",
        "server",
        "state",
        "transport",
        "trusts_proxy",
        "write_end",
        "write_last",
    )

    def __init__(self, context: HttpContext) -> None:
        self.context = context
        self.clock = context.clock
        self.bytes_in = self.bytes_out = 0
        """Bytes received and sent that are not in the counts yet: see `HttpContext.count_bytes`."""
        self.transport: Any = None
        self.write_end: Callable[[Any], None]
        """Sends the last bytes to a client that asked for the close, which follows at once; the caller counts them."""
        self.write_last: Callable[[bytes], None]
        """Sends the end of a response, possibly batched with those of other connections a moment later; likewise."""
        self.client: tuple[str, int] | None = None
        self.server: tuple[str, int | None] | None = None
        self.scheme = "http"
        self.trusts_proxy = False
        """True if the peer is a proxy whose forwarding headers are trusted."""
        self.facts: Any = None
        """An interface's cache for all requests of the connection; set by the interface."""
        self.current: Http1Exchange | None = None
        """The exchange in progress."""
        self.persistent = True
        """True if another request may follow the current one."""
        self.paused = False
        """True if the client reads too slowly: applications wait before they send more."""
        self.deadline = NEVER
        self.reader = RequestReader(context.rules, self)
        self.responses: Responses | None = None
        """Queued exchanges and refusals; None until something has to wait."""
        self.state = OPEN
        # Set if the next bytes may repeat the previous head; such a request starts without any other check. So while it
        # is set, there is no current exchange, no queue, no refusal and no partial head, the client reads its
        # responses, and the connection is not closing. Every change to these clears it.
        self._awaited: Repeated | None = None

    # -- the hot path; benchmarks: python -m benchmarks wsgi asgi ----------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Parse the received bytes and start the requests that they complete.

        A request starts only after all bytes at hand are parsed, so that an application never sees a request whose body
        is malformed in the same packet.
        """
        reader = self.reader
        context = self.context
        counts = context.counts
        if counts.is_idle:
            counts.begin_turn()
        if not self.bytes_in:
            context.active.add(self)
        self.bytes_in += len(data)
        awaited = self._awaited
        if awaited is not None:
            self._awaited = None
            if awaited.takes(data):
                try:
                    next(context.heartbeat.tally)
                except StopIteration:
                    context.heartbeat.counts_last_request()
                reader.served = served = reader.served + 1
                if served >= context.rules.max_requests:
                    self.persistent = False
                    reader.end()
                style = SPECIAL if awaited.is_head else PLAIN
                self.current = exchange = Http1Exchange(self, awaited.request, style, True, True, awaited)
                exchange.began = counts.since
                if context.access_events is not None:
                    context.access_events.started(exchange)
                self.deadline = NEVER
                context.answer(exchange)
                return
        reader.feed(data)
        current = self.current
        responses = self.responses
        if current is None:
            if responses is not None and responses.refusal is not None:
                responses.advance()
            else:
                partial = reader.partial
                if partial is not None:
                    deadlines.await_head(self, partial)
        elif current.listener is None:
            if responses is not None and (responses.queue or responses.refusal is not None):
                responses.advance()
            elif current.style is UPGRADE:
                self.begin(current)
            else:  # nearly always
                context.answer(current)

    def on_request(
        self,
        method: str,
        target: bytes,
        version: str,
        fields: Fields,
        keep_alive: bool,
        has_body: bool,
        extras: Extras | None,
    ) -> None:
        """Make the exchange of a parsed request, and queue it. Called by the reader. Raises `Refused`."""
        context = self.context
        try:
            next(context.heartbeat.tally)
        except StopIteration:
            context.heartbeat.counts_last_request()
        if self.reader.served >= context.rules.max_requests:
            self.persistent = False
        if method == "HEAD":
            style = SPECIAL
        elif not keep_alive:
            style = CLOSING
        else:
            style = PLAIN if version == "1.1" else SPECIAL
        sent_target = target
        if extras is not None:
            sent_target = extras.sent_target or target
            if extras.websocket and context.answer_websocket is not None:
                style = UPGRADE
                keep_alive = False  # the bytes that follow are not HTTP
        request = Request(method, target, sent_target, version, fields)
        if self.trusts_proxy:
            self.reader.forget()  # the application gets different fields from those that were sent
            context.apply_forwarded(self, request)
        exchange = Http1Exchange(self, request, style, keep_alive, not has_body, None)
        exchange.began = context.counts.since
        if context.access_events is not None:
            context.access_events.started(exchange)
        if has_body:
            self._receive_body(exchange, extras)
        responses = self.responses
        if self.current is None and (responses is None or not (responses.queue or self.paused)):
            self.deadline = NEVER
            self.current = exchange
        else:
            self.own_responses().line_up(exchange)

    def _receive_body(self, exchange: Http1Exchange, extras: Extras | None) -> None:
        exchange.body = deque()
        self.own_responses().receive(exchange, extras is not None and extras.continues)

    def begin(self, exchange: Http1Exchange) -> None:
        """Call the application: it is this request's turn."""
        context = self.context
        if exchange.style is UPGRADE and context.answer_websocket is not None:
            context.answer_websocket(exchange)
        else:
            context.answer(exchange)

    def exchange_ended(self, exchange: Http1Exchange) -> None:
        """Proceed after a complete response. Called by the exchange."""
        context = self.context
        counts = context.counts
        status = exchange.status
        if status == 200 and exchange.began is counts.since:  # nearly always
            counts.quick += 1
        else:
            counts.ended(status, exchange.began)
        if context.access_events is not None:
            context.access_events.completed(exchange)
        exchange.listener = None  # breaks a reference cycle: no work for the garbage collector
        if exchange is not self.current:
            return
        self.current = None
        responses = self.responses
        if responses is not None and (responses.queue or responses.refusal is not None):
            if exchange.keep_alive:
                responses.advance_soon()
            else:
                self._close(exchange, responses)
        elif not (exchange.keep_alive and self.persistent):
            if exchange.complete and not self.reader.surplus:
                self.close()
            else:
                self.linger()
        elif not self.paused:  # else `resume_writing` does this
            self.deadline = self.clock.now + context.keep_alive_timeout
            self._awaited = repeated = self.reader.repeated
            if repeated is None:
                deadlines.await_begun_head(self)
            if responses is not None and not responses.is_reading:
                responses.resume_reading()

    # -- callbacks of the reader -------------------------------------------------------------------------------------

    def on_body(self, data: bytes) -> None:
        """Called by the reader."""
        responses = self.responses
        exchange = None if responses is None else responses.receiving
        if responses is None or exchange is None:
            return
        exchange.body.append(data)
        exchange.buffered += len(data)
        if exchange.buffered >= BODY_WATER:
            responses.pause_reading()
        if exchange is self.current and exchange.listener is not None:
            exchange.listener.body_arrived()

    def on_end(self) -> None:
        """Mark the body as complete. Called by the reader."""
        responses = self.responses
        exchange = None if responses is None else responses.receiving
        if responses is None or exchange is None:
            return
        responses.receiving = None
        responses.rate = None
        exchange.complete = True
        if self.paused:
            responses.pause_reading()
        if exchange is self.current and exchange.listener is not None:
            exchange.listener.body_arrived()

    def on_refused(self, refused: Refused) -> None:
        """Called by the reader."""
        self.own_responses().refuse(refused)

    def on_upgraded(self, data: bytes) -> None:
        """Called by the reader."""
        current = self.current
        if current is not None and current.style is UPGRADE and current.listener is not None:
            current.listener.data_received(data)
        elif current is not None or (self.responses is not None and self.responses.queue):
            self.own_responses().keep_rest(data)
        else:
            self.reader.drop(data)

    def on_surplus(self, total: int) -> None:
        """Called by the reader."""
        if total >= lingering.MOST_BYTES:
            self.abort()

    def on_failure(self) -> None:
        """Called by the reader."""
        self.abort()

    def own_responses(self) -> Responses:
        """Return `responses`, made on first use."""
        responses = self.responses
        if responses is None:
            responses = self.responses = Responses(self)
        return responses

    # -- methods for exchanges ---------------------------------------------------------------------------------------

    @property
    def upgraded(self) -> bool:
        """True if the bytes are no longer HTTP and go to the current exchange."""
        return self.reader.phase is UPGRADED

    @property
    def half_closed(self) -> bool:
        """True if the client has closed its sending side, and this side is open."""
        return self.state is HALF_CLOSED

    @property
    def is_closed(self) -> bool:
        """True if the transport is gone."""
        return self.state is CLOSED

    @property
    def has_said_last(self) -> bool:
        """True if no response can follow: this side has closed its sending side, or the connection is closed."""
        state = self.state
        return state is not OPEN and state is not HALF_CLOSED

    def has_more(self) -> bool:
        """Return True if responses follow the current one although no further request is read."""
        return self.responses is not None and self.responses.has_more()

    def refuse(self, status: int, reason: str) -> None:
        """Respond with `status` and close if no response has begun; otherwise abort the connection."""
        if self.current is not None and self.current.stage is not WAITING:
            self.abort()
        else:
            self.own_responses().refuse_now(Refused(status, reason))

    def takes_expectation(self, exchange: Http1Exchange) -> bool:
        """Return True, once, if the client of this exchange waits for 100 Continue."""
        return self.responses is not None and self.responses.takes_expectation(exchange)

    def awaits_body(self, exchange: Http1Exchange) -> None:
        """Enforce a minimum rate from now on: the application waits for the body."""
        if exchange.complete:
            return
        responses = self.own_responses()
        if responses.rate is None:
            responses.rate = BodyRate(self.clock.now, self.reader.received)
            self.deadline = self.clock.now + BODY_GRACE
            responses.resume_reading()

    def took_body(self) -> None:
        """Resume reading after the application has taken body data."""
        responses = self.responses
        if responses is not None and not responses.is_reading:
            responses.may_read()

    def take_rest(self) -> bytes:
        """Return the bytes received after an upgrade request."""
        responses = self.responses
        if responses is None:
            return b""
        rest, responses.rest = responses.rest, b""
        return rest

    # -- methods for upgraded exchanges, see `Upgraded` ---------------------------------------------------------------

    def get_extra_info(self, name: str) -> Any:
        """Return information from the transport."""
        return self.transport.get_extra_info(name)

    def write(self, data: Any) -> None:
        """Send or buffer bytes, and count them."""
        if not self.bytes_out:  # a session may send much and receive nothing
            self.context.active.add(self)
        self.bytes_out += len(data)
        self.transport.write(data)

    def is_closing(self) -> bool:
        """Return True if nothing more can be sent."""
        return bool(self.transport.is_closing())

    def pause_reading(self) -> None:
        """Stop reading from an upgraded connection for now."""
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Resume reading."""
        self.transport.resume_reading()

    # -- callbacks of the transport ----------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """Called once, first."""
        self.transport = transport
        write = transport.write
        self.write_end = getattr(transport, "write_end", write)
        self.write_last = getattr(transport, "write_last", write)
        self.context.opened(self)

    def takes_cork(self, cork: Callable[[], None]) -> None:
        """Call `cork` before the last bytes, for a transport without `write_end` whose socket can hold bytes back."""
        write = self.transport.write

        def write_end(data: Any) -> None:
            cork()
            write(data)

        self.write_end = write_end

    def pause_writing(self) -> None:
        """Start and read no further request until the buffer drains. Called by the transport.

        The rest of a body is still read, because its response may wait for that. A WebSocket controls its own reading.
        """
        self.paused = True
        self._awaited = None
        self.own_responses().pause_writing()

    def resume_writing(self) -> None:
        """Proceed: the buffer has drained. Called by the transport."""
        self.paused = False
        if self.state is not CLOSED:
            self.own_responses().resume_writing()

    def owed(self) -> int:
        """Return the bytes missing from the current WebSocket frame. Called only once the connection is `upgraded`."""
        current = self.current
        if current is None or current.style is not UPGRADE or current.listener is None:
            return 0
        owed: int = current.listener.owed
        return owed

    def eof_received(self) -> bool:
        """Handle the client's end of stream. A response in progress continues: True keeps the transport open for it."""
        if self.state is OPEN:
            self.state = HALF_CLOSED
        self.persistent = False
        self._awaited = None
        responses = self.responses
        if responses is not None and responses.receiving is not None:
            responses.refuse(Refused(400, "the connection ended within the body"))
        current = self.current
        can_answer = bool(self.transport.can_write_eof())  # TLS has no half-closed connections
        if self.state is LINGERING:
            return False
        if current is not None and current.style is UPGRADE and current.listener is not None:
            return current.listener.peer_done() and can_answer
        if not can_answer or (current is None and not self.has_more()):
            return False
        if responses is not None:
            responses.advance()
        current = self.current
        if current is not None and current.listener is not None:
            current.listener.peer_done()
        return self.state is not CLOSED

    def connection_lost(self, error: Exception | None) -> None:
        """Called once, last."""
        was_cut = self.state is CUT
        self.state = CLOSED
        self.persistent = False
        self.reader.let_go()
        self.context.closed(self)
        current = self.current
        if self.responses is not None:
            self.responses.release()
            self.responses = None
        if current is not None:
            if current.stage is not WHOLE:
                current.gone = True
                if current.listener is not None:
                    current.listener.disconnected()
            self.current = None
            if self.context.access_events is not None:
                self.context.access_events.lost(current, was_cut=was_cut)
            current.listener = None

    # -- deadlines ---------------------------------------------------------------------------------------------------

    def expired(self) -> None:
        """Called by the clock when the deadline has passed."""
        deadlines.expire(self)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _close(self, exchange: Http1Exchange, responses: Responses) -> None:
        """Close after this response although others are queued."""
        responses.queue.clear()
        if exchange.complete and not self.reader.surplus and responses.refusal is None:
            self.close()
        else:
            self.linger()

    def linger(self) -> None:
        """Close without a reset, as `workers.lingering` does, with the same limits.

        The transport does it here: a client that is still sending its body may have to finish before it reads the
        response. The transport also handles input that is unread, or output that is unacknowledged, at the end.
        """
        self.reader.end()
        self.persistent = False
        self._awaited = None
        if self.has_said_last:
            return
        if self.state is HALF_CLOSED or not self.transport.can_write_eof():
            self.close()
            return
        self.state = LINGERING
        self.deadline = self.clock.now + LINGER
        self.clock.hurry(self)
        try:
            self.transport.write_eof()
        except OSError:  # the client has reset, and asyncio's transports have not reported it yet
            self.drop()
            return
        if self.responses is not None:
            self.responses.resume_reading()

    def close(self) -> None:
        """Close once everything is sent."""
        self.reader.end()
        self.persistent = False
        self._awaited = None  # a transport may still deliver data that it has read already
        if self.state is not CLOSED:
            transport = self.transport
            if not transport.is_closing():  # asyncio's TLS transport discards its buffer on a second close
                transport.close()
            if transport.get_write_buffer_size():
                self.own_responses().unsent = 0
                self.deadline = self.clock.now + self.context.send_timeout

    def abort(self) -> None:
        """Close now: the server aborts the connection."""
        if self.state is not CLOSED:
            self.state = CUT
        self.drop()

    def drop(self) -> None:
        """Close now: the client has left, and its application knows."""
        self.reader.end()
        self.persistent = False
        self._awaited = None
        if self.state is not CLOSED:
            self.transport.abort()

    def cut(self) -> None:
        """Close now, with a reset: for a client that never reads, the kernel would keep megabytes for many minutes."""
        sock = None if self.state is CLOSED else self.transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):  # it is closed
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.abort()

    def activity(self) -> tuple[int, int]:
        """See `Served`."""
        current = self.current
        if current is None:
            return 0, 0
        if current.style is UPGRADE and current.status == 101:
            return 0, 1
        return 1, 0

    def drain(self) -> None:
        """Send `Connection: close` with further responses, and keep idle connections open for that.

        A client must not lose a request that crosses a close, so an idle connection closes at its keep-alive deadline.
        """
        self.persistent = False
        if self.current is None:
            if not self.paused:  # else it is not idle: the client still reads a response
                self.deadline = min(self.deadline, self.clock.now + self.context.keep_alive_timeout)
        elif self.current.listener is not None:
            self.current.listener.draining()

    def leave(self) -> None:
        """See `Served`."""
        self.persistent = False

    @property
    def may_leave(self) -> bool:
        """See `Served`. A response whose head is sent has promised to keep the connection."""
        current = self.current
        return self.persistent and not self.upgraded and (current is None or current.stage is WAITING)

    @property
    def is_leaving(self) -> bool:
        """See `Served`."""
        return not (self.persistent or self.upgraded)

    def close_idle(self) -> None:
        """Close an idle connection when the service stops: no request has begun, and earlier responses are sent."""
        is_busy = (
            self.current is not None
            or self.reader.is_within_request
            or self.has_said_last
            or self.upgraded
            or self.paused
        )
        if not (is_busy or self.transport.get_write_buffer_size()):
            self.close()

    def interrupt(self) -> None:
        """Tell the application that its client is gone, as the grace period is nearly over; close idle connections."""
        if self.current is None:
            if self.responses is not None:
                self.responses.queue.clear()
            self.close()
        elif self.current.listener is not None:
            self.current.listener.interrupt()

    def interrupt_upgraded(self) -> None:
        """Call `interrupt` if the connection was taken over."""
        current = self.current
        if current is not None and current.style is UPGRADE and current.listener is not None:
            current.listener.interrupt()
