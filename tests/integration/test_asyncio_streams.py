"""Handlers that use their streams as code for asyncio does, in a worker, on every loop."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from support.certificates import certificates
from support.clients import ask, connected, read_all, read_exactly
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import eventually, serving


@pytest.fixture(scope="module", params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(loop: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    where = tmp_path_factory.mktemp("streams")
    options = ("--workers", "1", "--loop", loop)
    with serving("asyncio_streams:handle", *options, cwd=where, env={"PEM": str(certificates().both)}) as process:
        yield process
        assert "handler failed" not in process.stderr


def test_a_handler_goes_over_to_tls(server: HybridProcess) -> None:
    with connected(server.address) as sock:
        sock.sendall(b"starttls\n")
        assert read_exactly(sock, 9) == b"go ahead\n"
        with certificates().client_context().wrap_socket(sock.dup(), server_hostname="localhost") as secured:
            secured.sendall(b"word\n")
            assert read_all(secured) == b"secret word\n"


def test_a_handler_sends_a_file_between_two_writes(server: HybridProcess, loop: str) -> None:
    if loop == "uvloop":
        pytest.skip("uvloop has no loop.sendfile")
    with connected(server.address) as sock:
        sock.sendall(b"sendfile\n")
        assert read_all(sock) == b"head" + bytes(300_000) + b"tail"


def test_a_writer_in_the_background_ends_with_its_connection(server: HybridProcess) -> None:
    with connected(server.address) as sock:
        sock.sendall(b"background\n")
        assert set(read_all(sock).split()) <= {b"beat"}
    eventually(lambda: ask(server.address, b"beating\n") == b"0", "the background writer has ended")


def test_a_closed_connection_still_has_its_own_address(server: HybridProcess) -> None:
    with connected(server.address) as sock:
        sock.sendall(b"names\n")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b""
