"""Small blocking clients with deadlines, for tests that talk to a service."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

TIMEOUT = 10.0  # seconds for each connect, send and receive


@contextmanager
def connected(address: tuple[str, int] | str, timeout: float = TIMEOUT) -> Iterator[socket.socket]:
    """Give a stream socket connected to (host, port), or to a UNIX socket's path; close it afterwards."""
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        try:
            sock.connect(address)
        except OSError:
            sock.close()
            raise
    else:
        sock = socket.create_connection(address, timeout)
    with sock:
        yield sock


def read_all(sock: socket.socket) -> bytes:
    """Return everything up to the peer's end of stream."""
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


def read_exactly(sock: socket.socket, size: int) -> bytes:
    """Return `size` bytes. Raises `EOFError` when the stream ends first."""
    received = bytearray()
    while len(received) < size:
        part = sock.recv(size - len(received))
        if not part:
            raise EOFError(f"{len(received)} of {size} bytes")
        received += part
    return bytes(received)


def ask(address: tuple[str, int] | str, request: bytes, timeout: float = TIMEOUT) -> bytes:
    """Connect, send `request`, say that no more follows, and return the whole answer."""
    with connected(address, timeout) as sock:
        if request:  # else a handler that only speaks may have closed by now, and the send would fail
            sock.sendall(request)
        sock.shutdown(socket.SHUT_WR)
        return read_all(sock)


def talk(address: tuple[str, int] | str, request: bytes, size: int, timeout: float = TIMEOUT) -> bytes:
    """Connect, send `request`, and return `size` bytes of the answer without ending the stream first."""
    with connected(address, timeout) as sock:
        sock.sendall(request)
        return read_exactly(sock, size)
