"""Datagram handlers: a limited number at a time, replies that wait for room, and errors that stop nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.greens import OURS
from support.hub import run_on, turns, until
from support.records import logged

from hybrid.workers.apps import datagram
from hybrid.workers.apps.datagram import Datagrams, DatagramTransport
from hybrid.workers.common.connections import Connections
from hybrid.workers.hub.hub_runtime import HubRuntime


class Server:
    def __init__(self, runtime: HubRuntime, sock: socket.socket, client: socket.socket, log: list[str]) -> None:
        self.runtime = runtime
        self.sock = sock
        self.client = client
        self.log = log
        self.connections = Connections()

    def serve(self, handler: Callable[..., Any], is_async: bool) -> Datagrams:
        served = Datagrams(handler, is_async, self.runtime, self.connections, self.sock)
        served.start()
        return served

    def says(self, data: bytes) -> None:
        self.client.sendto(data, self.sock.getsockname())

    async def hears(self) -> bytes:
        return await self.runtime.loop.sock_recv(self.client, 65536)


def on_loops(body: Callable[[Server], Awaitable[None]]) -> Any:
    @pytest.mark.parametrize("loop", OURS)
    def test(loop: str) -> None:
        async def main(runtime: HubRuntime) -> None:
            with (
                socket.socket(type=socket.SOCK_DGRAM) as sock,
                socket.socket(type=socket.SOCK_DGRAM) as client,
                logged() as log,
            ):
                for each in (sock, client):
                    each.bind(("127.0.0.1", 0))
                    each.setblocking(False)
                await body(Server(runtime, sock, client, log))

        run_on(loop, main)

    test.__name__ = test.__qualname__ = body.__name__
    test.__module__ = body.__module__
    return test


@on_loops
async def test_handlers_of_both_kinds_reply(server: Server) -> None:
    async def handle_async(data: bytes, address: Any, transport: Any) -> None:
        await asyncio.sleep(0)
        transport.sendto(data.upper(), address)

    def handle_sync(data: bytes, address: Any, transport: Any) -> None:
        server.runtime.sleep(0)
        transport.sendto(data.upper(), address)

    for handler, is_async in ((handle_async, True), (handle_sync, False)):
        served = server.serve(handler, is_async)
        server.says(b"hello")
        assert await server.hears() == b"HELLO"
        await until(lambda: not len(server.connections))
        served.stop()
    assert server.log == []


@on_loops
async def test_a_handler_that_raises_is_logged_and_the_next_datagram_is_served(server: Server) -> None:
    def fail(data: bytes, address: Any, transport: Any) -> None:
        raise LookupError(data.decode())

    async def fail_async(data: bytes, address: Any, transport: Any) -> None:
        raise LookupError(data.decode())

    for handler, is_async in ((fail, False), (fail_async, True)):
        served = server.serve(handler, is_async)
        for data in (b"one", b"two"):
            server.says(data)
            await until(lambda data=data: any(data.decode() in line for line in server.log))
        served.stop()
        assert [line.partition(",")[0] for line in server.log] == [
            "ERROR handler failed: LookupError: one",
            "ERROR handler failed: LookupError: two",
        ]
        server.log.clear()


@on_loops
async def test_at_most_the_limit_run_at_a_time(server: Server) -> None:
    release = asyncio.Event()
    running = most = 0

    async def handle(data: bytes, address: Any, transport: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await release.wait()
        running -= 1

    before, datagram.MOST_AT_ONCE = datagram.MOST_AT_ONCE, 5
    try:
        served = server.serve(handle, True)
        for _ in range(12):
            server.says(b"x")
        await until(lambda: running == 5)
        await turns(20)
        assert (running, most) == (5, 5)
        release.set()
        for _ in range(100):
            await turns()
        assert (running, most, len(server.connections)) == (0, 5, 0)
        served.stop()
    finally:
        datagram.MOST_AT_ONCE = before


@on_loops
async def test_stopping_handles_received_datagrams_and_reads_no_more(server: Server) -> None:
    seen: list[bytes] = []

    async def handle(data: bytes, address: Any, transport: Any) -> None:
        seen.append(data)

    served = server.serve(handle, True)
    for _ in range(50):
        server.says(b"x")
    served.stop()
    await until(lambda: len(seen) == 50)
    server.says(b"late")
    await turns(20)
    assert len(seen) == 50


@on_loops
async def test_handlers_of_both_kinds_are_ended_early(server: Server) -> None:
    ended: list[str] = []

    def wait(data: bytes, address: Any, transport: Any) -> None:
        try:
            server.runtime.sleep(9)
        finally:
            ended.append("sync")

    async def wait_async(data: bytes, address: Any, transport: Any) -> None:
        try:
            await asyncio.sleep(9)
        finally:
            ended.append("async")

    for handler, is_async in ((wait, False), (wait_async, True)):
        served = server.serve(handler, is_async)
        server.says(b"x")
        await until(lambda: len(server.connections))
        await turns()
        server.connections.end_all()
        await until(lambda: not len(server.connections))
        served.stop()
    assert (ended, server.log) == (["sync", "async"], [])


@on_loops
async def test_unsendable_data_is_refused_or_ignored(server: Server) -> None:
    transport = DatagramTransport(server.runtime.loop, server.sock)
    with pytest.raises(TypeError, match="not 'str'"):
        transport.sendto("text", ("127.0.0.1", 9))
    with pytest.raises(ValueError, match="requires an address"):
        transport.sendto(b"x")
    transport.sendto(bytes(70_000), server.client.getsockname())  # EMSGSIZE
    transport.sendto(bytearray(b"fits"), server.client.getsockname())
    assert await server.hears() == b"fits"
    with pytest.raises(RuntimeError, match="belongs to the worker"):
        transport.close()
    with pytest.raises(RuntimeError, match="belongs to the worker"):
        transport.abort()
    assert not transport.is_closing()
    assert transport.get_extra_info("sockname") == server.sock.getsockname()
    assert transport.get_extra_info("socket") is server.sock
    assert transport.get_extra_info("peername", "none") == "none"


@pytest.mark.parametrize("loop", OURS)
def test_replies_wait_for_room_in_order_and_the_newest_are_dropped_without_a_spin(loop: str, tmp_path: Any) -> None:
    async def main(runtime: HubRuntime) -> None:
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client,
        ):
            path = str(tmp_path / "client")
            client.bind(path)
            sock.setblocking(False)
            client.setblocking(False)
            transport = DatagramTransport(runtime.loop, sock)
            tries = 0
            real_try = transport._try

            def counted(data: Any, addr: Any) -> bool:
                nonlocal tries
                tries += 1
                return real_try(data, addr)

            transport._try = counted  # type: ignore[method-assign]
            sent = 0
            while not transport.unsent():
                transport.sendto(str(sent).encode(), path)
                sent += 1
            for _ in range(1500):
                transport.sendto(str(sent).encode(), path)
                sent += 1
            assert (transport.unsent(), transport.dropped) == (1000, 501)
            before = tries
            await turns(300)
            assert tries - before < 30  # the peer's queue is full, which poll does not detect
            received: list[int] = []
            while len(received) < sent - 501:
                received.append(int(await runtime.loop.sock_recv(client, 100)))
            assert received == list(range(sent - 501))
            assert transport.unsent() == 0
            await turns()

    run_on(loop, main)


@on_loops
async def test_a_network_error_stops_nothing(server: Server) -> None:
    seen: list[bytes] = []

    async def handle(data: bytes, address: Any, transport: Any) -> None:
        seen.append(data)

    with socket.socket(type=socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))
        gone = nobody.getsockname()
    server.sock.connect(gone)
    server.sock.send(b"refused")  # the ICMP error is reported by the next call
    served = server.serve(handle, True)
    await turns(10)
    served.stop()
    assert (seen, server.log) == ([], [])
