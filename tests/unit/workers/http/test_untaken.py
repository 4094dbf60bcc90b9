"""Unread responses: no further request is started or read, so that memory stays bounded."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.echo import on_loop, read_answers
from support.http import FakeTransport, asgi_adapter, connect, in_callback, until

from hybrid.workers.http.h1.connection import HttpConnection
from hybrid.workers.http.settings import HttpSettings, Limits

SIZE = 100_000  # bytes of a response, in one piece
MOST = 65_536 + SIZE + 1000  # bytes that may be buffered: as many as do not pause, plus one more response
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
LIMITS = Limits(max_pipelined=0, max_requests_per_connection=0)


class Scene:
    """A connection whose client reads nothing, and the number of requests started."""

    def __init__(self) -> None:
        self.started = 0
        self.connection: HttpConnection
        self.transport: FakeTransport
        self.connection, self.transport = connect(asgi_adapter(self._application, HttpSettings(limits=LIMITS)))

    async def _application(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.started += 1
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await receive()
            return
        await send({"type": "http.response.start", "status": 200})
        if scope["method"] == "POST":
            await send({"type": "http.response.body", "body": b"x" * SIZE, "more_body": True})
            while (await receive())["more_body"]:
                pass
            await send({"type": "http.response.body"})
        else:
            await send({"type": "http.response.body", "body": b"x" * SIZE})

    def statuses(self) -> list[int]:
        """The bytes that the client has received."""
        return [answer.status for answer in read_answers(bytes(self.transport.received))]


@pytest.mark.parametrize("repeats", [0, 4])
def test_requests_in_one_packet_start_as_the_client_reads(repeats: int) -> None:
    """Also after requests that took the fast path."""

    async def main() -> None:
        scene = Scene()
        for _ in range(repeats):
            await scene.transport.sends(GET)
        scene.transport.stops_taking()
        await in_callback(scene.transport._protocol.data_received, GET * 300)
        for number in range(10):
            await asyncio.sleep(0)
            assert scene.started == repeats + number + 1
            assert SIZE <= scene.transport.get_write_buffer_size() <= MOST
            assert scene.transport.is_paused
            taking = asyncio.ensure_future(scene.transport.takes())
            await asyncio.sleep(0)
            scene.transport.stops_taking()
            await taking
        await scene.transport.takes()
        await until(lambda: scene.connection.current is None and not scene.connection.has_more(), "all is answered")
        assert scene.statuses() == [200] * (repeats + 300)
        assert not scene.transport.is_paused

    on_loop(main)


@pytest.mark.parametrize("packet", [GET, GET[:-2]])
def test_nothing_is_read_until_the_client_reads(packet: bytes) -> None:
    """Data that the transport had read already waits too."""

    async def main() -> None:
        scene = Scene()
        for _ in range(3):
            await scene.transport.sends(GET)
        scene.transport.stops_taking()
        await scene.transport.sends(GET)
        assert scene.transport.is_paused
        await in_callback(scene.connection.data_received, packet)
        await asyncio.sleep(0)
        assert scene.started == 4
        assert scene.transport.get_write_buffer_size() <= MOST
        await scene.transport.takes()
        await scene.transport.sends(GET[len(packet) :])
        assert scene.statuses() == [200] * 5
        await scene.transport.sends(GET)
        await scene.transport.sends(GET)
        assert scene.statuses() == [200] * 7

    on_loop(main)


def test_a_body_is_read_although_its_response_waits() -> None:
    """The application may wait for its end; nothing is read after it."""

    async def main() -> None:
        scene = Scene()
        scene.transport.stops_taking()
        await scene.transport.sends(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345")
        assert scene.connection.paused
        await scene.transport.sends(b"67890")
        assert scene.transport.is_paused
        await scene.transport.takes()
        await until(lambda: scene.connection.current is None, "it is answered")
        assert scene.statuses() == [200]
        assert not scene.transport.is_paused

    on_loop(main)


def test_a_refusal_follows_the_waiting_responses() -> None:
    async def main() -> None:
        scene = Scene()
        scene.transport.stops_taking()
        await scene.transport.sends(GET + GET + b"GET / HTTP/1.1\r\n\r\n")
        await scene.transport.takes()
        await until(lambda: scene.transport.ended, "the server has said all")
        assert scene.statuses() == [200, 200, 400]

    on_loop(main)


def test_a_websocket_begins_after_the_waiting_response() -> None:
    async def main() -> None:
        scene = Scene()
        scene.transport.stops_taking()
        await scene.transport.sends(GET + UPGRADE)
        assert scene.started == 1
        await scene.transport.takes()
        await until(lambda: b" 101 " in scene.transport.received, "it is accepted")
        assert not scene.transport.is_paused
        await scene.transport.vanishes()
        await until(lambda: scene.connection.current is None, "the application is told")

    on_loop(main)


def test_requests_queued_at_the_end_of_a_stop_are_not_started() -> None:
    async def main() -> None:
        scene = Scene()
        scene.transport.stops_taking()
        await scene.transport.sends(GET * 3)
        await in_callback(scene.connection.interrupt)
        assert scene.transport.closing
        await scene.transport.takes()
        await asyncio.sleep(0)
        assert scene.started == 1

    on_loop(main)


def test_a_client_that_reads_nothing_is_cut_with_its_queue() -> None:
    async def main() -> None:
        scene = Scene()
        scene.transport.stops_taking()
        await scene.transport.sends(GET * 3)
        for _ in range(2):
            scene.connection.clock.now = scene.connection.deadline
            await in_callback(scene.connection.expired)
        assert scene.transport.aborted
        await asyncio.sleep(0)
        assert scene.started == 1

    on_loop(main)
