"""Events of the connections for the access log: one record per response, however it ends."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from support.http import FakeTransport, asgi_adapter, in_callback, let_expire, until
from support.rows import for_each
from support.websocket import HANDSHAKE, close_frame, received

from hybrid.workers.http.access.events import AccessEvents, skips
from hybrid.workers.http.access.record import AccessRecord, End
from hybrid.workers.http.h1.connection import HttpConnection
from hybrid.workers.http.settings import HttpSettings, Limits

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
GET = b"GET /a?b HTTP/1.1\r\nhost: a\r\n\r\n"
POST = b"POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n"


async def pages(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": "pong"})
        return
    while (await receive()).get("more_body"):
        continue
    await send({"type": "http.response.start", "status": 201, "headers": [(b"x-page", b"1")]})
    await send({"type": "http.response.body", "body": b"part", "more_body": True})
    if scope["path"] == "/broken":
        raise LookupError("a broken page")
    if scope["path"] == "/waits":
        await receive()
    await send({"type": "http.response.body", "body": b"s"})


@dataclasses.dataclass
class Scene:
    records: list[AccessRecord]
    connection: HttpConnection
    client: FakeTransport
    ending: bool = False

    async def recorded(self, count: int = 1) -> AccessRecord:
        """Wait until there are `count` records; return the last."""
        await until(lambda: len(self.records) >= count, f"{count} records")
        assert len(self.records) == count
        return self.records[-1]

    async def answered(self, what: bytes) -> None:
        await until(lambda: what in self.client.received, f"{what!r}")


def play(script: Callable[[Scene], Coroutine[Any, Any, None]], **settings: Any) -> list[AccessRecord]:
    """Run a script on a connection with an access log; return the records."""
    records: list[AccessRecord] = []

    async def main() -> None:
        limits = Limits(max_body_size=100)
        adapter = asgi_adapter(pages, HttpSettings(access_log="%({x}o)s", lifespan="off", limits=limits, **settings))
        connection = HttpConnection(adapter.context)
        connection.client = ("192.0.2.1", 4711)
        connection.server = ("127.0.0.1", 80)
        connection.trusts_proxy = adapter.context.proxies is not None
        scene = Scene(records, connection, FakeTransport(connection))
        adapter.context.access_events = AccessEvents(records.append, lambda: scene.ending)
        try:
            await script(scene)
        finally:
            scene.client.abort()
            await asyncio.sleep(0)
            adapter.end()
            await adapter.wait_idle(1)
            await adapter.shut_down(1)

    asyncio.run(main())
    return records


def test_a_complete_response_is_one_record_with_all_values() -> None:
    async def script(scene: Scene) -> None:
        await scene.client.sends(GET)
        await scene.answered(b"0\r\n\r\n")

    [record] = play(script)
    assert (record.client, record.scheme, record.end) == (("192.0.2.1", 4711), "http", End.WHOLE)
    assert (record.method, record.target, record.version) == ("GET", b"/a?b", "1.1")
    assert (record.status, record.sent, record.request_headers) == (201, 5, [(b"host", b"a")])
    assert record.head.startswith(b"HTTP/1.1 201 Created\r\nx-page: 1\r\n")
    assert record.head.endswith(b"transfer-encoding: chunked\r\n\r\n")
    assert 0 < record.seconds < 10


def test_the_time_starts_with_the_header_fields_not_with_the_connection() -> None:
    async def script(scene: Scene) -> None:
        await asyncio.sleep(0.05)
        await scene.client.sends(POST)
        await asyncio.sleep(0.05)
        await scene.client.sends(b"abcde")
        await scene.recorded()

    [record] = play(script)
    assert 0.05 <= record.seconds < 5


def test_consecutive_requests_are_separate_records() -> None:
    async def script(scene: Scene) -> None:
        await scene.client.sends(b"".join(GET.replace(b"/a?b", b"/%d" % number) for number in range(3)))
        await scene.recorded(3)

    assert [record.target for record in play(script)] == [b"/0", b"/1", b"/2"]


def test_an_application_that_fails_midway_cuts_its_response() -> None:
    async def script(scene: Scene) -> None:
        await scene.client.sends(GET.replace(b"/a?b", b"/broken"))
        await scene.recorded()

    [record] = play(script)
    assert (record.status, record.sent, record.end) == (201, 4, End.CUT)


@pytest.mark.parametrize(("ending", "end"), [(False, End.GONE), (True, End.CUT)])
def test_a_lost_connection_is_attributed_to_the_client_unless_the_worker_ends(ending: bool, end: End) -> None:
    async def script(scene: Scene) -> None:
        await scene.client.sends(GET.replace(b"/a?b", b"/waits"))
        await scene.answered(b"part")
        scene.ending = ending
        await scene.client.vanishes()
        await scene.recorded()

    [record] = play(script)
    assert (record.status, record.sent, record.end) == (201, 4, end)


def test_a_client_that_reads_nothing_is_cut() -> None:
    async def script(scene: Scene) -> None:
        scene.client.stops_taking()
        await scene.client.sends(GET.replace(b"/a?b", b"/waits"))
        await until(lambda: scene.client.writes, "an answer")
        for _ in range(3):
            await let_expire(scene.connection)
        scene.connection.abort()
        await scene.recorded()

    assert play(script)[0].end is End.CUT


def test_without_a_response_there_is_no_status() -> None:
    async def script(scene: Scene) -> None:
        await scene.client.sends(POST)
        await scene.client.vanishes()
        await scene.recorded()

    [record] = play(script)
    assert (record.status, record.sent, record.head, record.end) == (0, 0, b"", End.GONE)


def test_an_idle_connection_that_ends_is_not_a_record() -> None:
    async def script(scene: Scene) -> None:
        await scene.client.sends(GET)
        await scene.recorded()
        await scene.client.vanishes()

    assert len(play(script)) == 1


# -- refusals

REFUSED = {
    "no host": (b"GET /x HTTP/1.1\r\na: b\r\n\r\n", "GET", b"/x", "1.1", 400),
    "half a head": (b"GET /x HTTP/1.1\r\nhost: a\r\na: b\r\nno colon\r\n\r\n", "GET", b"/x", "1.1", 400),
    "another version": (b"GET /x HTTP/2.0\r\n\r\n", "GET", b"/x", "", 505),
    "two spaces": (b"GET  /x HTTP/1.1\r\nhost: a\r\n\r\n", "GET", b"/x", "1.1", 400),
    "nonsense": (b"nonsense\r\n\r\n", "", b"", "", 400),
    "too large": (POST.replace(b": 5", b": 101"), "POST", b"/upload", "1.1", 413),
    "a broken body": (
        POST.replace(b"content-length: 5", b"transfer-encoding: chunked") + b"nonsense\r\n",
        *("POST", b"/upload", "1.1", 400),
    ),
}  # case -> input, method, target, version, status


@for_each("case", REFUSED)
def test_a_refused_request_is_a_record_of_its_known_parts(case: str) -> None:
    data, *known, status = REFUSED[case]
    bodies: list[bytes] = []

    async def script(scene: Scene) -> None:
        await scene.client.sends(data)
        await scene.recorded()
        bodies.append(bytes(scene.client.received).partition(b"\r\n\r\n")[2])

    [record] = play(script)
    assert [record.method, record.target, record.version] == known
    assert (record.status, record.sent, record.end) == (status, len(bodies[0]), End.REFUSED)


def test_a_refused_request_is_not_confused_with_the_previous_one() -> None:
    async def script(scene: Scene) -> None:
        await scene.client.sends(GET)
        await scene.recorded()
        await scene.client.sends(b"\0\r\n\r\n")
        await scene.recorded(2)

    _, refused = play(script)
    assert (refused.method, refused.target, refused.request_headers, refused.end) == ("", b"", [], End.REFUSED)


def test_a_head_that_arrives_too_late_is_a_record() -> None:
    async def script(scene: Scene) -> None:
        await scene.client.sends(GET[:-2])
        await let_expire(scene.connection)
        await scene.recorded()

    [record] = play(script)
    assert (record.target, record.status, record.end) == (b"/a?b", 408, End.REFUSED)


def test_a_forwarded_header_that_cannot_be_parsed_is_refused_with_the_address_of_the_proxy() -> None:
    fields = b'forwarded: for="192.0.2.8\r\n\r\n'

    async def script(scene: Scene) -> None:
        await scene.client.sends(GET.replace(b"\r\n\r\n", b"\r\nforwarded: for=192.0.2.7\r\n\r\n"))
        await scene.recorded()
        await scene.client.sends(GET[:-2] + fields)
        await scene.recorded(2)

    believed, refused = play(script, forwarded_allow_ips=("192.0.2.1",), forwarded_headers="forwarded")
    assert (believed.client, believed.end) == (("192.0.2.7", 0), End.WHOLE)
    assert (refused.client, refused.status, refused.end) == (("192.0.2.1", 4711), 400, End.REFUSED)


# -- WebSockets


def test_a_session_is_a_record_at_its_end() -> None:
    sizes: list[int] = []

    async def script(scene: Scene) -> None:
        await scene.client.sends(HANDSHAKE + b"\r\n")
        await scene.answered(b"101")
        assert scene.records == []
        await scene.client.sends(close_frame(1000))
        await scene.recorded()
        frames = bytes(scene.client.received).partition(b"\r\n\r\n")[2]
        assert received(frames)
        sizes.append(len(frames))

    [record] = play(script)
    assert (record.status, record.end, record.sent) == (101, End.WHOLE, sizes[0])
    assert record.head.startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize(
    ("spoil", "end"), [(FakeTransport.vanishes, End.GONE), (lambda client: client.sends(b"\xff\xff"), End.CUT)]
)
def test_a_session_without_a_proper_close(spoil: Callable[[FakeTransport], Awaitable[None]], end: End) -> None:
    async def script(scene: Scene) -> None:
        await scene.client.sends(HANDSHAKE + b"\r\n")
        await scene.answered(b"101")
        await spoil(scene.client)
        await let_expire(scene.connection)
        await scene.recorded()

    assert play(script)[0].end is end


def test_a_bad_handshake_is_a_record_of_its_response() -> None:
    async def script(scene: Scene) -> None:
        await scene.client.sends(HANDSHAKE.replace(b"Version: 13", b"Version: 12") + b"\r\n")
        await scene.recorded()

    [record] = play(script)
    assert (record.status, record.end) == (426, End.WHOLE)


def test_nothing_is_recorded_without_an_access_log() -> None:
    async def main() -> None:
        adapter = asgi_adapter(pages)
        assert adapter.context.access_events is None
        await in_callback(adapter.end)
        await adapter.shut_down(1)

    asyncio.run(main())


def test_paths_are_skipped_exactly_or_with_all_below() -> None:
    is_skipped = skips(("/livez", "/static/"))
    assert is_skipped is not None
    found = (b"/livez", b"/livez?a", b"/static/", b"/static/a?b", b"/livez/", b"/static", b"/Livez", b"", b"*")
    assert [target for target in found if is_skipped(target)] == [b"/livez", b"/livez?a", b"/static/", b"/static/a?b"]
    assert skips(()) is None
