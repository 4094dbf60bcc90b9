"""One HTTP/2 connection: its transport, its streams, its start and its end. Independent of the loop.

It has the methods of `asyncio.Protocol`, called by the loop's transport. A `Session` turns bytes into events, and
responses into bytes. What a turn of the loop answers is sent together, at its end or soon after.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from hybrid.workers.common import lingering
from hybrid.workers.common.connections import printable
from hybrid.workers.http.clock import NEVER
from hybrid.workers.http.context import HttpContext
from hybrid.workers.http.exchange import Exchange, Refused, Request
from hybrid.workers.http.h1.connection_state import ConnectionState
from hybrid.workers.http.h1.deadlines import BODY_GRACE, LINGER, BodyRate
from hybrid.workers.http.h2 import deadlines, session, tunnel
from hybrid.workers.http.h2 import fields as h2_fields
from hybrid.workers.http.h2 import heads as h2_heads
from hybrid.workers.http.h2.allowance import Allowance
from hybrid.workers.http.h2.exchange import SENDING, WAITING, WATER, WHOLE, Http2Exchange
from hybrid.workers.http.h2.session import ErrorCode, Session
from hybrid.workers.http.h2.tunnel import TunnelExchange
from hybrid.workers.http.head import UNKNOWN

OPEN, HALF_CLOSED, LINGERING, CUT, CLOSED = ConnectionState
_PIECE = 65_536  # bytes that are taken from the session, and written, at once
_MOST_WAITING = 1 << 20  # bytes of all responses together, from which on each may keep only little
_LITTLE = 4096
_REFUSAL = b"content-type: text/plain; charset=utf-8\r\n"
SWITCHING = 101
"""The status of an open WebSocket, as in HTTP/1."""
_GONE = "the connection ended within the body"


class Http2Connection:
    """The protocol of one connection. All methods belong to the loop's thread.

    Except for `facts`, which threads make and read: several may make it at once, and make the same.
    """

    current = None
    """No request is the only one; see `in_progress`."""

    __slots__ = (
        "_allowance",
        "_dropped",
        "_flush_is_due",
        "_full",
        "_is_receiving",
        "_ready",
        "_section",
        "_unfinished",
        "_write_last",
        "awaiting",
        "bytes_in",
        "bytes_out",
        "client",
        "clock",
        "context",
        "deadline",
        "ending",
        "facts",
        "idle_until",
        "leaving",
        "paused",
        "persistent",
        "responses_at",
        "scheme",
        "served",
        "server",
        "session",
        "state",
        "streams",
        "transport",
        "trusts_proxy",
        "unsent",
    )

    def __init__(self, context: HttpContext) -> None:
        self.context = context
        self.clock = context.clock
        self.bytes_in = self.bytes_out = 0
        """Bytes received and sent that are not in the counts yet: see `HttpContext.count_bytes`."""
        self.transport: Any = None
        self.client: tuple[str, int] | None = None
        self.server: tuple[str, int | None] | None = None
        self.scheme = "http"
        self.trusts_proxy = False
        """True if the peer is a proxy whose forwarding headers are trusted."""
        self.facts: Any = None
        """An interface's cache for all requests of the connection; set by the interface."""
        limits = context.settings.limits
        self.session = Session(limits.h2_max_concurrent_streams, limits.max_header_bytes, limits.max_headers)
        self.streams: dict[int, Http2Exchange] = {}
        """Number -> the request and its response, until the stream is closed on both sides."""
        self.served = 0
        """Requests received."""
        self.persistent = True
        """True if the client may send further requests."""
        self.leaving = False
        """True if the connection ends once no request is in progress, because its worker has too many."""
        self.ending = False
        """True once the client has been told the last stream that is served."""
        self.paused = False
        """True if the client reads too slowly: applications wait before they send more."""
        self.state = OPEN
        self.deadline = NEVER
        self.idle_until = NEVER
        """When the connection ends if no request is open until then."""
        self.responses_at = NEVER
        """When to look whether the client takes the responses that wait for its windows."""
        self.unsent = 0
        """Bytes that the client had not read at the last check; 0: not checked yet."""
        self.awaiting: set[Http2Exchange] = set()
        """Requests whose application waits for the body."""
        self._full: set[Http2Exchange] = set()  # as much of their response waits as may
        self._unfinished: set[int] = set()  # streams that are answered before the end of their request
        self._ready: deque[Http2Exchange] = deque()  # requests whose application has not been called
        self._section: h2_heads.Section | None = None  # of the newest request
        self._allowance = Allowance(self.clock.now)
        self._is_receiving = False
        self._flush_is_due = False
        self._dropped = 0  # bytes received while lingering
        self._write_last: Callable[[bytes], object]

    # -- the hot path; benchmark: python -m benchmarks h2 --------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Process the frames at hand, start the requests that they complete, and send what is answered already.

        A request starts only after all frames at hand are processed, so that an application never sees a request that
        is malformed or cancelled in the same packet.
        """
        context = self.context
        if context.counts.is_idle:
            context.counts.begin_turn()
        if not self.bytes_in:
            context.active.add(self)
        self.bytes_in += len(data)
        if self.state is LINGERING:
            self._drop(len(data))
            return
        self._is_receiving = True
        try:
            current = self.session
            self._process(current.receive(data))
            if self._ready:
                if current.has_output:  # perhaps a reset of a stream whose request must not start
                    self._send()
                self._start_requests()
        finally:
            self._is_receiving = False
        self.flush()

    def _process(self, events: Iterable[Any]) -> None:
        for event in events:
            handler = _HANDLERS.get(type(event))
            if handler is not None:
                handler(self, event)

    def _requested(self, event: session.Requested) -> None:
        """Make the exchange of a request, or refuse it."""
        stream: int = event.stream_id
        context = self.context
        try:
            next(context.heartbeat.tally)
        except StopIteration:
            context.heartbeat.counts_last_request()
        self.session.newest = stream
        self.served = served = self.served + 1
        if served >= context.rules.max_requests:
            self.retire()
        is_whole: bool = event.end_stream
        try:
            exchange = self._read(stream, event.headers, is_whole)
        except Refused as refused:
            self._refuse_head(stream, event, refused)
            return
        exchange.began = context.counts.since
        if context.access_events is not None:
            context.access_events.started(exchange)
        self.streams[stream] = exchange
        self._ready.append(exchange)

    def _read(self, stream: int, headers: Any, is_whole: bool) -> Http2Exchange:
        """Return the exchange of a request. Raises `Refused`."""
        context = self.context
        last = self._section
        if last is not None and headers == last.headers:
            last.likeness = h2_heads.ALL
            exchange = Http2Exchange(self, stream, last.request, is_whole)
            exchange.repeated = last
            exchange.continues = last.continues
            return exchange
        method, target, section, protocol = h2_heads.read(headers, last, context.rules)
        if section.length > context.rules.max_body_size:
            raise Refused(413, f"the body is larger than {context.rules.max_body_size} bytes")
        if protocol is not None:
            return self._read_tunnel(stream, Request(method, target, target, "2", section.fields), protocol, is_whole)
        if self.trusts_proxy:
            request = Request(method, target, target, "2", section.fields)
            context.apply_forwarded(self, request)  # the application gets different fields from those that were sent
            exchange = Http2Exchange(self, stream, request, is_whole)
        else:
            if section is last:
                target = section.repeat(target)
            else:
                self._section = section
            request = Request(method, target, target, "2", section.fields)
            exchange = Http2Exchange(self, stream, request, is_whole)
            exchange.repeated = section
            section.headers, section.request = headers, request
        exchange.continues = section.continues
        return exchange

    def _read_tunnel(self, stream: int, request: Request, protocol: bytes, is_whole: bool) -> TunnelExchange:
        """Return the exchange of a request for another protocol. Raises `Refused`."""
        context = self.context
        if protocol.lower() != tunnel.PROTOCOL or context.answer_websocket is None:
            raise Refused(501, "the only protocol for an extended CONNECT is websocket")
        if is_whole:
            raise Refused(400, "a WebSocket needs both sides of its stream")
        request.headers = tunnel.with_handshake(request.headers)
        if self.trusts_proxy:
            context.apply_forwarded(self, request)
        return TunnelExchange(self, stream, request)

    def _start_requests(self) -> None:
        """Call the applications of the requests at hand, until the turn has lasted long enough."""
        context, ready = self.context, self._ready
        turn = context.turn
        while ready:
            exchange = ready.popleft()
            if exchange.gone:
                continue
            if exchange.is_tunnel and context.answer_websocket is not None:
                context.answer_websocket(exchange)
            else:
                context.answer(exchange)
            if ready and turn.is_due() and turn.is_long():
                context.call_soon(self._start_more)
                return

    def _start_more(self) -> None:
        if self.state is not CLOSED:
            self._start_requests()
            self.flush()

    def exchange_ended(self, exchange: Http2Exchange) -> None:
        """Proceed after a complete response. Called by the exchange."""
        context = self.context
        context.counts.ended(exchange.status, exchange.began)
        if context.access_events is not None:
            context.access_events.completed(exchange)
        exchange.listener = None  # breaks a reference cycle: no work for the garbage collector
        if exchange.rate is not None:
            self.awaiting.discard(exchange)
        self._allowance.earn(1, exchange.sent)
        if not exchange.complete or exchange.is_tunnel:
            self._unfinished.add(exchange.stream)
            self._return_window(exchange)

    def flush_soon(self) -> None:
        """Send what there is, in the loop's next turn at the latest."""
        if not (self._flush_is_due or self._is_receiving):
            self._flush_is_due = True
            self.context.call_soon(self.flush)

    def flush(self) -> None:
        """Send what the client's windows and its reading allow."""
        self._flush_is_due = False
        if self.is_closing():
            return
        current = self.session
        self._send()
        if self._full:
            self._look_at_full()
        if current.queued() and self.responses_at is NEVER:
            self.responses_wait()
        if current.is_over:
            self._over()

    def _send(self) -> None:
        """Write what the session has, and process the events of that."""
        current = self.session
        while not self.paused:
            data = current.take(_PIECE)
            events = current.events()
            if data:
                if not self.bytes_out:
                    self.context.active.add(self)
                self.bytes_out += len(data)
                if len(data) < _PIECE:
                    self._write_last(data)
                else:
                    self.transport.write(data)
            if events:
                self._process(events)
            if len(data) < _PIECE and not (self._unfinished and self._end_unfinished()):
                break

    # -- events of the session -----------------------------------------------------------------------------------------

    def _arrived(self, event: session.Arrived) -> None:
        """A piece of a request body."""
        stream: int = event.stream_id
        data: bytes = event.data
        exchange = self.streams.get(stream)
        if isinstance(exchange, TunnelExchange):
            self._allowance.earn(0, len(data))
            exchange.tunnel.received(data)
            if event.end_stream:
                self._unfinished.discard(stream)
                exchange.tunnel.peer_ended()
            return
        if exchange is None or exchange.gone or exchange.stage is WHOLE:
            self.session.consumed(stream, len(data))  # it is refused or answered: read and dropped
            if event.end_stream:
                self._unfinished.discard(stream)
                if exchange is not None:
                    exchange.complete = True
            return
        if data:
            exchange.received += len(data)
            self._allowance.earn(0, len(data))
            exchange.body.append(data)
            exchange.buffered += len(data)
            if exchange.received > self.context.rules.max_body_size:
                self.refuse(exchange, Refused(413, f"the body is larger than {self.context.rules.max_body_size} bytes"))
                return
        if event.end_stream:
            self._body_ended(exchange)
        elif data and exchange.listener is not None:
            exchange.listener.body_arrived()

    def _trailed(self, event: session.Trailed) -> None:
        """Trailer fields end a request body. No interface passes them on; the session bounds them."""
        exchange = self.streams.get(event.stream_id)
        self._unfinished.discard(event.stream_id)
        if exchange is None:
            return
        if len(event.headers) > self.context.rules.max_headers and not exchange.gone:
            self.refuse(exchange, Refused(431, "there are too many trailer fields"))
        else:
            self._body_ended(exchange)

    def _body_ended(self, exchange: Http2Exchange) -> None:
        exchange.complete = True
        if exchange.rate is not None:
            exchange.rate = None
            self.awaiting.discard(exchange)
        if exchange.listener is not None:
            exchange.listener.body_arrived()

    def _closed(self, event: session.Closed) -> None:
        """A stream is closed on both sides, or reset by one."""
        stream: int = event.stream_id
        self._unfinished.discard(stream)
        exchange = self.streams.pop(stream, None)
        if exchange is not None:
            if exchange.is_settled:
                exchange.is_open = False  # nearly always: nothing is left of it
            else:
                self._let_go(exchange)
        if not self.streams:
            self._idle()

    def _let_go(self, exchange: Http2Exchange) -> None:
        """Forget an exchange whose stream is closed; tell its application unless the response is complete."""
        self._return_window(exchange)
        exchange.is_open = False
        if exchange.is_full:
            exchange.is_full = False
            self._full.discard(exchange)
        self.awaiting.discard(exchange)
        access_events = self.context.access_events
        if exchange.stage is not WHOLE:
            was_gone, exchange.gone = exchange.gone, True
            if exchange.listener is not None:
                exchange.listener.disconnected()
            if access_events is not None and not was_gone:
                access_events.lost(exchange, was_cut=exchange.was_cut or self.state is CUT)
        elif exchange.was_cut and access_events is not None:
            access_events.lost(exchange, was_cut=True)
        exchange.listener = None

    def _return_window(self, exchange: Http2Exchange) -> None:
        """Let the client send as much again as was received of this body and is dropped."""
        if exchange.buffered and exchange.is_open:
            self.session.consumed(exchange.stream, exchange.buffered)
            exchange.buffered = 0

    def _controlled(self, _: object) -> None:
        """Account for a control frame; end the connection of a client that sends too many."""
        if not self._allowance.spend(1, self.clock.now):
            self.end_now()

    def _answered(self, _: object) -> None:
        """The client knows that the connection ends."""
        if not self.persistent:
            self.end()

    def _was_last(self, _: object) -> None:
        """Nothing follows what has been taken from the session."""
        self.session.is_over = True

    def _leaving(self, _: object) -> None:
        """The client opens no further streams."""
        self.persistent = False
        if not self.streams:
            self.end()

    def _over(self) -> None:
        """The session neither reads nor sends."""
        for exchange in list(self.streams.values()):
            self._let_go(exchange)
        self.streams.clear()
        self.linger()

    # -- refusals ------------------------------------------------------------------------------------------------------

    def _refuse_head(self, stream: int, event: session.Requested, refused: Refused) -> None:
        """Answer a request that no application gets."""
        pseudo = dict(event.headers[:4])
        method = pseudo.get(b":method", b"").decode("latin-1")
        target = pseudo.get(b":path", b"")
        refused.head_only = method == "HEAD"
        self._respond_to_refusal(stream, refused)
        if not event.end_stream:
            self._unfinished.add(stream)
        access_events = self.context.access_events
        if access_events is not None:
            fields = [field for field in event.headers if field[0][:1] != b":"]
            access_events.refused(self, Request(method, target, target, "2", fields), refused)

    def refuse(self, exchange: Http2Exchange, refused: Refused) -> None:
        """Answer a request in place of its application, whose client is gone from now on; or break its answer off."""
        if exchange.stage is not WAITING:
            exchange.cut(ErrorCode.INTERNAL_ERROR)
            exchange.gone = True
            if exchange.listener is not None:
                exchange.listener.disconnected()
            return
        exchange.gone = True
        listener, exchange.listener = exchange.listener, None
        if listener is not None:
            listener.disconnected()
        self.awaiting.discard(exchange)
        self._return_window(exchange)
        refused.head_only = exchange.request.method == "HEAD"
        self._respond_to_refusal(exchange.stream, refused)
        if not exchange.complete:
            self._unfinished.add(exchange.stream)
        if self.context.access_events is not None:
            self.context.access_events.refused(self, exchange, refused)

    def _respond_to_refusal(self, stream: int, refused: Refused) -> None:
        context = self.context
        context.refused(self, refused)
        context.counts.refused(refused.status)
        body = b"" if refused.head_only else f"{refused.reason}\n".encode("ascii", "replace")
        length = UNKNOWN if refused.head_only else len(body)
        pairs = h2_fields.head_of(refused.status, (_REFUSAL, UNKNOWN, 0), self.clock, length)
        self.session.respond(stream, pairs, body, False)
        self.flush_soon()

    # -- balance -------------------------------------------------------------------------------------------------------

    def water(self) -> int:
        """Return how many bytes of one response may wait for the client."""
        return WATER if self.session.queued() < _MOST_WAITING else _LITTLE

    def fills(self, exchange: Http2Exchange) -> None:
        """Note that the application of this exchange waits until its client takes more."""
        self._full.add(exchange)

    def responses_wait(self) -> None:
        """Look after the send timeout whether the client has taken something of what waits for its windows."""
        if self.responses_at is NEVER:
            self.responses_at = self.clock.now + self.context.send_timeout
            self.look_at(self.responses_at)

    def _look_at_full(self) -> None:
        """Wake the applications whose clients have taken enough."""
        most = self.water() // 2
        for exchange in [each for each in self._full if self.session.queued(each.stream) <= most]:
            self._full.discard(exchange)
            exchange.is_full = False
            if exchange.listener is not None and not self.paused:
                exchange.listener.resumed()

    def _end_unfinished(self) -> bool:
        """Tell clients whose response is sent that the rest of their request is not needed (RFC 9113, section 8.1)."""
        sent = [stream for stream in self._unfinished if not self.session.queued(stream)]
        for stream in sent:
            exchange = self.streams.get(stream)
            if exchange is None or not exchange.was_cut:
                self.session.reset(stream, ErrorCode.NO_ERROR)
            self._unfinished.discard(stream)
        return bool(sent)

    def finish_stream(self, stream: int) -> None:
        """End a stream behind what is sent, although its client may send more."""
        self._unfinished.add(stream)

    def awaits_body(self, exchange: Http2Exchange) -> None:
        """Enforce a minimum rate from now on: the application waits for the body."""
        exchange.rate = BodyRate(self.clock.now, exchange.received)
        exchange.rate_at = self.clock.now + BODY_GRACE
        self.awaiting.add(exchange)
        self.look_at(exchange.rate_at)

    def look_at(self, when: float) -> None:
        """Look at the deadlines at this time, on the worker's clock, or before."""
        if when < self.deadline:
            self.deadline = when

    # -- callbacks of the transport ------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """Called once, first."""
        self.transport = transport
        self._write_last = getattr(transport, "write_last", transport.write)
        self.context.opened(self)
        self.context.multiplexed.add(self)
        self.idle_until = self.deadline
        self.flush()

    def pause_writing(self) -> None:
        """Send nothing until the buffer drains. Called by the transport."""
        self.paused = True
        self.unsent = self.transport.get_write_buffer_size()
        self.look_at(self.clock.now + self.context.send_timeout)

    def resume_writing(self) -> None:
        """Proceed: the buffer has drained. Called by the transport, which is in the middle of sending."""
        self.paused = False
        self.unsent = 0
        self.context.call_soon(self._resumed)

    def _resumed(self) -> None:
        self.flush()
        for exchange in list(self.streams.values()):
            if self.paused:
                break
            if exchange.stage is SENDING and not exchange.is_full and exchange.listener is not None:
                exchange.listener.resumed()

    def eof_received(self) -> bool:
        """Handle the client's end of stream. Responses in progress continue: True keeps the transport open for them."""
        if self.state is not OPEN:
            return False
        self.state = HALF_CLOSED
        self.persistent = False
        for exchange in list(self.streams.values()):
            if not (exchange.complete or exchange.gone):
                self.refuse(exchange, Refused(400, _GONE))
            elif isinstance(exchange, TunnelExchange):
                exchange.tunnel.peer_ended()
            elif exchange.listener is not None:
                exchange.listener.peer_done()
        self.flush()
        return bool(self.transport.can_write_eof()) and bool(self.streams)

    def connection_lost(self, error: Exception | None) -> None:
        """Called once, last."""
        self.persistent = False
        self.context.closed(self)
        self.context.multiplexed.discard(self)
        for exchange in list(self.streams.values()):
            self._let_go(exchange)
        self.state = CLOSED
        self.streams.clear()
        self._ready.clear()
        self.awaiting.clear()
        self._full.clear()

    # -- deadlines -----------------------------------------------------------------------------------------------------

    def expired(self) -> None:
        """Called by the clock when the deadline has passed."""
        deadlines.expire(self)

    # -- methods for exchanges and interfaces --------------------------------------------------------------------------

    @property
    def half_closed(self) -> bool:
        """True if the client has closed its sending side, and this side is open."""
        return self.state is HALF_CLOSED

    def is_closing(self) -> bool:
        """Return True if nothing more can be sent."""
        return self.state is CLOSED or self.state is LINGERING or bool(self.transport.is_closing())

    def get_extra_info(self, name: str) -> Any:
        """Return information from the transport."""
        return self.transport.get_extra_info(name)

    def in_progress(self) -> list[Exchange]:
        """Return the exchanges that their applications answer now."""
        return [exchange for exchange in self.streams.values() if exchange.listener is not None]

    # -- the end -------------------------------------------------------------------------------------------------------

    def retire(self) -> None:
        """Let the client send further requests over another connection; serve those that are on their way."""
        if self.persistent:
            self.persistent = False
            self.session.announce_end()
            self.idle_until = min(self.idle_until, self.clock.now + self.context.keep_alive_timeout)
            self.look_at(self.idle_until)
            self.clock.hurry(self)  # with a stream open, it may be over
            self.flush_soon()

    def end(self) -> None:
        """Serve no further request, and close after the responses in progress."""
        self.persistent = False
        if not self.ending:
            self.ending = True
            self.session.end()
            self.flush_soon()
        if not self.streams:
            self.close()

    def end_now(self) -> None:
        """Break everything off: the client sends too many control frames."""
        if not self.ending:
            self.ending = True
            self.persistent = False
            self.context.incidents.log("closing the connection of %s: too many control frames", printable(self.client))
            self.session.terminate(ErrorCode.ENHANCE_YOUR_CALM)
            self.flush_soon()

    def _idle(self) -> None:
        """The last open stream is closed."""
        if self.ending or self.leaving or self.state is HALF_CLOSED:
            self.close()
        elif self.persistent:
            self.idle_until = self.clock.now + self.context.keep_alive_timeout
            self.look_at(self.idle_until)

    def close(self) -> None:
        """Close once everything is sent."""
        self.persistent = False
        if self.state is CLOSED or self.state is LINGERING:
            return
        if not self.ending:
            self.ending = True
            self.session.end()
        self.flush()
        transport = self.transport
        if not transport.is_closing():  # asyncio's TLS transport discards its buffer on a second close
            transport.close()
        if transport.get_write_buffer_size():
            self.unsent = 0
            self.deadline = self.clock.now + self.context.send_timeout

    def linger(self) -> None:
        """Close without a reset, which would destroy the last frames: the client may still be sending."""
        if self.state is CLOSED or self.state is LINGERING or self.transport.is_closing():
            return
        self.persistent = False
        if self.state is HALF_CLOSED or not self.transport.can_write_eof():
            self.transport.close()
            return
        self.state = LINGERING
        self.deadline = self.clock.now + LINGER
        self.clock.hurry(self)
        try:
            self.transport.write_eof()
        except OSError:  # the client has reset, and asyncio's transports have not reported it yet
            self.transport.abort()

    def _drop(self, size: int) -> None:
        self._dropped += size
        if self._dropped >= lingering.MOST_BYTES:
            self.abort()

    def abort(self) -> None:
        """Close now: the server aborts the connection."""
        if self.state is not CLOSED:
            self.state = CUT
            self.transport.abort()

    def cut(self) -> None:
        """Close now, with a reset: for a client that never reads, the kernel would keep megabytes for many minutes."""
        sock = None if self.state is CLOSED else self.transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):  # it is closed
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # socket(7)
        self.abort()

    def activity(self) -> tuple[int, int]:
        """See `Served`."""
        open_ones = [exchange for exchange in self.streams.values() if exchange.stage is not WHOLE]
        sessions = sum(exchange.status == SWITCHING for exchange in open_ones)
        return len(open_ones) - sessions, sessions

    def drain(self) -> None:
        """Let the client go to another worker, after the requests in progress and those on their way."""
        self.retire()
        for exchange in list(self.streams.values()):
            if exchange.listener is not None:
                exchange.listener.draining()

    def leave(self) -> None:
        """See `Served`: by GOAWAY, once no request is in progress: many clients give up those that are."""
        self.leaving = True
        if not self.streams:
            self.close()

    @property
    def may_leave(self) -> bool:
        """See `Served`. Responses that have begun, and WebSockets, may last for hours."""
        if self.leaving or not self.persistent:
            return False
        return all(exchange.stage is WAITING for exchange in self.streams.values())

    @property
    def is_leaving(self) -> bool:
        """See `Served`."""
        return self.leaving or not self.persistent

    def close_idle(self) -> None:
        """Close an idle connection when the service stops: no request has begun, and earlier responses are sent."""
        if not (self.streams or self.paused or self.is_closing() or self.transport.get_write_buffer_size()):
            self.close()

    def interrupt(self) -> None:
        """Tell the applications that their client is gone, as the grace period is nearly over; close if idle."""
        self._ready.clear()
        for exchange in list(self.streams.values()):
            if exchange.listener is not None:
                exchange.listener.interrupt()
        if not self.streams:
            self.close()

    def interrupt_upgraded(self) -> None:
        """Call `interrupt` of the listeners that took their stream over."""
        for exchange in self.tunnels():
            if exchange.listener is not None:
                exchange.listener.interrupt()

    def tunnels(self) -> list[TunnelExchange]:
        """Return the requests for WebSockets, and the open ones."""
        return [exchange for exchange in self.streams.values() if isinstance(exchange, TunnelExchange)]


_HANDLERS: dict[type, Callable[[Http2Connection, Any], None]] = {
    session.Requested: Http2Connection._requested,
    session.Arrived: Http2Connection._arrived,
    session.Trailed: Http2Connection._trailed,
    session.Closed: Http2Connection._closed,
    session.Configured: Http2Connection._controlled,
    session.Pinged: Http2Connection._controlled,
    session.Widened: Http2Connection._controlled,
    session.Prioritised: Http2Connection._controlled,
    session.Answered: Http2Connection._answered,
    session.Leaving: Http2Connection._leaving,
    session.Over: Http2Connection._was_last,
}
