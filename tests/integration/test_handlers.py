"""Peers and handlers, well and badly behaved, for sync and async stream handlers on every loop.

One server per loop and form of handler serves all tests of this module; its handler does what the first line of a
connection says (tests/applications/blocking.py and coroutines.py).
"""

from __future__ import annotations

import hashlib
import random
import re
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.clients import ask, connected, read_all, read_exactly
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import eventually, resident, serving

MIB = 1 << 20
RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close(2) sends RST instead of FIN


@pytest.fixture(scope="module", params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=("blocking", "coroutines"))
def server(
    request: pytest.FixtureRequest, loop: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HybridProcess]:
    cwd = tmp_path_factory.mktemp("handlers")
    with serving(f"{request.param}:handle", "--workers", "1", "--loop", loop, cwd=cwd, executed=True) as process:
        yield process


def assert_alive(server: HybridProcess) -> None:
    """Check that the worker answers and is still the first one."""
    assert int(ask(server.address, b"pid\n")) == server.worker_pids()[0]
    assert "worker died" not in server.stderr


# --- peers


def test_a_client_that_shuts_its_half_down_is_still_answered(server: HybridProcess) -> None:
    assert ask(server.address, b"count\n" + b"x" * 100_000) == b"100000"


def test_a_handler_that_shuts_its_half_down_still_receives(server: HybridProcess) -> None:
    with connected(server.address) as sock:
        sock.sendall(b"shut\n")
        assert read_all(sock) == b"bye"
        sock.sendall(b"and good night")
    assert eventually(lambda: ask(server.address, b"heard\n"), "the handler has received").endswith(b"and good night")


@pytest.mark.parametrize("form", ["blocking", "coroutines"])
def test_a_client_that_resets_is_one_line_in_the_log(form: str, loop: str, tmp_path: Path) -> None:
    with serving(f"{form}:handle", "--workers", "1", "--loop", loop, cwd=tmp_path) as process:
        seen = len(process.lines)
        with connected(process.address) as sock:
            sock.sendall(b"ask\n")
            assert sock.recv(1) == b"?"
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        line = process.wait_for_log("connection from .* lost", since=seen)
        assert line.string.count("INFO") == 1
        assert_alive(process)
        assert len(process.lines) == seen + 1


def test_a_client_that_sends_nothing_delays_no_other(server: HybridProcess) -> None:
    with connected(server.address) as silent:
        assert_alive(server)
        silent.sendall(b"pid\n")
        assert int(read_all(silent)) == server.worker_pids()[0]


def test_a_client_that_leaves_without_a_word_is_no_news(server: HybridProcess) -> None:
    with connected(server.address) as sock:
        port = sock.getsockname()[1]
    assert_alive(server)
    assert f":{port}" not in server.stderr


def test_a_client_that_never_reads_costs_no_memory(server: HybridProcess) -> None:
    assert_alive(server)
    pid = server.worker_pids()[0]
    before = resident(pid)
    with connected(server.address) as sock:
        sock.sendall(b"flood\n")
        assert sock.recv(1, socket.MSG_PEEK) == b"x"
        for _ in range(50):  # the flooding handler has had 50 turns at least when all are answered
            assert_alive(server)
        assert resident(pid) - before < 8 * MIB
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    assert_alive(server)


def test_a_client_that_sends_byte_by_byte_is_answered_while_others_are(server: HybridProcess) -> None:
    with connected(server.address) as slow:
        for number, byte in enumerate(b"echo\nslowly"):
            slow.sendall(bytes([byte]))
            if number % 4 == 0:
                assert_alive(server)
        slow.shutdown(socket.SHUT_WR)
        assert read_all(slow) == b"slowly"


def test_32_mib_go_there_and_back_unchanged(server: HybridProcess) -> None:
    payload = random.Random(1).randbytes(MIB) * 32
    with connected(server.address, timeout=20) as sock:
        sock.sendall(b"echo\n")
        with ThreadPoolExecutor(1) as sender:
            sender.submit(lambda: (sock.sendall(payload), sock.shutdown(socket.SHUT_WR)))
            received = read_exactly(sock, len(payload))
            assert sock.recv(1) == b""
    assert hashlib.sha256(received).digest() == hashlib.sha256(payload).digest()


# --- handlers that end badly


def complaints(server: HybridProcess, since: int) -> list[str]:
    """The warnings and errors since then; but a greenlet that fails in another test may be logged only now."""
    lines = server.lines[since:]
    return [line for line in lines if re.search(" (WARNING|ERROR) ", line) and "stumble failed" not in line]


def test_a_handler_that_raises_is_one_record_with_file_and_line(server: HybridProcess) -> None:
    seen = len(server.lines)
    assert ask(server.address, b"fail\n") == b""
    where = r"/.*/(blocking|coroutines)\.py:\d+ in _fail"
    server.wait_for_log(f"handler failed: LookupError: as asked, {where}", since=seen)
    assert_alive(server)
    assert len(complaints(server, seen)) == 1


def test_system_exit_ends_the_handler_and_not_the_worker(server: HybridProcess) -> None:
    seen = len(server.lines)
    assert ask(server.address, b"exit\n") == b""
    server.wait_for_log("handler failed: SystemExit: 3", since=seen)
    assert_alive(server)


def test_greenlet_exit_ends_the_handler_in_silence(server: HybridProcess) -> None:
    seen = len(server.lines)
    assert ask(server.address, b"greenlet_exit\n") == b""
    assert_alive(server)
    assert complaints(server, seen) == []


# --- features of handlers


def test_a_handler_can_give_up_waiting(server: HybridProcess) -> None:
    with connected(server.address) as sock:
        sock.sendall(b"timeout\n")
        assert read_all(sock) == b"timed out"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        pytest.param(b"spawn\n", b"[1, 2, 3] [3, 1, 2]", id="spawn-sleep-joinall-get"),
        pytest.param(b"await\n", b"42", id="await_-green"),
        pytest.param(b"connect\n", b"hello", id="connect"),
        pytest.param(b"kill\n", b"['finally'] True", id="kill-cancel"),
        pytest.param(b"many 1000\n", b"1000", id="1000-at-once"),
    ],
)
def test_handlers_run_greenlets_and_coroutines(server: HybridProcess, command: bytes, expected: bytes) -> None:
    with connected(server.address) as sock:
        sock.sendall(command)
        assert read_all(sock) == expected
