"""Each kind of application gets its connections, on every loop that runs in this process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from support.greens import OURS
from support.hub import run_on, tcp_pair, until
from support.records import logged
from support.rows import for_each

from hybrid.workers.apps.protocol import ProtocolFactory
from hybrid.workers.apps.stream import AsyncStream, SyncStream
from hybrid.workers.common.connections import Connections, printable, report
from hybrid.workers.common.incidents import Incidents
from hybrid.workers.hub.hub_runtime import HubRuntime
from hybrid.workers.runtime import Accepted

Body = Callable[["Server"], Awaitable[None]]


class Server:
    """One accepted TCP connection at an interface, and the client's end."""

    def __init__(
        self, runtime: HubRuntime, client: socket.socket, accept: Callable[[], Accepted], log: list[str]
    ) -> None:
        self.runtime = runtime
        self.loop = runtime.loop
        self.client = client
        self.connections = Connections()
        self.log = log
        self._accept = accept

    def serve(self, interface: Any, target: Any) -> None:
        interface(target, self.runtime, self.connections).connected(self._accept())

    async def hears(self, size: int = 65536) -> bytes:
        return await self.loop.sock_recv(self.client, size)

    async def ended(self) -> None:
        await until(lambda: not len(self.connections))


def on_loops(body: Body) -> Any:
    @pytest.mark.parametrize("loop", OURS)
    def test(loop: str) -> None:
        async def main(runtime: HubRuntime) -> None:
            with tcp_pair() as (client, server), socket.socket() as like_the_listener, logged() as log:
                client.setblocking(False)
                await body(
                    Server(runtime, client, lambda: Accepted(server.detach(), ("127.0.0.1", 7), like_the_listener), log)
                )
                await asyncio.sleep(0.001)

        run_on(loop, main)

    test.__name__ = test.__qualname__ = body.__name__
    test.__module__ = body.__module__
    return test


# --- sync handlers


def _called_as_wsgi(environ: Any, answer: Any) -> None:
    answer("200 OK", [])


@on_loops
async def test_a_doubtful_guess_is_hinted_at_once(server: Server) -> None:
    interface = SyncStream(_called_as_wsgi, server.runtime, server.connections)
    interface.guessed = True
    interface.connected(server._accept())
    await server.ended()
    assert [line for line in server.log if "--interface wsgi" in line] == server.log[1:]
    assert not interface.guessed


@on_loops
async def test_an_explicit_interface_is_not_hinted_at(server: Server) -> None:
    server.serve(SyncStream, _called_as_wsgi)
    await server.ended()
    assert not [line for line in server.log if "--interface" in line]


@on_loops
async def test_a_sync_handler_gets_a_socket_that_is_closed_when_it_returns(server: Server) -> None:
    def handle(sock: socket.socket, address: object) -> None:
        sock.sendall(repr(address).encode() + sock.recv(10))

    server.serve(SyncStream, handle)
    assert len(server.connections) == 1
    await server.loop.sock_sendall(server.client, b" hello")
    assert await server.hears() == b"('127.0.0.1', 7) hello"
    assert await server.hears() == b""
    await server.ended()
    assert server.log == []


@on_loops
async def test_a_sync_handler_that_raises_is_logged_and_its_socket_closed(server: Server) -> None:
    def handle(sock: socket.socket, address: object) -> None:
        raise LookupError("mine")

    server.serve(SyncStream, handle)
    assert await server.hears() == b""
    await server.ended()
    [line] = server.log
    assert line.startswith("ERROR handler failed: LookupError: mine, ")
    assert line.endswith(" in handle (connection from 127.0.0.1:7)")


@on_loops
async def test_a_sync_handler_is_ended_early_by_a_kill(server: Server) -> None:
    cleaned: list[str] = []

    def handle(sock: socket.socket, address: object) -> None:
        try:
            sock.recv(10)
        finally:
            cleaned.append("cleaned")

    server.serve(SyncStream, handle)
    assert server.connections.end_all() == 1
    assert await server.hears() == b""
    await server.ended()
    assert (cleaned, server.log) == (["cleaned"], [])


# --- async handlers


@on_loops
async def test_an_async_handler_gets_reader_and_writer(server: Server) -> None:
    async def handle(reader: Any, writer: Any) -> None:
        writer.write((await reader.read(10)).upper())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server.serve(AsyncStream, handle)
    await server.loop.sock_sendall(server.client, b"hello")
    assert await server.hears() == b"HELLO"
    assert await server.hears() == b""
    await server.ended()
    assert server.log == []


@on_loops
async def test_an_async_handler_that_raises_is_logged_and_its_connection_closed(server: Server) -> None:
    async def handle(reader: Any, writer: Any) -> None:
        writer.write(b"before")
        raise LookupError("mine")

    server.serve(AsyncStream, handle)
    assert await server.hears() == b"before"
    assert await server.hears() == b""
    await server.ended()
    assert [line.partition(",")[0] for line in server.log] == ["ERROR handler failed: LookupError: mine"]


@on_loops
async def test_an_async_handler_is_ended_early_by_a_cancel(server: Server) -> None:
    cleaned: list[str] = []

    async def handle(reader: Any, writer: Any) -> None:
        try:
            await reader.read(10)
        finally:
            cleaned.append("cleaned")

    server.serve(AsyncStream, handle)
    await asyncio.sleep(0.005)
    assert server.connections.end_all() == 1
    with contextlib.suppress(ConnectionResetError):
        assert await server.hears() == b""
    await server.ended()
    assert (cleaned, server.log) == (["cleaned"], [])


@on_loops
async def test_a_connection_with_a_referenced_writer_stays_open_after_the_handler(server: Server) -> None:
    kept: list[Any] = []

    async def handle(reader: Any, writer: Any) -> None:
        kept.append((reader, writer))

    server.serve(AsyncStream, handle)
    await until(lambda: kept)
    await asyncio.sleep(0.002)
    assert len(server.connections) == 1
    kept[0][1].write(b"later")
    assert await server.hears() == b"later"
    assert server.connections.end_all() == 1
    with contextlib.suppress(ConnectionResetError):
        assert await server.hears() == b""
    await server.ended()


@pytest.mark.filterwarnings("ignore:unclosed <StreamWriter:ResourceWarning")
@pytest.mark.parametrize("loop", ["select", "poll", "epoll"])
def test_on_the_hub_an_unreferenced_connection_is_closed_after_the_handler(loop: str) -> None:
    async def body(server: Server) -> None:
        async def handle(reader: Any, writer: Any) -> None:
            writer.write(b"bye")

        server.serve(AsyncStream, handle)
        assert await server.hears() == b"bye"
        assert await server.hears() == b""
        await server.ended()

    on_loops(body)(loop)


@on_loops
async def test_an_already_broken_connection_is_one_log_line(server: Server) -> None:
    async def handle(reader: Any, writer: Any) -> None:
        raise AssertionError("never called")

    class Refusing:
        loop = server.loop
        create_task = staticmethod(server.loop.create_task)

        async def open_streams(self, accepted: Accepted, closed: object) -> None:
            accepted.socket().close()
            raise ConnectionResetError("gone")

    interface = AsyncStream(handle, Refusing(), server.connections)  # type: ignore[arg-type]
    interface.connected(server._accept())
    await server.ended()
    assert server.log == ["INFO connection from 127.0.0.1:7 lost: gone"]


# --- protocols


class Echo(asyncio.Protocol):
    lost: list[object]

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data.upper())
        if data == b"bye":
            self.transport.close()


class Slotted(asyncio.Protocol):
    __slots__ = ("transport",)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data.upper())
        self.transport.close()


class FailingAtTheEnd(Echo):
    def connection_lost(self, exc: Exception | None) -> None:
        raise LookupError("at the end")


@on_loops
async def test_protocols_of_any_class_serve_and_are_counted(server: Server) -> None:
    for protocol in (Echo, Slotted):
        with tcp_pair() as (client, accepted):
            client.setblocking(False)
            made: list[asyncio.Protocol] = []

            def make(
                protocol: type[asyncio.Protocol] = protocol, made: list[asyncio.Protocol] = made
            ) -> asyncio.Protocol:
                made.append(protocol())
                return made[-1]

            factory = ProtocolFactory(make, server.runtime, server.connections)
            factory.connected(Accepted(accepted.detach(), ("127.0.0.1", 7), client))
            assert len(server.connections) == 1
            await server.loop.sock_sendall(client, b"bye")
            assert await server.loop.sock_recv(client, 10) == b"BYE"
            await server.ended()
            assert isinstance(made[0], protocol)
            assert await server.loop.sock_recv(client, 10) == b""
    assert server.log == []


@on_loops
async def test_a_protocol_is_ended_early_by_an_abort(server: Server) -> None:
    server.serve(ProtocolFactory, Echo)
    await server.loop.sock_sendall(server.client, b"x")
    assert await server.hears() == b"X"
    assert server.connections.end_all() == 1
    await server.ended()


@on_loops
async def test_a_protocol_that_fails_at_its_end_is_counted_as_ended(server: Server) -> None:
    seen: list[object] = []
    server.loop.set_exception_handler(lambda loop, context: seen.append(context.get("exception")))
    server.serve(ProtocolFactory, FailingAtTheEnd)
    await server.loop.sock_sendall(server.client, b"bye")
    await server.ended()
    await until(lambda: seen)


@on_loops
async def test_a_factory_that_raises_is_logged_and_the_connection_closed(server: Server) -> None:
    def factory() -> asyncio.Protocol:
        raise LookupError("mine")

    server.serve(ProtocolFactory, factory)
    assert await server.hears() == b""
    await server.ended()
    assert [line.partition(",")[0] for line in server.log] == ["ERROR handler failed: LookupError: mine"]


@on_loops
async def test_a_protocol_cancelled_before_it_began_leaves_nothing(server: Server) -> None:
    server.serve(ProtocolFactory, Echo)
    server.connections.end_all()
    await server.ended()
    with contextlib.suppress(ConnectionResetError):
        assert await server.hears() == b""


@on_loops
async def test_an_async_handler_cancelled_before_it_began_leaves_nothing(server: Server) -> None:
    async def handle(reader: Any, writer: Any) -> None:
        await reader.read(10)

    server.serve(AsyncStream, handle)
    server.connections.end_all()
    await server.ended()
    with contextlib.suppress(ConnectionResetError):
        assert await server.hears() == b""


# --- the registry of connections


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


def test_wait_empty_returns_immediately_without_a_connection_and_else_at_its_end() -> None:
    async def main() -> None:
        connections = Connections()
        assert await connections.wait_empty(0)
        entry = connections.add("x")
        asyncio.get_running_loop().call_soon(entry.closed)
        assert await connections.wait_empty(5)
        assert len(connections) == 0

    run(main)


def test_waiting_for_connections_has_a_timeout() -> None:
    async def main() -> None:
        connections = Connections()
        connections.add("x")
        for timeout in (0, -1, 0.001):
            assert not await connections.wait_empty(timeout)

    run(main)


def test_the_end_of_a_connection_is_reported_once() -> None:
    connections = Connections()
    told: list[str] = []
    connections.on_discard.append(lambda: told.append("end"))
    entry = connections.add("x")
    entry.closed()
    entry.closed()
    assert told == ["end"]
    connections.add("y")
    assert connections.end_all() == 1  # there is nothing to end yet


def test_the_error_of_a_handler_is_one_line_unless_the_worker_ended_it() -> None:
    import greenlet

    incidents = Incidents()
    with logged() as log:
        for error in (None, greenlet.GreenletExit(), asyncio.CancelledError()):
            report(error, "x", incidents)
        report(BrokenPipeError(32, "Broken pipe"), ("::1", 5, 0, 0), incidents)
        report(LookupError("never raised"), "", incidents)
    assert log == [
        "INFO connection from [::1]:5 lost: [Errno 32] Broken pipe",
        "ERROR handler failed: LookupError: never raised (connection from a UNIX socket)",
    ]


@for_each(
    ("address", "text"),
    [
        (("127.0.0.1", 80), "127.0.0.1:80"),
        (("::1", 80, 0, 0), "[::1]:80"),
        ("", "a UNIX socket"),
        (b"\0abstract", r"UNIX socket b'\x00abstract'"),
        ("/run/x", "UNIX socket /run/x"),
    ],
)
def test_addresses_are_printed_in_readable_form(address: object, text: str) -> None:
    assert printable(address) == text
