"""HTTP connections with a test application: it records its input and echoes it in the response.

And the client's side: bytes cut anywhere, responses parsed strictly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, NamedTuple, TypeVar

from hybrid.workers.http import head as heads
from hybrid.workers.http.context import HttpContext
from hybrid.workers.http.exchange import Exchange, Stage
from hybrid.workers.http.h1.connection import HttpConnection
from hybrid.workers.http.settings import HttpSettings, Limits
from support.http import FakeTransport

DEADLINE = 20.0  # seconds
BODILESS = frozenset({204, 304})
T = TypeVar("T")


class Notes:
    """The application's input."""

    def __init__(self) -> None:
        self.started: list[EchoCall] = []
        self.requests: list[tuple[str, bytes, list[tuple[bytes, bytes]], bytes]] = []
        """Method, target, fields and body of the complete requests."""

    @property
    def seen(self) -> tuple[bytes, ...]:
        """Their methods, targets and bodies, as echoed in the responses."""
        return tuple(b"%b %b %b" % (method.encode(), target, body) for method, target, _, body in self.requests)


class EchoCall:
    """Responds to a complete request with its method, target and body, in the turn after the last byte.

    A target that contains `/close` gets `Connection: close`. The listener of its exchange.
    """

    def __init__(self, notes: Notes, exchange: Exchange) -> None:
        exchange.listener = self
        self.exchange = exchange
        self._notes = notes
        self._got = b""
        notes.started.append(self)

    def body_arrived(self) -> None:
        """More is there."""
        self.exchange.connection.context.call_soon(self.goes_on)

    def resumed(self) -> None:
        """Nothing waits."""

    disconnected = draining = interrupt = resumed

    def peer_done(self) -> bool:
        """Go on."""
        return True

    def goes_on(self) -> None:
        """Respond, if the request is complete."""
        exchange, request = self.exchange, self.exchange.request
        if exchange.stage is Stage.WHOLE or exchange.gone:
            return
        if exchange.buffered:
            self._got += exchange.take_body()
        if not exchange.complete:
            exchange.ask_for_body()
            return
        self._notes.requests.append((request.method, request.target, request.headers, self._got))
        fields = [(b"content-type", b"text/plain")]
        if b"/close" in request.target:
            fields.append((b"connection", b"close"))
        exchange.start(heads.status_of(200), heads.from_bytes(fields), self._notes.seen[-1], more=False)


class Answer(NamedTuple):
    """A response as parsed by a client."""

    status: int
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def field(self, name: bytes) -> bytes | None:
        """The value of a field that may occur once."""
        values = [value for key, value in self.fields if key.lower() == name]
        assert len(values) <= 1, f"{name!r} is there {len(values)} times"
        return values[0] if values else None


class Wire:
    """A connection with its client."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.notes = Notes()
        settings = HttpSettings(limits=limits or Limits(), server_header=False, date_header=False)
        self.context = HttpContext(
            asyncio.get_running_loop(), settings, lambda exchange: EchoCall(self.notes, exchange).goes_on()
        )
        self.connection = HttpConnection(self.context)
        self.transport = FakeTransport(self.connection)

    async def deliver(self, pieces: Iterable[bytes]) -> None:
        """Send pieces one by one, as the server reads them, until it closes; let it respond."""
        for piece in pieces:
            while self.transport.is_paused and not self.transport.closing:
                await asyncio.sleep(0)
            if self.transport.closing:
                break
            self.sends(piece)
            await asyncio.sleep(0)
        await self.settle()

    async def settle(self) -> None:
        """Let the loop turn until nothing more happens."""
        quiet = 0
        while quiet < 4:
            before = len(self.transport.received)
            await asyncio.sleep(0)
            quiet = quiet + 1 if len(self.transport.received) == before else 0

    def sends(self, data: bytes) -> None:
        """Let bytes arrive, now: no task of an application is involved here."""
        self.connection.data_received(data)

    async def end(self) -> None:
        """Close the client's sending side; let the server respond."""
        if not self.transport.closing and not self.connection.eof_received():
            self.transport.close()
        await self.settle()

    @property
    def is_closing(self) -> bool:
        """True if the server has closed its sending side, or the connection."""
        return self.transport.closing or self.transport.ended

    def answers(self, *heads_only: int) -> list[Answer]:
        """Parse the output; the responses with these numbers are responses to HEAD."""
        return read_answers(bytes(self.transport.received), frozenset(heads_only))


def pieces(data: bytes, size: int) -> list[bytes]:
    """Cut `data` into pieces of `size` bytes."""
    return [data[start : start + size] for start in range(0, len(data), size)]


def on_loop(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function on a loop of its own, at most `DEADLINE` seconds."""

    async def limited() -> T:
        async with asyncio.timeout(DEADLINE):
            return await main()

    return asyncio.run(limited())


def read_answers(data: bytes, heads_only: frozenset[int] = frozenset()) -> list[Answer]:
    """Parse a stream of responses; `AssertionError` for invalid HTTP/1.1. Informational ones are omitted."""
    answers: list[Answer] = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, f"the end of the head is missing: {head!r}"
        first, *lines = head.split(b"\r\n")
        version, number, _ = first.split(b" ", 2)
        assert version == b"HTTP/1.1", first
        assert len(number) == 3, first
        fields = tuple(_field(line) for line in lines)
        status = int(number)
        if status < 200:
            continue
        answer = Answer(status, fields, b"")
        if status not in BODILESS and len(answers) not in heads_only:
            body, data = _body(answer, data)
            answer = answer._replace(body=body)
        answers.append(answer)
    return answers


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b": ")
    assert colon, line
    assert name, line
    assert not set(b"\r\n\0") & set(line), line
    return name, value


def _body(answer: Answer, data: bytes) -> tuple[bytes, bytes]:
    if answer.field(b"transfer-encoding") is not None:
        return _chunks(data)
    length = answer.field(b"content-length")
    if length is None:
        assert answer.field(b"connection") == b"close", "nothing says where the body ends"
        return data, b""
    assert len(data) >= int(length), "the body is cut"
    return data[: int(length)], data[int(length) :]


def _chunks(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        line, end, data = data.partition(b"\r\n")
        assert end, "a chunk is cut"
        size = int(line, 16)
        if not size:
            break
        body += data[:size]
        assert data[size : size + 2] == b"\r\n", "a chunk has another size"
        data = data[size + 2 :]
    while True:
        line, end, data = data.partition(b"\r\n")
        assert end, "the trailers are cut"
        if not line:
            return body, data
