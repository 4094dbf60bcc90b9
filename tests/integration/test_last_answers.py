"""The last response on a connection, when the client asked for the close: it is sent together with the end.

One server per loop and interface serves the tests of this module (tests/applications/last_answers.py).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.clients import TIMEOUT, read_all
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import serving

REQUEST = b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
FAMILIES = ("tcp", "unix")


@pytest.fixture(scope="module", params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=["wsgi", "asgi"])
def server(
    request: pytest.FixtureRequest, loop: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HybridProcess]:
    cwd = tmp_path_factory.mktemp("last")
    bind = ("--bind", "127.0.0.1:0", "--bind", f"unix:{cwd}/s")
    with serving(f"last_answers:{request.param}", "--workers", "1", "--loop", loop, *bind, cwd=cwd) as process:
        yield process
        assert "ERROR" not in process.stderr, process.stderr


@contextmanager
def client(server: HybridProcess, family: str) -> Iterator[socket.socket]:
    sock = socket.socket(socket.AF_INET if family == "tcp" else socket.AF_UNIX)
    with sock:
        sock.settimeout(TIMEOUT)
        unix = next(address for address in server.addresses if "unix:" in address).removeprefix("unix:")
        sock.connect(server.address if family == "tcp" else unix)
        yield sock


def sizes(answer: bytes) -> int:
    """The size of the response body, with or without chunks."""
    return answer.partition(b"\r\n\r\n")[2].count(b"x")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [0, 5, 3_000_000])
def test_the_response_is_complete_and_followed_by_the_end(server: HybridProcess, family: str, size: int) -> None:
    with client(server, family) as sock:
        sock.sendall(REQUEST % b"/plain/%d" % size)
        assert sizes(read_all(sock)) == size


@pytest.mark.parametrize("family", FAMILIES)
def test_a_client_that_sends_more_than_it_announced_loses_nothing(server: HybridProcess, family: str) -> None:
    with client(server, family) as sock:
        sock.sendall(REQUEST % b"/plain/5" + b"x" * 100_000)
        assert sizes(read_all(sock)) == 5


@pytest.mark.parametrize("family", FAMILIES)
def test_a_response_is_sent_although_a_child_holds_the_connection(server: HybridProcess, family: str) -> None:
    with client(server, family) as sock:
        sock.sendall(REQUEST % b"/fork/5")
        answer = b""
        while sizes(answer) < 5:
            answer += sock.recv(65_536)
