"""An application closes or shuts down listening sockets: its worker is replaced, and every connection is answered."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from support.clients import ask, connected
from support.loops import LOOPS
from support.service import eventually, serving

from hybrid.workers.contract.exits import Exit

CONNECTIONS = 20
SOON = 5.0  # seconds; or as many starts of the service, because this machine may be busy
STARTS = 5
BROKEN = "ending so that a successor takes over: the listening socket"
REQUESTS = {"breaking:wsgi": b"GET /%s HTTP/1.0\r\n\r\n", "breaking:handle": b"%s\n"}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("target", REQUESTS)
@pytest.mark.parametrize("family", ["tcp", "unix"])
@pytest.mark.parametrize("deed", ["close", "replace"])
def test_no_connection_is_lost_when_an_application_closes_the_listeners(
    deed: str, family: str, target: str, loop: str, tmp_path: Path
) -> None:
    """One worker has none then, and its share of connections waits for its successor or for its sibling."""
    path = str(tmp_path / "socket")
    bind = ("--bind", f"unix:{path}") if family == "unix" else ()
    starts = time.monotonic()
    with serving(target, "--loop", loop, "--workers", "2", *bind, cwd=tmp_path) as process:
        began = time.monotonic()
        address = path if family == "unix" else process.address
        broken = int(ask(address, REQUESTS[target] % deed.encode()).rpartition(b"\n")[2])
        for _ in range(CONNECTIONS):
            assert int(ask(address, REQUESTS[target] % b"pid").rpartition(b"\n")[2]) > 0
        assert time.monotonic() - began < max(SOON, STARTS * (began - starts))
        process.wait_for_log(BROKEN)
        eventually(lambda: len({*process.worker_pids()} - {broken}) == 2, "its successor is there")
        assert process.stop() == Exit.OK


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_listeners_that_an_application_has_shut_down_serve_again(family: str, loop: str, tmp_path: Path) -> None:
    """A worker that has not noticed before they listen again continues."""
    path = str(tmp_path / "socket")
    bind = ("--bind", f"unix:{path}") if family == "unix" else ()
    with serving("breaking:wsgi", "--loop", loop, "--workers", "2", *bind, cwd=tmp_path) as process:
        address = path if family == "unix" else process.address
        ask(address, b"GET /shut_down HTTP/1.0\r\n\r\n")
        process.wait_for_log("was shut down by a worker; it serves again")
        for _ in range(CONNECTIONS):
            assert b"200 OK" in ask(address, b"GET / HTTP/1.0\r\n\r\n")
        assert process.stop() == Exit.OK


@pytest.mark.parametrize("loop", LOOPS)
def test_a_worker_with_a_closed_datagram_socket_is_replaced(loop: str, tmp_path: Path) -> None:
    arguments = ("--loop", loop, "--workers", "1", "--bind", "udp://127.0.0.1:0")
    with serving("breaking:answer", *arguments, cwd=tmp_path) as process, socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.settimeout(20)
        port = int(process.wait_for_log(r"listening on udp://127\.0\.0\.1:(\d+)")[1])
        sock.sendto(b"close", ("127.0.0.1", port))
        broken = int(sock.recv(100))
        process.wait_for_log(BROKEN)
        sock.sendto(b"pid", ("127.0.0.1", port))
        assert int(sock.recv(100)) != broken
        assert process.stop() == Exit.OK


@pytest.mark.parametrize("preload", ["on", "off"])
def test_an_import_that_closes_the_listeners_ends_the_start_with_the_reason(preload: str, tmp_path: Path) -> None:
    arguments = ("--workers", "1", "--preload", preload)
    with serving("closing_import:handle", *arguments, cwd=tmp_path, ready=False) as process:
        assert process.wait() == Exit.TARGET
    assert "was closed in this process, by the application while it was loaded" in process.stderr


def test_after_listeners_were_mended_connections_still_go_to_the_slots_that_turn(tmp_path: Path) -> None:
    """The kernel has given the members other indexes; a slot that is given up gets no connections."""
    with serving("breaking:handle", "--workers", "3", cwd=tmp_path) as process:
        with connected(process.address):
            ask(process.address, b"shut_down\n")
        process.wait_for_log("was shut down by a worker; it serves again")
        for _ in range(CONNECTIONS):
            assert int(ask(process.address, b"pid\n")) > 0
        assert process.stop() == Exit.OK
