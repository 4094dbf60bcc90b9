"""Clients that hold a server up: heads that come byte by byte, answers that nobody reads, connections that are reset.

Each tells when the server has had enough of it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

from support.clients import connected
from support.process import DEADLINE

Address = tuple[str, int]
_HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-Slow: really\r\n" * 100_000
_ENDED = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR


class Crawlers:
    """Connections whose request heads come a byte at a time, and never to an end; a context manager."""

    def __init__(self, address: Address, count: int) -> None:
        self.began = time.monotonic()
        self.ended: list[tuple[float, bytes]] = []
        """Seconds from the beginning to the server's end of stream, and what it said, of each that has ended."""
        self._poll = select.epoll()
        self._alive: dict[int, socket.socket] = {}
        self._said: dict[int, bytes] = {}  # what each has got so far
        for _ in range(count):
            sock = socket.create_connection(address, 10)
            sock.sendall(_HEAD[:1])
            sock.setblocking(False)
            self._alive[sock.fileno()] = sock
            self._said[sock.fileno()] = b""
            self._poll.register(sock, _ENDED)
        self._position = 1

    def __enter__(self) -> Crawlers:
        return self

    def __exit__(self, *error: object) -> None:
        for sock in self._alive.values():
            sock.close()
        self._poll.close()

    def __len__(self) -> int:
        """How many the server has not ended."""
        return len(self._alive)

    def crawl(self, seconds: float) -> None:
        """Send the next byte on each; watch for `seconds` who is ended. A test error when all of it takes too long."""
        assert time.monotonic() < self.began + DEADLINE, f"{len(self)} connections are still open"
        byte = _HEAD[self._position : self._position + 1]
        self._position += 1
        for sock in list(self._alive.values()):
            with contextlib.suppress(ConnectionError):
                sock.send(byte)
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for fd, _ in self._poll.poll(left):
                self._hear(fd)

    def _hear(self, fd: int) -> None:
        sock = self._alive[fd]
        try:
            part = sock.recv(65_536)
        except ConnectionError as error:
            self._said[fd] += repr(error).encode()
            part = b""
        if part:
            self._said[fd] += part
            return
        self.ended.append((time.monotonic() - self.began, self._said[fd]))
        self._poll.unregister(sock)
        del self._alive[fd]
        sock.close()


class Deaf:
    """A client that asks and then reads nothing."""

    def __init__(self, address: Address, path: str) -> None:
        self._sock = socket.create_connection(address, 10)
        self._sock.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        self._poll = select.poll()
        self._poll.register(self._sock, 0)  # errors and the end are told always

    def __enter__(self) -> Deaf:
        return self

    def __exit__(self, *error: object) -> None:
        self._sock.close()

    @property
    def is_cut(self) -> bool:
        """Whether the server has reset the connection: the end of the stream would stand behind what is not read."""
        return bool(self._poll.poll(0))

    def listen(self) -> int:
        """Read at last; return how many bytes there were before the end or the reset."""
        size = 0
        with contextlib.suppress(ConnectionError):
            while part := self._sock.recv(1 << 20):
                size += len(part)
        return size


def reset(sock: socket.socket) -> None:
    """Close with a reset instead of an end of stream (socket(7), SO_LINGER)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@contextmanager
def cut_off(address: Address, request: bytes) -> Iterator[socket.socket]:
    """Connect and send; reset the connection at the end of the block."""
    with connected(address) as sock:
        sock.sendall(request)
        yield sock
        reset(sock)
