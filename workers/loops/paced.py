"""`Paced`: lets a loop's own transport read for a protocol of ours in pieces that it takes quickly.

asyncio hands over 256 KiB at once. libuv reads up to 32 times before it looks at another connection (`uv__read`), with
uvloop 250 KiB each: a flood of tiny WebSocket frames would keep the worker for seconds.
"""

from __future__ import annotations

import asyncio
import sys
from time import monotonic
from typing import Any

from hybrid.workers.common import forks
from hybrid.workers.hub.pieces import LARGEST, PIECE, kept, next_piece
from hybrid.workers.runtime import TellingSocket

_WITHIN = 0.000_3  # seconds for one read: 32 of them are 10 ms
_buffer = memoryview(bytearray(LARGEST))  # for all connections: what is read is copied before anything else is read
forks.replace(sys.modules[__name__], _buffer=forks.Home())  # libuv goes on with the events at hand


class Paced(asyncio.BufferedProtocol):
    """Passes everything on to `protocol`. Belongs to the loop's thread."""

    __slots__ = ("_data_received", "_is_plain", "_piece", "_protocol", "_sock")

    def __init__(self, protocol: Any, sock: TellingSocket, is_plain: bool) -> None:
        """`is_plain`: the bytes of `protocol` are those on the wire, without TLS between them."""
        self._is_plain = is_plain
        self._sock = sock
        self._protocol = protocol
        self._data_received = protocol.data_received
        self._piece = PIECE

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called once, first."""
        self._protocol.connection_made(transport)
        if self._is_plain:
            takes_cork = getattr(self._protocol, "takes_cork", None)
            if takes_cork is not None:
                takes_cork(self._sock.cork)

    # -- the hot path; benchmarks: python -m benchmarks wsgi asgi --------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next piece is put."""
        return _buffer[: self._piece]

    def buffer_updated(self, nbytes: int) -> None:
        """Hand over what was put there."""
        piece = self._piece
        if nbytes < piece:
            if piece != PIECE:
                self._piece = kept(piece, nbytes)
            self._data_received(bytes(_buffer[:nbytes]))
            return
        began = monotonic()
        self._data_received(bytes(_buffer[:nbytes]))
        self._piece = next_piece(piece, monotonic() - began, _WITHIN, self._protocol)

    # -- less often ------------------------------------------------------------------------------------------------

    def eof_received(self) -> bool:
        """The peer sends no more; tell whether the transport stays open."""
        return bool(self._protocol.eof_received())

    def pause_writing(self) -> None:
        """Too much is unsent."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """There is room again."""
        self._protocol.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """Called once, last."""
        self._sock.lost()
        self._protocol.connection_lost(error)
