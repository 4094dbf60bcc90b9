"""What an exchange keeps for those who wait, what it takes for an event stream, and what a refused HEAD gets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.echo import Wire, on_loop
from support.http import asgi_adapter
from support.malformed import get
from support.wires import WIRES, stop_worker

from hybrid.workers.http.settings import Limits


def test_waits_that_were_cancelled_are_not_kept() -> None:
    """A task that asks for news with a time limit, over and over, and one that waits all the while."""

    async def main() -> None:
        wire = Wire()
        await wire.deliver([get(b"Content-Length: 5")])
        exchange = wire.connection.current
        assert exchange is not None
        patient = exchange.news()
        for _ in range(1000):
            exchange.news().cancel()
        forgotten = exchange.news()
        exchange.forget(forgotten)
        exchange.forget(forgotten)
        assert exchange._waiters is not None
        assert len(exchange._waiters) <= 2
        exchange.wake_waiters()
        assert patient.done()
        assert not forgotten.done()

    on_loop(main)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (b"content-type", b"text/event-stream", True),
        (b"Content-Type", b"Text/Event-Stream; charset=utf-8", True),
        (b"content-type", b"text/event-stream ;charset=utf-8", True),
        (b"content-type", b"text/event-streams", False),
        (b"content-type", b"text/plain; was=text/event-stream", False),
        (b"x-content-type", b"text/event-stream", False),
        (b"link", b"</events>; type=text/event-stream", False),
    ],
)
@pytest.mark.parametrize("wire", WIRES)
def test_an_event_stream_is_one_by_its_content_type(wire: str, name: bytes, value: bytes, expected: bool) -> None:
    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y"), (name, value)]})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await receive()
        await receive()

    async def main() -> None:
        client = WIRES[wire](asgi_adapter(application).site)
        await client.asks()
        await stop_worker(client)
        assert client.answers[-1].is_whole is expected, "an event stream is ended, whole"
        await client.leaves()
        await asyncio.sleep(0)

    on_loop(main)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get(b"Expect: x", line=b"HEAD / HTTP/1.1"), 417),
        (b"HEAD / HTTP/1.1\r\n\r\n", 400),
        (get(b"Content-Length: 50", line=b"HEAD / HTTP/1.1"), 413),
        (get(b"Transfer-Encoding: chunked", line=b"HEAD / HTTP/1.1") + b"x\r\n", 400),
    ],
)
def test_a_refused_head_gets_no_body(request_: bytes, status: int) -> None:
    async def main() -> None:
        wire = Wire(Limits(max_body_size=10))
        await wire.deliver([request_])
        assert wire.transport.received.startswith(b"HTTP/1.1 %d " % status)
        assert wire.transport.received.endswith(b"\r\nconnection: close\r\n\r\n")

    on_loop(main)


def test_a_refusal_behind_a_head_has_its_body() -> None:
    async def main() -> None:
        wire = Wire()
        await wire.deliver([get(line=b"HEAD / HTTP/1.1"), b"GET / HTTP/1.1\r\n\r\n"])
        assert wire.answers(0)[1].body == b"the Host header field is missing\n"

    on_loop(main)


def test_valid_hosts_are_learnt_for_ever() -> None:
    """Also when a client has named more of them than are kept."""

    async def main() -> None:
        site = Wire().site
        for number in range(1000):
            assert site.rules.is_host(b"host-%d" % number)
            assert b"host-%d" % number in site.rules._hosts
        assert len(site.rules._hosts) <= 256

    on_loop(main)
