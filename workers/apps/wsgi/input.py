"""`wsgi.input`: the request body as a blocking file (PEP 3333, "Input and Error Streams").

The end of the body is the end of the file, also for chunked bodies: no read continues into the next request.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from hybrid.workers.http.exchange import ClientGoneError as ClientGoneError

if TYPE_CHECKING:
    from hybrid.workers.apps.wsgi.call import WsgiCall


class Input:
    """The body of one request. Its methods wait for the client: call them in the request's greenlet or thread.

    Raises `ClientGoneError` if the client disconnects before the end of the body.
    """

    __slots__ = ("_at", "_call", "_ended", "_held")

    closed = False

    def __init__(self, call: WsgiCall) -> None:
        self._call = call
        self._held = b""  # bytes taken from the exchange
        self._at = 0  # offset of the unread part: slicing each time would copy the rest again and again
        self._ended = False

    def flush(self) -> None:
        """Do nothing: there is nothing to write. `io.BufferedReader` calls it when it is closed."""

    def _more(self) -> bool:
        """Wait for more, after everything held was read; return False at the end of the body."""
        if not self._ended:
            self._held = self._call.interface.runner.read(self._call)
            self._at = 0
            self._ended = not self._held
        return not self._ended

    def _take(self, size: int) -> bytes:
        """Return at most `size` of the held bytes."""
        held, at = self._held, self._at
        if size >= len(held) - at:
            self._held = b""
            self._at = 0
            return held[at:] if at else held
        self._at = at + size
        return held[at : at + size]

    def read(self, size: int | None = -1) -> bytes:
        """Return `size` bytes, fewer only at the end; without `size`, the whole rest."""
        left = sys.maxsize if size is None or size < 0 else size
        part = self._take(left)
        if len(part) == left:
            return part
        parts = [part]
        left -= len(part)
        while left and self._more():
            part = self._take(left)
            left -= len(part)
            parts.append(part)
        return b"".join(parts)

    def read1(self, size: int = -1) -> bytes:
        """Return available bytes, at most `size`; waits only if there are none."""
        if self._at == len(self._held) and size != 0:
            self._more()
        return self._take(sys.maxsize if size < 0 else size)

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fill `buffer` as far as the body reaches; return the number of bytes."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readline(self, size: int | None = -1) -> bytes:
        """Return a line including its end, at most `size` bytes of it."""
        left = sys.maxsize if size is None or size < 0 else size
        parts = []
        while left and (self._at < len(self._held) or self._more()):
            end = self._held.find(b"\n", self._at, self._at + left) + 1
            part = self._take(end - self._at if end else left)
            parts.append(part)
            if end:
                break
            left -= len(part)
        return b"".join(parts)

    def readlines(self, hint: int | None = None) -> list[bytes]:
        """Return all lines, or enough lines for `hint` bytes."""
        lines = []
        size = 0
        for line in self:
            lines.append(line)
            size += len(line)
            if hint is not None and 0 < hint <= size:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line

    def readable(self) -> bool:
        """Return True, as any readable file."""
        return True

    def seekable(self) -> bool:
        """Return False: the body comes from the network."""
        return False

    def writable(self) -> bool:
        """Return False."""
        return False

    def close(self) -> None:
        """Do nothing: the server handles the rest of the body."""


class _Empty(io.RawIOBase):
    """The file for requests without a body. Shared by all, never closed."""

    def read(self, size: int | None = -1) -> bytes:
        return b""

    def read1(self, size: int = -1) -> bytes:
        return b""

    def readinto(self, buffer: object) -> int:
        return 0

    def readline(self, size: int | None = -1) -> bytes:
        return b""

    def readlines(self, hint: int | None = None) -> list[bytes]:
        return []

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        """Do nothing."""


EMPTY: Iterable[bytes] = _Empty()
"""The file for requests without a body."""


class Nowhere(io.TextIOBase):
    """`wsgi.errors` of a worker that has no stderr."""

    def write(self, text: str) -> int:
        """Drop `text`."""
        return len(text)
