"""What a worker counts, on every loop and over every interface: exactly what its clients have seen."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.clients import ask
from support.lone_worker import DEADLINE, LoneWorker, Start
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import eventually, serving
from support.worker_process import NAP

from hybrid.workers.contract.messages import Ping, Ready
from hybrid.workers.contract.scoreboard import ANSWERED, ASKED, DURATION_BOUNDS, Snapshot

HEAD = b"GET %b HTTP/1.1\r\nHost: here\r\n\r\n"
CLOSING = b"GET /200 HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
POST = b"POST /200 HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\n" + bytes(1000)


@pytest.fixture
def start() -> Iterator[Start]:
    made = Start()
    yield made
    made.close()


class Client:
    """A connection that counts what it sends and gets."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sent = 0
        self.got = 0

    def sends(self, data: bytes) -> None:
        self.sock.sendall(data)
        self.sent += len(data)

    def gets(self, end: bytes) -> bytes:
        """Return what comes, up to `end`."""
        got = b""
        while not got.endswith(end):
            part = self.sock.recv(10_000)
            assert part, got
            got += part
        self.got += len(got)
        return got

    def asks(self, request: bytes, end: bytes = b"!") -> bytes:
        self.sends(request)
        return self.gets(end)


def ready(worker: LoneWorker) -> LoneWorker:
    """Wait until it is ready, and let nobody have to be told of its connections."""
    assert isinstance(worker.says(), Ready)
    worker.record.watched = True
    return worker


def counted(worker: LoneWorker) -> Snapshot:
    """Return the record after a ping."""
    asked = worker.record.times[ASKED] = time.monotonic()
    worker.is_told(Ping())
    eventually(lambda: worker.record.times[ANSWERED] == asked, "the ping is answered")
    return worker.record.snapshot()


def longer_than(seconds: float, seen: Snapshot) -> int:
    """Return the number of requests in the counts above the bound `seconds`."""
    return sum(seen.totals.durations[DURATION_BOUNDS.index(seconds) + 1 :])


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
def test_a_worker_counts_what_its_clients_see(loop: str, interface: str, start: Start, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    worker = ready(start(loop, f"{interface}_status", interface=interface))
    with start.connect() as sock, start.connect() as other:
        client = Client(sock)
        for status in (200, 200, 200, 201, 302, 404, 404, 500):
            assert client.asks(HEAD % b"/%d" % status).startswith(b"HTTP/1.1 %d" % status)
        client.asks(POST)
        assert client.asks(HEAD % b"/200" + HEAD % b"/200" + HEAD % b"/404", b"404!").count(b"HTTP/1.1") == 3
        napping = Client(other)
        napping.sends(HEAD % f"/nap?{gate}".encode())
        eventually(lambda: counted(worker).in_flight == 1, "the other request is in progress")
        gate.touch()
        napping.gets(b"!")
        client.asks(CLOSING)
    with start.connect() as sock:
        refused = Client(sock)
        assert b" 400 " in refused.asks(b"GET / HTTP/1.1\r\n\r\n", b"\n")
    seen = counted(worker)
    totals = seen.totals
    assert totals.requests == 14
    assert totals.responses == (0, 9, 1, 4, 1)
    assert sum(totals.durations) == 14
    assert longer_than(0.1, seen) >= 1
    assert totals.duration_sum >= NAP * 0.9
    assert totals.bytes_in == client.sent + napping.sent + refused.sent
    assert totals.bytes_out == client.got + napping.got + refused.got
    assert totals.busy > 0
    assert (seen.in_flight, seen.websockets) == (0, 0)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_killed_worker_loses_the_counts_of_one_turn_at_most(loop: str, start: Start) -> None:
    worker = ready(start(loop, "asgi_status", interface="asgi"))
    with start.connect() as sock:
        client = Client(sock)
        for _ in range(5):  # each in a turn of its own
            client.asks(HEAD % b"/200")
        worker.process.kill()
        worker.process.wait(DEADLINE)
    totals = worker.record.totals()
    assert 4 <= totals.responses[1] <= 5
    assert sum(totals.durations) == totals.responses[1]


@pytest.mark.parametrize("loop", LOOPS)
def test_an_open_websocket_is_no_request_in_progress(loop: str, start: Start) -> None:
    worker = ready(start(loop, "asgi", interface="asgi"))
    with start.connect() as sock:
        client = Client(sock)
        assert b" 101 " in client.asks(HANDSHAKE, b"\r\n\r\n")
        seen = counted(worker)
        assert (seen.in_flight, seen.websockets) == (0, 1)
        assert seen.totals.responses == (1, 0, 0, 0, 0)
        assert not any(seen.totals.durations)
        assert (seen.totals.bytes_in, seen.totals.bytes_out) == (client.sent, client.got)
    eventually(lambda: counted(worker).websockets == 0, "it is closed")
    assert worker.record.totals().responses == (1, 0, 0, 0, 0)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("target", ["handle", "handle_async", "Protocol"])
def test_connections_of_handlers_have_a_duration(loop: str, target: str, start: Start) -> None:
    worker = ready(start(loop, target))
    with start.connect() as first, start.connect() as second:
        for sock in (first, second):
            Client(sock).asks(b"once", b"E")
        assert counted(worker).in_flight == 2
    eventually(lambda: sum(counted(worker).totals.durations) == 2, "both have ended")
    assert not any(worker.record.totals().responses)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("target", ["answer", "answer_sync"])
def test_datagrams_have_a_duration_and_bytes(loop: str, target: str, start: Start) -> None:
    worker = ready(start(loop, target, "datagram"))
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(DEADLINE)
        for _ in range(3):
            client.sendto(b"hello", start.udp.getsockname())
            assert client.recv(100) == b"HELLO"
    totals = counted(worker).totals
    assert (totals.requests, sum(totals.durations)) == (3, 3)
    assert (totals.bytes_in, totals.bytes_out) == (15, 15)


# --- the service


def rows(path: Path) -> list[dict[str, Any]]:
    """Ask the supervisor for its workers; none before it listens, and while one is being forked."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(DEADLINE)
        try:
            sock.connect(str(path))
        except OSError:
            return []
        with sock.makefile("rw") as line:
            line.readline()
            line.write('{"id": 1, "request": "status"}\n')
            line.flush()
            answer = json.loads(line.readline())
    found: list[dict[str, Any]] = answer["result"]["services"][0]["workers"]
    return found


def the_one_ready(path: Path, other_than: int = 0) -> dict[str, Any]:
    """Wait until there is one worker, another than this one, and serves; return its row."""

    def look() -> dict[str, Any] | None:
        found = rows(path)
        is_it = len(found) == 1 and found[0]["state"] == "ready" and found[0]["pid"] != other_than
        return found[0] if is_it else None

    row = eventually(look, "there is one worker, and it serves")
    assert row is not None
    return row


@pytest.mark.parametrize("loop", LOOPS)
def test_the_counts_of_a_slot_go_on_when_its_worker_is_killed_or_replaced(loop: str, tmp_path: Path) -> None:
    path = tmp_path / "control"
    arguments = ("--workers", "1", "--loop", loop, "--control", str(path))
    with serving("asgi_pages:page", *arguments, cwd=tmp_path) as process:
        for _ in range(5):
            ask(process.address, b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        # a status waits for the counts of this moment, but not for a worker that waits for a core
        eventually(lambda: the_one_ready(path)["requests"] == 5, "all are counted")
        before = the_one_ready(path)
        assert (before["requests"], before["responses"]["2xx"], sum(before["durations"]["counts"])) == (5, 5, 5)
        os.kill(before["pid"], signal.SIGKILL)
        after = the_one_ready(path, before["pid"])
        assert {name: after[name] for name in ("requests", "accepted", "responses", "bytes_in", "bytes_out")} == {
            name: before[name] for name in ("requests", "accepted", "responses", "bytes_in", "bytes_out")
        }
        assert after["durations"] == before["durations"]
        assert after["busy_seconds"] >= before["busy_seconds"] > 0
        ask(process.address, b"GET /none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        process.signal(signal.SIGHUP)
        last = the_one_ready(path, after["pid"])
        assert (last["requests"], last["responses"]["2xx"], last["responses"]["4xx"]) == (6, 5, 1)


def test_the_memory_of_another_program_is_told_and_it_counts_nothing(tmp_path: Path) -> None:
    path = tmp_path / "control"
    (tmp_path / "hybrid.toml").write_text('[service.mail]\ncommand = ["sleep", "1000"]\n')
    process = HybridProcess("run", "--control", str(path), cwd=tmp_path)
    try:
        row = the_one_ready(path)
        assert row["memory"] > 0
        assert (row["requests"], row["busy"], row["durations"]) == (None, None, None)
        process.stop()
    finally:
        process.close()
