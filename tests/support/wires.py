"""The wires behind one client interface: a test of requests and responses applies to all of them.

`Http1Client` and `Http2Client` speak HTTP over a transport without a socket, `MessageClient` passes messages in memory.
All have verbs for the client, and parse the output into `Answer`s.
"""

from __future__ import annotations

import dataclasses
import http
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings

from hybrid.workers.http.context import HttpContext
from hybrid.workers.http.exchange import Fields
from hybrid.workers.http.h1.connection import HttpConnection
from hybrid.workers.http.h2.connection import Http2Connection
from support import frames
from support.fake_wire import End, FakeWire, Informational, Piece, Refused, Start, Trailers
from support.http import FakeTransport, in_callback, let_expire
from support.websocket import HANDSHAKE

_OF_THE_WIRE = {b"date", b"server", b"connection", b"content-length", b"transfer-encoding", b"trailer"}
_OF_AN_UPGRADE = {b"host", b"connection", b"upgrade", b"sec-websocket-key"}
_BODILESS = {204, 304}


@dataclasses.dataclass
class Answer:
    """A response, as far as it has arrived."""

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

    def __init__(self, context: HttpContext, **options: Any) -> None:
        self.connection = FakeWire(context, **options)
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

    async def settles(self) -> None:
        """Do nothing: what one side sends, the other has."""

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

    def __init__(self, context: HttpContext, **options: Any) -> None:
        self.connection = HttpConnection(context)
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

    async def settles(self) -> None:
        """Do nothing: what one side sends, the other has."""

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


class Http2Client:
    """A client that speaks HTTP/2 with an `Http2Connection`, each request on a stream of its own."""

    def __init__(self, context: HttpContext, *, window: int = 1 << 24, **options: Any) -> None:
        """`window`: bytes of a response that it takes before it says that it takes more."""
        self.connection = Http2Connection(context)
        self.connection.client = ("127.0.0.1", 4711)
        self.connection.server = ("127.0.0.1", 80)
        self.transport = _Transport(self.connection, **options)
        self.speaks = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
        self.speaks.local_settings = h2.settings.Settings(
            client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
        )
        self.speaks.initiate_connection()
        self.speaks.increment_flow_control_window(1 << 24)
        self.stream = 0
        """The newest."""
        self.resets: dict[int, int] = {}
        """Stream -> why the server has reset it."""
        self.goaways: list[tuple[int, int]] = []
        """The last stream and the error code of each GOAWAY."""
        self.by_stream: dict[int, Answer] = {}
        self._tunnels: set[int] = set()  # streams that ask for a WebSocket
        self._informed: dict[int, list[tuple[int, Fields]]] = {}
        self._read = 0  # bytes of the output that are parsed
        self._unsent = b""  # of the newest body, for want of a window
        self._left: int | None = None
        self._is_last = False
        self._has_left = False
        self.connection.data_received(self.speaks.data_to_send())

    async def asks(
        self,
        method: str = "GET",
        target: bytes = b"/",
        *fields: tuple[bytes, bytes],
        body: bytes | None = None,
        length: int | None = None,
        more: bool = False,
        expects: bool = False,
    ) -> None:
        """Make a request. With `length` or `more` the rest of its body follows."""
        if length is None and body is not None and not more:
            length = len(body)
        told = [] if length is None else [(b"content-length", b"%d" % length)]
        told += [(b"expect", b"100-continue")] if expects else []
        pseudo = [(b":method", method.encode()), (b":scheme", b"http"), (b":authority", b"a"), (b":path", target)]
        self.stream = self.speaks.get_next_available_stream_id()
        is_last = body is None and length is None and not more
        self.speaks.send_headers(self.stream, [*pseudo, *fields, *told], end_stream=is_last)
        self._unsent, self._is_last, self._left = b"", False, length
        await self._gives(body or b"")

    async def asks_for_websocket(
        self, *fields: tuple[bytes, bytes], handshake: bytes = HANDSHAKE, rest: bytes = b""
    ) -> None:
        """Ask for a WebSocket (RFC 8441), by the lines of `handshake`; `rest` comes along with it."""
        target, own = _parts_of(handshake)
        lines = [field for field in own if field[0] not in _OF_AN_UPGRADE]
        pseudo = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"http"), (b":path", target)]
        self.stream = self.speaks.get_next_available_stream_id()
        self._tunnels.add(self.stream)
        self.speaks.send_headers(self.stream, [*pseudo, (b":authority", b"a"), *lines, *fields])
        self._unsent, self._is_last, self._left = rest, False, None
        await self.settles()

    def arrives(self, data: bytes) -> None:
        """Let bytes behind an upgrade arrive, now."""
        self.speaks.send_data(self.stream, data)
        self.connection.data_received(self.speaks.data_to_send())

    async def _gives(self, piece: bytes) -> None:
        self._unsent += piece
        if self._left is not None:
            self._left -= len(piece)
            self._is_last = not self._left
        await self.settles()

    async def sends(self, piece: bytes) -> None:
        """Send a piece of the body."""
        await self._gives(piece)

    async def ends_body(self) -> None:
        """Send no more of a body whose length was not told."""
        self._is_last = True
        await self.settles()

    async def settles(self) -> None:
        """Exchange frames until neither side has more to send."""
        while True:
            self._look()
            self._send_body()
            data = self.speaks.data_to_send()
            if not data or self.transport.closing:
                return
            await self.transport.sends(data)

    def _send_body(self) -> None:
        speaks, stream = self.speaks, self.stream
        if stream in self.resets:
            self._unsent, self._is_last = b"", False
        while self._unsent and (room := min(speaks.local_flow_control_window(stream), 16_384)):
            piece, self._unsent = self._unsent[:room], self._unsent[room:]
            speaks.send_data(stream, piece)
        if self._is_last and not self._unsent:
            self._is_last = False
            speaks.end_stream(stream)

    def _look(self) -> None:
        """Read what the server has sent, and note it."""
        self.connection.flush()
        found, size = frames.whole(bytes(self.transport.received[self._read :]))
        self._read += size
        for frame in found:
            if frame.kind == frames.GOAWAY:  # this library would take nothing behind one
                self.goaways.append(frames.goaway_of(frame))
            else:
                for event in self.speaks.receive_data(frame.wire):
                    self._note(event)

    def _note(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.InformationalResponseReceived(stream_id=stream, headers=headers):
                self._informed.setdefault(stream, []).append((int(dict(headers)[b":status"]), _own(headers)))
            case h2.events.ResponseReceived(stream_id=stream, headers=headers):
                known = dict(headers)
                status = int(known[b":status"])
                if stream in self._tunnels and status == 200:
                    status = 101  # what it means
                length = int(known[b"content-length"]) if b"content-length" in known else None
                self.by_stream[stream] = Answer(status, http.HTTPStatus(status).phrase, _own(headers), length)
            case h2.events.DataReceived(stream_id=stream, data=data, flow_controlled_length=size):
                self.by_stream[stream].body += data
                if size:
                    self.speaks.acknowledge_received_data(size, stream)
            case h2.events.TrailersReceived(stream_id=stream, headers=headers):
                self.by_stream[stream].trailers = list(headers)
            case h2.events.StreamEnded(stream_id=stream):
                self.by_stream[stream].is_whole = True
            case h2.events.StreamReset(stream_id=stream, error_code=code):
                self.resets[stream] = int(code)

    def stops_taking(self) -> None:
        """Take nothing from now on."""
        self._look()
        self.transport.stops_taking()

    async def takes(self) -> None:
        """Take everything again."""
        await self.transport.takes()
        await self.settles()

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
        """What came back, in the order of the requests."""
        self._look()
        for stream, answer in self.by_stream.items():
            answer.informed = self._informed.get(stream, [])
        early = [Answer(0, informed=each) for stream, each in self._informed.items() if stream not in self.by_stream]
        return [self.by_stream[stream] for stream in sorted(self.by_stream)] + early

    @property
    def is_cut(self) -> bool:
        """True if the server has broken off the newest stream, or the connection."""
        self._look()
        return bool(self.resets.get(self.stream)) or (self.transport.aborted and not self._has_left)

    @property
    def is_closed(self) -> bool:
        """True if the server has closed, or will once all is taken; of a WebSocket, its stream."""
        self._look()
        answer = self.by_stream.get(self.stream)
        is_ended = self.stream in self._tunnels and answer is not None and answer.is_whole
        return self.transport.closing or is_ended

    @property
    def has_last(self) -> bool:
        """True if the server has ended its half, or closed."""
        return self.is_closed or self.transport.ended

    @property
    def is_held_up(self) -> bool:
        """True if the server takes no more of the body for now."""
        return bool(self._unsent)

    @property
    def unsent(self) -> int:
        """Bytes that wait for the client."""
        queued: int = self.connection.session.queued()
        return queued + self.transport.get_write_buffer_size()

    @property
    def writes(self) -> int:
        """How often the server has sent something."""
        return self.transport.writes


def _own(headers: Any) -> Fields:
    return [(name, value) for name, value in headers if name not in _OF_THE_WIRE and not name.startswith(b":")]


Client = MessageClient | Http1Client | Http2Client
WIRES: dict[str, type[Any]] = {"messages": MessageClient, "http1": Http1Client}
"""Those on which one request is answered after the other, and which a request may close or take over."""
ALL_WIRES: dict[str, type[Any]] = {**WIRES, "http2": Http2Client}


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
