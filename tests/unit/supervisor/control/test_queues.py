"""The depth of accept queues, of real listeners."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.limits import scarce_descriptors
from support.rows import for_each

from hybrid.supervisor.control.queues import AcceptQueue, accept_queue

BACKLOG = 20


def _listen(kind: str, folder: Path) -> socket.socket:
    if kind == "unix":
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(str(folder / "s"))
    elif kind == "abstract":
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind("")  # the kernel chooses a name
    elif kind == "IPv6":
        sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        sock.bind(("::1", 0))
    else:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.bind(("127.0.0.1", 0))
    sock.listen(BACKLOG)
    return sock


@pytest.fixture(params=["IPv4", "IPv6", "unix", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    with _listen(request.param, tmp_path) as sock:
        yield sock


@pytest.mark.parametrize("count", [0, 1, 7, BACKLOG])
def test_connections_that_nobody_accepted_are_counted(listener: socket.socket, count: int) -> None:
    with ExitStack() as clients:
        for _ in range(count):
            client = clients.enter_context(socket.socket(listener.family, socket.SOCK_STREAM))
            client.connect(listener.getsockname())
        assert accept_queue(listener) == AcceptQueue(count, BACKLOG)
        for left in reversed(range(count)):
            listener.accept()[0].close()
            assert accept_queue(listener) == AcceptQueue(left, BACKLOG)


def test_a_connected_socket_has_no_queue(listener: socket.socket) -> None:
    with socket.socket(listener.family, socket.SOCK_STREAM) as client:
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            assert accept_queue(accepted) is None
            assert accept_queue(client) is None


@for_each(
    ("family", "kind"),
    [
        (socket.AF_INET, socket.SOCK_STREAM),
        (socket.AF_INET, socket.SOCK_DGRAM),
        (socket.AF_UNIX, socket.SOCK_STREAM),
        (socket.AF_UNIX, socket.SOCK_DGRAM),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET),
        (socket.AF_NETLINK, socket.SOCK_RAW),
    ],
)
def test_sockets_that_do_not_listen_have_no_queue(family: socket.AddressFamily, kind: socket.SocketKind) -> None:
    with socket.socket(family, kind) as sock:
        assert accept_queue(sock) is None


def test_a_closed_socket_has_no_queue(listener: socket.socket) -> None:
    listener.close()
    assert accept_queue(listener) is None


def test_without_a_spare_descriptor_the_depth_of_a_unix_socket_is_unknown(tmp_path: Path) -> None:
    with _listen("unix", tmp_path) as sock:
        with scarce_descriptors(0):
            assert accept_queue(sock) is None
        assert accept_queue(sock) == AcceptQueue(0, BACKLOG)
