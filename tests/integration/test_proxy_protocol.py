"""`--proxy-protocol` on every loop, with and without TLS: headers in pieces, late, malformed, and at a stop."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.certificates import certificates
from support.changes import PLACES
from support.clients import connected, read_all
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import descriptors, eventually, serving
from support.wsgi import read_answer, send_request

from hybrid.workers.contract.exits import Exit
from hybrid.workers.http.proxy_protocol import SIGNATURE

V1 = b"PROXY TCP4 192.0.2.7 203.0.113.9 56324 443\r\n"
V2_V6 = SIGNATURE + struct.pack("!BBH", 0x21, 0x21, 36)
V2_V6 += socket.inet_pton(socket.AF_INET6, "2001:db8::7") + socket.inet_pton(socket.AF_INET6, "::1") + b"\x10\0\x01\xbb"
LOCAL = SIGNATURE + struct.pack("!BBH", 0x20, 0, 0)
REQUEST = b"GET /facts HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"


@pytest.fixture(scope="module", params=PLACES, ids="-".join)
def place(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param  # type: ignore[no-any-return]


@contextlib.contextmanager
def running(place: tuple[str, str], cwd: Path, *arguments: str) -> Iterator[HybridProcess]:
    """Serve, and check that the worker has no leaked descriptor at the end."""
    loop, interface = place
    options = ("--workers", "1", "--loop", loop, "--interface", interface, "--proxy-protocol")
    with serving(f"witness:{interface}", *options, *arguments, cwd=cwd) as process:
        if "--certfile" not in arguments and "--bind" not in arguments:
            facts(process.address, V1)  # files opened for the first request stay open
            worker = process.worker_pids()[0]
            held = descriptors(worker)
        yield process
        if process.is_running() and "--certfile" not in arguments and "--bind" not in arguments:
            eventually(lambda: descriptors(worker) <= held, "no descriptor is left")
        if process.is_running():
            assert process.stop() == Exit.OK
        assert "ERROR" not in process.stderr, process.stderr


@pytest.fixture(scope="module")
def usual(place: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    """One service for all tests with default options that end nothing."""
    with running(place, tmp_path_factory.mktemp("usual"), "--log-level", "debug") as process:
        yield process


def facts(address: Any, *pieces: bytes, request: bytes = REQUEST) -> dict[str, Any]:
    with connected(address) as sock:
        for piece in pieces[:-1]:
            sock.sendall(piece)
            _pause()
        sock.sendall(pieces[-1] + request)
        return dict(json.loads(read_answer(sock).body))


def _pause() -> None:
    """Let a piece arrive by itself, most probably: the result must not depend on it."""
    select.select([], [], [], 0.005)


def test_the_header_names_the_client(usual: HybridProcess) -> None:
    host, port = usual.address
    told = {"scheme": "http", "host": "a"}
    assert facts(usual.address, V1) == {
        **told,
        "client": ["192.0.2.7", 56324],
        "name": "203.0.113.9",
        "port": "443",
    }
    assert facts(usual.address, V2_V6) == {
        **told,
        "client": ["2001:db8::7", 4096],
        "name": "::1",
        "port": "443",
    }
    for own in (LOCAL, b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ::1 ::1 1 2\r\n"):
        found = facts(usual.address, own)
        assert (found["client"][0], found["name"], found["port"]) == ("127.0.0.1", host, str(port))


@pytest.mark.parametrize("header", [V1, V2_V6], ids=["v1", "v2"])
def test_a_header_may_come_in_any_pieces(usual: HybridProcess, header: bytes) -> None:
    client = facts(usual.address, header)["client"]
    bytewise = [header[at : at + 1] for at in range(len(header))]
    for pieces in (bytewise, [*bytewise, b""], [header[:-1], header[-1:]], [header, b""], [header + b"GE"]):
        request = REQUEST[2:] if pieces[-1].endswith(b"GE") else REQUEST
        assert facts(usual.address, *pieces, request=request)["client"] == client


def test_over_tls_the_header_comes_first(place: tuple[str, str], tmp_path: Path) -> None:
    made = certificates()
    with running(place, tmp_path, "--certfile", str(made.certificate), "--keyfile", str(made.key)) as process:
        for pieces in ([V1], [V2_V6[:20], V2_V6[20:]]):
            with connected(process.address) as plain:
                for piece in pieces:
                    plain.sendall(piece)
                    _pause()
                context = made.client_context()
                with context.wrap_socket(plain, server_hostname="localhost") as sock:
                    send_request(sock, "/facts")
                    found = json.loads(read_answer(sock).body)
            assert found["scheme"] == "https"
            assert found["client"][0] in ("192.0.2.7", "2001:db8::7")
        with connected(process.address) as plain:
            plain.sendall(V1 + b"\x16")  # and the rest of the handshake never arrives


def test_a_connection_without_a_valid_header_is_closed_and_logged(usual: HybridProcess) -> None:
    cases = {
        REQUEST: "no PROXY header: the first bytes match neither version",
        b"PROXY TCP4 nobody\r\n": "version 1: the line is malformed",
        SIGNATURE + b"\x31\x11\0\0": "version 2: version and command are 0x31",
        b"\x16\x03\x01\x02\0": "no PROXY header",
    }
    for data, reason in cases.items():
        since = len(usual.lines)
        with connected(usual.address) as sock:
            sock.sendall(data)
            assert _closed(sock)
        usual.wait_for_log(f"closing the connection of 127.0.0.1:.*{reason}", since=since)
    since = len(usual.lines)
    with connected(usual.address) as sock:
        sock.sendall(V1[:9])
        sock.shutdown(socket.SHUT_WR)
        assert _closed(sock)
    usual.wait_for_log("it ended within its PROXY header", since=since)
    with connected(usual.address) as sock:  # a port probe
        sock.shutdown(socket.SHUT_WR)
        assert _closed(sock)


def test_connections_without_a_header_do_not_fill_the_log(place: tuple[str, str], tmp_path: Path) -> None:
    with running(place, tmp_path) as process:
        process.wait_for_log("ready on")
        since = len(process.lines)
        for _ in range(50):
            with connected(process.address) as sock:
                sock.sendall(REQUEST)
                assert _closed(sock)
        process.wait_for_log("closing the connection of 127.0.0.1:", since=since)
        assert process.stop() == 0
        assert process.stderr.count("closing the connection") == 1


def _closed(sock: socket.socket) -> bool:
    try:
        return read_all(sock) == b""
    except ConnectionResetError:
        return True


def test_a_slow_header_is_closed_at_its_deadline_and_costs_nothing(place: tuple[str, str], tmp_path: Path) -> None:
    with running(place, tmp_path, "--header-timeout", "0.4", "--log-level", "debug") as process:
        worker = process.worker_pids()[0]
        began, spent = time.monotonic(), _cpu(worker)
        with contextlib.ExitStack() as stack:
            slow = [stack.enter_context(connected(process.address)) for _ in range(20)]
            for number, sock in enumerate(slow):
                sock.sendall(V1[: 2 * number])
            assert facts(process.address, V1)["client"][0] == "192.0.2.7"
            assert all(_closed(sock) for sock in slow)
        assert time.monotonic() - began > 0.3
        assert _cpu(worker) - spent < 0.3, "it does not turn in circles around half a header"
        process.wait_for_log("its PROXY header did not arrive in time", count=20)


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def half_a_header(process: HybridProcess) -> Iterator[socket.socket]:
    with connected(process.address) as sock:
        sock.sendall(V1[:9])
        _taken(process, sock)
        yield sock


def _taken(process: HybridProcess, sock: socket.socket) -> None:
    """Wait until the worker has read the bytes, so that the kernel holds none of them."""
    port = sock.getsockname()[1]

    def is_empty() -> bool:
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[2].endswith(f":{port:04X}") and fields[3] == "01":
                return fields[4].endswith(":00000000")
        return False

    eventually(is_empty, "the worker has taken what was sent")


def test_a_stop_waits_for_the_rest_of_a_header(place: tuple[str, str], tmp_path: Path) -> None:
    with running(place, tmp_path) as process, half_a_header(process) as sock:
        process.signal(signal.SIGTERM)
        process.wait_for_log("draining 1 connections")
        sock.sendall(V1[9:] + REQUEST)
        assert json.loads(read_answer(sock).body)["client"] == ["192.0.2.7", 56324]
        assert process.wait() == Exit.OK


def test_a_stop_waits_for_a_header_no_longer_than_for_an_idle_connection(
    place: tuple[str, str], tmp_path: Path
) -> None:
    with running(place, tmp_path, "--keep-alive-timeout", "0.2") as process, half_a_header(process) as sock:
        process.signal(signal.SIGTERM)
        assert _closed(sock)
        process.wait_for_log("its PROXY header did not arrive in time")
        assert process.wait() == Exit.OK


def test_a_missing_header_does_not_keep_the_worker(place: tuple[str, str], tmp_path: Path) -> None:
    """It ends some time before it would be killed: a sixteenth of the grace period."""
    options = ("--keep-alive-timeout", "0", "--header-timeout", "0", "--graceful-timeout", "1")
    with running(place, tmp_path, *options) as process, half_a_header(process) as sock:
        assert process.stop() == Exit.OK
        assert _closed(sock)
    assert "killing" not in process.stderr.lower(), process.stderr


@pytest.mark.parametrize("loop", LOOPS)
def test_headers_are_accepted_only_from_trusted_peers(loop: str, tmp_path: Path) -> None:
    """The trusted peer is a network of loopback addresses; the HTTP headers are the client's own."""
    with running((loop, "asgi"), tmp_path, "--forwarded-allow-ips", "127.0.0.1,192.0.2.0/24") as process:
        request = b"GET /facts HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 198.51.100.1\r\n\r\n"
        assert facts(process.address, V1, request=request)["client"] == ["198.51.100.1", 0], "it is a proxy itself"
        assert facts(process.address, V2_V6, request=request)["client"] == ["2001:db8::7", 4096]
        host, port = process.address
        with socket.create_connection((host, port), 10, source_address=("127.0.0.2", 0)) as sock:
            with contextlib.suppress(OSError):
                sock.sendall(V1 + REQUEST)
            assert _closed(sock)
        process.wait_for_log("connection of 127.0.0.2:.*is not in --forwarded-allow-ips")


@pytest.mark.parametrize("loop", LOOPS)
def test_on_a_unix_socket(loop: str, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    options = ("--bind", f"unix:{path}", "--forwarded-allow-ips", "unix")
    with running((loop, "wsgi"), tmp_path, *options):
        assert facts(path, V1[:5], V1[5:])["client"] == ["192.0.2.7", 56324]
        assert facts(path, LOCAL)["client"] is None


def test_the_log_names_the_client_from_the_header(tmp_path: Path) -> None:
    with running(("epoll", "asgi"), tmp_path, "--access-log", "%(h)s %({REMOTE_PORT}e)s") as process:
        facts(process.address, V2_V6)
        eventually(lambda: "2001:db8::7 4096\n" in process.stdout, "the client in the access log")
