"""A client that is always fast does not keep its worker for itself, whatever the handler, on every loop."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.clients import ask
from support.loops import LOOPS
from support.service import serving

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
LINES = b"0123456789\n" * 5000
HELLO = b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
REQUESTS = {"coroutines": b"hello\n", "blocking": b"hello\n", "asgi": HELLO, "wsgi": HELLO}
POST = b"POST /receive HTTP/1.1\r\nHost: here\r\nContent-Length: 1000000000000\r\n\r\n"
SEND = b"GET /send HTTP/1.1\r\nHost: here\r\n\r\n"
# the bytes that a greedy client sends first, and then repeatedly; none: it reads
GREEDY = {
    "coroutines": {"send": (b"send\n", b""), "lines": (b"readline\n", LINES), "exactly": (b"readexactly\n", LINES)},
    "blocking": {"send": (b"send\n", b""), "lines": (b"readline\n", LINES)},
    "asgi": {"send": (SEND, b""), "receive": (POST, LINES), "websocket": (UPGRADE, b"")},
    "wsgi": {"send": (SEND, b""), "receive": (POST, LINES)},
}
PATIENCE = 2.0  # seconds; starved clients waited for 4 and more, others wait for some 10 ms
GREEDY_CLIENT = """
import socket, sys
host, port, first, more = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3]), bytes.fromhex(sys.argv[4])
with socket.create_connection((host, port)) as sock:
    sock.sendall(first)
    moved = 0
    while True:
        if more:
            sock.sendall(more)
            moved += len(more)
        else:
            moved += len(sock.recv(1 << 18))
        if moved > 1 << 22:
            print("going", flush=True)
            moved = -1 << 60
"""


@contextmanager
def greedy(address: tuple[str, int], first: bytes, more: bytes) -> Iterator[None]:
    """Run a client as fast as possible in a separate process; the block starts once it runs."""
    arguments = (sys.executable, "-S", "-c", GREEDY_CLIENT, address[0], str(address[1]), first.hex(), more.hex())
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"going\n"
            yield
        finally:
            process.kill()


@pytest.mark.parametrize("target", REQUESTS)
@pytest.mark.parametrize("loop", LOOPS)
def test_a_fast_client_leaves_the_worker_to_others_too(loop: str, target: str, tmp_path: Path) -> None:
    threads = ("--threads", "0") if target == "wsgi" else ()
    with serving(f"endless:{target}", "--workers", "1", "--loop", loop, *threads, cwd=tmp_path) as server:
        for first, more in GREEDY[target].values():
            with greedy(server.address, first, more):
                assert min(waits(server.address, REQUESTS[target])) < PATIENCE


def waits(address: tuple[str, int], request: bytes) -> list[float]:
    """Ask until an answer comes soon, three times at most; return how long each took.

    This machine may be busy, and the server is where it is not: a client that is starved waits each time.
    """
    took: list[float] = []
    while len(took) < 3 and min(took, default=PATIENCE) >= PATIENCE:
        began = time.monotonic()
        assert ask(address, request).endswith(b"hello")
        took.append(time.monotonic() - began)
    return took
