"""The two wires behind one client: what a test says of requests and answers, it says of both.

`Http1Client` speaks HTTP/1 over a transport without a socket, `MessageClient` hands messages over in memory. Both have
the verbs of clients, and read what came back as `Answer`s.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from hybrid.workers.http.exchange import Fields
from hybrid.workers.http.h1.connection import HttpConnection
from hybrid.workers.http.site import Site
from support.fake_wire import End, FakeWire, Informational, Piece, Refused, Start, Trailers
from support.http import FakeTransport, in_callback, let_expire
from support.websocket import HANDSHAKE

_OF_THE_WIRE = {b"date", b"server", b"connection", b"content-length", b"transfer-encoding", b"trailer"}
_BODILESS = {204, 304}


@dataclasses.dataclass
class Answer:
    """One answer, as far as it has come."""

    status: int
    reason: str = ""
    fields: Fields = dataclasses.field(default_factory=list)
    """Those of the application, names in lower case."""
    length: int | None = None
    """Bytes of the body that the head promises."""
    body: bytes = b""
    trailers: Fields = dataclasses.field(default_factory=list)
    informed: list[tuple[int, Fields]] = dataclasses.field(default_factory=list)
    """What came before it."""
    is_whole: bool = False


class MessageClient:
    """A client of `FakeWire`."""

    def __init__(self, site: Site, **options: Any) -> None:
        self.connection = FakeWire(site, **options)
        self._left_to_send: int | None = None

    async def asks(
        self,
        method: str = "GET",
        target: bytes = b"/",
        *fields: tuple[bytes, bytes],
        body: bytes | None = None,
        length: int | None = None,
        more: bool = False,
        expects: bool = False,
        closes: bool = False,
        version: str = "1.1",
        host: bytes = b"a",
    ) -> None:
        """Make a request. With `length` or `more` the rest of its body follows."""
        first = [] if version == "1.0" else [(b"host", host)]
        if length is None and body is not None and not more:
            length = len(body)
        self._left_to_send = None if length is None else length - len(body or b"")
        told = [(b"content-length", b"%d" % length)] if length is not None else []
        await self.connection.asks(
            method,
            target,
            *first,
            *fields,
            *told,
            body=body,
            more=more or bool(self._left_to_send),
            expects=expects,
            closes=closes,
            version=version,
        )

    async def asks_for_websocket(
        self, *fields: tuple[bytes, bytes], body: bytes | None = None, handshake: bytes = HANDSHAKE, rest: bytes = b""
    ) -> None:
        """Ask for a WebSocket, by the lines of `handshake`; `rest` comes along with it."""
        target, own = _parts_of(handshake)
        await self.connection.asks("GET", target, *own, *fields, body=body, upgrades=True, rest=rest)

    def arrives(self, data: bytes) -> None:
        """Let bytes behind an upgrade arrive, now."""
        self.connection.arrives(data)

    async def sends(self, piece: bytes) -> None:
        """Send a piece of the body, or bytes behind an upgrade."""
        is_last = self._left_to_send == len(piece)
        if self._left_to_send:
            self._left_to_send -= len(piece)
        await self.connection.sends(piece, last=is_last)

    async def ends_body(self) -> None:
        """Send no more of a body whose length was not told."""
        await self.connection.ends_body()

    def stops_taking(self) -> None:
        """Take nothing from now on."""
        self.connection.stops_taking()

    async def takes(self) -> None:
        """Take everything again."""
        await self.connection.takes()

    async def ends_stream(self) -> None:
        """Half close."""
        await self.connection.ends_stream()

    async def leaves(self) -> None:
        """Go."""
        await self.connection.leaves()

    async def lets_time_pass(self) -> None:
        """Do nothing until the deadline of the connection."""
        await self.connection.lets_time_pass()

    @property
    def answers(self) -> list[Answer]:
        """What came back."""
        answers: list[Answer] = []
        pieces: list[list[bytes]] = []
        informed: list[tuple[int, Fields]] = []
        for message in list(self.connection.received):
            if len(pieces) < len(answers):
                pieces.append([])
            match message:
                case Informational(status, fields):
                    informed.append((status, fields))
                case Start(status, reason, fields, length):
                    own = [pair for pair in fields if pair[0] not in _OF_THE_WIRE]
                    answers.append(Answer(status, reason, own, length, informed=informed))
                    informed = []
                case Refused(status):
                    answers.append(Answer(status, is_whole=True))
                case Piece(data):
                    if not answers:  # the application has taken the connection over by itself
                        answers.append(Answer(0))
                        pieces.append([])
                    pieces[-1].append(data)
                case Trailers(fields):
                    answers[-1].trailers = fields
                case End():
                    answers[-1].is_whole = True
        for answer, parts in zip(answers, pieces, strict=False):
            answer.body = b"".join(parts)
        if informed:
            answers.append(Answer(0, informed=informed))
        return answers

    @property
    def is_cut(self) -> bool:
        """True if the server has broken off."""
        return self.connection.aborted

    @property
    def is_closed(self) -> bool:
        """True if the server has closed, or will once all is taken."""
        return self.connection.closing

    @property
    def has_last(self) -> bool:
        """True if the server has ended its half, or closed."""
        return self.connection.closing or self.connection.ended

    @property
    def is_held_up(self) -> bool:
        """True if the server takes nothing for now."""
        return self.connection.is_held_up

    @property
    def unsent(self) -> int:
        """Bytes that wait for the client."""
        return self.connection.unsent

    @property
    def writes(self) -> int:
        """How often the server has sent something."""
        return self.connection.writes


class _Transport(FakeTransport):
    """One that has no socket to send files over, as over TLS."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return "TLS" if name == "sslcontext" else super().get_extra_info(name, default)


class Http1Client:
    """A client that speaks HTTP/1 with an `HttpConnection`."""

    def __init__(self, site: Site, **options: Any) -> None:
        self.connection = HttpConnection(site)
        self.connection.client = ("127.0.0.1", 4711)
        self.connection.server = ("127.0.0.1", 80)
        self.transport = _Transport(self.connection, **options)
        self._is_chunked = False
        self._methods: list[str] = []
        self._has_left = False

    async def asks(
        self,
        method: str = "GET",
        target: bytes = b"/",
        *fields: tuple[bytes, bytes],
        body: bytes | None = None,
        length: int | None = None,
        more: bool = False,
        expects: bool = False,
        closes: bool = False,
        version: str = "1.1",
    ) -> None:
        """Make a request. With `length` or `more` the rest of its body follows."""
        lines = [] if version == "1.0" else [(b"host", b"a")]
        lines += fields
        if length is None and body is not None and not more:
            length = len(body)
        self._is_chunked = more and length is None
        if length is not None:
            lines.append((b"content-length", b"%d" % length))
        if self._is_chunked:
            lines.append((b"transfer-encoding", b"chunked"))
        if expects:
            lines.append((b"expect", b"100-continue"))
        if closes:
            lines.append((b"connection", b"close"))
        self._methods.append(method)
        head = b"%b %b HTTP/%b\r\n" % (method.encode(), target, version.encode())
        head += b"".join(b"%b: %b\r\n" % line for line in lines)
        await self.transport.sends(head + b"\r\n" + self._framed(body or b""))

    async def asks_for_websocket(
        self, *fields: tuple[bytes, bytes], body: bytes | None = None, handshake: bytes = HANDSHAKE, rest: bytes = b""
    ) -> None:
        """Ask for a WebSocket, by the lines of `handshake`; `rest` comes along with it."""
        self._methods.append("GET")
        told = [] if body is None else [(b"content-length", b"%d" % len(body))]
        lines = b"".join(b"%b: %b\r\n" % field for field in (*fields, *told))
        await self.transport.sends(handshake + lines + b"\r\n" + (body or b"") + rest)

    def arrives(self, data: bytes) -> None:
        """Let bytes behind an upgrade arrive, now."""
        self.connection.data_received(data)

    def _framed(self, piece: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(piece), piece) if self._is_chunked and piece else piece

    async def sends(self, piece: bytes) -> None:
        """Send a piece of the body, or bytes behind an upgrade."""
        await self.transport.sends(self._framed(piece))

    async def ends_body(self) -> None:
        """Send no more of a body whose length was not told."""
        self._is_chunked = False
        await self.transport.sends(b"0\r\n\r\n")

    def stops_taking(self) -> None:
        """Take nothing from now on."""
        self.transport.stops_taking()

    async def takes(self) -> None:
        """Take everything again."""
        await self.transport.takes()

    async def ends_stream(self) -> None:
        """Half close."""
        await self.transport.ends()

    async def leaves(self) -> None:
        """Go."""
        self._has_left = True
        await self.transport.vanishes()

    async def lets_time_pass(self) -> None:
        """Do nothing until the deadline of the connection."""
        await let_expire(self.connection)

    @property
    def answers(self) -> list[Answer]:
        """What came back."""
        return _read(bytes(self.transport.received), list(self._methods), is_over=self.transport.closing)

    @property
    def is_cut(self) -> bool:
        """True if the server has broken off."""
        return self.transport.aborted and not self._has_left

    @property
    def is_closed(self) -> bool:
        """True if the server has closed, or will once all is taken."""
        return self.transport.closing

    @property
    def has_last(self) -> bool:
        """True if the server has ended its half, or closed."""
        return self.transport.closing or self.transport.ended

    @property
    def is_held_up(self) -> bool:
        """True if the server takes nothing for now."""
        return self.transport.is_paused

    @property
    def unsent(self) -> int:
        """Bytes that wait for the client."""
        return self.transport.get_write_buffer_size()

    @property
    def writes(self) -> int:
        """How often the server has sent something."""
        return self.transport.writes


Client = MessageClient | Http1Client
WIRES: dict[str, type[Client]] = {"messages": MessageClient, "http1": Http1Client}


async def stop_worker(client: Client) -> None:
    """Let the worker of a client begin to stop."""
    await in_callback(client.connection.drain)


async def end_worker(client: Client) -> None:
    """Let the grace period of the worker nearly be over."""
    await in_callback(client.connection.interrupt)


def _parts_of(handshake: bytes) -> tuple[bytes, Fields]:
    """Return target and fields of a handshake."""
    first, *lines = handshake.rstrip().split(b"\r\n")
    pairs = [line.partition(b": ") for line in lines]
    return first.split(b" ")[1], [(name.lower(), value) for name, _, value in pairs]


# --- HTTP/1 as a client reads it


def _read(data: bytes, methods: list[str], *, is_over: bool) -> list[Answer]:
    answers: list[Answer] = []
    informed: list[tuple[int, Fields]] = []
    while b"\r\n\r\n" in data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        _, number, reason = first.split(b" ", 2)
        pairs = [line.partition(b": ") for line in lines]
        fields = [(name.lower(), value) for name, _, value in pairs]
        status = int(number)
        own = [pair for pair in fields if pair[0] not in _OF_THE_WIRE]
        if status < 200 and status != 101:
            informed.append((status, own))
            continue
        method = methods.pop(0) if methods else "GET"
        known = dict(fields)
        length = int(known[b"content-length"]) if b"content-length" in known else None
        answer = Answer(status, reason.decode("latin-1"), own, length, informed=informed)
        informed = []
        answers.append(answer)
        if status == 101:
            answer.body, data = data, b""
        elif method == "HEAD" or status in _BODILESS:
            answer.is_whole = True
        elif b"transfer-encoding" in known:
            data = _read_chunks(answer, data)
        elif length is None:
            answer.body, data = data, b""
            answer.is_whole = is_over
        else:
            answer.body, data = data[:length], data[length:]
            answer.is_whole = len(answer.body) == length
    if informed:
        answers.append(Answer(0, informed=informed))
    return answers


def _read_chunks(answer: Answer, data: bytes) -> bytes:
    while b"\r\n" in data:
        line, _, data = data.partition(b"\r\n")
        size = int(line, 16)
        if size:
            answer.body += data[:size]
            data = data[size + 2 :]
            continue
        lines, end, data = data.partition(b"\r\n") if data.startswith(b"\r\n") else data.partition(b"\r\n\r\n")
        pairs = [field.partition(b": ") for field in lines.split(b"\r\n") if field]
        answer.trailers = [(name.lower(), value) for name, _, value in pairs]
        answer.is_whole = bool(end)
        break
    return data
