"""An exchange's waiters, the detection of event streams, and the response to a refused HEAD."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.echo import Wire, on_loop
from support.http import asgi_adapter, until
from support.malformed import get
from support.wires import WIRES, stop_worker

from hybrid.workers.http.settings import HttpSettings, Limits


def test_cancelled_waiters_are_dropped() -> None:
    """One task waits for events with a timeout, again and again, and another one waits all the time."""

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
def test_an_event_stream_is_detected_by_its_content_type(wire: str, name: bytes, value: bytes, expected: bool) -> None:
    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y"), (name, value)]})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await receive()
        await receive()

    async def main() -> None:
        client = WIRES[wire](asgi_adapter(application).context)
        await client.asks()
        await stop_worker(client)
        assert client.answers[-1].is_whole is expected, "an event stream is ended, whole"
        await client.leaves()
        await asyncio.sleep(0)

    on_loop(main)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("is_ended", [False, True])
def test_an_event_stream_with_trailers_is_ended_by_a_drain(wire: str, is_ended: bool) -> None:
    """Its application may be about to send them, or may still send events."""

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": not is_ended})
        await receive()
        await receive()

    async def main() -> None:
        client = WIRES[wire](asgi_adapter(application).context)
        await client.asks("GET", b"/", (b"te", b"trailers"))
        await stop_worker(client)
        assert (client.answers[-1].is_whole, client.answers[-1].trailers) == (True, [])
        await client.leaves()
        await asyncio.sleep(0)

    on_loop(main)


@pytest.mark.parametrize("wire", WIRES)
def test_a_file_of_events_is_sent_to_its_end_by_a_worker_that_drains(wire: str, tmp_path: Path) -> None:
    content = b"data: 1\n\n" * 100_000
    (tmp_path / "events").write_bytes(content)

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.pathsend", "path": str(tmp_path / "events")})

    async def main() -> None:
        adapter = asgi_adapter(application, HttpSettings(pathsend=True))
        client = WIRES[wire](adapter.context)
        client.stops_taking()
        await client.asks()
        await stop_worker(client)
        await client.takes()
        await until(lambda: client.answers and client.answers[-1].is_whole, "the whole file is sent")
        assert client.answers[-1].body == content
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


def test_a_refusal_after_a_head_request_has_a_body() -> None:
    async def main() -> None:
        wire = Wire()
        await wire.deliver([get(line=b"HEAD / HTTP/1.1"), b"GET / HTTP/1.1\r\n\r\n"])
        assert wire.answers(0)[1].body == b"the Host header field is missing\n"

    on_loop(main)


def test_valid_hosts_are_cached_however_many_a_client_sends() -> None:
    """Also after a client has sent more of them than are cached."""

    async def main() -> None:
        context = Wire().context
        for number in range(1000):
            assert context.rules.is_host(b"host-%d" % number)
            assert b"host-%d" % number in context.rules.hosts
        assert len(context.rules.hosts) <= 256

    on_loop(main)
