"""`ProtocolTransport`: the hub's lean transport for a protocol of ours, in the words of `asyncio.Transport`.

The poller's callback reads and calls `data_received`; `write` is the connection's own and sends at once. Between them
stands nothing: no handle, no queue, no buffer. Benchmarks: `python -m benchmarks wsgi asgi`.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable
from typing import Any

from hybrid.workers.hub.connection import Connection
from hybrid.workers.hub.transport import StreamTransport
from hybrid.workers.hub.watch import Watches
from hybrid.workers.pollers.contract import READ
from hybrid.workers.runtime import Accepted

_PIECE = 65_536  # bytes for one read
_EAGER = 8  # full reads in a row before other connections get their turn
_read = os.read
_log = logging.getLogger("hybrid")


def open_transport(runtime: Any, protocol: Any, accepted: Accepted, closed: Callable[[], None]) -> Callable[[], object]:
    """Give an accepted connection to `protocol`, now; return what ends it early. `closed()` is called once."""
    listener = accepted.listener
    sock = socket.socket(listener.family, listener.type, listener.proto, fileno=accepted.fd)
    transport = ProtocolTransport(runtime.loop, runtime.watches, sock, accepted.address, protocol, closed)
    transport.start()
    return transport.abort


class ProtocolTransport(StreamTransport, asyncio.Transport):
    """Both halves of `asyncio.Transport` over a lean connection. Belongs to the loop's thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        watches: Watches,
        sock: socket.socket,
        peername: Any,
        protocol: Any,
        closed: Callable[[], None],
    ) -> None:
        self._protocol = protocol
        self._tell_closed = closed
        connection = Connection(loop, watches, sock, self._lost, peername)
        super().__init__(connection)
        connection.on_paused = protocol.pause_writing
        connection.on_resumed = protocol.resume_writing
        self.write = connection.write  # type: ignore[method-assign]  # one call less for each answer
        self._fd = sock.fileno()
        self._loop = loop
        self._watches = watches
        self._watch = connection.watch
        self._data_received = protocol.data_received
        self._resume = self._readable  # bound once
        self._reading = True
        self._eof = False  # the peer has ended its stream

    def start(self) -> None:
        """Tell the protocol of the connection, and read: a connection often brings its first bytes with it."""
        self._protocol.connection_made(self)
        self.begin()

    def begin(self) -> None:
        """Read what is there, unless the protocol has said otherwise already."""
        if self._reading and not self._connection.closing:
            self._readable()

    # -- the hot path; benchmarks: python -m benchmarks wsgi asgi --------------------------------------------------

    def _readable(self) -> None:
        watch = self._watch
        for _ in range(_EAGER):
            try:
                data = _read(self._fd, _PIECE)
            except BlockingIOError:
                break
            except OSError as error:
                self._connection.failed(error)
                return
            if not data:
                self._ended()
                return
            try:
                self._data_received(data)
            except Exception as error:  # noqa: BLE001 - logged; asyncio's transports do the same
                _log.exception("a protocol failed; its connection is closed")
                self._connection.failed(OSError(errno.EPROTO, str(error)))
                return
            if not self._reading or watch.fd < 0:
                return
            if len(data) < _PIECE:
                break  # the kernel's buffer is empty: wait without asking for EAGAIN
        watch.on_readable = self._resume
        if not watch.armed & READ:
            self._arm()

    # -- less often ------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        try:
            self._watches.arm(self._watch, READ)
        except OSError as error:
            self._connection.failed(error)

    def _ended(self) -> None:
        """The peer sends no more."""
        self._reading = False
        self._eof = True
        if not self._protocol.eof_received():
            self._connection.close()

    def _lost(self) -> None:
        self._watch.on_readable = None
        self._loop.call_soon(self._tell_lost)

    def _tell_lost(self) -> None:
        try:
            self._protocol.connection_lost(self._connection.error)
        finally:
            self._tell_closed()

    def close(self) -> None:
        """Close once everything is sent; read no more."""
        self.pause_reading()
        self._connection.close()

    def is_reading(self) -> bool:
        """Whether the protocol gets what arrives."""
        return self._reading and not self._connection.closing

    def pause_reading(self) -> None:
        """Leave what arrives in the kernel, which slows the peer down."""
        self._reading = False
        self._watch.on_readable = None

    def resume_reading(self) -> None:
        """Read again, from the next turn of the loop on."""
        if self._reading or self._eof or self._connection.closing:
            return
        self._reading = True
        self._watch.on_readable = self._resume
        if not self._watch.armed & READ:
            self._arm()
