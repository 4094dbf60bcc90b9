"""Keeps responses in the order of their requests, and reading and writing in balance."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from hybrid.workers.http.clock import NEVER
from hybrid.workers.http.exchange import Refused, Request
from hybrid.workers.http.h1 import deadlines, refusals
from hybrid.workers.http.h1.connection_state import ConnectionState
from hybrid.workers.http.h1.deadlines import BodyRate
from hybrid.workers.http.h1.exchange import UPGRADE, WAITING, Http1Exchange

if TYPE_CHECKING:
    from hybrid.workers.http.h1.connection import HttpConnection

BODY_WATER = 65_536  # bytes of request body that may wait for the application before reading pauses
_NONE_WAIT: deque[Http1Exchange] = deque(maxlen=0)  # shared by connections that do not pipeline


class Responses:
    """The queued work of one connection. Made on demand: most connections never need it."""

    __slots__ = (
        "_at_fault",
        "_connection",
        "_expecting",
        "_is_advancing",
        "is_reading",
        "queue",
        "rate",
        "receiving",
        "refusal",
        "rest",
        "unsent",
    )

    def __init__(self, connection: HttpConnection) -> None:
        self._connection = connection
        self.queue: deque[Http1Exchange] = _NONE_WAIT
        """Requests that wait for earlier responses."""
        self.receiving: Http1Exchange | None = None
        """The request whose body is being read."""
        self.refusal: Refused | None = None
        """Sent after all responses; nothing is read after it."""
        self._at_fault: Http1Exchange | Request | None = None  # the refused request, if there is an access log
        self.is_reading = True
        self._is_advancing = False
        self.unsent = 0
        """Bytes that the client had not read at the last check; 0: not checked yet."""
        self.rest = b""
        """Bytes received after an upgrade request, before its response could begin."""
        self.rate: BodyRate | None = None
        """Set while the application waits for the body."""
        self._expecting: Http1Exchange | None = None  # its client waits for 100 Continue

    def receive(self, exchange: Http1Exchange, expects_continue: bool) -> None:
        """Start to receive a request body, or wait to send 100 Continue for it."""
        self.receiving = exchange
        self._expecting = exchange if expects_continue else None

    def takes_expectation(self, exchange: Http1Exchange) -> bool:
        """Return True, once, if the client of this exchange waits for 100 Continue."""
        if self._expecting is not exchange:
            return False
        self._expecting = None
        return True

    def _enqueue(self, exchange: Http1Exchange) -> None:
        """Queue a request."""
        if self.queue is _NONE_WAIT:
            self.queue = deque()
        self.queue.append(exchange)
        if len(self.queue) >= self._connection.context.max_pipelined:
            self.pause_reading()

    def line_up(self, exchange: Http1Exchange) -> None:
        """Make a request current, or queue it behind others."""
        connection = self._connection
        if connection.paused:  # the client must read first, and gets no extra time for that
            self._enqueue(exchange)
            return
        connection.deadline = NEVER
        if connection.current is None and not self.queue:
            connection.current = exchange
        else:  # the head of the queue may not be current yet
            self._enqueue(exchange)

    def has_more(self) -> bool:
        """Return True if responses follow the current one."""
        return bool(self.queue) or self.refusal is not None

    def advance(self) -> None:
        """Start queued requests until one is in progress or the client reads too slowly: `resume_writing` continues.

        Not reentrant: a response may be complete before `start` returns.
        """
        if self._is_advancing:
            return
        connection = self._connection
        self._is_advancing = True
        try:
            while not (connection.is_closed or connection.paused):
                exchange = connection.current
                if exchange is None and self.queue and connection.context.turn.is_long():
                    connection.context.call_soon(self.advance)  # a pipeline answered without waiting
                    return
                if exchange is None:
                    if not self.queue:
                        break
                    connection.current = exchange = self.queue.popleft()
                    connection.context.active.add(connection)
                    self.may_read()
                if exchange.listener is not None:
                    break
                connection.begin(exchange)
                if connection.current is exchange:
                    break
        finally:
            self._is_advancing = False
        if self.refusal is not None and connection.current is None and not (self.queue or connection.has_said_last):
            self._respond_to_refusal(self.refusal)

    def advance_soon(self) -> None:
        """Schedule `advance`: this may be the turn of the application that has just responded."""
        if not self._is_advancing:
            self._connection.context.call_soon(self.advance)

    # -- refusals ------------------------------------------------------------------------------------------------------

    def refuse(self, refused: Refused) -> None:
        """Read no more from this client; send the refusal after the earlier responses."""
        if self.refusal is not None:
            return
        connection = self._connection
        broken, self.receiving = self.receiving, None
        if connection.context.access_events is not None:
            self._at_fault = broken or connection.reader.asked()
        connection.reader.end()
        connection.persistent = False
        self.refusal = refused
        if broken is None:
            return
        refused.head_only = broken.request.method == "HEAD"
        broken.gone = True
        if broken is connection.current:
            self._take_over(broken)
        elif broken in self.queue:
            self.queue.remove(broken)

    def refuse_now(self, refused: Refused) -> None:
        """Refuse the current request and all queued ones; no response has begun."""
        connection = self._connection
        current, connection.current = connection.current, None
        self.queue.clear()
        self.receiving = current  # it receives nothing more, whichever request it is
        self.refusal = None
        self.refuse(refused)
        if current is not None:
            _disconnect(current)
        self.advance()

    def _take_over(self, broken: Http1Exchange) -> None:
        """Fail the current exchange, whose body is broken: the server responds now."""
        if broken.stage is not WAITING:
            self._connection.abort()  # also notifies the listener
        else:
            self._connection.current = None
            _disconnect(broken)

    def _respond_to_refusal(self, refused: Refused) -> None:
        connection = self._connection
        if not connection.transport.is_closing():  # else the previous response has closed the connection
            connection.context.refused(connection, refused)
            connection.context.counts.refused(refused.status)
            connection.write(refusals.response(refused, connection.clock.fields))
            connection.linger()
        access_events = connection.context.access_events
        if access_events is not None:
            access_events.refused(connection, self._at_fault, refused)

    # -- balance -------------------------------------------------------------------------------------------------------

    def keep_rest(self, data: bytes) -> None:
        """Keep bytes for the owner of the upgraded connection: earlier responses come first."""
        self.rest += data
        if len(self.rest) > BODY_WATER:
            self.pause_reading()

    def pause_writing(self) -> None:
        """Start the send timeout, and read no further request: the client reads too slowly."""
        connection = self._connection
        self.unsent = connection.transport.get_write_buffer_size()
        connection.deadline = connection.clock.now + connection.context.send_timeout
        current = connection.current
        if self.receiving is None and (current is None or current.style is not UPGRADE):
            self.pause_reading()

    def resume_writing(self) -> None:
        """Proceed: the client has read enough."""
        connection = self._connection
        self.unsent = 0
        connection.deadline = connection.clock.now + deadlines.patience(connection)
        if connection.state is ConnectionState.LINGERING:
            connection.clock.hurry(connection)
        current = connection.current
        if current is not None:
            if current.listener is not None:
                current.listener.resumed()
        elif self.has_more():
            connection.context.call_soon(self.advance)  # not here: the transport is in the middle of sending
        if not (self.is_reading or connection.transport.is_closing()):
            self.may_read()

    def may_read(self) -> None:
        """Resume reading unless a body, requests or responses have piled up."""
        receiving = self.receiving
        room = not self._connection.paused if receiving is None else receiving.buffered < BODY_WATER
        if room and len(self.queue) < self._connection.context.max_pipelined:
            self.resume_reading()

    def pause_reading(self) -> None:
        """Stop reading from the client for now."""
        if self.is_reading and not self._connection.is_closed:
            self.is_reading = False
            self._connection.transport.pause_reading()

    def resume_reading(self) -> None:
        """Resume reading from the client."""
        if not self.is_reading and not self._connection.is_closed:
            self.is_reading = True
            self._connection.transport.resume_reading()

    def release(self) -> None:
        """Drop everything that waits: the connection is lost."""
        self.queue.clear()
        self.receiving = self._expecting = None
        self.refusal = None  # its traceback references the connection


def _disconnect(exchange: Http1Exchange) -> None:
    """Notify the exchange's listener, if any, of the disconnect, and drop it."""
    listener, exchange.listener = exchange.listener, None
    if listener is not None:
        listener.disconnected()
