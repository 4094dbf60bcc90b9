"""A WebSocket from its handshake to its end, whatever the interface: phases, back-pressure, keep-alive, closing.

Frames are the business of `frames`. A `SessionOwner` runs the application: it takes the messages; `wake` notifies it.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from hybrid.workers.http.clock import NEVER
from hybrid.workers.http.exchange import NO_BODY_CAME, Exchange, ResponseError, Upgraded
from hybrid.workers.http.head import UNKNOWN, Head, from_bytes, status_of
from hybrid.workers.http.websocket.frames import ABNORMAL, VERSION, Closed, CloseError, HandshakeError, WebSocket

WATER = 65_536  # bytes of messages that wait for the application before reading pauses
MESSAGE_COST = 64  # bytes that each of them counts for beside its payload
CLOSE_TIMEOUT = 5.0  # seconds that a client gets to answer a close frame
NORMAL, INTERNAL_ERROR, SERVICE_RESTART = 1000, 1011, 1012  # RFC 6455, section 7.4.1, and its registry


class SessionPhase(enum.Enum):
    """How far a WebSocket is."""

    ASKED = "the application has not answered the handshake"
    DENYING = "an HTTP answer is under way instead"
    OPEN = "messages go both ways"
    CLOSING = "our close frame is out, the client's is awaited"
    OVER = "nothing more is received or sent"


UNANSWERED = frozenset({SessionPhase.ASKED, SessionPhase.DENYING})
ENDING = frozenset({SessionPhase.CLOSING, SessionPhase.OVER})


class Disconnect(NamedTuple):
    """The last of a session's messages: how it ended. RFC 6455, section 7.4."""

    code: int
    reason: str


class Connect(enum.Enum):
    """The first of the messages, for a owner that tells its application of the handshake by one."""

    REQUESTED = "a client asks for a WebSocket"


class SessionOwner(Protocol):
    """What runs the application of a session."""

    def run(self) -> None:
        """Call the application: the handshake is a proper one."""
        ...

    def messages_received(self) -> None:
        """Messages have come, in a callback of the loop: an application that waits for them may go on at once."""
        ...

    def wake(self) -> None:
        """There are messages, or room to send, or it is over. Called from anywhere, also in the application's turn."""
        ...


class _NoOwner:
    """The owner of a session that is over."""

    def run(self) -> None:
        """Do nothing."""

    messages_received = wake = run


_NO_OWNER = _NoOwner()


class Session:
    """A handshake request, and the connection from then on. The listener of its exchange."""

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
        """What the application has not received yet."""
        self.disconnect: Disconnect | None = None
        """The last of them, once it is there."""
        self.backlog = 0
        """Bytes of messages that came while the application did not take them."""
        self._held = False  # reading is paused
        self._last_received = connection.context.clock.now  # when something came last
        self._pinged = NEVER  # when a ping was sent that nothing has come after
        self._early = connection.take_rest()  # what a client sends before it knows that it may
        self._answer_fields = b""
        self.wire = WebSocket(settings.limits.websocket_max_size, settings.websocket_compression)

    def start(self) -> None:
        """Check the handshake; then have the owner run."""
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
        """Bytes of the current frame that have not come yet."""
        return 0 if self.phase in UNANSWERED else self.wire.owed

    @property
    def ended_by(self) -> Closed | None:
        """How it ended, if one of the sides has said so."""
        return self.wire.closed

    # -- the answer to the handshake -----------------------------------------------------------------------------------

    def accept(self, fields: list[tuple[bytes, bytes]]) -> None:
        """Accept it, with fields of the application. Raises `HeadError`, `TypeError`."""
        block, _, flags = from_bytes(fields)
        self.send = self._exchange.upgrade(status_of(101), Head(self._answer_fields + block, UNKNOWN, flags))
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
        """Answer with an error of HTTP instead of 101."""
        block = b"content-type: text/plain; charset=utf-8\r\n"
        if status in (400, 426):
            block += b"sec-websocket-version: %b\r\n" % VERSION  # RFC 6455, section 4.4
        if status == 426:
            block += b"upgrade: websocket\r\nconnection: upgrade\r\n"  # RFC 9110, section 15.5.22
        self.end(ABNORMAL, "")
        text = reason.encode("ascii", "replace") + b"\n"
        self._exchange.start(status_of(status), Head(block, UNKNOWN, 0), text, more=False)

    # -- what is received ----------------------------------------------------------------------------------------------

    def _receive_not_open(self, data: bytes) -> None:
        """Bytes that come while the WebSocket is not open."""
        if self.phase is SessionPhase.ASKED:
            self._early += data
            if len(self._early) > WATER:
                self._hold()
        elif self.phase is SessionPhase.CLOSING:
            self.wire.feed(data)  # messages are dropped: the application has said that it wants no more
            if self.wire.has_news:
                self._process_output()

    def _process_output(self) -> None:
        """The protocol answers by itself, or has come to its end."""
        wire = self.wire
        output = wire.take_output()
        if output:
            self.send(output)
            if self._connection.paused and wire.closed is None:
                self._hold()  # a client that asks for pongs and does not read them
        if wire.closed is not None:
            self._over(wire.closed)

    def _add_backlog(self, fresh: Sequence[str | bytes]) -> None:
        """The application takes them later: bound what waits for it."""
        self.backlog += sum(map(len, fresh)) + MESSAGE_COST * len(fresh)
        if self.backlog > WATER and self.phase is SessionPhase.OPEN:
            self._hold()

    def clear_backlog(self) -> None:
        """The application has taken everything."""
        self.backlog = 0
        self._release()

    def _hold(self) -> None:
        connection = self._connection
        if not self._held and not connection.is_closing():
            self._held = True
            connection.pause_reading()

    def _release(self) -> None:
        """Read again, if the application is not what reading waits for."""
        connection = self._connection
        if self._held and self.backlog <= WATER and not connection.is_closing():
            self._held = False
            self._last_received = connection.context.clock.now  # it could not be heard
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
        """Nothing is sent from here on, and the application is told so behind its messages."""
        self.phase = SessionPhase.OVER
        self._queue_disconnect(code, reason)

    def _queue_disconnect(self, code: int, reason: str) -> None:
        """Put the last message behind the others, once."""
        if self.disconnect is None:
            self.disconnect = Disconnect(code, reason)
            self.messages.append(self.disconnect)
        owner, self._owner = self._owner, _NO_OWNER  # there is nothing more to tell
        owner.wake()

    def _over(self, closed: Closed) -> None:
        """Nothing more is received: close the connection."""
        self.end(closed.code, closed.reason)
        if closed.failed:
            self.clear_backlog()
            self._connection.linger()
        else:
            self._connection.close()

    def peer_done(self) -> bool:
        """The client has ended its stream without a close frame."""
        self.end(ABNORMAL, "")
        self._connection.close()
        return False

    def disconnected(self) -> None:
        """The connection is lost."""
        self.end(ABNORMAL, "")

    def draining(self) -> None:
        """The worker stops: the client may come back to the next one."""
        if self.phase is SessionPhase.OPEN:
            received = list(self.messages)
            self.close(SERVICE_RESTART, "")
            self.messages.extend(received)
            self._queue_disconnect(SERVICE_RESTART, "")
        elif self.phase is SessionPhase.ASKED:
            self.refuse(503, "the server is stopping")

    def interrupt(self) -> None:
        """No more waiting for the client."""
        self._connection.abort()

    # -- deadlines -----------------------------------------------------------------------------------------------------

    def _arm(self, seconds: float) -> None:
        self._connection.deadline = self._connection.context.clock.now + seconds if seconds else NEVER

    def _keep_alive(self) -> None:
        self._pinged = NEVER
        self._arm(self._connection.context.settings.limits.websocket_ping_interval)

    def resumed(self) -> None:
        """The client takes what is sent again. The connection has used the deadline for that."""
        if self.phase is SessionPhase.OPEN:
            self._keep_alive()
        elif self.phase is SessionPhase.CLOSING:
            self._arm(CLOSE_TIMEOUT)
        self._release()
        self._owner.wake()

    def expired(self) -> None:
        """The deadline has passed. Called by the connection."""
        if self.phase is SessionPhase.OPEN:
            self._check_keepalive()
        elif self.phase in ENDING:
            self._connection.abort()

    def _check_keepalive(self) -> None:
        """Ping a client that sends nothing; fail the connection if it sends nothing after that either."""
        connection = self._connection
        limits = connection.context.settings.limits
        now = connection.context.clock.now
        if self._held:  # it is not heard because the application does not listen
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
