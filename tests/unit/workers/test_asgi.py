"""ASGI requests: the results of `receive` and `send`, turn by turn, without sockets.

Each over HTTP/1 and over messages in memory: the application's side knows no framing.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.http import asgi_adapter, in_callback, until
from support.hub import run_on, turns
from support.loops import LOOPS
from support.records import logged
from support.wires import WIRES, Answer, Client

from hybrid.workers.apps.asgi.call import EXTENSIONS, own_extensions
from hybrid.workers.http.exchange import ResponseError
from hybrid.workers.http.settings import HttpSettings

PLACES = [loop for loop in ("epoll", "asyncio", "uvloop") if loop in LOOPS]
START = {"type": "http.response.start", "status": 200}
LAST = {"type": "http.response.body", "body": b"end"}
DISCONNECT = {"type": "http.disconnect"}


class Server:
    """A server for one application, which records calls and leftovers."""

    def __init__(self, wire: str, application: Callable[..., Awaitable[None]], **settings: Any) -> None:
        self.adapter = asgi_adapter(application, HttpSettings(**settings))
        self._wire = wire

    def connect(self) -> Client:
        return WIRES[self._wire](self.adapter.context)

    async def ask(self, method: str = "GET", target: bytes = b"/", **options: Any) -> Answer:
        """Return the output once the application has returned."""
        client = self.connect()
        await client.asks(method, target, **options)
        await until(lambda: not self.adapter._working, "the application ends")
        return client.answers[-1]


Scenario = Callable[[str], Awaitable[None]]


def on_loops(scenario: Scenario) -> Callable[[str, str], None]:
    """Make a test of a scenario: on three loops, over each wire."""

    @pytest.mark.parametrize("loop", PLACES)
    @pytest.mark.parametrize("wire", WIRES)
    @functools.wraps(scenario)
    def test(wire: str, loop: str) -> None:
        async def main(_: object) -> None:
            await scenario(wire)
            await turns()

        run_on(loop, main)

    del test.__wrapped__  # type: ignore[attr-defined]  # pytest would take its parameter for a fixture
    return test


# --- receive


@on_loops
async def test_a_request_without_a_body_is_one_message(wire: str) -> None:
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        got.append(await receive())
        await send(START)
        await send(LAST)
        got.extend([await receive(), await receive()])

    assert (await Server(wire, app).ask()).body == b"end"
    assert got == [{"type": "http.request", "body": b"", "more_body": False}, DISCONNECT, DISCONNECT]


@on_loops
async def test_an_unread_body_is_dropped_after_the_response(wire: str) -> None:
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(LAST)
        got.append(await receive())

    await Server(wire, app).ask("POST", body=b"body")
    await Server(wire, app).ask()
    assert got == [DISCONNECT] * 2


@on_loops
async def test_a_body_is_received_in_the_pieces_in_which_it_arrives(wire: str) -> None:
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while not got or got[-1]["more_body"]:
            got.append(await receive())
        await send(START)
        await send(LAST)

    server = Server(wire, app)
    client = server.connect()
    await client.asks("POST", length=9)
    for piece in (b"one", b"two", b"end"):
        await client.sends(piece)
        await until(lambda piece=piece: got and got[-1]["body"] == piece, "the piece is there")
    await until(lambda: client.answers, "the answer")
    assert [message["more_body"] for message in got] == [True, True, False]


@pytest.mark.parametrize("ending", ["answer", "trailers", "failure", "departure"])
@pytest.mark.parametrize("loop", PLACES)
@pytest.mark.parametrize("wire", WIRES)
def test_all_waiting_tasks_are_told_of_the_end(wire: str, loop: str, ending: str) -> None:
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
        server = Server(wire, app)
        client = server.connect()
        await client.asks("GET", b"/", (b"te", b"trailers"))
        if ending == "departure":
            await until(lambda: tasks, "it waits")
            await client.leaves()
        await until(lambda: len(got) == 2, "both are told")
        assert got == [DISCONNECT] * 2

    with logged():
        run_on(loop, main)


# --- send


@on_loops
async def test_send_can_be_awaited_anywhere(wire: str) -> None:
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

    answer = await Server(wire, app).ask(version="1.0")
    assert answer.body == b"piece " * 4 + b"end"


@on_loops
async def test_send_waits_for_a_slow_client_and_raises_when_it_leaves(wire: str) -> None:
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
        server = Server(wire, app)
        client = server.connect()
        client.stops_taking()
        await client.asks()
        await turns()
        assert log == ["0"], "the second piece is too much"
        await client.takes()
        await until(lambda: log[-1] == "99", "it goes on")
        again = server.connect()
        again.stops_taking()
        await again.asks()
        await again.leaves()
        await until(lambda: not server.adapter._working, "it ends")
        assert log[-2:] == ["0", "ClientGoneError"]
    assert not [line for line in lines if "ClientGone" in line], "no news for the log"


@on_loops
async def test_each_send_after_a_disconnect_raises_oserror(wire: str) -> None:
    raised: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        for message in (START, LAST, {"type": "http.response.early_hint", "links": []}, START):
            try:
                await send(message)
            except OSError:
                raised.append(message["type"])

    server = Server(wire, app)
    client = server.connect()
    await client.asks()
    await turns()
    await client.leaves()
    await until(lambda: not server.adapter._working, "it ends")
    assert len(raised) == 4, raised


@on_loops
async def test_an_invalid_response_is_a_500_and_an_error(wire: str) -> None:
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
            answer = await Server(wire, app).ask(target=b"/?%d" % number)
            assert (answer.status, answer.reason) == (500, "Internal Server Error"), bad[number]
            assert any(f"GET /?{number}" in line for line in lines)


@on_loops
async def test_messages_after_the_end_are_ignored_with_one_warning(wire: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in (START, LAST, LAST, START, LAST):
            await send(message)

    with logged() as lines:
        answer = await Server(wire, app).ask()
    assert (answer.body, answer.is_whole) == (b"end", True)
    assert len([line for line in lines if "ignoring" in line]) == 1


@on_loops
async def test_trailers_that_were_not_announced_are_an_error_of_the_application(wire: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        with pytest.raises(ResponseError, match="not announced"):
            await send({"type": "http.response.trailers", "headers": []})
        await send(LAST)

    assert (await Server(wire, app).ask()).body == b"end"


@on_loops
async def test_a_late_start_of_a_response_that_has_failed_is_ignored_with_a_warning(wire: str) -> None:
    late: list[asyncio.Task[None]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def answer_late() -> None:
            await asyncio.sleep(0)
            await send(START)

        late.append(asyncio.create_task(answer_late()))

    with logged() as lines:
        answer = await Server(wire, app).ask()
        await asyncio.gather(*late)
    assert answer.status == 500
    assert len([line for line in lines if "ignoring http.response.start" in line]) == 1


# --- who asks


@on_loops
async def test_a_trusted_proxy_is_believed(wire: str) -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send(START)
        await send(LAST)

    client = Server(wire, app, forwarded_allow_ips=("127.0.0.1",)).connect()
    client.connection.trusts_proxy = True
    await client.asks("GET", b"/", (b"x-forwarded-for", b"1.2.3.4"), (b"x-forwarded-proto", b"https"))
    assert (scopes[0]["client"][0], scopes[0]["scheme"]) == ("1.2.3.4", "https")


@on_loops
async def test_a_unix_socket_has_a_path_for_a_server(wire: str) -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send(START)
        await send(LAST)

    client = Server(wire, app).connect()
    client.connection.client, client.connection.server = None, ("/run/socket", None)
    await client.asks()
    assert (scopes[0]["client"], scopes[0]["server"]) == (None, ("/run/socket", None))


# --- the state, cancelling


@on_loops
async def test_requests_do_not_share_their_scope(wire: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        parts = (scope, scope["asgi"], scope["extensions"], *scope["extensions"].values(), scope["state"])
        assert len(parts) == 4 + len(EXTENSIONS)
        assert not any("mine" in part for part in parts)
        for part in parts:
            part["mine"] = {}
        scope["state"]["shared"].append(1)
        await send(START)
        await send({**LAST, "body": b"%d" % len(scope["state"]["shared"])})

    server = Server(wire, app)
    server.adapter.state = {"shared": []}
    client = server.connect()
    for number in (1, 2, 3):
        await client.asks()
        assert client.answers[-1].body == b"%d" % number
    assert (await server.ask()).body == b"4"


def test_requests_do_not_share_the_extension_tls() -> None:
    known = {"tls": {"client_cert_chain": ["certificate"], "client_cert_name": "CN=a"}}
    mine = own_extensions(known)
    mine["tls"]["client_cert_chain"].append("mine")
    mine["tls"]["client_cert_name"] = "mine"
    assert own_extensions(known)["tls"] == {"client_cert_chain": ["certificate"], "client_cert_name": "CN=a"}


@on_loops
async def test_task_local_objects_stay_with_their_request(wire: str) -> None:
    """As if each request ran in a task made by `create_task`."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        task: Any = asyncio.current_task()
        user = getattr(task, "user", None)
        task.user = scope["query_string"]
        await send(START)
        await send({**LAST, "body": repr(user).encode()})

    client = Server(wire, app).connect()
    for number in (1, 2, 3):
        await client.asks(target=b"/?%d" % number)
        assert client.answers[-1].body == b"None"


@on_loops
async def test_the_end_cancels_running_requests(wire: str) -> None:
    log: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    server = Server(wire, app)
    clients = [server.connect() for _ in range(3)]
    for client in clients:
        await client.asks()
    await in_callback(server.adapter.end)
    assert await server.adapter.wait_idle(5)
    assert log == ["cancelled"] * 3
    assert [client.answers[-1].status for client in clients] == [500] * 3
