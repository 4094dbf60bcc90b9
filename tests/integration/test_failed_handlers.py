"""Failed handlers and requests leave no frame, and so no open connection, to the garbage collector.

The applications in `failing` have the collector switched off and count the sentinels that their frames hold.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clients import connected, read_all
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import eventually, serving

OF_GEVENT = {"get": 1, "joinall": 1}
"""Cases in which gevent keeps frames: its own `Greenlet.get` and `joinall` keep the greenlet in theirs."""
CAUGHT = (
    "await",
    "await_task",
    "await_nothing",
    "green",
    "get",
    "joinall",
    "connect",
    "connect_name",
    "killed_sleep",
    "killed_await",
    "timed_out",
    "killed_recv",
    "killed_recv_into",
    "killed_recvfrom",
    "killed_sendall",
)


@pytest.fixture(scope="module", params=LOOPS)
def catching(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    arguments = ("--workers", "1", "--loop", request.param)
    with serving("failing:catching", *arguments, cwd=tmp_path_factory.mktemp("catching")) as process:
        process.loop = request.param  # type: ignore[attr-defined]
        yield process


@pytest.mark.parametrize("case", CAUGHT)
def test_an_error_that_the_application_has_caught_keeps_no_frame(catching: HybridProcess, case: str) -> None:
    expected = OF_GEVENT.get(case, 0) if catching.loop == "gevent" else 0  # type: ignore[attr-defined]
    with connected(catching.address) as sock:
        sock.sendall(case.encode())
        assert int(read_all(sock)) == expected


def sentinels_go(process: HybridProcess, count: bytes) -> None:
    """Wait until no sentinel is alive in the only worker."""

    def none_is_alive() -> bool:
        with connected(process.address) as sock:
            sock.sendall(count)
            return read_all(sock).rpartition(b"\r\n")[2] == b"0"

    eventually(none_is_alive, "no frame of the failed calls is alive")


@pytest.mark.parametrize("loop", LOOPS)
def test_a_handler_that_raises_with_a_file_open_ends_its_connection(loop: str, tmp_path: Path) -> None:
    cases = ("await", "green", "get", "held", "joinall", "connect", "timeout")
    with serving("failing:failing", "--workers", "1", "--loop", loop, cwd=tmp_path) as process:
        for case in cases:
            with connected(process.address) as sock:
                sock.sendall(case.encode() + b"\n")
                assert read_all(sock) == b"", case
        sentinels_go(process, b"count\n")
        process.wait_for_log("handler failed", count=len(cases) - 1)  # "connect" is taken for a lost connection


@pytest.mark.parametrize("loop", LOOPS)
def test_a_coroutine_handler_that_fails_keeps_no_frame(loop: str, tmp_path: Path) -> None:
    with serving("failing:failing_async", "--workers", "1", "--loop", loop, cwd=tmp_path) as process:
        for case in ("green", "held", "group", "cancelled"):
            with connected(process.address) as sock:
                sock.sendall(case.encode() + b"\n")
                assert read_all(sock) == b"", case
            sentinels_go(process, b"count\n")


@pytest.mark.parametrize("loop", LOOPS)
def test_a_coroutine_handler_keeps_no_frame_after_a_reset(loop: str, tmp_path: Path) -> None:
    with serving("failing:failing_async", "--workers", "1", "--loop", loop, cwd=tmp_path) as process:
        with connected(process.address) as sock:
            sock.sendall(b"lost\n")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close(2) resets
        sentinels_go(process, b"count\n")


@pytest.mark.parametrize("loop", LOOPS)
def test_a_wsgi_request_that_fails_keeps_no_frame(loop: str, tmp_path: Path) -> None:
    cases = ("raising", "iterating", "writing", "short", "reading", "held")
    with serving(
        "failing:failing_wsgi", "--interface", "wsgi", "--workers", "1", "--loop", loop, cwd=tmp_path
    ) as process:
        fails_over_http(process, cases)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_asgi_request_that_fails_keeps_no_frame(loop: str, tmp_path: Path) -> None:
    with serving("failing:failing_asgi", "--workers", "1", "--loop", loop, cwd=tmp_path) as process:
        fails_over_http(process, ("raising", "late", "cut", "nothing", "held", "group", "unknown"))


def fails_over_http(process: HybridProcess, cases: tuple[str, ...]) -> None:
    for case in cases:
        with connected(process.address) as sock:
            sock.sendall(
                b"POST /%b HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx" % case.encode()
            )
            assert read_all(sock), case
    sentinels_go(process, b"GET /count HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize("loop", LOOPS)
def test_a_datagram_handler_that_fails_keeps_no_frame(loop: str, tmp_path: Path) -> None:
    arguments = ("--interface", "datagram", "--bind", "udp://127.0.0.1:0", "--workers", "1", "--loop", loop)
    with serving("failing:failing_datagram", *arguments, cwd=tmp_path) as process:
        host, _, port = process.addresses[0].removeprefix("udp://").rpartition(":")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(10)
            sock.connect((host, int(port)))
            sock.send(b"fail")
            process.wait_for_log("handler failed")

            def none_is_alive() -> bool:
                sock.send(b"count")
                return sock.recv(100) == b"0"

            eventually(none_is_alive, "no frame of the failed call is alive")
