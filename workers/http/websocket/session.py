"""A WebSocket session, independent of the interface: handshake, back-pressure, keep-alive, closing.

`frames` has the protocol. A `SessionOwner` runs the application and takes the messages; `wake` notifies it.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from hybrid.workers.common import forks
from hybrid.workers.http.clock import NEVER
from hybrid.workers.http.exchange import NO_BODY_CAME, Exchange, ResponseError, Upgraded
from hybrid.workers.http.head import UNKNOWN, from_bytes, status_of
from hybrid.workers.http.websocket.frames import ABNORMAL, VERSION, Closed, CloseError, HandshakeError, WebSocket

WATER = 65_536  # bytes of messages that may wait for the application before reading pauses
MESSAGE_COST = 64  # bytes that each message counts in addition to its payload
CLOSE_TIMEOUT = 5.0  # seconds for the client to answer a close frame
NORMAL, INTERNAL_ERROR, SERVICE_RESTART = 1000, 1011, 1012  # RFC 6455, section 7.4.1, and its registry


class SessionPhase(enum.Enum):
    """The phases of a session."""

    ASKED = "the handshake is unanswered"
    DENYING = "it is being denied with an HTTP response"
    OPEN = "it is open"
    CLOSING = "it is closing"
    OVER = "it is closed"


UNANSWERED = frozenset({SessionPhase.ASKED, SessionPhase.DENYING})
ENDING = frozenset({SessionPhase.CLOSING, SessionPhase.OVER})


class Disconnect(NamedTuple):
    """A session's last message: how it ended. RFC 6455, section 7.4."""

    code: int
    reason: str


class Connect(enum.Enum):
    """A session's first message, for an owner that announces the handshake to its application."""

    REQUESTED = "a client asks for a WebSocket"


class SessionOwner(Protocol):
    """Runs the application of a session."""

    def run(self) -> None:
        """Call the application: the handshake is valid."""
        ...

    def messages_received(self) -> None:
        """Called for new messages, in a callback of the loop: a waiting application may continue at once."""
        ...

    def wake(self) -> None:
        """Called for new messages, room to send, or the end; from anywhere, also during the application's turn."""
        ...


class _NoOwner:
    """The owner of a session that is over."""

    def run(self) -> None:
        """Do nothing."""

    messages_received = wake = run


_NO_OWNER = _NoOwner()


class Session:
    """A WebSocket from its handshake request to the end of its connection. The listener of its exchange."""

    __slots__ = (
        "_answer_fields",
        "_connection",
        "_early",
        "_exchange",
        "_held",
        "_last_received",
        "_owner",
        "_pinged",
        "backlog",
        "disconnect",
        "messages",
        "phase",
        "send",
        "wire",
    )

    send: Callable[[Any], None]
    """Sends frames; set once the session is open."""

    def __init__(self, exchange: Exchange, owner: SessionOwner) -> None:
        connection: Upgraded = exchange.connection
        settings = connection.context.settings
        self._exchange = exchange
        self._connection = connection
        self._owner = owner
        exchange.listener = self
        self.phase = SessionPhase.ASKED
        self.messages: deque[str | bytes | Connect | Disconnect] = deque()
        """Messages that the application has not received yet."""
        self.disconnect: Disconnect | None = None
        """The last message, once it is queued."""
        self.backlog = 0
        """Bytes of queued messages."""
        self._held = False  # reading is paused
        self._last_received = connection.context.clock.now  # time of the last bytes from the client
        self._pinged = NEVER  # time of a ping without any reply so far
        self._early = connection.take_rest()  # bytes sent by the client before the handshake response
        self._answer_fields = b""
        self.wire = WebSocket(settings.limits.websocket_max_size, settings.websocket_compression)

    def start(self) -> None:
        """Check the handshake, then run the application."""
        exchange, connection = self._exchange, self._connection
        try:
            if exchange.body is not NO_BODY_CAME:
                raise HandshakeError(400, "a WebSocket handshake has no body")
            self._answer_fields = self.wire.handshake(exchange.request.target, exchange.request.headers)
        except HandshakeError as error:
            self.refuse(error.status, error.reason)
            return
        if connection.context.draining:
            self.refuse(503, "the server is stopping")
        elif connection.half_closed:
            self.peer_done()
        else:
            self._owner.run()

    # -- the hot path; benchmark: python -m benchmarks websocket ----------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Called by the connection, in a callback of the loop."""
        self._last_received = self._connection.context.clock.now
        if self.phase is SessionPhase.OPEN:
            fresh = self.wire.feed(data)
            if fresh:
                self.messages.extend(fresh)
            if self.wire.has_news:
                self._process_output()
        else:
            self._receive_not_open(data)
            fresh = []
        if self.messages:
            self._owner.messages_received()
            if fresh and self.messages:
                self._add_backlog(fresh)

    @property
    def owed(self) -> int:
        """Bytes missing from the current frame."""
        return 0 if self.phase in UNANSWERED else self.wire.owed

    @property
    def ended_by(self) -> Closed | None:
        """How the session ended; None if neither side has closed it."""
        return self.wire.closed

    # -- the handshake response ----------------------------------------------------------------------------------------

    def accept(self, fields: list[tuple[bytes, bytes]]) -> None:
        """Accept the handshake, with the application's fields. Raises `HeadError`, `TypeError`."""
        block, _, flags = from_bytes(fields)
        self.send = self._exchange.upgrade(status_of(101), (self._answer_fields + block, UNKNOWN, flags))
        self.phase = SessionPhase.OPEN
        self._keep_alive()
        early, self._early = self._early, b""
        if early:
            fresh = self.wire.feed(early)
            self.messages.extend(fresh)
            if self.wire.has_news:
                self._process_output()
            if fresh:
                self._add_backlog(fresh)
                self._owner.wake()
            self._release()

    def refuse(self, status: int, reason: str) -> None:
        """Respond with an HTTP error instead of 101."""
        block = b"content-type: text/plain; charset=utf-8\r\n"
        if status in (400, 426):
            block += b"sec-websocket-version: %b\r\n" % VERSION  # RFC 6455, section 4.4
        if status == 426:
            block += b"upgrade: websocket\r\nconnection: upgrade\r\n"  # RFC 9110, section 15.5.22
        self.end(ABNORMAL, "")
        text = reason.encode("ascii", "replace") + b"\n"
        self._exchange.start(status_of(status), (block, UNKNOWN, 0), text, more=False)

    # -- receiving -----------------------------------------------------------------------------------------------------

    def _receive_not_open(self, data: bytes) -> None:
        """Handle bytes received while the WebSocket is not open."""
        if self.phase is SessionPhase.ASKED:
            self._early += data
            if len(self._early) > WATER:
                self._hold()
        elif self.phase is SessionPhase.CLOSING:
            self.wire.feed(data)  # messages are dropped: the application has closed
            if self.wire.has_news:
                self._process_output()

    def _process_output(self) -> None:
        """Send the protocol's own output, and close if it has ended."""
        wire = self.wire
        output = wire.take_output()
        if output:
            self.send(output)
            if self._connection.paused and wire.closed is None:
                self._hold()  # a client that requests pongs and does not read them
        if wire.closed is not None:
            self._over(wire.closed)

    def _add_backlog(self, fresh: Sequence[str | bytes]) -> None:
        """Bound the messages that the application has not taken."""
        self.backlog += sum(map(len, fresh)) + MESSAGE_COST * len(fresh)
        if self.backlog > WATER and self.phase is SessionPhase.OPEN:
            self._hold()

    def clear_backlog(self) -> None:
        """Resume reading: the application has taken all messages."""
        self.backlog = 0
        self._release()

    def _hold(self) -> None:
        connection = self._connection
        if not self._held and not connection.is_closing():
            self._held = True
            connection.pause_reading()

    def _release(self) -> None:
        """Resume reading, unless the application's backlog prevents it."""
        connection = self._connection
        if self._held and self.backlog <= WATER and not connection.is_closing():
            self._held = False
            self._last_received = connection.context.clock.now  # nothing was read meanwhile
            connection.resume_reading()

    # -- the end -------------------------------------------------------------------------------------------------------

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake. Raises `ResponseError` for a code or reason that cannot be sent."""
        try:
            frame = self.wire.close(code, reason)
        except CloseError as error:
            raise ResponseError(str(error)) from None
        self.send(frame)
        self.phase = SessionPhase.CLOSING
        self.messages.clear()
        self.clear_backlog()
        self._arm(CLOSE_TIMEOUT)

    def end(self, code: int, reason: str) -> None:
        """End the session: nothing more is sent, and the application gets a disconnect after its messages."""
        self.phase = SessionPhase.OVER
        self._queue_disconnect(code, reason)

    def _queue_disconnect(self, code: int, reason: str) -> None:
        """Queue the last message, once."""
        if self.disconnect is None:
            self.disconnect = Disconnect(code, reason)
            self.messages.append(self.disconnect)
        owner, self._owner = self._owner, _NO_OWNER  # no further notifications
        owner.wake()

    def _over(self, closed: Closed) -> None:
        """Close the connection: nothing more is received."""
        self.end(closed.code, closed.reason)
        if closed.failed:
            self.clear_backlog()
            self._connection.linger()
        else:
            self._connection.close()

    def peer_done(self) -> bool:
        """End the session: the client has closed the stream without a close frame."""
        self.end(ABNORMAL, "")
        self._connection.close()
        return False

    def disconnected(self) -> None:
        """End the session: the connection is lost."""
        self.end(ABNORMAL, "")

    def draining(self) -> None:
        """Close the session when the worker stops: the client may reconnect to another worker."""
        if self.phase is SessionPhase.OPEN:
            received = list(self.messages)
            self.close(SERVICE_RESTART, "")
            self.messages.extend(received)
            self._queue_disconnect(SERVICE_RESTART, "")
        elif self.phase is SessionPhase.ASKED:
            self.refuse(503, "the server is stopping")

    def interrupt(self) -> None:
        """Close now, without waiting for the client."""
        self._connection.abort()

    # -- deadlines -----------------------------------------------------------------------------------------------------

    def _arm(self, seconds: float) -> None:
        self._connection.deadline = self._connection.context.clock.now + seconds if seconds else NEVER

    def _keep_alive(self) -> None:
        self._pinged = NEVER
        self._arm(self._connection.context.settings.limits.websocket_ping_interval)

    def resumed(self) -> None:
        """Restore the deadline, which the connection has used while the client did not read."""
        if self.phase is SessionPhase.OPEN:
            self._keep_alive()
        elif self.phase is SessionPhase.CLOSING:
            self._arm(CLOSE_TIMEOUT)
        self._release()
        self._owner.wake()

    def expired(self) -> None:
        """Called by the connection when the deadline has passed."""
        if self.phase is SessionPhase.OPEN:
            self._check_keepalive()
        elif self.phase in ENDING:
            self._connection.abort()

    def _check_keepalive(self) -> None:
        """Ping a silent client; fail the connection if it stays silent after that."""
        connection = self._connection
        limits = connection.context.settings.limits
        now = connection.context.clock.now
        if self._held:  # the client is not read because the application is behind
            self._keep_alive()
        elif self._pinged is NEVER and now - self._last_received >= limits.websocket_ping_interval:
            self.send(self.wire.ping())
            if not connection.paused:
                self._pinged = now
                self._arm(limits.websocket_ping_timeout)
        elif self._pinged is NEVER or self._last_received >= self._pinged:
            self._keep_alive()
            connection.deadline = self._last_received + limits.websocket_ping_interval
        else:
            self.wire.fail(INTERNAL_ERROR, "keepalive ping timeout")
            self._process_output()


# the method of an open session is that of its connection, which a forked process must not use
forks.replace(Session, send=forks.finish)
