"""An ASGI application that waits, on every loop: for disconnects, for slow reading or sending, and for the stop."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from support.clients import ask, connected
from support.hub import reset
from support.loops import LOOPS
from support.memory import memory_of
from support.process import DEADLINE, HybridProcess
from support.referee import BLOCK, get, get_on, judged, seen, wait_seen
from support.wsgi import read_answer, send_request
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from hybrid.workers.contract.exits import Exit

SIZE = int(os.environ.get("HYBRID_TEST_BODY_MIB", "64")) * 2**20  # bytes of the large bodies
GROWTH = 16 * 2**20  # bytes that a worker's memory may grow by, whatever the size
KERNEL = 32 * 2**20  # bytes; more than the kernel buffers for a connection


@pytest.fixture(scope="module", params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def usual(loop: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    """One service for all tests with default options that end nothing and do not check the pages' counters."""
    with judged(loop, tmp_path_factory.mktemp("usual")) as process:
        yield process


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(2 * DEADLINE):
            await scenario

    asyncio.run(in_time())


# --- clients that leave


@pytest.mark.parametrize("abruptly", [False, True])
def test_an_application_is_told_of_a_disconnect(loop: str, tmp_path: Path, abruptly: bool) -> None:
    """Wherever it waits for one; sending then raises OSError, which is not logged."""

    def leave(sock: socket.socket) -> None:
        if abruptly:
            reset(sock)
        sock.close()

    with judged(loop, tmp_path) as process:
        with connected(process.address) as waiting, connected(process.address) as sleeping:
            send_request(waiting, "/wait-gone?goes", method="POST", body=b"body")
            send_request(sleeping, "/sleep-on?0.3&goes", method="POST", body=b"body")
            wait_seen(tmp_path, "/wait-gone waits", "/sleep-on sleeps")
            leave(waiting)
            leave(sleeping)
        both = "/wait-gone http.disconnect http.disconnect http.disconnect"
        wait_seen(tmp_path, both, "/wait-gone OSError", "/sleep-on woke up to http.disconnect")
        with connected(process.address) as streaming, connected(process.address) as listening:
            send_request(streaming, "/download?1000000&goes")
            send_request(listening, "/events?goes")
            assert streaming.recv(10)
            assert listening.recv(10)
            leave(streaming)
            leave(listening)
        wait_seen(tmp_path, "/download OSError", "/events ended")
        assert get(process, "/hello").status == 200
        assert "ERROR" not in process.stderr, process.stderr


def test_a_half_closed_client_gets_its_response(usual: HybridProcess) -> None:
    answer = ask(usual.address, b"GET /nap?0.05 HTTP/1.1\r\nhost: a\r\n\r\n")
    assert answer.endswith(b"\r\n\r\nrested")
    answer = ask(usual.address, b"GET /hello HTTP/1.1\r\nhost: a\r\n\r\n" * 3)
    assert answer.count(b"HTTP/1.1 200 OK") == 3


def test_an_incomplete_body_is_a_disconnect(loop: str, tmp_path: Path) -> None:
    with judged(loop, tmp_path) as process:
        with connected(process.address) as sock:
            sock.sendall(b"POST /sleep-on?0.2&goes HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf")
            wait_seen(tmp_path, "/sleep-on sleeps")
        wait_seen(tmp_path, "/sleep-on woke up to http.disconnect")


# --- work after the response


def test_work_continues_after_the_response(loop: str, tmp_path: Path) -> None:
    """The connection serves the next request meanwhile."""
    gate = tmp_path / "gate"
    with judged(loop, tmp_path) as process:
        with connected(process.address) as sock:
            assert get_on(sock, f"/background?{gate}").body == b"begun"
            assert get_on(sock, "/nap?0").status == 200
            assert "/background finished" not in seen(tmp_path)
        gate.touch()
        wait_seen(tmp_path, "/background behind the answer: http.disconnect", "/background finished")


def test_a_stop_waits_for_work_after_the_response(loop: str, tmp_path: Path) -> None:
    with judged(loop, tmp_path) as process:
        assert get(process, "/background?0.5").body == b"begun"
        assert process.stop() == Exit.OK
    assert seen(tmp_path) == ["/background behind the answer: http.disconnect", "/background finished"]


# --- the stop


def test_a_response_during_the_stop_ends_the_connection(loop: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with judged(loop, tmp_path) as process, connected(process.address) as sock, connected(process.address) as idle:
        assert get_on(sock, "/hello").header("connection") is None
        send_request(sock, f"/nap?{gate}")
        assert get_on(idle, "/hello").status == 200, "the one before has begun"
        process.signal(signal.SIGTERM)
        assert idle.recv(1) == b"", "the worker drains"
        gate.touch()
        answer = read_answer(sock)
        assert (answer.status, answer.header("connection"), answer.body) == (200, "close", b"rested")
        assert process.wait() == Exit.OK


def test_endless_work_is_told_and_then_cancelled(loop: str, tmp_path: Path) -> None:
    """The worker ends by itself, within the grace period; if it were killed, the exit code would be another."""
    with (
        judged(loop, tmp_path, "--graceful-timeout", "2") as process,
        connected(process.address) as stubborn,
        connected(process.address) as waiting,
        connected(process.address) as streaming,
    ):
        send_request(stubborn, "/stubborn")
        send_request(waiting, "/wait-gone?goes")
        send_request(streaming, "/download?1000000&goes")
        assert streaming.recv(10)
        assert get(process, "/background?1000").status == 200
        wait_seen(tmp_path, "/stubborn begins", "/wait-gone waits")
        assert process.stop() == Exit.OK
    assert "killing" not in process.stderr.lower(), process.stderr
    told = "/wait-gone http.disconnect http.disconnect http.disconnect"
    assert {"/stubborn cancelled", "/background cancelled", told} <= set(seen(tmp_path))


async def _subscribe(process: HybridProcess, stack: AsyncExitStack, version: str) -> asyncio.StreamReader:
    reader, writer = await asyncio.open_connection(*process.address)
    stack.callback(writer.close)
    writer.write(f"GET /events?goes HTTP/{version}\r\nhost: a\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"text/event-stream" in head
    return reader


async def _closed_with(client: ClientConnection) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        await client.recv()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def test_a_stop_ends_fifty_websockets_and_ten_event_streams_cleanly(loop: str, tmp_path: Path) -> None:
    """The streams end with a complete body, the WebSockets with 1012, long before the grace period of 30 seconds."""

    async def scenario(process: HybridProcess) -> None:
        host, port = process.address
        async with AsyncExitStack() as stack:
            options: dict[str, Any] = {"ping_interval": None}
            entering = (connect(f"ws://{host}:{port}/chat{number}", **options) for number in range(50))
            clients = [await stack.enter_async_context(client) for client in entering]
            for client in clients:
                await client.send("hello")
                assert await client.recv() == "hello"
            streams = [await _subscribe(process, stack, "1.1") for _ in range(10)]
            old = await _subscribe(process, stack, "1.0")  # as reverse proxies often speak to their servers
            process.signal(signal.SIGTERM)
            assert await asyncio.gather(*(_closed_with(client) for client in clients)) == [1012] * 50
            for rest in await asyncio.gather(*(stream.read() for stream in streams)):
                assert rest.endswith(b"data: tick\n\n\r\n0\r\n\r\n")
            assert (await old.read()).endswith(b"data: tick\n\n")
            assert await asyncio.to_thread(process.wait) == Exit.OK  # it waits for 20 seconds

    with judged(loop, tmp_path) as process:
        run(scenario(process))
        assert "ERROR" not in process.stderr
    assert sorted(seen(tmp_path)) == sorted(
        [f"/chat{number} 1012" for number in range(50)] + ["/events ended"] * 11,
    )


# --- back-pressure


def test_large_bodies_take_no_memory(usual: HybridProcess, tmp_path: Path) -> None:
    blocks = SIZE // len(BLOCK)
    digest = hashlib.sha256()
    for _ in range(blocks):
        digest.update(BLOCK)
    path = tmp_path / "large"
    with path.open("wb") as file:
        for _ in range(blocks):
            file.write(BLOCK)
    with connected(usual.address, timeout=60) as sock:
        get(usual, "/upload", method="POST", body=BLOCK * 64)
        with memory_of(usual) as peak:
            sock.sendall(f"POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: {SIZE}\r\n\r\n".encode())
            for _ in range(blocks):
                sock.sendall(BLOCK)
            assert read_answer(sock).body == digest.hexdigest().encode()
            for target in (f"/download?{blocks}", f"/path?{path}"):
                assert _digest_of(usual, target) == digest.hexdigest()
    assert peak.growth < GROWTH


def _digest_of(process: HybridProcess, target: str) -> str:
    received = hashlib.sha256()
    with connected(process.address, timeout=60) as sock:
        sock.sendall(f"GET {target} HTTP/1.0\r\n\r\n".encode())
        received.update(sock.recv(65_536).partition(b"\r\n\r\n")[2])
        while part := sock.recv(1 << 20):
            received.update(part)
    return received.hexdigest()


def test_an_application_waits_for_a_client_that_does_not_read(usual: HybridProcess) -> None:
    blocks = SIZE // len(BLOCK)
    with connected(usual.address) as sock, memory_of(usual) as peak:
        send_request(sock, f"/download?{blocks}")
        for _ in range(20):
            assert get(usual, "/nap?0.01").status == 200, "others are served"
        assert read_answer(sock).body == BLOCK * blocks
    assert peak.growth < GROWTH


def test_a_client_waits_for_an_application_that_does_not_read(loop: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with judged(loop, tmp_path) as process, connected(process.address) as sock, memory_of(process) as peak:
        sock.sendall(f"POST /sleep-on?{gate}&goes HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n".encode())
        sock.settimeout(0.5)
        sent = 0
        with suppress(TimeoutError):
            while sent < 3 * KERNEL:
                sent += sock.send(BLOCK)
        assert sent < KERNEL
        gate.touch()
    assert peak.growth < GROWTH


# --- many at once


def test_many_requests_at_once_keep_apart(usual: HybridProcess) -> None:
    """The application checks the context, the state and the task of each."""
    targets = ("/hello", "/nap?0.01", "/tasks", "/nap?0", "/show", "/background?0.01", "/upload", "/echo")

    async def client(process: HybridProcess, number: int) -> None:
        reader, writer = await asyncio.open_connection(*process.address)
        for turn in range(20):
            target = targets[(number + turn) % len(targets)]
            last = b"connection: close\r\n" if turn == 19 else b""
            writer.write(b"GET %b HTTP/1.1\r\nhost: a\r\n%b\r\n" % (target.encode(), last))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK"), head
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    async def scenario(process: HybridProcess) -> None:
        await asyncio.gather(*(client(process, number) for number in range(64)))

    run(scenario(usual))
