"""An HTTP/2 connection with a client of raw frames, without a socket; its application echoes requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import hpack

from hybrid.workers.http.context import HttpContext
from hybrid.workers.http.exchange import Exchange
from hybrid.workers.http.h2.connection import Http2Connection
from hybrid.workers.http.settings import HttpSettings, Limits
from support import frames
from support.echo import EchoCall, Notes
from support.frames import PREFACE, Frame
from support.http import FakeTransport, in_callback, let_expire

HELLO = PREFACE + frames.settings()


class Scene:
    """A connection and its client."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        hello: bytes = HELLO,
        answer: Callable[[Exchange], None] | None = None,
        high_water: int = 65_536,
        **settings: Any,
    ) -> None:
        self.notes = Notes()
        found = HttpSettings(limits=limits or Limits(), server_header=False, date_header=False, **settings)
        loop = asyncio.get_running_loop()
        self.context = HttpContext(loop, found, answer or (lambda exchange: EchoCall(self.notes, exchange).goes_on()))
        self.connection = Http2Connection(self.context)
        self.connection.client = ("127.0.0.1", 4711)
        self.connection.server = ("127.0.0.1", 80)
        self.transport = FakeTransport(self.connection, high_water)
        self._decoder = hpack.Decoder()
        self._heard: list[Frame] = []
        self._read = 0
        self._fields: dict[int, list[list[tuple[bytes, bytes]]]] = {}
        if hello:
            self.connection.data_received(hello)

    async def says(self, *data: bytes) -> None:
        """Send frames at once, unless the server has closed; let it answer."""
        if not self.transport.closing:
            await in_callback(self.connection.data_received, b"".join(data))
        await self.settles()

    async def settles(self) -> None:
        """Let the loop turn until nothing more is sent."""
        quiet = 0
        while quiet < 4:
            before = len(self.transport.received)
            await asyncio.sleep(0)
            quiet = quiet + 1 if len(self.transport.received) == before else 0

    async def lets_time_pass(self) -> None:
        """Do nothing until the deadline of the connection."""
        await let_expire(self.connection)
        await self.settles()

    @property
    def heard(self) -> list[Frame]:
        """The frames that came so far."""
        found, size = frames.whole(bytes(self.transport.received[self._read :]))
        self._read += size
        for each in found:
            if each.kind == frames.HEADERS:
                fields = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(each.payload, raw=True)]
                self._fields.setdefault(each.stream, []).append(fields)
        self._heard += found
        return self._heard

    def of(self, kind: int, stream: int | None = None) -> list[Frame]:
        """Return the frames of a kind."""
        return [each for each in self.heard if each.kind == kind and stream in (None, each.stream)]

    def heads(self, stream: int) -> list[dict[bytes, bytes]]:
        """Return the field sections of a stream."""
        assert self.heard is not None
        return [dict(each) for each in self._fields.get(stream, [])]

    def status(self, stream: int) -> int:
        """Return the status of a response; 0: there is none."""
        found = [int(head[b":status"]) for head in self.heads(stream) if b":status" in head]
        return found[-1] if found else 0

    def body(self, stream: int) -> bytes:
        """Return as much of a response body as came."""
        return b"".join(each.payload for each in self.of(frames.DATA, stream))

    def is_whole(self, stream: int) -> bool:
        """Return True if the response has ended."""
        return any(each.flags & frames.END_STREAM for each in self.heard if each.stream == stream and each.kind < 2)

    @property
    def resets(self) -> dict[int, int]:
        """Stream -> why the server has reset it."""
        return {each.stream: frames.code_of(each) for each in self.of(frames.RST_STREAM)}

    @property
    def goaways(self) -> list[tuple[int, int]]:
        """The last stream and the reason of each GOAWAY."""
        return [frames.goaway_of(each) for each in self.of(frames.GOAWAY)]

    @property
    def is_over(self) -> bool:
        """True if the server has closed, or ended its half."""
        return self.transport.closing or self.transport.ended
