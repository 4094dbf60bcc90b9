"""A WebSocket from its handshake to its end, whatever the interface: phases, back-pressure, keep-alive, closing.

Frames are the business of `websocket`. A subclass runs the application: it makes the messages, and is told by `wake`.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import Any

from hybrid.workers.http import head as heads
from hybrid.workers.http.clock import NEVER
from hybrid.workers.http.exchange import NO_BODY_CAME, AnswerError, Exchange
from hybrid.workers.http.head import OWN_DATE, OWN_SERVER, UNKNOWN, Head
from hybrid.workers.http.websocket import ABNORMAL, VERSION, Closed, CloseError, HandshakeError, WebSocket

WATER = 65_536  # bytes of messages that wait for the application before reading pauses
MESSAGE_COST = 64  # bytes that each of them counts for beside its payload
CLOSE_TIMEOUT = 5.0  # seconds that a client gets to answer a close frame
NORMAL, INTERNAL_ERROR, SERVICE_RESTART = 1000, 1011, 1012  # RFC 6455, section 7.4.1, and its registry


class Phase(enum.Enum):
    """How far a WebSocket is."""

    ASKED = "the application has not answered the handshake"
    DENYING = "an HTTP answer is under way instead"
    OPEN = "messages go both ways"
    CLOSING = "our close frame is out, the client's is awaited"
    OVER = "nothing more is received or sent"


UNANSWERED = frozenset({Phase.ASKED, Phase.DENYING})
ENDING = frozenset({Phase.CLOSING, Phase.OVER})


class Conversation(Exchange):
    """A handshake request, and the connection from then on."""

    __slots__ = (
        "_early",
        "_farewell",
        "_heard",
        "_held",
        "_pinged",
        "_waiting",
        "answer_fields",
        "messages",
        "phase",
        "wire",
    )

    is_websocket = True

    def start(self) -> None:
        """Check the handshake; then `run`."""
        connection = self.connection
        settings = connection.site.settings
        self.status = 0
        self.keep_alive = self.simple = self.closing = False  # what comes next is no HTTP
        self.phase = Phase.ASKED
        self.messages: deque[Any] = deque()
        """What the application has not received yet."""
        self._farewell: Any = None  # the last of them, once it is there
        self._waiting = 0  # bytes of messages that came while the application did not take them
        self._held = False  # reading is paused
        self._heard = connection.clock.now  # when something came last
        self._pinged = NEVER  # when a ping was sent that nothing has come after
        self._early = connection.take_rest()  # what a client sends before it knows that it may
        self.wire = WebSocket(settings.limits.websocket_max_size, settings.websocket_compression)
        try:
            if self.body is not NO_BODY_CAME:
                raise HandshakeError(400, "a WebSocket handshake has no body")
            self.answer_fields = self.wire.handshake(self.target, self.headers)
        except HandshakeError as error:
            self.refuse(error.status, error.reason)
            return
        if connection.site.draining:
            self.refuse(503, "the server is stopping")
        elif connection.half_closed:
            self.peer_done()
        else:
            self.run()

    # -- what a subclass does ----------------------------------------------------------------------------------------

    def run(self) -> None:
        """Call the application."""
        raise NotImplementedError

    def farewell(self, code: int, reason: str) -> Any:
        """Return the last message to the application."""
        raise NotImplementedError

    def wake(self) -> None:
        """There are messages, or room to send, or it is over. Called from anywhere, also in the application's turn."""
        raise NotImplementedError

    def take(self, data: bytes) -> list[str | bytes]:
        """Put the messages that are whole now into `messages`, and return them."""
        raise NotImplementedError

    @property
    def owed(self) -> int:
        """Bytes of the current frame that have not come yet."""
        return 0 if self.phase in UNANSWERED else self.wire.owed

    # -- the answer to the handshake -----------------------------------------------------------------------------------

    def accept(self, fields: list[tuple[bytes, bytes]]) -> None:
        """Answer 101, with fields of the application. Raises `HeadError`, `TypeError`."""
        block, _, flags = heads.from_bytes(fields)
        clock = self.connection.clock
        block += b"" if flags & OWN_SERVER else clock.server_field
        block += b"" if flags & OWN_DATE else clock.date_field
        self.status = 101
        self.begun = self.answered = True
        self.connection.write(b"%b%b%b\r\n" % (heads.status_line(101), self.answer_fields, block))
        self.phase = Phase.OPEN
        self._keep_alive()
        early, self._early = self._early, b""
        if early:
            fresh = self.take(early)
            if fresh:
                self.pile_up(fresh)
                self.wake()
            self._release()

    def refuse(self, status: int, reason: str) -> None:
        """Answer with an error of HTTP instead of 101."""
        block = b"content-type: text/plain; charset=utf-8\r\n"
        if status in (400, 426):
            block += b"sec-websocket-version: %b\r\n" % VERSION  # RFC 6455, section 4.4
        if status == 426:
            block += b"upgrade: websocket\r\nconnection: upgrade\r\n"  # RFC 9110, section 15.5.22
        self.end(ABNORMAL, "")
        self.begin(status, heads.status_line(status), Head(block, UNKNOWN, 0))
        self.write(reason.encode("ascii", "replace") + b"\n", more=False)

    # -- what is received ----------------------------------------------------------------------------------------------

    def take_otherwise(self, data: bytes) -> None:
        """Bytes that come while the WebSocket is not open."""
        if self.phase is Phase.ASKED:
            self._early += data
            if len(self._early) > WATER:
                self._hold()
        elif self.phase is Phase.CLOSING:
            self.wire.feed(data)  # messages are dropped: the application has said that it wants no more
            if self.wire.has_news:
                self.attend()

    def attend(self) -> None:
        """The protocol answers by itself, or has come to its end."""
        wire = self.wire
        output = wire.take_output()
        if output:
            self.connection.write(output)
            if self.connection.paused and wire.closed is None:
                self._hold()  # a client that asks for pongs and does not read them
        if wire.closed is not None:
            self._over(wire.closed)

    def pile_up(self, fresh: list[str | bytes]) -> None:
        """The application takes them later: bound what waits for it."""
        self._waiting += sum(map(len, fresh)) + MESSAGE_COST * len(fresh)
        if self._waiting > WATER and self.phase is Phase.OPEN:
            self._hold()

    def worked_off(self) -> None:
        """The application has taken everything."""
        self._waiting = 0
        self._release()

    def _hold(self) -> None:
        transport = self.connection.transport
        if not self._held and not transport.is_closing():
            self._held = True
            transport.pause_reading()

    def _release(self) -> None:
        """Read again, if the application is not what reading waits for."""
        transport = self.connection.transport
        if self._held and self._waiting <= WATER and not transport.is_closing():
            self._held = False
            self._heard = self.connection.clock.now  # it could not be heard
            transport.resume_reading()

    # -- the end -------------------------------------------------------------------------------------------------------

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake. Raises `AnswerError` for a code or reason that cannot be sent."""
        try:
            frame = self.wire.close(code, reason)
        except CloseError as error:
            raise AnswerError(str(error)) from None
        self.connection.write(frame)
        self.phase = Phase.CLOSING
        self.messages.clear()
        self.worked_off()
        self._arm(CLOSE_TIMEOUT)

    def end(self, code: int, reason: str) -> None:
        """Nothing is sent from here on, and the application is told so behind its messages."""
        self.phase = Phase.OVER
        self.bid_farewell(code, reason)

    def bid_farewell(self, code: int, reason: str) -> None:
        """Put the last message behind the others, once."""
        if self._farewell is None:
            self._farewell = self.farewell(code, reason)
            self.messages.append(self._farewell)
        self.wake()

    def _over(self, closed: Closed) -> None:
        """Nothing more is received: close the connection."""
        self.end(closed.code, closed.reason)
        if closed.failed:
            self.worked_off()
            self.connection.linger()
        else:
            self.connection.close()

    def peer_done(self) -> bool:
        """The client has ended its stream without a close frame."""
        self.end(ABNORMAL, "")
        self.connection.close()
        return False

    def disconnected(self) -> None:
        """The connection is lost."""
        self.end(ABNORMAL, "")

    def draining(self) -> None:
        """The worker stops: the client may come back to the next one."""
        if self.phase is Phase.OPEN:
            received = list(self.messages)
            self.close(SERVICE_RESTART, "")
            self.messages.extend(received)
            self.bid_farewell(SERVICE_RESTART, "")
        elif self.phase is Phase.ASKED:
            self.refuse(503, "the server is stopping")

    def interrupt(self) -> None:
        """No more waiting for the client."""
        self.connection.abort()

    # -- deadlines -----------------------------------------------------------------------------------------------------

    def _arm(self, seconds: float) -> None:
        self.connection.deadline = self.connection.clock.now + seconds if seconds else NEVER

    def _keep_alive(self) -> None:
        self._pinged = NEVER
        self._arm(self.connection.site.settings.limits.websocket_ping_interval)

    def resumed(self) -> None:
        """The client takes what is sent again. The connection has used the deadline for that."""
        if self.phase is Phase.OPEN:
            self._keep_alive()
        elif self.phase is Phase.CLOSING:
            self._arm(CLOSE_TIMEOUT)
        self._release()
        self.wake()

    def expired(self) -> None:
        """The deadline has passed. Called by the connection."""
        if self.phase is Phase.OPEN:
            self._silent()
        elif self.phase in ENDING:
            self.connection.abort()

    def _silent(self) -> None:
        """Ping a client that sends nothing; fail the connection if it sends nothing after that either."""
        connection = self.connection
        limits = connection.site.settings.limits
        now = connection.clock.now
        if self._held:  # it is not heard because the application does not listen
            self._keep_alive()
        elif self._pinged is NEVER and now - self._heard >= limits.websocket_ping_interval:
            connection.write(self.wire.ping())
            if not connection.paused:
                self._pinged = now
                self._arm(limits.websocket_ping_timeout)
        elif self._pinged is NEVER or self._heard >= self._pinged:
            self._keep_alive()
            connection.deadline = self._heard + limits.websocket_ping_interval
        else:
            self.wire.fail(INTERNAL_ERROR, "keepalive ping timeout")
            self.attend()
