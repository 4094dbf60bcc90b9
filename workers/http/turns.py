"""Turns: answers in the order of their requests, refusals in their place, reading and writing in balance."""

from __future__ import annotations

from hybrid.workers.http import refusals
from hybrid.workers.http.clock import NEVER
from hybrid.workers.http.exchange import Exchange
from hybrid.workers.http.intake import Intake
from hybrid.workers.http.refusals import Refused
from hybrid.workers.http.state import BODY_GRACE, BODY_WATER, LINGER


class Turns(Intake):
    """The part of a connection that has exchanges answered, one after another."""

    __slots__ = ()

    def _advance(self) -> None:
        """Start exchanges until one is under way, or the client takes too little: `resume_writing` goes on then.

        Never nested: an answer may be complete before `start` returns.
        """
        if self._advancing:
            return
        self._advancing = True
        try:
            while not (self._closed or self.paused):
                exchange = self.current
                if exchange is None and self._queue and self.site.turn.is_long():  # a pipeline answered without waits
                    self.site.call_soon(self._advance)
                    return
                if exchange is None:
                    if not self._queue:
                        break
                    self.current = exchange = self._queue.popleft()
                    self._may_read()
                if exchange.started:
                    break
                exchange.started = True
                exchange.start()
                if self.current is exchange:
                    break
        finally:
            self._advancing = False
        if self._refusal is not None and self.current is None and not (self._queue or self._closed or self._lingering):
            self._answer_refusal()

    def exchange_ended(self, exchange: Exchange) -> None:
        """The answer is whole. Called by the exchange."""
        site = self.site
        if exchange is not self.current:
            return
        self.current = None
        if not (exchange.keep_alive and (self.persistent or self.has_more())):
            self._close(exchange)
        elif self._queue or self._refusal is not None:
            if not self._advancing:  # not here: this may be the turn of the application that has just answered
                site.call_soon(self._advance)
        else:
            self._head_timed = False
            if not self.paused:  # else `resume_writing` sees to it
                self.deadline = self.clock.now + site.keep_alive_timeout
                if not self._fed:
                    self._awaited = self._block
                if not self._reading:
                    self._resume_reading()

    def has_more(self) -> bool:
        """Whether answers follow the current one, although no further request is taken."""
        return bool(self._queue) or self._refusal is not None

    def _refuse(self, refused: Refused) -> None:
        """Take no more from this client; answer it once the earlier answers are out."""
        if self._refusal is not None:
            return
        self._parser = None
        self._refusal = refused
        self.persistent = False
        broken, self._receiving = self._receiving, None
        if broken is None:
            return
        refused.head_only = broken.method == "HEAD"
        broken.gone = True
        if broken is self.current:
            self._take_over(broken)
        elif broken in self._queue:
            self._queue.remove(broken)

    def _take_over(self, broken: Exchange) -> None:
        """The body of the current exchange is broken: the server answers it now."""
        if broken.answered:
            self.abort()
        else:
            self.current = None
        if broken.started:
            broken.disconnected()

    def _answer_refusal(self) -> None:
        refused = self._refusal
        assert refused is not None
        if self.transport.is_closing():  # the answer before it has closed the connection
            return
        self.site.refused(self, refused)
        self.write(refusals.answer(refused, self.clock.fields))
        self.linger()

    def refuse(self, status: int, reason: str) -> None:
        """Answer `status` and close, if nothing of an answer is out; else cut the connection."""
        if self.current is not None and self.current.answered:
            self.abort()
            return
        current, self.current = self.current, None
        self._queue.clear()
        self._receiving = current  # whatever it is: it gets no more
        self._refusal = None
        self._refuse(Refused(status, reason))
        if current is not None and current.started:
            current.disconnected()
        self._advance()

    def awaits_body(self, exchange: Exchange) -> None:
        """The application waits for the body: from now on it must come at some rate."""
        if exchange.complete or self._waits_for_body:
            return
        self._waits_for_body = True
        self._body_since = self.clock.now
        self._body_mark = self._received
        self.deadline = self.clock.now + BODY_GRACE
        self._resume_reading()

    def took_body(self) -> None:
        """The application has taken what had arrived."""
        if not self._reading:
            self._may_read()

    def _may_read(self) -> None:
        """Go on reading if neither a body nor requests nor answers pile up."""
        receiving = self._receiving
        room = not self.paused if receiving is None else receiving.buffered < BODY_WATER
        if room and len(self._queue) < self.site.max_pipelined:
            self._resume_reading()

    def _pause_reading(self) -> None:
        if self._reading and not self._closed:
            self._reading = False
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._reading and not self._closed:
            self._reading = True
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        """Called by the transport: too much is unsent. No further request is started, or read, until that is taken.

        The rest of a body is read, for its answer may wait for that; a WebSocket sees to its reading itself.
        """
        self.paused = True
        self._awaited = None
        self._unsent = self.transport.get_write_buffer_size()
        self.deadline = self.clock.now + self.site.send_timeout
        current = self.current
        if self._receiving is None and (current is None or not current.is_websocket):
            self._pause_reading()

    def resume_writing(self) -> None:
        """Called by the transport: there is room again."""
        self.paused = False
        if self._closed:
            return
        self._unsent = 0
        self.deadline = self.clock.now + self._patience()
        if self.current is not None:
            self.current.resumed()
        elif self.has_more():
            self.site.call_soon(self._advance)  # not here: the transport is in the midst of sending
        if not (self._reading or self.transport.is_closing()):
            self._may_read()

    def _patience(self) -> float:
        """How many seconds the connection waits for whatever is next, now that the client has taken most of it."""
        if self.transport.is_closing():
            return self.site.send_timeout  # for what is still unsent
        if self._lingering:
            return LINGER
        if self._waits_for_body:
            return BODY_GRACE
        if self.current is not None or self.has_more():
            return NEVER
        if self._fed:
            self._head_timed = True
            return self.site.header_timeout
        return self.site.keep_alive_timeout
