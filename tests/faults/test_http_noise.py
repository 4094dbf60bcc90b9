"""What any client can do to its connection does not fill the log: one line at level INFO, however many connections."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.certificates import certificates
from support.clients import connected
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import eventually, serving
from support.tcp import connections
from support.websocket import HANDSHAKE

BEGINNINGS = (
    b"GET / HT",
    b"garbage\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc",
    b"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
)
TALK = HANDSHAKE.replace(b"GET / ", b"GET /stay ") + b"\r\n"
SESSIONS = (TALK, TALK + b"\xff\xff\xff\xff", TALK + b"\x88\x80abcd")
HELLOS = (b"", b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x00\x05junk!", b"\x16\x03\x01\x02\x00\x01")


def end(sock: socket.socket, how: str) -> None:
    """Leave in the usual way, with a reset, or by ending one half (over TLS: by telling so) before the rest."""
    if how == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif how == "half":
        with contextlib.suppress(OSError, ValueError):
            sock.settimeout(0.02)
            sock.unwrap() if isinstance(sock, ssl.SSLSocket) else sock.shutdown(socket.SHUT_WR)
            sock.recv(1000)


@contextlib.contextmanager
def client(process: HybridProcess, context: ssl.SSLContext | None) -> Iterator[socket.socket]:
    with connected(process.address) as plain:
        if context is None:
            yield plain
        else:
            with context.wrap_socket(plain, server_hostname="localhost") as secure:
                yield secure


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
@pytest.mark.parametrize("loop", LOOPS)
def test_clients_that_misbehave_are_not_worth_a_line_each(
    loop: str, interface: str, secure: bool, tmp_path: Path
) -> None:
    made = certificates()
    tls = ("--certfile", str(made.both)) if secure else ()
    options = ("--workers", "1", "--loop", loop, "--interface", interface, *tls)
    with serving(f"witness:{interface}", *options, cwd=tmp_path) as process:
        since = len(process.lines)
        context = made.client_context() if secure else None
        for beginning in (*BEGINNINGS, *(SESSIONS if interface == "asgi" else ())):
            for how in ("close", "reset", "half"):
                with client(process, context) as sock, contextlib.suppress(OSError):
                    sock.sendall(beginning)
                    end(sock, how)
        for hello in HELLOS if secure else ():
            for how in ("close", "reset", "half"):
                with connected(process.address) as sock:
                    sock.sendall(hello)
                    end(sock, how)
        [worker] = process.worker_pids()
        eventually(lambda: not connections(worker, process.address[1]), "all connections have ended")
        assert len(process.lines[since:]) <= 1, process.stderr
