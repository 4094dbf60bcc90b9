"""`BoundedReads`: makes a loop's own transport read no more at once than the protocol handles quickly.

asyncio passes on 256 KiB at once. libuv reads up to 32 times before it looks at another connection (`uv__read`), and
uvloop 250 KiB each time: a flood of tiny WebSocket frames would keep the worker busy for seconds.
"""

from __future__ import annotations

import asyncio
import sys
from time import monotonic
from typing import Any

from hybrid.workers.common import forks
from hybrid.workers.runtime import TellingSocket
from hybrid.workers.streams.read_size import DEFAULT, LARGEST, after_full_read, after_short_read

_WITHIN = 0.000_3  # seconds for one read: 32 of them are 10 ms
_buffer = memoryview(bytearray(LARGEST))  # shared by all connections: input is copied before the next read
forks.replace(sys.modules[__name__], _buffer=forks.Home())  # in a forked child libuv goes on with the pending events


class BoundedReads(asyncio.BufferedProtocol):
    """Passes all calls on to `protocol`. Belongs to the loop's thread."""

    __slots__ = ("_data_received", "_is_plain", "_protocol", "_read_size", "_sock")

    def __init__(self, protocol: Any, sock: TellingSocket, is_plain: bool) -> None:
        """`is_plain`: no TLS: the bytes of `protocol` are the bytes on the wire."""
        self._is_plain = is_plain
        self._sock = sock
        self._protocol = protocol
        self._data_received = protocol.data_received
        self._read_size = DEFAULT

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called once, first."""
        self._protocol.connection_made(transport)
        if self._is_plain:
            takes_cork = getattr(self._protocol, "takes_cork", None)
            if takes_cork is not None:
                takes_cork(self._sock.cork)

    def set_protocol(self, protocol: Any) -> None:
        """Pass all further calls on to `protocol`, which does not get `connection_made`."""
        self._protocol = protocol
        self._data_received = protocol.data_received

    # -- the hot path; benchmarks: python -m benchmarks wsgi asgi --------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer for the next read."""
        return _buffer[: self._read_size]

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on the bytes that were read into the buffer."""
        size = self._read_size
        if nbytes < size:
            if size != DEFAULT:
                self._read_size = after_short_read(size, nbytes)
            self._data_received(bytes(_buffer[:nbytes]))
            return
        began = monotonic()
        self._data_received(bytes(_buffer[:nbytes]))
        self._read_size = after_full_read(size, monotonic() - began, _WITHIN, self._protocol)

    # -- less often ------------------------------------------------------------------------------------------------

    def eof_received(self) -> bool:
        """The peer has ended its stream. Return True if the transport stays open."""
        return bool(self._protocol.eof_received())

    def pause_writing(self) -> None:
        """The write buffer is above its high-water mark."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """The write buffer is below its low-water mark again."""
        self._protocol.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """Called once, last."""
        self._sock.lost()
        self._protocol.connection_lost(error)
