"""`ProtocolTransport`: the lean transport for the server's protocols, with the interface of `asyncio.Transport`.

The poller's callback reads and calls `data_received`; `write` sends immediately. There is no handle, queue or buffer in
between. Benchmarks: `python -m benchmarks wsgi asgi`.
"""

from __future__ import annotations

import _socket
import asyncio
import errno
import logging
import os
import socket
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from time import monotonic
from typing import Any, cast

from hybrid.workers.common import lingering
from hybrid.workers.hub.watch import Watches
from hybrid.workers.pollers.contract import READ
from hybrid.workers.streams.read_size import DEFAULT, after_full_read, after_short_read
from hybrid.workers.streams.stream_socket import StreamSocket, nothing
from hybrid.workers.streams.write_transport import WriteTransport

_TURN = 0.005  # seconds after which other connections are served, even if more input is available
_MOST_HELD = 16_384  # bytes of a response that waits for the end of the turn
_read, _write = os.read, os.write
_log = logging.getLogger("hybrid")


class ProtocolTransport(WriteTransport, asyncio.Transport):
    """Both halves of `asyncio.Transport` over a `StreamSocket`. Belongs to the loop's thread."""

    __slots__ = (
        "_connection",
        "_data_received",
        "_eof",
        "_fd",
        "_held",
        "_loop",
        "_outbox",
        "_protocol",
        "_read_size",
        "_reading",
        "_resume",
        "_tell_closed",
        "_watch",
        "_watches",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        watches: Watches,
        sock: _socket.socket,
        peername: Any,
        protocol: Any,
        closed: Callable[[], None],
    ) -> None:
        self._protocol = protocol
        self._tell_closed = closed
        self._connection = connection = StreamSocket(loop, watches, sock, self._lost, peername)
        connection.protocol = protocol
        self._outbox = watches.outbox
        self._held = b""  # a complete response, sent at the end of this turn
        self._loop = loop
        self._watches = watches
        self._watch = watch = connection.watch
        self._fd = watch.fd
        self._data_received = protocol.data_received
        self._resume = self._readable  # bound once
        self._read_size = DEFAULT
        self._reading = True
        self._eof = False  # the peer has ended its stream

    def start(self) -> None:
        """Call `connection_made`, and read: the first bytes have often arrived with the connection."""
        self._protocol.connection_made(self)
        self.begin()

    def begin(self) -> None:
        """Read available input, unless the protocol has already paused reading or closed."""
        if self._reading and not self._connection.closing:
            self._readable()

    # -- the hot path; benchmarks: python -m benchmarks wsgi asgi --------------------------------------------------

    def _readable(self) -> None:
        size = self._read_size
        try:
            data = _read(self._fd, size)
        except BlockingIOError:
            pass
        except OSError as error:
            self._connection.failed(error)
            return
        else:
            if not 0 < len(data) < size:
                if not self._read_on(data, size):
                    return
            else:  # the usual case: the kernel's buffer is empty, so wait without asking for EAGAIN
                if size != DEFAULT:
                    self._read_size = after_short_read(size, len(data))
                try:
                    self._data_received(data)
                except Exception as error:  # noqa: BLE001 - logged; asyncio's transports do the same
                    self._broken(error)
                    return
                if not self._reading or self._watch.fd < 0:
                    return
        watch = self._watch
        watch.on_readable = self._resume
        # a connection is registered with the poller only if its first request has not closed it
        if not watch.armed & READ and not self._watches.after_turn(self._arm_late):
            self._arm()

    def _read_on(self, data: bytes, size: int) -> bool:
        """Pass on `data`, and read further input; return True to wait for more."""
        now = monotonic()
        ends = now + _TURN
        while data:
            began = now
            try:
                self._data_received(data)
            except Exception as error:  # noqa: BLE001 - logged
                self._broken(error)
                return False
            if self._watch.fd < 0:
                return False
            if len(data) < size:
                self._read_size = after_short_read(size, len(data))
                return self._reading
            now = monotonic()
            self._read_size = size = after_full_read(size, now - began, _TURN / 2, self._protocol)
            if not self._reading or now >= ends:
                return self._reading
            try:
                data = _read(self._fd, size)
            except BlockingIOError:
                return True
            except OSError as error:
                self._connection.failed(error)
                return False
        self._ended()
        return False

    def _broken(self, error: Exception) -> None:
        _log.error("a protocol failed; its connection is closed", exc_info=error)
        self._connection.failed(OSError(errno.EPROTO, str(error)))

    def write_last(self, data: bytes) -> None:
        """Send the end of a response. It completes the response, so it may wait for the end of the turn."""
        if self._outbox.open and not self._held and len(data) < _MOST_HELD and self._connection.clear:
            self._held = data
            self._outbox.hold(self)
        else:
            self.write(data)

    def flush(self) -> None:
        """Send the held response. Called by the outbox, and before any other write."""
        held, self._held = self._held, b""
        connection = self._connection
        if held and connection.clear:  # `StreamSocket.write` inlined
            try:
                held = held[_write(self._fd, held) :]
            except BlockingIOError:
                pass
            except OSError as error:
                connection.failed(error)
                return
        if held:
            connection.write(held)

    def write(self, data: Any) -> None:
        """Send `data` or keep the part that does not fit; never blocks."""
        if self._held:
            self.flush()
        self._connection.write(data)

    def write_end(self, data: Any) -> None:
        """Send the last bytes to a peer that has ended its stream; `close` follows immediately."""
        if self._held:
            self.flush()
        self._connection.write_end(data)

    # -- rare paths ------------------------------------------------------------------------------------------------

    def get_protocol(self) -> Any:
        """Return the protocol."""
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        """Call `protocol` from now on, which does not get `connection_made`."""
        self._protocol = self._connection.protocol = protocol
        self._data_received = protocol.data_received

    def _arm_late(self) -> None:
        if self._watch.on_readable is not None and not self._watch.armed & READ:
            self._arm()

    def _arm(self) -> None:
        try:
            self._watches.arm(self._watch, READ)
        except OSError as error:
            self._connection.failed(error)

    def _ended(self) -> None:
        """The peer has ended its stream."""
        self._reading = False
        self._eof = True
        self._connection.forks = lingering.NEVER
        if not self._protocol.eof_received():
            self.close()

    def _lost(self) -> None:
        self._watch.on_readable = None
        if not self._watches.after_turn(self._tell_lost):
            self._loop.call_soon(self._tell_lost)

    def _tell_lost(self) -> None:
        try:
            self._protocol.connection_lost(self._connection.error)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """Call `closed`, and drop the reference to the protocol.

        Without the cycles between them, transport, connection and protocol are freed now, not by the garbage collector
        later: 20 objects, their memory, and about 4 % of a connection's instructions (measured).
        """
        self._tell_closed()
        self._data_received = self._resume = self._tell_closed = nothing
        self._protocol = None

    def close(self) -> None:
        """Stop reading, and close once everything is sent."""
        if self._held:
            self.flush()
        self._reading = False
        self._watch.on_readable = None
        self._connection.close()

    def write_eof(self) -> None:
        """Close the writing half once everything is sent."""
        self.flush()
        super().write_eof()

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that the kernel has not taken."""
        if self._held:
            self.flush()
        unsent = self._connection.unsent
        return 0 if unsent is None else len(unsent)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return `peername`, `sockname` or `socket`; else `default`."""
        if name == "socket":  # not a LentSocket: the server's protocols do not share it
            return TransportSocket(cast(socket.socket, self._connection.sock))  # it has all but `dup`
        return super().get_extra_info(name, default)

    def is_reading(self) -> bool:
        """Return True if the protocol receives input."""
        return self._reading and not self._connection.closing

    def pause_reading(self) -> None:
        """Stop reading: input stays in the kernel, and TCP slows the peer down."""
        self._reading = False
        self._watch.on_readable = None

    def resume_reading(self) -> None:
        """Resume reading in the next turn of the loop."""
        if self._reading or self._eof or self._connection.closing:
            return
        self._reading = True
        self._watch.on_readable = self._resume
        if not self._watch.armed & READ:
            self._arm()
