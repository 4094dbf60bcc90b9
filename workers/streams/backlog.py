"""`Backlog`: the unsent bytes of a connection, as a queue of parts.

Large `bytes` are kept as views: they cannot change, and copying the rest of a large response for a slow client costs
more than sending it (40 MiB: 1 ms per MiB, measured). Other objects are copied, because their owner may change them.
Small parts are joined, so that a thousand writes do not become a thousand objects.
"""

from __future__ import annotations

import _socket
from collections import deque
from itertools import islice
from typing import Any

_LEAST_VIEW = 16_384  # bytes from which on a part is its own object
_JOINED = 65_536  # bytes up to which small parts are joined
_MOST_PARTS = 64  # in one system call


class Backlog:
    """Bytes that wait for room in a socket. `len` returns their number."""

    __slots__ = ("_parts", "_size")

    def __init__(self) -> None:
        self._parts: deque[memoryview | bytearray] = deque()  # none is empty
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, data: Any, start: int = 0) -> None:
        """Append the bytes of a bytes-like object from `start` on. Raises `TypeError` for any other object."""
        rest = memoryview(data).cast("B")[start:]
        if not rest:
            return
        self._size += len(rest)
        parts = self._parts
        if type(data) is bytes and len(rest) >= _LEAST_VIEW:
            parts.append(rest)
        elif parts and type(last := parts[-1]) is bytearray and len(last) < _JOINED:
            last += rest
        else:
            parts.append(bytearray(rest))

    def send(self, sock: _socket.socket) -> int:
        """Send as much as the kernel takes; return the number of bytes. Raises `BlockingIOError`, `OSError`."""
        parts = self._parts
        sent = sock.send(parts[0]) if len(parts) == 1 else sock.sendmsg(list(islice(parts, _MOST_PARTS)))
        self._size -= sent
        left = sent
        while left:
            first = parts[0]
            if left >= len(first):
                left -= len(first)
                parts.popleft()
            elif type(first) is bytearray:
                del first[:left]
                break
            else:
                parts[0] = first[left:]
                break
        return sent
