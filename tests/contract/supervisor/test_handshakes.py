"""The filter that blocks handshakes, on real sockets: none begins, and open connections continue."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from hybrid.supervisor.listeners import handshakes


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    with socket.socket(request.param) as sock:
        sock.bind(("::1" if request.param == socket.AF_INET6 else "127.0.0.1", 0))
        sock.listen()
        yield sock


def test_no_handshake_begins(listener: socket.socket) -> None:
    handshakes.ignore(listener)
    with socket.socket(listener.family) as client:
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.connect(listener.getsockname())


def test_queued_connections_are_served(listener: socket.socket) -> None:
    with socket.socket(listener.family) as client:
        client.connect(listener.getsockname())
        handshakes.ignore(listener)
        client.sendall(b"question")
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.recv(8) == b"question"
            accepted.sendall(b"answer")
            assert client.recv(6) == b"answer"


def test_a_closed_socket_is_an_error() -> None:
    sock = socket.socket()
    sock.close()
    with pytest.raises(handshakes.HandshakesError):
        handshakes.ignore(sock)
