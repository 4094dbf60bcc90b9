"""WebSockets of an ASGI application on every loop, with a real client and with a misbehaving one."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.certificates import certificates
from support.clients import connected, read_all, read_exactly
from support.loops import LOOPS
from support.process import DEADLINE, HybridProcess
from support.service import eventually, resident, serving
from support.websocket import BINARY, HANDSHAKE, PING, TEXT, close_frame, code_of, frame, received
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from hybrid.workers.contract.exits import Exit

TARGET = "websockets_app:app"
CHATTERS = 200
MIB = 1024 * 1024


@pytest.fixture(scope="module", params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextlib.contextmanager
def service(loop: str, cwd: Path, *arguments: str) -> Iterator[HybridProcess]:
    with serving(TARGET, "--workers", "1", "--loop", loop, *arguments, cwd=cwd) as process:
        yield process


@pytest.fixture(scope="module")
def usual(loop: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    """One service for all tests with default options that end nothing."""
    with service(loop, tmp_path_factory.mktemp("usual")) as process:
        yield process


@contextlib.asynccontextmanager
async def talking(process: HybridProcess, path: str, **options: Any) -> AsyncIterator[ClientConnection]:
    """Connect to a path; compression is off unless stated otherwise."""
    host, port = process.address
    scheme = "wss" if "ssl" in options else "ws"
    options = {"compression": None, "ping_interval": None, "max_size": None, **options}
    async with connect(f"{scheme}://{host}:{port}{path}", **options) as client:
        yield client


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(2 * DEADLINE):
            await scenario

    asyncio.run(in_time())


@contextlib.contextmanager
def raw(process: HybridProcess, path: str, fields: bytes = b"") -> Iterator[socket.socket]:
    """Yield a socket after its handshake."""
    with connected(process.address) as sock:
        sock.sendall(HANDSHAKE.replace(b"/chat?room=1", path.encode()) + fields + b"\r\n")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += read_exactly(sock, 1)
        assert head.startswith(b"HTTP/1.1 101 ")
        yield sock


def notes(cwd: Path) -> list[str]:
    path = cwd / "notes"
    return path.read_text().splitlines() if path.exists() else []


async def end_of(client: ClientConnection) -> tuple[int, str]:
    """Return code and reason of the server's close frame."""
    with pytest.raises(ConnectionClosed) as closed:
        await client.recv()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


# -- messages


@pytest.mark.parametrize("compression", ["deflate", None])
def test_messages_of_every_kind_are_echoed(usual: HybridProcess, compression: str | None) -> None:
    messages: list[str | bytes] = ["hello", "", b"", "tschüß" * 100, b"\0\xff" * 70, b"x" * 70_000, "y" * 3 * MIB]

    async def scenario(process: HybridProcess) -> None:
        async with talking(process, "/echo", compression=compression) as client:
            assert ("deflate" in str(client.response.headers)) == (compression is not None)  # type: ignore[union-attr]
            for message in messages:
                await client.send(message)
                assert await client.recv() == message
            await client.send(["in ", "three ", "parts"])
            assert await client.recv() == "in three parts"
            for number in range(200):
                await client.send(str(number))
            assert [await client.recv() for _ in range(200)] == [str(number) for number in range(200)]
            await (await client.ping())

    run(scenario(usual))


def test_messages_go_over_tls(loop: str, tmp_path: Path) -> None:
    made = certificates()

    async def scenario(process: HybridProcess) -> None:
        context: ssl.SSLContext = made.client_context()
        async with talking(process, "/echo", ssl=context) as client:
            await client.send("secret")
            assert await client.recv() == "secret"
        assert client.close_code == 1000

    with service(loop, tmp_path, "--certfile", str(made.certificate), "--keyfile", str(made.key)) as process:
        run(scenario(process))
        eventually(lambda: notes(tmp_path), "the end")
    assert notes(tmp_path) == ["1000"]


def test_a_subprotocol_and_header_fields_are_negotiated(usual: HybridProcess) -> None:
    async def scenario(process: HybridProcess) -> None:
        async with talking(process, "/last_offer", subprotocols=["one", "two"]) as client:
            assert client.subprotocol == "two"
            assert client.response is not None
            assert client.response.headers["X-Offered"] == "yes"

    run(scenario(usual))


def test_two_hundred_chat(usual: HybridProcess) -> None:
    """Each client sends one message, and all clients receive all of them."""

    async def listen(client: ClientConnection) -> set[Any]:
        return {await client.recv() for _ in range(CHATTERS)}

    async def scenario(process: HybridProcess) -> None:
        async with contextlib.AsyncExitStack() as stack:
            entering = (stack.enter_async_context(talking(process, "/chat")) for _ in range(CHATTERS))
            clients = [await client for client in entering]
            listening = [asyncio.ensure_future(listen(client)) for client in clients]
            await asyncio.gather(*(client.send(f"this is {number}") for number, client in enumerate(clients)))
            expected = {f"this is {number}" for number in range(CHATTERS)}
            assert all(heard == expected for heard in await asyncio.gather(*listening))

    run(scenario(usual))


# -- -- closing


def test_close_codes_go_both_ways(loop: str, tmp_path: Path) -> None:
    async def scenario(process: HybridProcess) -> None:
        async with talking(process, "/echo") as client:
            await client.close(4002, "genug")
        assert client.close_code == 4002
        async with talking(process, "/close") as client:
            assert await end_of(client) == (4001, "tschüß")
        async with talking(process, "/leave") as client:
            assert await end_of(client) == (1000, "")
        async with talking(process, "/fail") as client:
            assert await end_of(client) == (1011, "")

    with service(loop, tmp_path) as process:
        run(scenario(process))
        process.wait_for_log("ValueError: on purpose")
        eventually(lambda: len(notes(tmp_path)) == 2, "both have noted the end")
    assert notes(tmp_path) == ["4002 genug", "4001"]


def test_a_client_that_is_cut_off_is_1006(loop: str, tmp_path: Path) -> None:
    with service(loop, tmp_path) as process:
        with raw(process, "/echo"):
            pass
        eventually(lambda: notes(tmp_path), "the application has noted the end")
    assert notes(tmp_path) == ["1006"]


@pytest.mark.parametrize(
    ("code", "data"),
    [
        (1002, frame(TEXT, b"x", mask=None)),
        (1007, frame(TEXT, b"\xff")),
        (1009, frame(BINARY, b"x" * 2000) + b"more" * 100_000),
    ],
)
def test_a_protocol_violation_gets_its_close_code(loop: str, tmp_path: Path, code: int, data: bytes) -> None:
    """A client that keeps sending also gets the close frame: no reset overtakes it."""
    with service(loop, tmp_path, "--websocket-max-size", "1000") as process:
        with raw(process, "/echo") as client:
            client.sendall(data)
            (close,) = received(read_all(client))
            assert code_of(close) == code
        eventually(lambda: notes(tmp_path), "the application has noted the end")
    assert notes(tmp_path)[0].startswith(str(code))


def test_a_silent_client_is_pinged_then_closed(loop: str, tmp_path: Path) -> None:
    arguments = ("--websocket-ping-interval", "200ms", "--websocket-ping-timeout", "200ms")
    with service(loop, tmp_path, *arguments) as process:
        with raw(process, "/echo") as client:
            ping, close = received(read_all(client))
        assert ping.opcode == PING
        assert code_of(close) == 1011
        eventually(lambda: notes(tmp_path), "the application has noted the end")
    assert notes(tmp_path) == ["1011 keepalive ping timeout"]


def test_a_client_that_answers_pings_stays(loop: str, tmp_path: Path) -> None:
    """The library answers by itself while it waits for a message."""

    async def scenario(process: HybridProcess) -> None:
        async with talking(process, "/echo") as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.2):
                    await client.recv()
            await client.send("still here")
            assert await client.recv() == "still here"

    arguments = ("--websocket-ping-interval", "200ms", "--websocket-ping-timeout", "800ms")
    with service(loop, tmp_path, *arguments) as process:
        run(scenario(process))


# -- refusals


def test_an_application_can_refuse_with_a_reason(usual: HybridProcess) -> None:
    async def scenario(process: HybridProcess) -> None:
        with pytest.raises(InvalidStatus) as refused:
            async with talking(process, "/refuse"):
                pass
        assert refused.value.response.status_code == 403
        with pytest.raises(InvalidStatus) as denied:
            async with talking(process, "/deny"):
                pass
        response = denied.value.response
        assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Basic")
        assert response.body == b"who are you?"

    run(scenario(usual))


BAD = {
    "no key": (400, b"Sec-WebSocket-Key:", b"X:"),
    "a short key": (400, b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhl"),
    "two keys": (400, b"Sec-WebSocket-Key:", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key:"),
    "no version": (426, b"Sec-WebSocket-Version: 13\r\n", b""),
    "another version": (426, b"Version: 13", b"Version: 8"),
    "a body": (400, b"Host:", b"Content-Length: 1\r\nHost:"),
    "a second protocol": (426, b"Upgrade: websocket", b"Upgrade: websocket\r\nUpgrade: h2c"),
    "an extension that is none": (400, b"Host:", b"Sec-WebSocket-Extensions: =\r\nHost:"),
    "no host": (400, b"Host: example.test\r\n", b""),
}


def test_bad_handshakes_are_answered_and_the_connection_closes(usual: HybridProcess) -> None:
    for name, (status, old, new) in BAD.items():
        with connected(usual.address) as client:
            client.sendall(HANDSHAKE.replace(old, new, 1) + b"\r\n")
            answer = read_all(client)
        assert answer.startswith(b"HTTP/1.1 %d " % status), (name, answer)
        assert b"connection: close" in answer


# -- back-pressure


def test_a_client_that_reads_nothing_costs_little_and_is_cut(loop: str, tmp_path: Path) -> None:
    with service(loop, tmp_path, "--send-timeout", "500ms") as process:
        (worker,) = process.worker_pids()
        before = resident(worker)
        with raw(process, "/flood"):
            eventually(lambda: notes(tmp_path), "it is cut")
            assert resident(worker) - before < 16 * MIB
        (line,) = notes(tmp_path)
        assert int(line.removeprefix("sent ")) * 65_536 < 32 * MIB, "more than the kernel's buffers take"


def test_an_application_that_receives_nothing_stops_its_client(loop: str, tmp_path: Path) -> None:
    data = frame(BINARY, b"x" * 65_000)
    with service(loop, tmp_path, "--graceful-timeout", "1") as process:
        (worker,) = process.worker_pids()
        before = resident(worker)
        with raw(process, "/deaf") as client:
            client.settimeout(0.5)
            sent = 0
            with contextlib.suppress(TimeoutError):
                while sent < 100 * MIB:
                    sent += client.send(data)
            assert sent < 32 * MIB, "more than the kernel's buffers take"
            assert resident(worker) - before < 16 * MIB


# -- a stop


def test_at_a_stop_all_clients_get_1012_and_the_worker_ends_in_time(loop: str, tmp_path: Path) -> None:
    async def scenario(process: HybridProcess) -> None:
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(talking(process, "/echo")) for _ in range(50)]
            process.signal(signal.SIGTERM)
            assert [await end_of(client) for client in clients] == [(1012, "")] * 50
            assert await asyncio.to_thread(process.wait) == Exit.OK  # long before the grace period ends

    with service(loop, tmp_path) as process:
        run(scenario(process))
    assert notes(tmp_path) == ["1012"] * 50


def test_a_stop_waits_no_longer_than_the_grace_period(loop: str, tmp_path: Path) -> None:
    """For a client that answers no close frame, an application that never receives, an unanswered handshake."""
    with (
        service(loop, tmp_path, "--graceful-timeout", "2") as process,
        raw(process, "/echo") as silent,
        raw(process, "/deaf") as deaf,
        connected(process.address) as asking,
    ):
        asking.sendall(HANDSHAKE.replace(b"/chat?room=1", b"/undecided") + b"\r\n")
        eventually(lambda: "undecided" in notes(tmp_path), "the application is asked")
        process.signal(signal.SIGTERM)
        assert read_all(asking).startswith(b"HTTP/1.1 503 ")
        assert code_of(received(read_exactly(deaf, 4))[0]) == 1012
        deaf.sendall(close_frame(1012))
        assert code_of(received(read_exactly(silent, 4))[0]) == 1012
        assert process.wait() == Exit.OK
    assert sorted(notes(tmp_path)) == ["1012", "undecided", "websocket.disconnect"]
