"""Which wire a connection without TLS speaks: its first bytes decide, however they are cut."""

from __future__ import annotations

import asyncio
from typing import Any

from support import frames
from support.echo import EchoCall, Notes, on_loop
from support.frames import PREFACE
from support.http import FakeTransport, let_expire
from support.rows import for_each

from hybrid.workers.http.context import HttpContext
from hybrid.workers.http.h1.connection import HttpConnection
from hybrid.workers.http.h2.connection import Http2Connection
from hybrid.workers.http.settings import HttpSettings
from hybrid.workers.http.wires import wire_of

HTTP2 = PREFACE + frames.settings() + frames.headers(1)
HTTP1 = b"PUT / HTTP/1.1\r\nHost: a\r\n\r\n"


class Start:
    """A new connection."""

    def __init__(self, http: str = "auto", scheme: str = "http") -> None:
        self.notes = Notes()
        settings = HttpSettings(http=http)
        loop = asyncio.get_running_loop()
        self.context = HttpContext(loop, settings, lambda exchange: EchoCall(self.notes, exchange).goes_on())
        http1 = HttpConnection(self.context)
        http1.client, http1.server, http1.scheme = ("127.0.0.1", 4711), ("127.0.0.1", 80), scheme
        self.transport = FakeTransport(wire_of(settings).protocol(http1))

    async def says(self, *pieces: bytes) -> None:
        for piece in pieces:
            await self.transport.sends(piece)
        for _ in range(5):
            await asyncio.sleep(0)

    @property
    def protocol(self) -> Any:
        return self.transport.get_protocol()


@for_each("at", range(1, len(PREFACE) + 1))
def test_the_preface_of_http2_may_come_in_pieces(at: int) -> None:
    async def main() -> None:
        it = Start()
        await it.says(HTTP2[:at], HTTP2[at:])
        assert type(it.protocol) is Http2Connection
        assert (it.protocol.client, it.protocol.server) == (("127.0.0.1", 4711), ("127.0.0.1", 80))
        assert it.notes.seen == (b"GET / ",)
        assert it.context.connections() == [it.protocol]

    on_loop(main)


@for_each("request", [HTTP1, b"GET" + HTTP1[3:], b"PROPFIND" + HTTP1[3:], b"P" + HTTP1[1:]])
def test_requests_of_http1_are_served_however_they_are_cut(request: bytes) -> None:
    async def main() -> None:
        for at in range(1, len(request)):
            it = Start()
            await it.says(request[:at], request[at:])
            assert type(it.protocol) is HttpConnection
            assert bytes(it.transport.received).startswith(b"HTTP/1.1 200 ")
            await it.says(request)
            assert len(it.notes.requests) == 2

    on_loop(main)


def test_half_a_preface_is_closed_at_the_deadline() -> None:
    async def main() -> None:
        it = Start()
        await it.says(PREFACE[:10])
        (connection,) = it.context.connections()
        await let_expire(connection)
        assert it.transport.closing

    on_loop(main)


def test_half_a_preface_and_an_end_are_refused() -> None:
    async def main() -> None:
        it = Start()
        await it.says(PREFACE[:10])
        await it.transport.ends()
        await asyncio.sleep(0)
        assert it.transport.closing
        assert not it.context.connections()

    on_loop(main)


def test_with_http1_only_a_preface_is_refused() -> None:
    async def main() -> None:
        it = Start("1")
        await it.says(HTTP2)
        assert bytes(it.transport.received).startswith(b"HTTP/1.1 400 ")

    on_loop(main)


def test_with_http2_only_a_request_of_http1_is_refused() -> None:
    async def main() -> None:
        it = Start("2")
        await it.says(HTTP1)
        found, _ = frames.whole(bytes(it.transport.received))
        assert [frames.goaway_of(each)[1] for each in found if each.kind == frames.GOAWAY] == [frames.PROTOCOL_ERROR]
        assert it.transport.ended

    on_loop(main)
