"""WSGI applications under `hybrid run`, on every loop, in greenlets and in threads."""

from __future__ import annotations

import hashlib
import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.certificates import certificates
from support.clients import connected
from support.loops import LOOPS
from support.memory import memory_of
from support.process import HybridProcess
from support.service import serving
from support.wsgi import Answer, read_answer, send_request

from hybrid.workers.contract.exits import Exit

# arguments of a run: each loop with its default, and with the alternative if it has one
PLACES = {
    **{loop: ("--loop", loop) for loop in LOOPS},
    **{f"{loop}-threads": ("--loop", loop, "--threads", "4") for loop in LOOPS if loop != "gevent"},
    **{f"{loop}-greenlets": ("--loop", loop, "--threads", "0") for loop in LOOPS if loop in ("asyncio", "uvloop")},
}
HOST = "localhost"
BLOCK = bytes(range(256)) * 256
SIZE = int(os.environ.get("HYBRID_TEST_BODY_MIB", "64")) * 2**20  # bytes of the large bodies
GROWTH = 16 * 2**20  # bytes that a worker's memory may grow by, whatever the size


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def running(place: str, cwd: Path, *arguments: str, target: str = "wsgi_plain:application", **options: Any) -> Any:
    with serving(target, "--workers", "1", *PLACES[place], *arguments, cwd=cwd, **options) as process:
        yield process


@pytest.fixture(scope="module")
def usual(place: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    """One service for all tests with default options that end nothing."""
    with running(place, tmp_path_factory.mktemp("usual"), executed=True) as process:
        yield process


def get(process: HybridProcess, target: str, *fields: str, method: str = "GET", body: bytes = b"") -> Answer:
    with connected(process.address) as sock:
        send_request(sock, target, "connection: close", *fields, method=method, body=body)
        return read_answer(sock, method)


def test_every_kind_of_request_is_answered(usual: HybridProcess, tmp_path: Path) -> None:
    """Below `/validated` the standard library checks each call, and complains in the log."""
    (tmp_path / "file").write_bytes(BLOCK * 20)
    digest = hashlib.sha256(BLOCK * 10).hexdigest().encode()
    seen = len(usual.lines)
    assert get(usual, "/validated/hello").body.startswith(b"hello from")
    assert get(usual, "/validated/hello", method="HEAD").body == b""
    assert get(usual, "/validated/upload", method="POST", body=BLOCK * 10).body == digest
    assert get(usual, "/validated/download?30").body == BLOCK * 30
    assert get(usual, f"/validated/send?{tmp_path}/file").body == BLOCK * 20
    assert get(usual, "/validated/nap?0.01").status == 200
    said = "\n".join(usual.lines[seen:])
    assert "AssertionError" not in said
    assert "ERROR" not in said


def test_an_error_is_answered_with_500_and_logged_with_its_traceback(usual: HybridProcess) -> None:
    seen = len(usual.lines)
    with connected(usual.address) as sock:
        send_request(sock, "/error")
        assert read_answer(sock).status == 500
        send_request(sock, "/hello")
        assert read_answer(sock).status == 200
    usual.wait_for_log("the application failed at GET /error", since=seen)
    usual.wait_for_log("LookupError: a broken page", since=seen)


def test_waiting_requests_do_not_block_others(usual: HybridProcess, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with connected(usual.address) as waiting:
        send_request(waiting, f"/nap?{gate}")
        for _ in range(10):
            assert get(usual, "/hello").status == 200
        assert select.select([waiting], [], [], 0)[0] == [], "it still waits"
        gate.touch()
        assert read_answer(waiting).status == 200


def test_hybrids_sockets_serve_in_greenlets(usual: HybridProcess) -> None:
    seen = len(usual.lines)
    answer = get(usual, "/fetch")
    if b"wsgi-" in get(usual, "/hello").body:  # a thread
        assert answer.status == 500
        usual.wait_for_log("no hybrid loop runs in this thread", since=seen)
    else:
        assert b"hello from" in answer.body


def test_a_stuck_request_does_not_keep_the_worker(place: str, tmp_path: Path) -> None:
    """It ends by itself, within the grace period; if it were killed, the exit code would be another."""
    with running(place, tmp_path, "--graceful-timeout", "2") as process, connected(process.address) as sock:
        send_request(sock, "/nap?1000")
        _wait_taken(process)
        assert process.stop() == Exit.OK
    assert "killing" not in process.stderr.lower(), process.stderr


def test_an_endless_response_does_not_keep_the_worker(place: str, tmp_path: Path) -> None:
    with running(place, tmp_path, "--graceful-timeout", "2") as process, connected(process.address) as sock:
        send_request(sock, "/events")
        assert b"tick" in sock.recv(65_536) + sock.recv(65_536)
        assert process.stop() == Exit.OK
    assert "killing" not in process.stderr.lower(), process.stderr


def test_requests_in_progress_are_answered_before_the_worker_ends(place: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with running(place, tmp_path) as process, connected(process.address) as sock, connected(process.address) as idle:
        send_request(sock, f"/nap?{gate}")
        _wait_taken(process)
        send_request(idle, "/hello")
        assert read_answer(idle).status == 200
        process.signal(signal.SIGTERM)
        assert idle.recv(1) == b"", "the worker drains"
        gate.touch()
        answer = read_answer(sock)
        assert (answer.status, answer.header("connection")) == (200, "close")
        assert process.wait() == Exit.OK


def test_it_serves_over_tls(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(BLOCK * 20)
    cert = certificates()
    arguments = ("--certfile", str(cert.certificate), "--keyfile", str(cert.key))
    with (
        running(place, tmp_path, *arguments) as process,
        connected(process.address) as plain,
        cert.client_context().wrap_socket(plain, server_hostname=HOST) as sock,
    ):
        for target, expected in (
            ("/hello", b"hello"),
            (f"/send?{tmp_path}/file", BLOCK * 20),
            ("/nap?0", b"hello"),
        ):
            send_request(sock, target)
            assert read_answer(sock).body.startswith(expected)
        send_request(sock, "/upload", method="POST", body=BLOCK * 30)
        assert read_answer(sock).body == hashlib.sha256(BLOCK * 30).hexdigest().encode()


# --- large bodies


def test_a_large_upload_takes_no_memory(usual: HybridProcess) -> None:
    digest = hashlib.sha256()
    with connected(usual.address, timeout=60) as sock:
        get(usual, "/upload", method="POST", body=BLOCK * 64)
        with memory_of(usual) as peak:
            head = f"POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: {SIZE}\r\n\r\n"
            sock.sendall(head.encode())
            for _ in range(SIZE // len(BLOCK)):
                sock.sendall(BLOCK)
                digest.update(BLOCK)
            assert read_answer(sock).body == digest.hexdigest().encode()
    assert peak.growth < GROWTH


@pytest.mark.parametrize("way", ["generator", "file"])
def test_a_large_download_takes_no_memory(usual: HybridProcess, tmp_path: Path, way: str) -> None:
    blocks = SIZE // len(BLOCK)
    target = f"/download?{blocks}"
    if way == "file":
        path = tmp_path / "large"
        with path.open("wb") as file:
            for _ in range(blocks):
                file.write(BLOCK)
        target = f"/send?{path}"
    expected, received = hashlib.sha256(), hashlib.sha256()
    for _ in range(blocks):
        expected.update(BLOCK)
    with connected(usual.address, timeout=60) as sock:
        get(usual, "/download?64")
        with memory_of(usual) as peak:
            sock.sendall(f"GET {target} HTTP/1.0\r\n\r\n".encode())
            received.update(sock.recv(65_536).partition(b"\r\n\r\n")[2])
            while part := sock.recv(1 << 20):
                received.update(part)
    assert received.hexdigest() == expected.hexdigest()
    assert peak.growth < GROWTH


def _wait_taken(process: HybridProcess) -> None:
    """Wait until an earlier request has begun: a later one on another connection is answered."""
    for _ in range(3):
        get(process, "/hello")
