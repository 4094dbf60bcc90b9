"""A WebSocket from handshake to end, without a socket: what the application and the client see.

Over HTTP/1 and over messages in memory, which carry the frames behind the handshake.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from support.http import asgi_adapter, in_callback, until
from support.websocket import (
    ACCEPT,
    BINARY,
    CLOSE,
    HANDSHAKE,
    PING,
    PONG,
    TEXT,
    Received,
    close_frame,
    code_of,
    frame,
    received,
)
from support.wires import WIRES, Answer, Client, Http1Client

from hybrid.workers.apps.asgi.call import ClientGoneError
from hybrid.workers.http.head import HeadError
from hybrid.workers.http.settings import HttpSettings, Limits
from hybrid.workers.http.websocket.session import CLOSE_TIMEOUT

Events = list[dict[str, Any]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
SECRET = "of the application"


@dataclasses.dataclass
class Scene:
    """One connection to an application that does what the test says, and what came of it."""

    events: Events = dataclasses.field(default_factory=list)
    """What the application received."""
    errors: list[BaseException] = dataclasses.field(default_factory=list)
    """What its `send` raised."""
    scope: dict[str, Any] = dataclasses.field(default_factory=dict)
    returned: bool = False
    tasks: list[asyncio.Task[None]] = dataclasses.field(default_factory=list)
    client: Client = None  # type: ignore[assignment]
    adapter: Any = None

    @property
    def connection(self) -> Any:
        """The server's side of it."""
        return self.client.connection

    @property
    def answer(self) -> Answer:
        """What the client has got."""
        return self.client.answers[-1]

    @property
    def frames(self) -> list[Received]:
        """What the client got after the handshake."""
        assert self.answer.status == 101
        return received(self.answer.body)

    @property
    def status(self) -> int:
        return self.answer.status

    @property
    def head(self) -> bytes:
        """The head of an answer of HTTP/1."""
        assert isinstance(self.client, Http1Client)
        return bytes(self.client.transport.received).partition(b"\r\n\r\n")[0]

    async def event(self, kind: str) -> dict[str, Any]:
        """Wait until the application has received one of a kind; return the last."""
        await until(lambda: any(event["type"] == kind for event in self.events), kind)
        return next(event for event in reversed(self.events) if event["type"] == kind)

    async def received_frames(self, count: int) -> list[Received]:
        await until(lambda: self.client.answers and len(self.frames) >= count, f"{count} frames")
        return self.frames


def echo(scene: Scene) -> Callable[..., Awaitable[None]]:
    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        scene.events.append(await receive())
        await send({"type": "websocket.accept"})
        while True:
            event = await receive()
            scene.events.append(event)
            if event["type"] == "websocket.disconnect":
                break
            await send({**event, "type": "websocket.send"})

    return application


def scripted(*messages: dict[str, Any], listen: bool = True) -> Callable[[Scene], Callable[..., Awaitable[None]]]:
    """Return an application that sends messages after `websocket.connect`, then listens until the disconnect."""

    def make(scene: Scene) -> Callable[..., Awaitable[None]]:
        async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            scene.events.append(await receive())
            for message in messages:
                try:
                    await send(message)
                except Exception as error:  # noqa: BLE001 - looked at by the test
                    scene.errors.append(error)
            while listen and scene.events[-1]["type"] != "websocket.disconnect":
                scene.events.append(await receive())

        return application

    return make


ACCEPTED = {"type": "websocket.accept"}


Play = Callable[..., Scene]


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def play(wire: str) -> Play:
    """Give what plays a scene over the wire of the test."""
    return functools.partial(play_over, wire)


over_http1 = pytest.mark.parametrize("wire", ["http1"])


def play_over(
    wire: str,
    make: Callable[[Scene], Callable[..., Awaitable[None]]],
    script: Callable[[Scene], Coroutine[Any, Any, None]],
    settings: HttpSettings | None = None,
    *fields: tuple[bytes, bytes],
    before: bool = False,
    **options: Any,
) -> Scene:
    """Send a handshake to an application, do what the script says, then let the client vanish; return what was seen.

    `before`: another request comes first.
    """
    scene = Scene()

    async def scenario() -> None:
        inner = make(scene)

        async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            scene.scope = scope
            try:
                await inner(scope, receive, send)
            finally:
                scene.returned = True

        scene.adapter = asgi_adapter(application, settings)
        scene.client = WIRES[wire](scene.adapter.site)
        if before:
            await scene.client.asks()
        await scene.client.asks_for_websocket(*fields, **options)
        await script(scene)
        await scene.client.leaves()
        await until(lambda: not scene.scope or scene.returned, "the application returns")
        assert await scene.adapter.wait_idle(5)
        await scene.adapter.shut_down(5)

    asyncio.run(scenario())
    return scene


async def nothing(scene: Scene) -> None:
    await asyncio.sleep(0)


# -- the handshake


def test_an_accepted_handshake_is_answered_with_101(play: Play) -> None:
    async def script(scene: Scene) -> None:
        answer = scene.answer
        assert (answer.status, answer.reason, answer.length) == (101, "Switching Protocols", None)
        assert (b"sec-websocket-accept", ACCEPT) in answer.fields

    play(echo, script)


@over_http1
def test_an_accepted_handshake_is_answered_with_server_and_date(play: Play) -> None:
    async def script(scene: Scene) -> None:
        assert scene.head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"\r\nserver: hybrid" in scene.head
        assert b"\r\ndate: " in scene.head
        assert b"content-length" not in scene.head

    play(echo, script)


@over_http1
def test_server_and_date_are_left_out_where_that_is_set(play: Play) -> None:
    async def script(scene: Scene) -> None:
        assert b"date" not in scene.head
        assert b"server" not in scene.head

    play(echo, script, HttpSettings(server_header=False, date_header=False))


def test_the_scope_is_that_of_the_specification(play: Play) -> None:
    handshake = HANDSHAKE.replace(b"/chat?", b"/ch%C3%A4t?")
    offers = [(b"sec-websocket-protocol", b"a, b"), (b"sec-websocket-protocol", b"c")]
    scope = play(echo, nothing, HttpSettings(root_path="/mounted"), *offers, handshake=handshake).scope
    assert scope["type"] == "websocket"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert scope["http_version"] == "1.1"
    assert scope["scheme"] == "ws"
    assert (scope["path"], scope["raw_path"]) == ("/mounted/chät", b"/mounted/ch%C3%A4t")
    assert (scope["root_path"], scope["query_string"]) == ("/mounted", b"room=1")
    assert (scope["client"], scope["server"]) == (("127.0.0.1", 4711), ("127.0.0.1", 80))
    assert scope["subprotocols"] == ["a", "b", "c"]
    assert scope["extensions"] == {"websocket.http.response": {}}
    assert (b"host", b"example.test") in scope["headers"]
    assert "method" not in scope


def test_the_subprotocol_and_header_fields_of_the_application_are_in_the_answer(play: Play) -> None:
    async def script(scene: Scene) -> None:
        assert (b"sec-websocket-protocol", b"b") in scene.answer.fields
        assert (b"x-mine", b"yes") in scene.answer.fields

    accept = {"type": "websocket.accept", "subprotocol": "b", "headers": [(b"x-mine", b"yes")]}
    play(scripted(accept), script, None, (b"sec-websocket-protocol", b"a, b"))


@over_http1
def test_the_server_that_the_application_names_is_the_only_one(play: Play) -> None:
    async def script(scene: Scene) -> None:
        assert scene.head.count(b"server: ") == 1
        assert b"server: mine" in scene.head

    play(scripted({"type": "websocket.accept", "headers": [(b"server", b"mine")]}), script)


@pytest.mark.parametrize(
    "accept",
    [
        {"subprotocol": "never offered"},
        {"headers": [(b"x", b"a\r\nsplit: yes")]},
        {"headers": [(b"Sec-WebSocket-Protocol", b"a")]},
        {"headers": [(b"sec-websocket-accept", b"a")]},
    ],
)
def test_an_impossible_accept_raises_in_the_application(play: Play, accept: dict[str, Any]) -> None:
    scene = play(scripted({"type": "websocket.accept", **accept}, ACCEPTED), nothing)
    assert len(scene.errors) == 1
    assert scene.status == 101


@pytest.mark.parametrize(
    ("status", "old", "new"),
    [
        (400, b"Sec-WebSocket-Key: ", b"Sec-WebSocket-Kex: "),
        (426, b"Version: 13", b"Version: 12"),
    ],
)
def test_a_bad_handshake_never_reaches_the_application(play: Play, status: int, old: bytes, new: bytes) -> None:
    scene = play(echo, nothing, handshake=HANDSHAKE.replace(old, new))
    assert scene.status == status
    assert not scene.scope
    assert scene.client.has_last
    assert (b"sec-websocket-version", b"13") in scene.answer.fields
    assert ((b"upgrade", b"websocket") in scene.answer.fields) == (status == 426)


def test_a_handshake_with_a_body_never_reaches_the_application(play: Play) -> None:
    scene = play(echo, nothing, body=b"abc")
    assert scene.status == 400
    assert not scene.scope


@over_http1
def test_a_refused_handshake_says_that_the_connection_closes(play: Play) -> None:
    async def script(scene: Scene) -> None:
        assert b"connection: close" in scene.head

    play(echo, script, handshake=HANDSHAKE.replace(b"Version: 13", b"Version: 12"))


def test_frames_sent_along_with_the_handshake_are_not_lost(play: Play) -> None:
    async def script(scene: Scene) -> None:
        assert await scene.received_frames(2) == [Received(TEXT, b"early"), Received(TEXT, b"bird")]

    play(echo, script, rest=frame(TEXT, b"early") + frame(TEXT, b"bird"))


def test_frames_before_the_answer_are_bounded(play: Play) -> None:
    """An application that takes its time has no say in how much a client sends before it knows that it may."""
    gate = asyncio.Event()

    def make(scene: Scene) -> Callable[..., Awaitable[None]]:
        async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await gate.wait()
            await echo(scene)(scope, receive, send)

        return application

    async def script(scene: Scene) -> None:
        for _ in range(3):
            await scene.client.sends(frame(BINARY, b"x" * 30_000))
        assert scene.client.is_held_up
        gate.set()
        assert len(await scene.received_frames(3)) == 3
        assert not scene.client.is_held_up

    play(make, script)


# -- refusing


def test_a_close_instead_of_an_accept_is_403(play: Play) -> None:
    scene = play(scripted({"type": "websocket.close"}), nothing)
    assert scene.status == 403
    assert [event["type"] for event in scene.events] == ["websocket.connect", "websocket.disconnect"]
    assert scene.client.is_closed


def test_a_denial_response_goes_out_as_the_application_says(play: Play) -> None:
    messages = (
        {"type": "websocket.http.response.start", "status": 401, "headers": [(b"www-authenticate", b"Basic")]},
        {"type": "websocket.http.response.body", "body": b"who ", "more_body": True},
        {"type": "websocket.http.response.body", "body": b"are you?"},
    )
    scene = play(scripted(*messages), nothing)
    assert scene.errors == []
    assert (scene.answer.status, scene.answer.body, scene.answer.is_whole) == (401, b"who are you?", True)
    assert (b"www-authenticate", b"Basic") in scene.answer.fields
    assert scene.events[-1]["type"] == "websocket.disconnect"


@pytest.mark.parametrize("status", [100, 101, 103, 199])
def test_a_denial_cannot_be_an_informational_answer(play: Play, status: int) -> None:
    """101 would tell the client that it was accepted."""
    scene = play(scripted({"type": "websocket.http.response.start", "status": status}, listen=False), nothing)
    (error,) = scene.errors
    assert isinstance(error, HeadError)
    assert str(error) == f"status {status} cannot begin an answer: it is informational"
    assert scene.status == 500


def test_an_application_that_fails_before_it_answers_gives_500(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    def make(scene: Scene) -> Callable[..., Awaitable[None]]:
        async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            raise ValueError(SECRET)

        return application

    scene = play(make, nothing)
    assert scene.status == 500
    assert scene.answer.body == b"Internal Server Error\n"
    assert SECRET in caplog.text


def test_an_application_that_returns_without_an_answer_gives_500(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    scene = play(scripted(listen=False), nothing)
    assert scene.status == 500
    assert "returned with no answer to the WebSocket /chat?room=1" in caplog.text


def test_a_client_that_goes_before_the_answer_is_told_as_1006(play: Play) -> None:
    def make(scene: Scene) -> Callable[..., Awaitable[None]]:
        async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            scene.events.extend((await receive(), await receive()))
            with pytest.raises(ClientGoneError):
                await send(ACCEPTED)

        return application

    async def script(scene: Scene) -> None:
        await scene.client.ends_stream()
        await scene.event("websocket.disconnect")

    assert play(make, script).events[-1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}


# -- messages


def test_text_and_bytes_come_back_as_they_went(play: Play) -> None:
    async def script(scene: Scene) -> None:
        await scene.client.sends(frame(TEXT, "tschüß".encode()) + frame(BINARY, b"\xff\0"))
        assert await scene.received_frames(2) == [Received(TEXT, "tschüß".encode()), Received(BINARY, b"\xff\0")]

    scene = play(echo, script)
    assert scene.events[1:3] == [
        {"type": "websocket.receive", "text": "tschüß"},
        {"type": "websocket.receive", "bytes": b"\xff\0"},
    ]


def test_a_waiting_application_answers_before_the_read_is_over(play: Play) -> None:
    """It is stepped at once, and its answer is one write."""

    async def script(scene: Scene) -> None:
        await until(lambda: scene.connection.current.listener._user._gate.taken, "it waits")  # type: ignore[union-attr]
        written: list[int] = []

        def read() -> None:
            before = scene.client.writes
            scene.client.arrives(frame(TEXT, b"now"))
            written.append(scene.client.writes - before)

        await in_callback(read)
        assert written == [1]
        assert scene.frames == [Received(TEXT, b"now")]

    play(echo, script)


def test_two_tasks_may_receive_at_the_same_time(play: Play) -> None:
    def make(scene: Scene) -> Callable[..., Awaitable[None]]:
        async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await receive()
            await send(ACCEPTED)
            scene.events += await asyncio.gather(receive(), receive(), receive())

        return application

    async def script(scene: Scene) -> None:
        await asyncio.sleep(0)
        await scene.client.sends(frame(TEXT, b"a"))
        await scene.client.sends(frame(TEXT, b"b") + close_frame(1000))
        await scene.event("websocket.disconnect")

    scene = play(make, script)
    assert sorted(event.get("text", "end") for event in scene.events) == ["a", "b", "end"]


def test_a_message_is_not_lost_to_a_receive_that_was_given_up(play: Play) -> None:
    def make(scene: Scene) -> Callable[..., Awaitable[None]]:
        async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await receive()
            await send(ACCEPTED)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(receive(), 0.001)
            scene.events.append({"type": "gave up"})
            scene.events.append(await receive())

        return application

    async def script(scene: Scene) -> None:
        await scene.event("gave up")
        await scene.client.sends(frame(TEXT, b"late"))
        assert (await scene.event("websocket.receive"))["text"] == "late"

    play(make, script)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"type": "websocket.send"}, "text or bytes"),
        ({"type": "websocket.send", "text": None, "bytes": None}, "text or bytes"),
        ({"type": "websocket.accept"}, "cannot be sent"),
        ({"type": "websocket.http.response.start", "status": 200}, "cannot be sent"),
        ({"type": "http.response.start", "status": 200}, "cannot be sent"),
        ({"type": "websocket.close", "code": 1005}, "cannot be sent"),
    ],
)
def test_a_message_that_makes_no_sense_raises_and_harms_nothing(
    play: Play, message: dict[str, Any], error: str
) -> None:
    async def script(scene: Scene) -> None:
        assert await scene.received_frames(1) == [Received(TEXT, b"still here")]

    scene = play(scripted(ACCEPTED, message, {"type": "websocket.send", "text": "still here"}), script)
    assert len(scene.errors) == 1
    assert isinstance(scene.errors[0], RuntimeError)
    assert error in str(scene.errors[0])


# -- back-pressure


def test_a_client_that_takes_nothing_makes_the_application_wait(play: Play) -> None:
    def make(scene: Scene) -> Callable[..., Awaitable[None]]:
        async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await receive()
            await send(ACCEPTED)
            await receive()
            for _ in range(100):
                await send({"type": "websocket.send", "bytes": b"x" * 10_000})
                scene.events.append({"type": "sent"})
            await receive()

        return application

    async def script(scene: Scene) -> None:
        scene.client.stops_taking()
        await scene.client.sends(frame(TEXT, b"go"))
        await until(lambda: scene.connection.paused, "the buffer is full")
        await asyncio.sleep(0.01)
        assert scene.client.unsent < 100_000
        assert len(scene.events) < 10
        await scene.client.takes()
        await until(lambda: len(scene.events) == 100, "all is sent")

    play(make, script)


def test_a_sender_that_waits_hears_of_the_end(play: Play) -> None:
    def make(scene: Scene) -> Callable[..., Awaitable[None]]:
        async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await receive()
            await send(ACCEPTED)
            await receive()
            try:
                while True:
                    await send({"type": "websocket.send", "bytes": b"x" * 10_000})
            except ClientGoneError:
                scene.events.append({"type": "told"})

        return application

    async def script(scene: Scene) -> None:
        scene.client.stops_taking()
        await scene.client.sends(frame(TEXT, b"go"))
        await until(lambda: scene.connection.paused, "the buffer is full")
        await scene.client.leaves()
        await scene.event("told")

    play(make, script)


@pytest.mark.parametrize("size", [0, 1000])
def test_an_application_that_does_not_receive_stops_the_reading(play: Play, size: int) -> None:
    go = asyncio.Event()

    def make(scene: Scene) -> Callable[..., Awaitable[None]]:
        async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await receive()
            await send(ACCEPTED)
            await go.wait()
            while scene.events[-1:] != [{"type": "websocket.disconnect", "code": 1000, "reason": ""}]:
                scene.events.append(await receive())

        return application

    async def script(scene: Scene) -> None:
        sent = 0
        while not scene.client.is_held_up:
            await scene.client.sends(frame(BINARY, b"x" * size) * 10)
            sent += 10
            assert sent * (size + 64) < 100_000
        await scene.client.lets_time_pass()
        assert scene.frames == [], "no ping: a client that is not read cannot answer"
        go.set()
        await until(lambda: not scene.client.is_held_up, "reading goes on")
        await scene.client.sends(close_frame(1000))
        await scene.event("websocket.disconnect")
        assert len(scene.events) == sent + 1

    play(make, script)


def test_a_client_that_asks_for_pongs_and_does_not_take_them_is_not_read(play: Play) -> None:
    async def script(scene: Scene) -> None:
        scene.client.stops_taking()
        while not scene.client.is_held_up:
            await scene.client.sends(frame(PING, b"x" * 125) * 10)
            assert scene.client.unsent < 100_000
        await scene.client.takes()
        assert not scene.client.is_held_up

    play(echo, script)


# -- the end


def test_the_clients_close_is_answered_and_told_behind_its_messages(play: Play) -> None:
    async def script(scene: Scene) -> None:
        await scene.client.sends(frame(TEXT, b"last words") + close_frame(4321, "enough"))
        await scene.event("websocket.disconnect")
        assert code_of(scene.frames[0]) == 4321
        assert scene.client.is_closed
        assert not scene.client.is_cut

    scene = play(scripted(ACCEPTED), script)
    assert scene.events[1:] == [
        {"type": "websocket.receive", "text": "last words"},
        {"type": "websocket.disconnect", "code": 4321, "reason": "enough"},
    ]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"\xc3("), 1007),
        (frame(BINARY, b"x" * 101), 1009),
        (frame(BINARY, b"x" * 60, fin=False) + frame(0, b"x" * 60), 1009),
        (frame(TEXT, b"unmasked", mask=None), 1002),
        (frame(3), 1002),
        (frame(TEXT, b"x", rsv=4), 1002),
        (frame(PING, fin=False), 1002),
        (close_frame(1005), 1002),
    ],
)
def test_a_client_that_breaks_the_rules_is_told_why_and_listened_to_no_more(play: Play, data: bytes, code: int) -> None:
    """The server ends its half and goes on reading a little: a reset would destroy the close frame."""

    async def script(scene: Scene) -> None:
        await scene.client.sends(data)
        await scene.event("websocket.disconnect")
        assert [code_of(item) for item in scene.frames] == [code]
        assert scene.client.has_last
        await scene.client.sends(frame(TEXT, b"more"))
        await scene.client.ends_stream()
        assert scene.client.is_closed

    scene = play(scripted(ACCEPTED), script, HttpSettings(limits=Limits(websocket_max_size=100)))
    assert scene.events[1]["code"] == code
    assert len(scene.events) == 2


@pytest.mark.parametrize("verb", ["ends_stream", "leaves"])
def test_a_client_that_goes_without_a_word_is_1006(play: Play, verb: str) -> None:
    async def script(scene: Scene) -> None:
        await getattr(scene.client, verb)()
        await scene.event("websocket.disconnect")

    scene = play(scripted(ACCEPTED), script)
    assert scene.events[-1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}


def test_sending_after_the_end_raises_an_os_error_and_the_end_is_told_again(play: Play) -> None:
    def make(scene: Scene) -> Callable[..., Awaitable[None]]:
        async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await receive()
            await send(ACCEPTED)
            scene.events.extend([await receive() for _ in range(3)])
            for kind in ("websocket.send", "websocket.close", "websocket.accept"):
                with pytest.raises(OSError, match="closed"):
                    await send({"type": kind, "text": ""})
            await send({"type": "websocket.send", "text": ""})  # not logged: it is the client that went

        return application

    async def script(scene: Scene) -> None:
        await scene.client.sends(close_frame(1001))
        await until(lambda: scene.returned, "the application returns")

    assert [event["code"] for event in play(make, script).events] == [1001] * 3


def test_the_applications_close_waits_for_the_clients(play: Play) -> None:
    async def script(scene: Scene) -> None:
        (close,) = await scene.received_frames(1)
        assert (code_of(close), close.payload[2:]) == (4000, b"bye")
        assert not scene.client.is_closed
        await scene.client.sends(frame(TEXT, b"crossed") + close_frame(4000))
        assert scene.client.is_closed
        await scene.event("websocket.disconnect")

    scene = play(scripted(ACCEPTED, {"type": "websocket.close", "code": 4000, "reason": "bye"}), script)
    assert scene.events[1:] == [{"type": "websocket.disconnect", "code": 4000, "reason": ""}]
    assert scene.errors == []


def test_a_client_that_does_not_answer_a_close_is_cut(play: Play) -> None:
    async def script(scene: Scene) -> None:
        await scene.received_frames(1)
        assert scene.connection.deadline <= scene.connection.clock.now + CLOSE_TIMEOUT
        await scene.client.lets_time_pass()
        assert scene.client.is_cut
        await scene.event("websocket.disconnect")

    scene = play(scripted(ACCEPTED, {"type": "websocket.close"}), script)
    assert scene.events[-1]["code"] == 1006


def test_an_application_that_returns_closes_with_1000(play: Play) -> None:
    async def script(scene: Scene) -> None:
        assert [code_of(item) for item in await scene.received_frames(1)] == [1000]
        await scene.client.sends(frame(TEXT, b"dropped") * 2000)
        assert not scene.client.is_held_up

    play(scripted(ACCEPTED, listen=False), script)


def test_an_application_that_fails_closes_with_1011(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    def make(scene: Scene) -> Callable[..., Awaitable[None]]:
        async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await receive()
            await send(ACCEPTED)
            raise ValueError(SECRET)

        return application

    async def script(scene: Scene) -> None:
        (close,) = await scene.received_frames(1)
        assert close.payload == (1011).to_bytes(2, "big")

    play(make, script)
    assert SECRET in caplog.text


# -- keep-alive


def test_silence_is_answered_with_a_ping_and_a_pong_is_enough(play: Play) -> None:
    async def script(scene: Scene) -> None:
        for count in (1, 2):
            await scene.client.lets_time_pass()
            assert [item.opcode for item in scene.frames] == [PING] * count
            await scene.client.sends(frame(PONG))
            await scene.client.lets_time_pass()
            assert [item.opcode for item in scene.frames] == [PING] * count
        assert not scene.client.is_closed

    play(echo, script)


def test_a_client_that_answers_no_ping_is_closed_with_1011(play: Play) -> None:
    async def script(scene: Scene) -> None:
        await scene.client.lets_time_pass()
        await scene.client.lets_time_pass()
        assert [item.opcode for item in scene.frames] == [PING, CLOSE]
        assert code_of(scene.frames[1]) == 1011
        await scene.event("websocket.disconnect")
        await scene.client.lets_time_pass()
        assert scene.client.is_cut

    assert play(echo, script).events[-1]["code"] == 1011


def test_a_client_that_talks_is_not_pinged(play: Play) -> None:
    async def script(scene: Scene) -> None:
        scene.connection.clock.now += 15
        await scene.client.sends(frame(TEXT, b"here"))
        await scene.received_frames(1)
        await scene.client.lets_time_pass()
        assert len(scene.frames) == 1
        assert scene.connection.deadline == pytest.approx(scene.connection.clock.now + 15)

    play(echo, script)


def test_zero_switches_the_pings_off(play: Play) -> None:
    async def script(scene: Scene) -> None:
        assert scene.connection.deadline == float("inf")

    play(echo, script, HttpSettings(limits=Limits(websocket_ping_interval=0)))


# -- the worker stops


def test_a_stop_closes_with_1012_at_once_and_tells_the_application(play: Play) -> None:
    async def script(scene: Scene) -> None:
        scene.adapter.drain()
        assert [code_of(item) for item in scene.frames] == [1012]
        await scene.event("websocket.disconnect")
        await until(lambda: scene.returned, "the application returns")
        await scene.client.sends(close_frame(1012))
        assert scene.client.is_closed

    assert play(echo, script).events[-1]["code"] == 1012


def test_a_stop_answers_a_handshake_that_waits_with_503(play: Play) -> None:
    def make(scene: Scene) -> Callable[..., Awaitable[None]]:
        async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            scene.events.extend((await receive(), await receive()))

        return application

    async def script(scene: Scene) -> None:
        scene.adapter.drain()
        assert scene.status == 503
        await scene.event("websocket.disconnect")

    play(make, script)


def test_a_handshake_during_a_stop_is_answered_with_503(wire: str) -> None:
    async def scenario() -> None:
        adapter = asgi_adapter(None)
        adapter.drain()
        client = WIRES[wire](adapter.site)
        await client.asks_for_websocket()
        assert client.answers[-1].status == 503
        await until(lambda: not adapter.site.clock.watched, "the connection ends")

    asyncio.run(scenario())


def test_near_the_end_of_the_grace_period_nobody_is_waited_for(play: Play) -> None:
    async def script(scene: Scene) -> None:
        scene.adapter.drain()
        scene.adapter.interrupt()
        assert scene.client.is_cut

    play(echo, script)


def test_an_application_that_sends_during_a_stop_is_told_and_nothing_is_logged(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    def make(scene: Scene) -> Callable[..., Awaitable[None]]:
        async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await receive()
            await send(ACCEPTED)
            while True:
                await asyncio.sleep(0)
                await send({"type": "websocket.send", "text": "tick"})

        return application

    async def script(scene: Scene) -> None:
        await scene.received_frames(2)
        scene.adapter.drain()
        await until(lambda: scene.returned, "the application ends")

    play(make, script)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# -- beside HTTP


def test_an_upgrade_behind_a_slow_request_waits_for_its_answer(play: Play) -> None:
    """Frames that arrive meanwhile are not taken for requests, nor for the body of the earlier one."""
    go = asyncio.Event()

    def make(scene: Scene) -> Callable[..., Awaitable[None]]:
        async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await go.wait()
                await send({"type": "http.response.start", "status": 204, "headers": []})
                await send({"type": "http.response.body"})
            else:
                await echo(scene)(scope, receive, send)

        return application

    async def script(scene: Scene) -> None:
        await scene.client.sends(frame(TEXT, b"patience"))
        assert scene.client.answers == []
        go.set()
        await until(lambda: b"patience" in b"".join(answer.body for answer in scene.client.answers), "the echo")
        assert [answer.status for answer in scene.client.answers] == [204, 101]

    play(make, script, before=True)
