"""Each request over HTTP/1 is counted once, whichever turn it ends in and however it was started."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from support.echo import on_loop
from support.http import FakeRuntime, FakeTransport, connect, until
from support.websocket import HANDSHAKE as WITHOUT_END

from hybrid.workers.apps.asgi.interface import Asgi
from hybrid.workers.common.connections import Connections
from hybrid.workers.common.heartbeat import Heartbeat
from hybrid.workers.contract.scoreboard import Scoreboard, Totals
from hybrid.workers.http.settings import HttpSettings

HEAD = b"GET /%b HTTP/1.1\r\nHost: here\r\n\r\n"
LARGE = 200_000  # bytes; more than a connection buffers
HANDSHAKE = WITHOUT_END + b"\r\n"


class Court:
    """An application that responds with the status in the path, after `goes_on` to paths that begin with `late`."""

    def __init__(self) -> None:
        self.record = Scoreboard(1).record(0)
        self.heartbeat = Heartbeat(self.record)
        self.adapter = Asgi(self._serve, FakeRuntime(), Connections(self.heartbeat), HttpSettings())  # type: ignore[arg-type]
        self._gate = asyncio.Event()

    def connect(self) -> FakeTransport:
        return connect(self.adapter)[1]

    def goes_on(self) -> None:
        self._gate.set()

    def pinged(self) -> tuple[int, int, int, int]:
        """Return the requests in progress, the WebSockets, the bytes received and sent, as of a ping that comes now."""
        self.heartbeat.answers()
        seen = self.record.snapshot()
        return seen.in_flight, seen.websockets, seen.totals.bytes_in, seen.totals.bytes_out

    async def told(self) -> Totals:
        """Return what is in the record after the current turn, without a ping."""
        await asyncio.sleep(0)
        assert not self.heartbeat.counts.quick
        return self.record.totals()

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await self._gate.wait()
            await send({"type": "websocket.send", "text": "late"})
            await receive()
            return
        path = scope["path"]
        if path.startswith("/large"):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x" * LARGE})
            return
        if path.startswith("/late"):
            await self._gate.wait()
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": int(path[-3:]), "headers": headers})
        await send({"type": "http.response.body"})


def in_court(scenario: Callable[[Court], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario(Court())

    on_loop(main)


def test_requests_one_after_the_other() -> None:
    async def scenario(court: Court) -> None:
        client = court.connect()
        for number in range(1, 5):
            await client.sends(HEAD % b"200")
            totals = await court.told()
            assert totals.responses == (0, number, 0, 0, 0)
            assert sum(totals.durations) == number

    in_court(scenario)


def test_pipelined_requests() -> None:
    async def scenario(court: Court) -> None:
        client = court.connect()
        await client.sends(b"".join(HEAD % status for status in (b"200", b"404", b"200", b"201", b"200")))
        await until(lambda: client.received.count(b"HTTP/1.1 ") == 5, "all responses")
        totals = await court.told()
        assert totals.responses == (0, 4, 0, 1, 0)
        assert sum(totals.durations) == 5

    in_court(scenario)


def test_requests_that_are_pipelined_behind_a_late_one() -> None:
    async def scenario(court: Court) -> None:
        client, other = court.connect(), court.connect()
        await client.sends(HEAD % b"late200" + HEAD % b"200" + HEAD % b"500")
        await other.sends(HEAD % b"200")
        totals = await court.told()
        assert totals.responses == (0, 1, 0, 0, 0)
        court.goes_on()
        await until(lambda: client.received.count(b"HTTP/1.1 ") == 3, "all responses")
        totals = await court.told()
        assert totals.responses == (0, 3, 0, 0, 1)
        assert sum(totals.durations) == 4

    in_court(scenario)


def test_a_request_whose_client_does_not_wait_is_no_response() -> None:
    async def scenario(court: Court) -> None:
        client, other = court.connect(), court.connect()
        await client.sends(HEAD % b"late200")
        await client.vanishes()
        court.goes_on()
        await other.sends(HEAD % b"404")
        totals = await court.told()
        assert totals.responses == (0, 0, 0, 1, 0)
        assert sum(totals.durations) == 1

    in_court(scenario)


def test_a_refusal_behind_a_request_has_no_duration() -> None:
    async def scenario(court: Court) -> None:
        client = court.connect()
        await client.sends(HEAD % b"200" + b"GET nowhere\r\n\r\n")
        await until(lambda: client.received.count(b"HTTP/1.1 ") == 2, "both responses")
        totals = await court.told()
        assert totals.responses == (0, 1, 0, 1, 0)
        assert sum(totals.durations) == 1

    in_court(scenario)


def test_the_last_request_that_a_worker_may_take_is_counted_like_the_others() -> None:
    async def scenario(court: Court) -> None:
        called: list[int] = []
        court.heartbeat.expects_last_request(2, lambda: called.append(court.heartbeat.requests))
        client = court.connect()
        for _ in range(3):
            await client.sends(HEAD % b"200")
        totals = await court.told()
        assert called == [2]
        assert court.heartbeat.requests == 3
        assert totals.responses == (0, 3, 0, 0, 0)

    in_court(scenario)


def test_a_request_is_in_progress_at_each_ping_until_it_ends() -> None:
    async def scenario(court: Court) -> None:
        idle, client = court.connect(), court.connect()
        await idle.sends(HEAD % b"200")
        await client.sends(HEAD % b"late200")
        got = len(HEAD % b"200") + len(HEAD % b"late200")
        assert [court.pinged() for _ in range(3)] == [(1, 0, got, len(idle.received))] * 3
        court.goes_on()
        await until(lambda: client.received, "the response")
        assert court.pinged() == (0, 0, got, len(idle.received) + len(client.received))
        await client.sends(HEAD % b"200")
        assert court.pinged() == (0, 0, got + len(HEAD % b"200"), len(idle.received) + len(client.received))

    in_court(scenario)


def test_a_websocket_that_only_sends_is_open_until_it_ends_and_its_bytes_are_counted_at_the_next_ping() -> None:
    async def scenario(court: Court) -> None:
        client = court.connect()
        await client.sends(HANDSHAKE)
        await until(lambda: client.received, "the handshake's end")
        handshake = len(client.received)
        assert [court.pinged() for _ in range(3)] == [(0, 1, len(HANDSHAKE), handshake)] * 3
        court.goes_on()
        await until(lambda: len(client.received) > handshake, "a message")
        assert court.pinged() == (0, 1, len(HANDSHAKE), len(client.received))
        await client.vanishes()
        assert court.pinged() == (0, 0, len(HANDSHAKE), len(client.received))

    in_court(scenario)


def test_a_pipelined_request_that_waited_for_its_client_is_in_progress() -> None:
    async def scenario(court: Court) -> None:
        client = court.connect()
        client.stops_taking()
        await client.sends(HEAD % b"large" + HEAD % b"late200")
        court.pinged()
        await client.takes()
        await until(lambda: court.pinged()[0] == 1, "the second one has begun")
        assert court.pinged()[0] == 1
        court.goes_on()
        await until(lambda: client.received.endswith(b"content-length: 0\r\n\r\n"), "its response")
        assert court.pinged()[0] == 0
        assert court.pinged()[3] == len(client.received)

    in_court(scenario)


def test_a_ping_looks_at_no_idle_connection() -> None:
    async def scenario(court: Court) -> None:
        clients = [court.connect() for _ in range(3)]
        for client in clients:
            await client.sends(HEAD % b"200")
        await clients[0].sends(HANDSHAKE)
        await until(lambda: b" 101 " in clients[0].received, "the handshake's end")
        court.pinged()
        assert not court.adapter.context.active

    in_court(scenario)
