"""One HTTP/1.1 connection: how it begins, what its deadlines mean, and how it ends. Knows no loop.

It has the methods of `asyncio.Protocol`, called by whatever transport the loop has. Its parts are a chain of classes:
`state` what it knows, `intake` from bytes to exchanges, `turns` their answers in order, and this one its life.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any

from hybrid.workers.connections import printable
from hybrid.workers.http.clock import NEVER
from hybrid.workers.http.exchange import Exchange
from hybrid.workers.http.refusals import Refused
from hybrid.workers.http.state import BODY_GRACE, LINGER
from hybrid.workers.http.turns import Turns

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER without a wait (socket(7))


class HttpConnection(Turns):
    """The protocol of one connection. All methods belong to the loop's thread."""

    __slots__ = ()

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

    def expired(self) -> None:
        """The deadline has passed. Called by the clock."""
        self.deadline = NEVER
        unsent = self.transport.get_write_buffer_size()
        if unsent or self.paused:
            self._expired_sending(unsent)
        elif self._lingering or (self.upgraded and self.current is None):
            self.abort()
        elif self.current is not None and self.current.is_websocket:
            current: Any = self.current
            current.expired()
        elif self.current is not None:
            if self._waits_for_body:
                self._expired_receiving()
        elif self._fed or not self._served:
            if self._fed:
                self.refuse(408, "the header fields did not come in time")
            else:
                self.close()
        else:
            self.close()

    def _expired_sending(self, unsent: int) -> None:
        """A client that takes something, however little, goes on; one that takes nothing is cut."""
        if unsent < self._unsent or not self._unsent:
            self._unsent = unsent
            self.deadline = self.clock.now + self.site.send_timeout
        else:
            self.site.incidents.log("closing the connection of %s: it takes no data", printable(self.client))
            self.cut()

    def _expired_receiving(self) -> None:
        now = self.clock.now
        elapsed = now - self._body_since
        if self._received - self._body_mark < self.site.min_body_rate * elapsed:
            self.refuse(408, "the body comes too slowly")
            return
        self._body_since, self._body_mark = now, self._received
        self.deadline = now + BODY_GRACE

    def owed(self) -> int:
        """Bytes of the current WebSocket frame that have not come yet. Asked once the connection has `upgraded`."""
        current: Any = self.current
        return current.owed if current is not None and current.is_websocket and current.started else 0

    def _close(self, exchange: Exchange) -> None:
        """Close after the last answer."""
        self.persistent = False
        self._queue.clear()
        if exchange.complete and not self._extra and self._refusal is None:
            self.close()
        else:
            self.linger()

    def linger(self) -> None:
        """Close without a reset, as `workers.lingering` does, with the same bounds.

        But by the transport: a client that is still sending its body may have to be rid of it before it takes the
        answer. What else is unread, or unacknowledged, at the end is the transport's to see to.
        """
        self._parser = None
        self.persistent = False
        self._awaited = None
        if self._closed or self._lingering:
            return
        if self.half_closed or not self.transport.can_write_eof():
            self.close()
            return
        self._lingering = True
        self.deadline = self.clock.now + LINGER
        try:
            self.transport.write_eof()
        except OSError:  # the client has reset, and asyncio's transports have not told yet
            self.drop()
            return
        self._resume_reading()

    def close(self) -> None:
        """Close once everything is sent."""
        self._parser = None
        self.persistent = False
        self._awaited = None  # a transport may still hand over what it has read already
        if not self._closed:
            if not self.transport.is_closing():  # asyncio's over TLS gives up its buffer at a second close
                self.transport.close()
            if self.transport.get_write_buffer_size():
                self._unsent = 0
                self.deadline = self.clock.now + self.site.send_timeout

    def abort(self) -> None:
        """Close now: this side breaks off."""
        self.drop()

    def drop(self) -> None:
        """Close now: the client has left, and its application knows."""
        self._parser = None
        self.persistent = False
        self._awaited = None
        if not self._closed:
            self.transport.abort()

    def cut(self) -> None:
        """Close now, with a reset: for a client that reads nothing the kernel would keep megabytes for many minutes."""
        sock = None if self._closed else self.transport.get_extra_info("socket")
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
        elif self.current.started:
            self.current.draining()

    def close_idle(self) -> None:
        """The service stops: close if no request has begun, and the answers before are out."""
        is_busy = self.current is not None or self._fed or self._lingering or self.upgraded or self.paused
        if not (is_busy or self._closed or self.transport.get_write_buffer_size()):
            self.close()

    def interrupt(self) -> None:
        """The grace period is nearly over: the application is told that the client is gone; idle ones are closed."""
        if self.current is None:
            self._queue.clear()
            self.close()
        elif self.current.started:
            self.current.interrupt()

    def eof_received(self) -> bool:
        """The client sends no more. An answer under way goes on; keeps the transport open for it."""
        self.half_closed = True
        self.persistent = False
        self._awaited = None
        if self._receiving is not None:
            self._refuse(Refused(400, "the connection ended within the body"))
        if self.current is not None and self.current.is_websocket and self.current.started:
            return self.current.peer_done() and self.transport.can_write_eof()
        if self._lingering or not self.transport.can_write_eof():
            return False  # TLS has no half-closed connections
        if self.current is None and not self.has_more():
            return False
        self._advance()
        if self.current is not None and self.current.started:
            self.current.peer_done()
        return not self._closed

    def connection_lost(self, error: Exception | None) -> None:
        """Called once, last."""
        self._closed = True
        self._parser = None
        self.persistent = False
        self._receiving = None
        self._refusal = None  # its traceback holds this connection
        self.site.closed(self)
        current = self.current
        self._queue.clear()
        if current is not None and not current.ended:
            current.gone = True
            if current.started:
                current.disconnected()
        self.current = None
