"""Connections that wait for a PROXY header: the bytes read, the bytes left, and every way to an end."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from support.hub import DEADLINE
from support.records import logged

from hybrid.workers.apps.preambles import PendingPreambles
from hybrid.workers.common.connections import Connections
from hybrid.workers.http.proxy_protocol import MAX_V2, SIGNATURE, Preamble
from hybrid.workers.runtime import Accepted

V1 = b"PROXY TCP4 192.0.2.7 203.0.113.9 56324 443\r\n"
LARGEST = SIGNATURE + b"\x20\x00" + (MAX_V2 - 16).to_bytes(2) + bytes(MAX_V2 - 16)
PEER = ("127.0.0.1", 4711)


@dataclasses.dataclass
class Scene:
    """One worker's connections, with verbs for their clients."""

    preambles: PendingPreambles
    connections: Connections
    log: list[str]
    opened: list[tuple[Accepted, Preamble]] = dataclasses.field(default_factory=list)
    clients: list[socket.socket] = dataclasses.field(default_factory=list)

    def connects(self, data: bytes = b"") -> socket.socket:
        """A client connects and sends `data`."""
        server, client = socket.socketpair()
        self.clients.append(client)
        client.sendall(data)
        client.setblocking(False)
        entry = self.connections.add(PEER)
        self.preambles.receive(Accepted(server.detach(), PEER, client), entry)
        return client

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():
                await asyncio.sleep(0)

    async def until_opened(self) -> tuple[Any, Preamble, bytes]:
        """Return the address of the next connection, its preamble, and the bytes left for its transport."""
        await self.until(lambda: self.opened)
        accepted, preamble = self.opened.pop()
        with socket.socket(fileno=accepted.fd) as sock:
            sock.setblocking(False)
            try:
                return accepted.address, preamble, sock.recv(65_536)
            except BlockingIOError:
                return accepted.address, preamble, b""

    async def until_closed(self, client: socket.socket) -> None:
        async with asyncio.timeout(DEADLINE):
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.get_running_loop().sock_recv(client, 1) == b""
        await self.until(lambda: not len(self.connections))


def play(
    script: Callable[[Scene], Coroutine[Any, Any, None]],
    timeout: float = DEADLINE,
    trusts: Callable[[Accepted], bool] = lambda accepted: True,
) -> list[str]:
    """Run a script; return the log. Nothing may be open or pending at its end."""

    async def main() -> list[str]:
        with logged(logging.DEBUG) as log:
            connections = Connections()
            loop = asyncio.get_running_loop()
            preambles = PendingPreambles(loop, timeout, trusts, lambda *args: scene.opened.append((args[0], args[2])))
            scene = Scene(preambles, connections, log)
            try:
                await script(scene)
            finally:
                for client in scene.clients:
                    client.close()
                connections.end_all()
            assert scene.opened == []
            assert preambles._pending == set()
            return log

    return asyncio.run(main())


@pytest.mark.parametrize("behind", [b"", b"GET / HTTP/1.1", b"x" * 50_000])
@pytest.mark.parametrize("header", [V1, LARGEST], ids=["v1", "largest"])
def test_exactly_the_header_is_read(header: bytes, behind: bytes) -> None:
    async def script(scene: Scene) -> None:
        scene.connects(header + behind)
        assert len(scene.opened) == 1, "what is there is taken at once"
        _, _, rest = await scene.until_opened()
        assert rest == behind

    assert play(script) == []


def test_a_partial_header_does_not_spin_the_loop() -> None:
    async def script(scene: Scene) -> None:
        client = scene.connects()
        for byte in range(len(V1) - 1):
            client.sendall(V1[byte : byte + 1])
            for _ in range(3):
                await asyncio.sleep(0)
            server = next(iter(scene.preambles._pending)).accepted.fd
            with socket.socket(fileno=os.dup(server)) as sock, pytest.raises(BlockingIOError):
                sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        client.sendall(V1[-1:] + b"behind")
        address, preamble, rest = await scene.until_opened()
        assert (address, preamble.server, rest) == (("192.0.2.7", 56324), ("203.0.113.9", 443), b"behind")

    assert play(script) == []


def test_a_proxys_own_connections_keep_their_address() -> None:
    async def script(scene: Scene) -> None:
        scene.connects(b"PROXY UNKNOWN\r\n")
        address, preamble, _ = await scene.until_opened()
        assert (address, preamble.client) == (PEER, None)

    play(script)


def test_the_client_is_logged_from_then_on() -> None:
    async def script(scene: Scene) -> None:
        scene.connects(V1)
        assert [entry.address for entry in scene.connections._open] == [("192.0.2.7", 56324)]
        await scene.until_opened()

    play(script)


def test_an_untrusted_peer_is_closed_without_reading() -> None:
    async def script(scene: Scene) -> None:
        await scene.until_closed(scene.connects(V1))

    [line] = play(script, trusts=lambda accepted: accepted.address != PEER)
    assert "127.0.0.1:4711: it is not in --forwarded-allow-ips" in line


def test_a_malformed_header_closes_with_its_reason() -> None:
    async def script(scene: Scene) -> None:
        await scene.until_closed(scene.connects(b"GET / HTTP/1.1\r\n"))
        client = scene.connects(b"PROXY ")
        client.sendall(b"UDP")
        client.sendall(b"\r\n")
        await scene.until_closed(client)

    first, second = play(script)
    assert "127.0.0.1:4711: no PROXY header" in first
    assert "version 1: the line is malformed" in second


@pytest.mark.parametrize(("data", "said"), [(b"", 0), (b"PROXY", 1)])
def test_a_partial_header_at_the_end_is_logged_and_an_empty_connection_is_not(data: bytes, said: int) -> None:
    async def script(scene: Scene) -> None:
        client = scene.connects(data)
        client.shutdown(socket.SHUT_WR)
        await scene.until_closed(client)

    assert len(play(script)) == said


def test_the_deadline_applies_to_the_whole_header() -> None:
    async def script(scene: Scene) -> None:
        client = scene.connects(V1[:1])
        for byte in V1[1:]:
            await asyncio.sleep(0.01)
            if not scene.preambles._pending:
                break
            client.sendall(bytes([byte]))
        assert byte != V1[-1]
        await scene.until_closed(client)

    [line] = play(script, timeout=0.1)
    assert "its PROXY header did not arrive in time" in line


def test_a_drain_shortens_the_wait_and_never_extends_it() -> None:
    async def script(scene: Scene) -> None:
        client = scene.connects(V1[:5])
        scene.preambles.drain(0)
        scene.preambles.drain(0.01)
        scene.preambles.drain(DEADLINE)
        await scene.until_closed(client)
        await scene.until_closed(scene.connects(V1[:5]))

    assert len(play(script, timeout=0)) == 2


def test_an_interrupt_ends_all_of_them() -> None:
    async def script(scene: Scene) -> None:
        clients = [scene.connects(), scene.connects(V1[:5])]
        scene.preambles.interrupt()
        for client in clients:
            await scene.until_closed(client)

    assert [line.endswith("the worker is stopping") for line in play(script)] == [True, True]


def test_the_end_of_the_grace_period_closes_silently() -> None:
    async def script(scene: Scene) -> None:
        client = scene.connects(V1[:5])
        scene.connections.end_all()
        await scene.until_closed(client)

    assert play(script) == []
