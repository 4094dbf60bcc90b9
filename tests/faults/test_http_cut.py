"""Clients of a web application that vanish: a reset ends only their own request, and the application is told."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.clients import connected, read_exactly
from support.loops import LOOPS
from support.offenders import cut_off
from support.process import HybridProcess
from support.service import descriptors, eventually, serving
from support.wsgi import read_answer, send_request

TIMES = 10
BLOCKS = 320  # 20 MiB: more than the kernel buffers
TOLD = {"wsgi": {"/read": "OSError", "/endless": "closed"}, "asgi": {"/read": "http.disconnect", "/endless": "OSError"}}


@pytest.fixture(params=["wsgi", "asgi"])
def interface(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=LOOPS)
def process(request: pytest.FixtureRequest, interface: str, tmp_path: Path) -> Iterator[HybridProcess]:
    """A worker; at the end the log holds no traceback."""
    with serving(f"pressed:{interface}", "--loop", request.param, "--workers", "1", cwd=tmp_path) as process:
        yield process
        assert "Traceback" not in process.stderr


@contextmanager
def nothing_left(process: HybridProcess) -> Iterator[None]:
    """Check that the worker serves after the block, without a leaked descriptor."""
    (worker,) = process.worker_pids()
    assert_serves(process)
    held = descriptors(worker)
    yield
    assert_serves(process)
    eventually(lambda: descriptors(worker) <= held, "no descriptor is left over")
    assert process.worker_pids() == [worker]


def assert_serves(process: HybridProcess) -> None:
    """Send a request as a well-behaved client."""
    with connected(process.address) as sock:
        send_request(sock, "/hello", "connection: close")
        assert read_answer(sock).status == 200


def notes(folder: Path) -> list[str]:
    """The application's notes."""
    path = folder / "notes.seen"
    return path.read_text().splitlines() if path.exists() else []


def test_a_reset_within_the_head_affects_no_other_client(process: HybridProcess) -> None:
    with nothing_left(process):
        for head in (b"", b"G", b"GET / HTTP/1.1\r\nHo", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /"):
            for _ in range(TIMES):
                with cut_off(process.address, head):
                    pass


def test_a_reset_within_the_body_is_reported_to_the_application(
    process: HybridProcess, interface: str, tmp_path: Path
) -> None:
    """It waits for more of the body at that moment: another client has been served since it began."""
    with nothing_left(process):
        for _ in range(TIMES):
            with cut_off(process.address, b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345"):
                assert_serves(process)
        told = [f"/read {TOLD[interface]['/read']}"] * TIMES
        assert eventually(lambda: notes(tmp_path)[TIMES - 1 :] and notes(tmp_path), "all are told") == told


def test_a_reset_within_an_endless_response_is_reported_to_the_application(
    process: HybridProcess, interface: str, tmp_path: Path
) -> None:
    with nothing_left(process):
        for _ in range(TIMES):
            with cut_off(process.address, b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n") as sock:
                read_exactly(sock, 1_000_000)
        told = [f"/endless {TOLD[interface]['/endless']}"] * TIMES
        assert eventually(lambda: notes(tmp_path)[TIMES - 1 :] and notes(tmp_path), "all are told") == told


def test_a_reset_after_pipelined_requests_ends_them_all(process: HybridProcess) -> None:
    with nothing_left(process):
        for _ in range(TIMES):
            pipeline = b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n" + b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n" * 50
            with cut_off(process.address, pipeline) as sock:
                read_exactly(sock, 1_000_000)


def test_the_response_is_complete_for_a_half_closed_client(process: HybridProcess) -> None:
    with nothing_left(process), connected(process.address) as sock:
        send_request(sock, f"/pieces?{BLOCKS}")
        sock.shutdown(socket.SHUT_WR)
        answer = read_answer(sock)
        assert (answer.status, len(answer.body)) == (200, BLOCKS * 65_536)
        assert sock.recv(1) == b""
