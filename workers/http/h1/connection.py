"""One HTTP/1.1 connection: transport, deadlines, how it begins and how it ends. Knows no loop.

It has the methods of `asyncio.Protocol`, called by whatever transport the loop has. A `RequestReader` makes requests of
the bytes; `Answers` keeps what cannot be answered at once in its order, and is made when there is such a thing.
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
from hybrid.workers.http.exchange import Refused, Request
from hybrid.workers.http.h1 import deadlines
from hybrid.workers.http.h1.answers import BODY_WATER, Answers
from hybrid.workers.http.h1.deadlines import BODY_GRACE, LINGER, BodyRate
from hybrid.workers.http.h1.exchange import CLOSING, PLAIN, SPECIAL, UPGRADE, WAITING, WHOLE, Http1Exchange
from hybrid.workers.http.h1.extras import Extras, Fields
from hybrid.workers.http.h1.life import Life
from hybrid.workers.http.h1.phases import Phase
from hybrid.workers.http.h1.reader import RequestReader
from hybrid.workers.http.h1.repeated import Repeated
from hybrid.workers.http.site import Site

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER without a wait (socket(7))
UPGRADED = Phase.UPGRADED


OPEN, HALF_CLOSED, LINGERING, CUT, CLOSED = Life


class HttpConnection:
    """The protocol of one connection. All methods belong to the loop's thread.

    But `facts` and `reader.repeated` are made and read where the application runs, which may be a thread, and need no
    lock: only one exchange of a connection is under way at a time, it uses them before it answers, and the next one
    starts when that answer is out.
    """

    __slots__ = (
        "_awaited",
        "answers",
        "believes",
        "client",
        "clock",
        "current",
        "deadline",
        "facts",
        "life",
        "paused",
        "persistent",
        "reader",
        "scheme",
        "server",
        "site",
        "transport",
        "write",
        "write_end",
        "write_last",
    )

    def __init__(self, site: Site) -> None:
        self.site = site
        self.clock = site.clock
        self.transport: Any = None
        self.write: Callable[[Any], None]
        """Sends bytes, or keeps them: the transport's own method."""
        self.write_end: Callable[[Any], None]
        """Sends the last bytes to a client that has asked for the close, which follows at once."""
        self.write_last: Callable[[bytes], None]
        """Sends the end of an answer, perhaps a moment later, together with those of other connections."""
        self.client: tuple[str, int] | None = None
        self.server: tuple[str, int | None] | None = None
        self.scheme = "http"
        self.believes = False
        """True if the peer is a proxy whose forwarding headers count."""
        self.facts: Any = None
        """What an interface keeps for all requests of the connection; made by it."""
        self.current: Http1Exchange | None = None
        """The exchange that is being answered."""
        self.persistent = True
        """True if another request may follow the current one."""
        self.paused = False
        """True if the client takes too little: applications wait before they send more."""
        self.deadline = NEVER
        self.reader = RequestReader(site.rules, self)
        self.answers: Answers | None = None
        """What has to wait; None: nothing ever had to."""
        self.life = OPEN
        # Set where the next bytes may be a request that repeats the head of the one before, which is then started
        # without a look at anything else. So while it is set there is no current exchange, no queue, no refusal,
        # nothing of a head has come, the client takes what is sent, and the connection is not closing: whatever
        # changes that clears it
        self._awaited: Repeated | None = None

    # -- the hot path; benchmarks: python -m benchmarks wsgi asgi ----------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Read what has arrived and start what it completes.

        A request is started once the bytes at hand are read, so that an application never sees one whose body is
        malformed in the same packet.
        """
        reader = self.reader
        awaited = self._awaited
        if awaited is not None:
            self._awaited = None
            if awaited.takes(data):
                site = self.site
                try:
                    next(site.heartbeat.tally)
                except StopIteration:
                    site.heartbeat.counts_last_request()
                reader.served = served = reader.served + 1
                if served >= site.rules.max_requests:
                    self.persistent = False
                    reader.end()
                style = SPECIAL if awaited.is_head else PLAIN
                self.current = exchange = Http1Exchange(self, awaited.request, style, True, True, awaited)
                if site.journal is not None:
                    site.journal.begins(exchange)
                self.deadline = NEVER
                site.answer(exchange)
                return
        reader.feed(data)
        current = self.current
        answers = self.answers
        if current is None:
            if answers is not None and answers.refusal is not None:
                answers.advance()
            else:
                partial = reader.partial
                if partial is not None:
                    deadlines.await_head(self, partial)
        elif current.listener is None:
            if answers is None or not (answers.queue or answers.refusal is not None):  # nearly always
                self.begin(current)
            else:
                answers.advance()

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
        """Called by the reader: make the exchange, and have it wait for its turn. Raises `Refused`."""
        site = self.site
        try:
            next(site.heartbeat.tally)
        except StopIteration:
            site.heartbeat.counts_last_request()
        if self.reader.served >= site.rules.max_requests:
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
            if extras.websocket and site.answer_websocket is not None:
                style = UPGRADE
                keep_alive = False  # what comes next is no HTTP
        request = Request(method, target, sent_target, version, fields)
        if self.believes:
            self.reader.forget()  # the fields that the application gets are not those that were sent
            site.believe(self, request)
        exchange = Http1Exchange(self, request, style, keep_alive, not has_body, None)
        if site.journal is not None:
            site.journal.begins(exchange)
        if has_body:
            self._receive_body(exchange, extras)
        self._line_up(exchange)

    def _receive_body(self, exchange: Http1Exchange, extras: Extras | None) -> None:
        exchange.body = deque()
        self.own_answers().receive(exchange, extras is not None and extras.continues)

    def _line_up(self, exchange: Http1Exchange) -> None:
        """Make it the current exchange, or have it wait for its turn."""
        answers = self.answers
        if self.current is None and (answers is None or not (answers.queue or self.paused)):
            self.deadline = NEVER
            self.current = exchange
        else:
            self.own_answers().line_up(exchange)

    def begin(self, exchange: Http1Exchange) -> None:
        """Have the application called: it is the turn of this request."""
        site = self.site
        if exchange.style is UPGRADE and site.answer_websocket is not None:
            site.answer_websocket(exchange)
        else:
            site.answer(exchange)

    def exchange_ended(self, exchange: Http1Exchange) -> None:
        """The answer is whole. Called by the exchange."""
        site = self.site
        if site.journal is not None:
            site.journal.whole(exchange)
        exchange.listener = None  # it keeps the exchange: no work for the garbage collector
        if exchange is not self.current:
            return
        self.current = None
        answers = self.answers
        if answers is not None and (answers.queue or answers.refusal is not None):
            if exchange.keep_alive:
                answers.advance_soon()
            else:
                self._close(exchange, answers)
        elif not (exchange.keep_alive and self.persistent):
            if exchange.complete and not self.reader.surplus:
                self.close()
            else:
                self.linger()
        elif not self.paused:  # else `resume_writing` sees to it
            self.deadline = self.clock.now + site.keep_alive_timeout
            self._awaited = self.reader.repeated
            if answers is not None and not answers.is_reading:
                answers.resume_reading()

    # -- requests, as the reader tells of them -----------------------------------------------------------------------

    def on_body(self, data: bytes) -> None:
        """Called by the reader."""
        answers = self.answers
        exchange = None if answers is None else answers.receiving
        if answers is None or exchange is None:
            return
        exchange.body.append(data)
        exchange.buffered += len(data)
        if exchange.buffered >= BODY_WATER:
            answers.pause_reading()
        if exchange is self.current and exchange.listener is not None:
            exchange.listener.body_arrived()

    def on_end(self) -> None:
        """Called by the reader: the body is complete."""
        answers = self.answers
        exchange = None if answers is None else answers.receiving
        if answers is None or exchange is None:
            return
        answers.receiving = None
        answers.rate = None
        exchange.complete = True
        if self.paused:
            answers.pause_reading()
        if exchange is self.current and exchange.listener is not None:
            exchange.listener.body_arrived()

    def on_refused(self, refused: Refused) -> None:
        """Called by the reader."""
        self.own_answers().refuse(refused)

    def on_upgraded(self, data: bytes) -> None:
        """Called by the reader."""
        current = self.current
        if current is not None and current.style is UPGRADE and current.listener is not None:
            current.listener.data_received(data)
        elif current is not None or (self.answers is not None and self.answers.queue):
            self.own_answers().keep_rest(data)
        else:
            self.reader.drop(data)

    def on_surplus(self, total: int) -> None:
        """Called by the reader."""
        if total >= lingering.MOST_BYTES:
            self.abort()

    def on_failure(self) -> None:
        """Called by the reader."""
        self.abort()

    def own_answers(self) -> Answers:
        """Return the answers, which are made now if nothing has had to wait before."""
        answers = self.answers
        if answers is None:
            answers = self.answers = Answers(self)
        return answers

    # -- what exchanges ask ------------------------------------------------------------------------------------------

    @property
    def upgraded(self) -> bool:
        """True if the bytes are no longer HTTP: the current exchange gets them."""
        return self.reader.phase is UPGRADED

    @property
    def half_closed(self) -> bool:
        """True if the client has ended its stream, and this side has not."""
        return self.life is HALF_CLOSED

    @property
    def is_closed(self) -> bool:
        """True if the transport is gone."""
        return self.life is CLOSED

    @property
    def has_said_last(self) -> bool:
        """True if no answer can follow: this side has ended its stream, or all is over."""
        life = self.life
        return life is not OPEN and life is not HALF_CLOSED

    def has_more(self) -> bool:
        """Return True if answers follow the current one, although no further request is taken."""
        return self.answers is not None and self.answers.has_more()

    def refuse(self, status: int, reason: str) -> None:
        """Answer `status` and close, if nothing of an answer is out; else cut the connection."""
        if self.current is not None and self.current.stage is not WAITING:
            self.abort()
        else:
            self.own_answers().refuse_now(Refused(status, reason))

    def takes_expectation(self, exchange: Http1Exchange) -> bool:
        """Return True, once, if the client of a request waits for 100 Continue."""
        return self.answers is not None and self.answers.takes_expectation(exchange)

    def awaits_body(self, exchange: Http1Exchange) -> None:
        """The application waits for the body: from now on it must come at some rate."""
        if exchange.complete:
            return
        answers = self.own_answers()
        if answers.rate is None:
            answers.rate = BodyRate(self.clock.now, self.reader.received)
            self.deadline = self.clock.now + BODY_GRACE
            answers.resume_reading()

    def took_body(self) -> None:
        """The application has taken what had arrived."""
        answers = self.answers
        if answers is not None and not answers.is_reading:
            answers.may_read()

    def take_rest(self) -> bytes:
        """Return what arrived behind an upgrade request."""
        answers = self.answers
        if answers is None:
            return b""
        rest, answers.rest = answers.rest, b""
        return rest

    # -- what an upgraded exchange asks, see `Upgraded` ---------------------------------------------------------------

    def get_extra_info(self, name: str) -> Any:
        """Return what the transport knows."""
        return self.transport.get_extra_info(name)

    def is_closing(self) -> bool:
        """Return True if nothing more can be sent."""
        return bool(self.transport.is_closing())

    def pause_reading(self) -> None:
        """Read nothing more of an upgraded connection for now."""
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on reading."""
        self.transport.resume_reading()

    # -- what transports tell ----------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """Called once, first."""
        self.transport = transport
        self.write = transport.write
        self.write_end = getattr(transport, "write_end", transport.write)
        self.write_last = getattr(transport, "write_last", transport.write)
        self.site.opened(self)

    def takes_cork(self, cork: Callable[[], None]) -> None:
        """Use `cork` before the last bytes: the transport has no `write_end`, but its socket can hold them back."""
        write = self.write

        def write_end(data: Any) -> None:
            cork()
            write(data)

        self.write_end = write_end

    def pause_writing(self) -> None:
        """Called by the transport: too much is unsent. No further request is started, or read, until that is taken.

        The rest of a body is read, for its answer may wait for that; a WebSocket sees to its reading itself.
        """
        self.paused = True
        self._awaited = None
        self.own_answers().pause_writing()

    def resume_writing(self) -> None:
        """Called by the transport: there is room again."""
        self.paused = False
        if self.life is not CLOSED:
            self.own_answers().resume_writing()

    def owed(self) -> int:
        """Bytes of the current WebSocket frame that have not come yet. Asked once the connection has `upgraded`."""
        current = self.current
        if current is None or current.style is not UPGRADE or current.listener is None:
            return 0
        owed: int = current.listener.owed
        return owed

    def eof_received(self) -> bool:
        """The client sends no more. An answer under way goes on; keeps the transport open for it."""
        if self.life is OPEN:
            self.life = HALF_CLOSED
        self.persistent = False
        self._awaited = None
        answers = self.answers
        if answers is not None and answers.receiving is not None:
            answers.refuse(Refused(400, "the connection ended within the body"))
        current = self.current
        can_answer = bool(self.transport.can_write_eof())  # TLS has no half-closed connections
        if self.life is LINGERING:
            return False
        if current is not None and current.style is UPGRADE and current.listener is not None:
            return current.listener.peer_done() and can_answer
        if not can_answer or (current is None and not self.has_more()):
            return False
        if answers is not None:
            answers.advance()
        current = self.current
        if current is not None and current.listener is not None:
            current.listener.peer_done()
        return self.life is not CLOSED

    def connection_lost(self, error: Exception | None) -> None:
        """Called once, last."""
        was_cut = self.life is CUT
        self.life = CLOSED
        self.persistent = False
        self.reader.let_go()
        self.site.closed(self)
        current = self.current
        if self.answers is not None:
            self.answers.release()
            self.answers = None
        if current is not None:
            if current.stage is not WHOLE:
                current.gone = True
                if current.listener is not None:
                    current.listener.disconnected()
            self.current = None
            if self.site.journal is not None:
                self.site.journal.lost(current, was_cut=was_cut)
            current.listener = None

    # -- deadlines ---------------------------------------------------------------------------------------------------

    def expired(self) -> None:
        """The deadline has passed. Called by the clock."""
        deadlines.expire(self)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _close(self, exchange: Http1Exchange, answers: Answers) -> None:
        """Close after this answer, although others wait."""
        answers.queue.clear()
        if exchange.complete and not self.reader.surplus and answers.refusal is None:
            self.close()
        else:
            self.linger()

    def linger(self) -> None:
        """Close without a reset, as `workers.lingering` does, with the same bounds.

        But by the transport: a client that is still sending its body may have to be rid of it before it takes the
        answer. What else is unread, or unacknowledged, at the end is the transport's to see to.
        """
        self.reader.end()
        self.persistent = False
        self._awaited = None
        if self.has_said_last:
            return
        if self.life is HALF_CLOSED or not self.transport.can_write_eof():
            self.close()
            return
        self.life = LINGERING
        self.deadline = self.clock.now + LINGER
        try:
            self.transport.write_eof()
        except OSError:  # the client has reset, and asyncio's transports have not told yet
            self.drop()
            return
        if self.answers is not None:
            self.answers.resume_reading()

    def close(self) -> None:
        """Close once everything is sent."""
        self.reader.end()
        self.persistent = False
        self._awaited = None  # a transport may still hand over what it has read already
        if self.life is not CLOSED:
            transport = self.transport
            if not transport.is_closing():  # asyncio's over TLS gives up its buffer at a second close
                transport.close()
            if transport.get_write_buffer_size():
                self.own_answers().unsent = 0
                self.deadline = self.clock.now + self.site.send_timeout

    def abort(self) -> None:
        """Close now: this side breaks off."""
        if self.life is not CLOSED:
            self.life = CUT
        self.drop()

    def drop(self) -> None:
        """Close now: the client has left, and its application knows."""
        self.reader.end()
        self.persistent = False
        self._awaited = None
        if self.life is not CLOSED:
            self.transport.abort()

    def cut(self) -> None:
        """Close now, with a reset: for a client that reads nothing the kernel would keep megabytes for many minutes."""
        sock = None if self.life is CLOSED else self.transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):  # it is closed
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.abort()

    def drain(self) -> None:
        """The worker stops: answer what is asked with `Connection: close`, and keep idle connections for that.

        A client must not lose a request that crosses a close: an idle connection goes at its keep-alive deadline.
        """
        self.persistent = False
        if self.current is None:
            if not self.paused:  # else it is not idle: it has an answer to take
                self.deadline = min(self.deadline, self.clock.now + self.site.keep_alive_timeout)
        elif self.current.listener is not None:
            self.current.listener.draining()

    def close_idle(self) -> None:
        """The service stops: close if no request has begun, and the answers before are out."""
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
        """The grace period is nearly over: the application is told that the client is gone; idle ones are closed."""
        if self.current is None:
            if self.answers is not None:
                self.answers.queue.clear()
            self.close()
        elif self.current.listener is not None:
            self.current.listener.interrupt()

    def interrupt_upgraded(self) -> None:
        """The same, but only if the connection was taken over."""
        current = self.current
        if current is not None and current.style is UPGRADE and current.listener is not None:
            current.listener.interrupt()
