"""A WebSocket over one stream (RFC 8441): what takes a whole connection over in HTTP/1 takes a stream over here.

`Tunnel` is the `Upgraded` connection of its exchange. Applications and `websocket` speak of the handshake of HTTP/1: so
the request gets the fields of that, and its response is sent as that of an extended CONNECT, 200 in place of 101.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hybrid.workers.http import head as heads
from hybrid.workers.http.clock import NEVER
from hybrid.workers.http.exchange import Fields, Request
from hybrid.workers.http.h2 import fields as h2_fields
from hybrid.workers.http.h2.exchange import SENDING, WHOLE, Http2Exchange
from hybrid.workers.http.h2.session import ErrorCode
from hybrid.workers.http.head import UNKNOWN, Head, Status

if TYPE_CHECKING:
    from hybrid.workers.http.context import HttpContext
    from hybrid.workers.http.h2.connection import Http2Connection
    from hybrid.workers.http.websocket.frames import Closed

PROTOCOL = b"websocket"
_KEY = b"AAAAAAAAAAAAAAAAAAAAAA=="  # a valid key: HTTP/2 needs none against caches that do not know it
_HANDSHAKE = [(b"upgrade", PROTOCOL), (b"connection", b"Upgrade"), (b"sec-websocket-key", _KEY)]
_OF_HTTP1 = frozenset({b"upgrade", b"connection", b"sec-websocket-accept"})
_UPGRADED = 101
_MOST_HEAD = 65_536  # bytes of a response head that an application writes by itself


def with_handshake(fields: Fields) -> Fields:
    """Return the fields of a request for a WebSocket, with those that only HTTP/1 has."""
    return [*(field for field in fields if field[0] not in _OF_HTTP1 and field[0] != b"sec-websocket-key"), *_HANDSHAKE]


class Tunnel:
    """One stream as a connection. Belongs to the loop's thread."""

    __slots__ = ("_deadline", "_exchange", "_is_reading", "_rest", "_unread", "_wire", "half_closed", "is_ended")

    def __init__(self, wire: Http2Connection, exchange: TunnelExchange) -> None:
        self._wire = wire
        self._exchange = exchange
        self._deadline = NEVER
        self._is_reading = True
        self._unread = 0  # bytes received while reading was paused, for which the client gets no window yet
        self._rest = b""  # bytes received before the application was called
        self.half_closed = False
        """True if the client has ended its side."""
        self.is_ended = False
        """True if this side has ended, or broken off."""

    # -- see `Peer` ----------------------------------------------------------------------------------------------------

    @property
    def client(self) -> tuple[str, int] | None:
        """Host and port of the client."""
        return self._wire.client

    @property
    def server(self) -> tuple[str, int | None] | None:
        """The address that the client connected to."""
        return self._wire.server

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return self._wire.scheme

    @property
    def trusts_proxy(self) -> bool:
        """True if the peer is a trusted proxy."""
        return self._wire.trusts_proxy

    @property
    def facts(self) -> Any:
        """An interface's cache."""
        return self._wire.facts

    @facts.setter
    def facts(self, facts: Any) -> None:
        self._wire.facts = facts

    @property
    def context(self) -> HttpContext:
        """The state of the worker."""
        return self._wire.context

    def get_extra_info(self, name: str) -> Any:
        """Return information from the transport."""
        return self._wire.get_extra_info(name)

    # -- see `Upgraded` ------------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When `expired` is called."""
        return self._deadline

    @deadline.setter
    def deadline(self, when: float) -> None:
        self._deadline = when
        self._wire.look_at(when)

    @property
    def paused(self) -> bool:
        """True if the client reads too slowly."""
        return self._exchange.is_full or self._wire.paused

    def is_closing(self) -> bool:
        """Return True if nothing more can be sent."""
        return self.is_ended or not self._exchange.is_open or self._wire.is_closing()

    def write(self, data: Any) -> None:
        """Send bytes."""
        if not self.is_closing():
            self._exchange.push(data)

    def take_rest(self) -> bytes:
        """Return the bytes received after the request and before it was started."""
        rest, self._rest = self._rest, b""
        return rest

    def pause_reading(self) -> None:
        """Give the client no further window."""
        self._is_reading = False

    def resume_reading(self) -> None:
        """Give the client the window for what has been received."""
        self._is_reading = True
        unread, self._unread = self._unread, 0
        self._give_window(unread)

    def close(self) -> None:
        """End this side once everything is sent; the stream ends with it."""
        if not self.is_closing():
            self.is_ended = True
            self._deadline = NEVER
            self._exchange.end_tunnel()

    linger = close  # a stream ends without a reset of the connection, whatever the client still sends

    def abort(self) -> None:
        """End the stream now."""
        if self._exchange.is_open:
            self.is_ended = True
            self._deadline = NEVER
            self._exchange.break_off()

    # -- for the wire --------------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Pass bytes on; the client gets a window for them unless reading is paused."""
        listener = self._exchange.listener
        if self._is_reading:
            self._give_window(len(data))
        else:
            self._unread += len(data)
        if self.is_ended:
            return
        if listener is None:
            self._rest += data
        else:
            listener.data_received(data)

    def _give_window(self, count: int) -> None:
        if count and self._exchange.is_open:
            self._wire.session.consumed(self._exchange.stream, count)
            self._wire.flush_soon()

    def peer_ended(self) -> None:
        """The client has ended its side."""
        self.half_closed = True
        listener = self._exchange.listener
        if listener is not None and not listener.peer_done():
            self.close()

    def expire(self, now: float) -> None:
        """Tell the listener that its deadline has passed, if it has."""
        listener = self._exchange.listener
        if now >= self._deadline:
            self._deadline = NEVER
            if listener is not None:
                listener.expired()
        if self._deadline is not NEVER:
            self._wire.look_at(self._deadline)


class TunnelExchange(Http2Exchange):
    """A request for a WebSocket, and the stream that becomes one."""

    __slots__ = ("_head", "tunnel")

    is_tunnel = True

    def __init__(self, wire: Http2Connection, stream: int, request: Request) -> None:
        super().__init__(wire, stream, request, complete=True)
        self.keep_alive = False
        self.tunnel = Tunnel(wire, self)
        self.connection: Any = self.tunnel
        self._head: bytes | None = None
        """The head that the application writes by itself, as far as it came; None: it writes none."""

    def upgrade(self, status: Status, fields: Head) -> Callable[[Any], None]:
        """See `Exchange`. RFC 8441, section 5: the response is 200, without the fields of an upgrade."""
        self._accept(status, fields)
        return self.tunnel.write

    def _accept(self, status: Status, fields: Head) -> None:
        wire = self.wire
        self.stage = SENDING
        self.status = status.number
        if self.sent_head is not None:
            self.sent_head = b"%b%b\r\n" % (status.line, fields[0])
        wire.context.counts.upgraded()
        pairs = h2_fields.head_of(200, fields, wire.clock, UNKNOWN)
        wire.session.respond(self.stream, [pair for pair in pairs if pair[0] not in _OF_HTTP1], b"", True)
        wire.flush_soon()

    def take_over(self, status: int, head_size: int) -> None:
        """See `Exchange`. The head that follows is one of HTTP/1; it is translated."""
        self.stage = SENDING
        self.status = status
        self.sent = -head_size
        self._head = b""

    def push(self, data: Any) -> None:
        """Send bytes."""
        if self._head is not None:
            self._head += bytes(data)
            data = self._translate(self._head)
        if data:
            wire = self.wire
            wire.session.send(self.stream, bytes(data), True)
            if self.sent_head is not None:
                self.sent += len(data)
            self._look_for_room()
            wire.flush_soon()

    def _translate(self, head: bytes) -> bytes:
        """Send a head that is complete; return the bytes behind it."""
        block, end, rest = head.partition(b"\r\n\r\n")
        if not end:
            if len(head) > _MOST_HEAD:
                self.tunnel.abort()
            return b""
        self._head = None
        line, _, lines = block.partition(b"\r\n")
        number = self.status if line.startswith(b"HTTP/1.1 ") else 502
        fields = (lines + b"\r\n" if lines else b"", UNKNOWN, 0)
        if number == _UPGRADED:
            self._accept(heads.status_of(_UPGRADED), fields)
        else:
            pairs = h2_fields.head_of(number, fields, self.wire.clock, UNKNOWN)
            self.wire.session.respond(self.stream, [pair for pair in pairs if pair[0] not in _OF_HTTP1], b"", True)
        return rest

    def end_tunnel(self) -> None:
        """End this side behind everything that waits."""
        wire = self.wire
        wire.session.send(self.stream, b"", more=False)
        wire.finish_stream(self.stream)
        wire.flush_soon()

    def break_off(self) -> None:
        """End the stream at once."""
        self.was_cut = True
        self.wire.session.reset(self.stream, ErrorCode.CANCEL)
        self.wire.flush_soon()

    @property
    def ended_by(self) -> Closed | None:
        """See `Exchange`."""
        if self.status != _UPGRADED or self.listener is None:
            return None
        closed: Closed | None = self.listener.ended_by
        return closed

    def finish(self) -> None:
        """See `Exchange`."""
        if self.stage is not WHOLE:
            self.tunnel.close()
            self._finish()
