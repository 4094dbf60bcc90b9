"""ASGI requests: the results of `receive` and `send`, turn by turn, without sockets."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.http import FakeTransport, asgi_adapter, connect, in_callback, until
from support.hub import run_on, turns
from support.loops import LOOPS
from support.records import logged

from hybrid.workers.apps.asgi.call import EXTENSIONS, own_extensions
from hybrid.workers.http.settings import HttpSettings

PLACES = [loop for loop in ("epoll", "asyncio", "uvloop") if loop in LOOPS]
GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n"
START = {"type": "http.response.start", "status": 200}
LAST = {"type": "http.response.body", "body": b"end"}
DISCONNECT = {"type": "http.disconnect"}


class Server:
    """A server for one application, which records calls and leftovers."""

    def __init__(self, application: Callable[..., Awaitable[None]], **settings: Any) -> None:
        self.adapter = asgi_adapter(application, HttpSettings(**settings))

    def connect(self, **options: Any) -> FakeTransport:
        return connect(self.adapter, **options)[1]

    async def ask(self, request: bytes = GET) -> bytes:
        """Return the output once the application has returned."""
        transport = self.connect()
        await transport.sends(request)
        await until(lambda: not self.adapter._working, "the application ends")
        return bytes(transport.received)


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


Scenario = Callable[[], Awaitable[None]]


def on_loops(scenario: Scenario) -> Callable[[str], None]:
    """Make a test from a scenario, on three loops."""

    @pytest.mark.parametrize("loop", PLACES)
    @functools.wraps(scenario)
    def test(loop: str) -> None:
        async def main(_: object) -> None:
            await scenario()
            await turns()

        run_on(loop, main)

    del test.__wrapped__  # type: ignore[attr-defined]  # pytest would take its parameter for a fixture
    return test


# --- receive


@on_loops
async def test_a_request_without_a_body_is_one_message() -> None:
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        got.append(await receive())
        await send(START)
        await send(LAST)
        got.extend([await receive(), await receive()])

    assert body_of(await Server(app).ask()) == b"end"
    assert got == [{"type": "http.request", "body": b"", "more_body": False}, DISCONNECT, DISCONNECT]


@on_loops
async def test_an_unread_body_is_dropped_after_the_response() -> None:
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(LAST)
        got.append(await receive())

    await Server(app).ask(POST % 4 + b"body")
    await Server(app).ask()
    assert got == [DISCONNECT] * 2


@on_loops
async def test_a_body_is_received_in_the_pieces_in_which_it_arrives() -> None:
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while not got or got[-1]["more_body"]:
            got.append(await receive())
        await send(START)
        await send(LAST)

    server = Server(app)
    transport = server.connect()
    await transport.sends(POST % 9)
    for piece in (b"one", b"two", b"end"):
        await transport.sends(piece)
        await until(lambda piece=piece: got and got[-1]["body"] == piece, "the piece is there")
    await until(lambda: transport.received, "the answer")
    assert [message["more_body"] for message in got] == [True, True, False]


@pytest.mark.parametrize("ending", ["answer", "trailers", "failure", "departure"])
@pytest.mark.parametrize("loop", PLACES)
def test_all_waiting_tasks_are_told_of_the_end(loop: str, ending: str) -> None:
    """However it ends: a task that watches for a disconnect must not be left behind."""
    got: list[Any] = []
    tasks: list[asyncio.Task[None]] = []

    async def watch(receive: Any) -> None:
        got.append(await receive())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["more_body"] is False
        tasks.extend(asyncio.create_task(watch(receive)) for _ in range(2))
        await asyncio.sleep(0)
        if ending == "failure":
            raise LookupError
        if ending == "departure":
            await asyncio.gather(*tasks)
            return
        await send({**START, "trailers": ending == "trailers"})
        await send(LAST)
        if ending == "trailers":
            await send({"type": "http.response.trailers", "headers": []})

    async def main(_: object) -> None:
        server = Server(app)
        transport = server.connect()
        await transport.sends(b"GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\n\r\n")
        if ending == "departure":
            await until(lambda: tasks, "it waits")
            await transport.vanishes()
        await until(lambda: len(got) == 2, "both are told")
        assert got == [DISCONNECT] * 2

    with logged():
        run_on(loop, main)


# --- send


@on_loops
async def test_send_can_be_awaited_anywhere() -> None:
    """In a task, in a group, with a timeout: like a coroutine."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert asyncio.iscoroutinefunction(send), "some ask, and warn otherwise"
        await asyncio.create_task(send(START))
        piece = {"type": "http.response.body", "body": b"piece ", "more_body": True}
        await asyncio.wait_for(send(piece), 5)
        await asyncio.gather(send(piece), send(piece))
        async with asyncio.TaskGroup() as group:
            group.create_task(send(piece))
        await asyncio.ensure_future(send(LAST))

    answer = await Server(app).ask(GET.replace(b"1.1", b"1.0"))
    assert body_of(answer) == b"piece " * 4 + b"end"


@on_loops
async def test_send_waits_for_a_slow_client_and_raises_when_it_leaves() -> None:
    log: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        try:
            for number in range(100):
                await send({"type": "http.response.body", "body": b"x" * 50_000, "more_body": True})
                log.append(str(number))
        except OSError as error:
            log.append(type(error).__name__)
            raise

    with logged() as lines:
        server = Server(app)
        transport = server.connect()
        transport.stops_taking()
        await transport.sends(GET)
        await turns()
        assert log == ["0"], "the second piece is too much"
        await transport.takes()
        await until(lambda: log[-1] == "99", "it goes on")
        again = server.connect()
        again.stops_taking()
        await again.sends(GET)
        await again.vanishes()
        await until(lambda: not server.adapter._working, "it ends")
        assert log[-2:] == ["0", "ClientGoneError"]
    assert not [line for line in lines if "ClientGone" in line], "no news for the log"


@on_loops
async def test_each_send_after_a_disconnect_raises_oserror() -> None:
    raised: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        for message in (START, LAST, {"type": "http.response.early_hint", "links": []}, START):
            try:
                await send(message)
            except OSError:
                raised.append(message["type"])

    server = Server(app)
    transport = server.connect()
    await transport.sends(GET)
    await turns()
    await transport.vanishes()
    await until(lambda: not server.adapter._working, "it ends")
    assert len(raised) == 4, raised


@on_loops
async def test_an_invalid_response_is_a_500_and_an_error() -> None:
    bad: list[list[dict[str, Any]]] = [
        [{**START, "headers": [(b"content-length", b"5")]}, LAST],
        [{**START, "headers": [(b"content-length", b"1")]}, LAST],
        [{**START, "headers": [(b"bad name", b"1")]}],
        [{**START, "headers": [(b"x", b"a\nb")]}],
        [{**START, "status": 99}],
        [{**START, "status": 101}],
        [START, {**LAST, "body": None}],
        [LAST],
        [],
    ]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in bad[int(scope["query_string"])]:
            await send(message)

    with logged() as lines:
        for number in range(len(bad)):
            answer = await Server(app).ask(GET.replace(b"/ ", b"/?%d " % number))
            assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n"), bad[number]
            assert any(f"GET /?{number}" in line for line in lines)


@on_loops
async def test_messages_after_the_end_are_ignored_with_one_warning() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in (START, LAST, LAST, START, LAST):
            await send(message)

    with logged() as lines:
        assert (await Server(app).ask()).endswith(b"\r\n\r\nend")
    assert len([line for line in lines if "ignoring" in line]) == 1


# --- the state, cancelling


@on_loops
async def test_requests_do_not_share_their_scope() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        parts = (scope, scope["asgi"], scope["extensions"], *scope["extensions"].values(), scope["state"])
        assert len(parts) == 4 + len(EXTENSIONS)
        assert not any("mine" in part for part in parts)
        for part in parts:
            part["mine"] = {}
        scope["state"]["shared"].append(1)
        await send(START)
        await send({**LAST, "body": b"%d" % len(scope["state"]["shared"])})

    server = Server(app)
    server.adapter.state = {"shared": []}
    transport = server.connect()
    for number in (1, 2, 3):
        await transport.sends(GET)
        assert transport.received.endswith(b"%d" % number)
    assert (await server.ask()).endswith(b"4")


def test_requests_do_not_share_the_extension_tls() -> None:
    known = {"tls": {"client_cert_chain": ["certificate"], "client_cert_name": "CN=a"}}
    mine = own_extensions(known)
    mine["tls"]["client_cert_chain"].append("mine")
    mine["tls"]["client_cert_name"] = "mine"
    assert own_extensions(known)["tls"] == {"client_cert_chain": ["certificate"], "client_cert_name": "CN=a"}


@on_loops
async def test_task_local_objects_stay_with_their_request() -> None:
    """As if each request ran in a task made by `create_task`."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        task: Any = asyncio.current_task()
        user = getattr(task, "user", None)
        task.user = scope["query_string"]
        await send(START)
        await send({**LAST, "body": repr(user).encode()})

    transport = Server(app).connect()
    for number in (1, 2, 3):
        await transport.sends(GET.replace(b"/ ", b"/?%d " % number))
        assert transport.received.endswith(b"\r\n\r\nNone")


@on_loops
async def test_the_end_cancels_running_requests() -> None:
    log: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    server = Server(app)
    transports = [server.connect() for _ in range(3)]
    for transport in transports:
        await transport.sends(GET)
    await in_callback(server.adapter.end)
    assert await server.adapter.wait_idle(5)
    assert log == ["cancelled"] * 3
    assert all(bytes(transport.received).startswith(b"HTTP/1.1 500 ") for transport in transports)
