"""A connection's only deadline: for the head, for sending the response, and for the pause between requests."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from support.echo import on_loop, read_answers
from support.http import FakeTransport, asgi_adapter, connect, in_callback, let_expire, until

from hybrid.workers.http.clock import NEVER
from hybrid.workers.http.h1.connection import HttpConnection
from hybrid.workers.http.settings import HttpSettings, Limits

LIMITS = Limits(header_timeout=10, keep_alive_timeout=5, send_timeout=30)
OFF = dataclasses.replace(LIMITS, header_timeout=0, keep_alive_timeout=0, send_timeout=0)
LARGE = b"GET /200000 HTTP/1.1\r\nHost: a\r\n\r\n"
SMALL = b"GET /5 HTTP/1.1\r\nHost: a\r\n\r\n"


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Respond with as many bytes as the path says."""
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"x" * int(scope["path"][1:])})


def served(limits: Limits = LIMITS) -> tuple[HttpConnection, FakeTransport]:
    return connect(asgi_adapter(application, HttpSettings(limits=limits)))


def patience(connection: HttpConnection) -> float:
    """Seconds until the deadline. Rounded: the difference of two moments is exact for some uptimes only."""
    return round(connection.deadline - connection.clock.now, 6)


def test_a_client_with_an_unread_response_is_not_idle() -> None:
    async def main() -> None:
        connection, transport = served()
        transport.stops_taking()
        await transport.sends(LARGE)
        await until(lambda: connection.current is None, "the application has answered")
        assert patience(connection) == LIMITS.send_timeout

    on_loop(main)


def test_a_client_that_has_read_its_response_is_idle() -> None:
    async def main() -> None:
        connection, transport = served()
        transport.stops_taking()
        await transport.sends(LARGE)
        await transport.takes()
        assert patience(connection) == LIMITS.keep_alive_timeout
        await let_expire(connection)
        assert transport.closing

    on_loop(main)


def test_a_head_that_began_during_an_unread_response_gets_a_deadline() -> None:
    async def main() -> None:
        connection, transport = served()
        transport.stops_taking()
        await transport.sends(LARGE + SMALL[:10])
        assert patience(connection) == LIMITS.send_timeout
        await transport.takes()
        assert patience(connection) == LIMITS.header_timeout
        await let_expire(connection)
        assert [answer.status for answer in read_answers(bytes(transport.received))] == [200, 408]

    on_loop(main)


def test_a_head_that_began_during_a_response_gets_the_deadline_of_a_head() -> None:
    """Not the one of an idle connection: the client is sending a request."""

    async def wait_for_the_gate(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await gate.wait()
        await application(scope, receive, send)

    gate = asyncio.Event()

    async def main() -> None:
        connection, transport = connect(asgi_adapter(wait_for_the_gate, HttpSettings(limits=LIMITS)))
        await transport.sends(SMALL + SMALL[:10])
        gate.set()
        await until(lambda: connection.current is None, "the application has responded")
        assert patience(connection) == LIMITS.header_timeout
        await let_expire(connection)
        assert [answer.status for answer in read_answers(bytes(transport.received))] == [200, 408]

    on_loop(main)


def test_further_requests_do_not_extend_the_send_timeout() -> None:
    async def main() -> None:
        connection, transport = served()
        transport.stops_taking()
        await transport.sends(LARGE)
        deadline = connection.deadline
        for _ in range(2):  # already read by the transport
            await in_callback(connection.data_received, SMALL)
        assert connection.deadline == deadline
        await let_expire(connection)
        await let_expire(connection)
        assert transport.aborted

    on_loop(main)


def test_no_deadline_is_set_without_limits() -> None:
    async def main() -> None:
        connection, transport = served(OFF)
        assert connection.deadline == NEVER
        await transport.sends(SMALL[:10])
        assert connection.deadline == NEVER
        await transport.sends(SMALL[10:])
        assert connection.deadline == NEVER
        transport.stops_taking()
        await transport.sends(LARGE)
        assert connection.deadline == NEVER
        await transport.takes()
        assert connection.deadline == NEVER

    on_loop(main)


@pytest.mark.parametrize("draining", [False, True])
def test_the_first_deadline_is_relative_to_now_although_the_clock_stood_still(draining: bool) -> None:
    """The clock stands still while there is no connection, possibly for hours."""

    async def main() -> None:
        adapter = asgi_adapter(application, HttpSettings(limits=LIMITS))
        adapter.context.draining = draining
        adapter.context.clock.now -= 10_000
        before = asyncio.get_running_loop().time()
        connection, _ = connect(adapter)
        expected = LIMITS.keep_alive_timeout if draining else LIMITS.header_timeout
        assert before + expected <= connection.deadline <= asyncio.get_running_loop().time() + expected

    on_loop(main)


def test_a_stop_does_not_shorten_the_send_timeout() -> None:
    async def main() -> None:
        connection, transport = served()
        transport.stops_taking()
        await transport.sends(LARGE + LARGE)
        await in_callback(connection.drain)
        assert patience(connection) == LIMITS.send_timeout
        await transport.takes()
        assert [answer.status for answer in read_answers(bytes(transport.received))] == [200, 200]

    on_loop(main)
