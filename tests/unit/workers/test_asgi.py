"""ASGI requests one at a time: what `receive` gives and `send` takes, turn by turn, without sockets.

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
from hybrid.workers.http.settings import HttpSettings

PLACES = [loop for loop in ("epoll", "asyncio", "uvloop") if loop in LOOPS]
START = {"type": "http.response.start", "status": 200}
LAST = {"type": "http.response.body", "body": b"end"}
DISCONNECT = {"type": "http.disconnect"}


class Site:
    """A server of one application, with all that it was called with and has left behind."""

    def __init__(self, wire: str, application: Callable[..., Awaitable[None]], **settings: Any) -> None:
        self.adapter = asgi_adapter(application, HttpSettings(**settings))
        self._wire = wire

    def connect(self) -> Client:
        return WIRES[self._wire](self.adapter.site)

    async def ask(self, method: str = "GET", target: bytes = b"/", **options: Any) -> Answer:
        """Return what has been answered once the application has ended."""
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

    assert (await Site(wire, app).ask()).body == b"end"
    assert got == [{"type": "http.request", "body": b"", "more_body": False}, DISCONNECT, DISCONNECT]


@on_loops
async def test_what_nobody_has_read_is_gone_with_the_answer(wire: str) -> None:
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(LAST)
        got.append(await receive())

    await Site(wire, app).ask("POST", body=b"body")
    await Site(wire, app).ask()
    assert got == [DISCONNECT] * 2


@on_loops
async def test_a_body_comes_in_the_pieces_in_which_it_arrives(wire: str) -> None:
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while not got or got[-1]["more_body"]:
            got.append(await receive())
        await send(START)
        await send(LAST)

    site = Site(wire, app)
    client = site.connect()
    await client.asks("POST", length=9)
    for piece in (b"one", b"two", b"end"):
        await client.sends(piece)
        await until(lambda piece=piece: got and got[-1]["body"] == piece, "the piece is there")
    await until(lambda: client.answers, "the answer")
    assert [message["more_body"] for message in got] == [True, True, False]


@pytest.mark.parametrize("ending", ["answer", "trailers", "failure", "departure"])
@pytest.mark.parametrize("loop", PLACES)
@pytest.mark.parametrize("wire", WIRES)
def test_all_who_wait_for_the_client_hear_of_the_end(wire: str, loop: str, ending: str) -> None:
    """However it ends: a task that watches for the client's leaving must not be left behind."""
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
        site = Site(wire, app)
        client = site.connect()
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
    """In a task, a group, with a timeout: as if it were a coroutine."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert asyncio.iscoroutinefunction(send), "some ask, and warn otherwise"
        await asyncio.create_task(send(START))
        piece = {"type": "http.response.body", "body": b"piece ", "more_body": True}
        await asyncio.wait_for(send(piece), 5)
        await asyncio.gather(send(piece), send(piece))
        async with asyncio.TaskGroup() as group:
            group.create_task(send(piece))
        await asyncio.ensure_future(send(LAST))

    answer = await Site(wire, app).ask(version="1.0")
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
        site = Site(wire, app)
        client = site.connect()
        client.stops_taking()
        await client.asks()
        await turns()
        assert log == ["0"], "the second piece is too much"
        await client.takes()
        await until(lambda: log[-1] == "99", "it goes on")
        again = site.connect()
        again.stops_taking()
        await again.asks()
        await again.leaves()
        await until(lambda: not site.adapter._working, "it ends")
        assert log[-2:] == ["0", "ClientGoneError"]
    assert not [line for line in lines if "ClientGone" in line], "no news for the log"


@on_loops
async def test_each_send_after_the_departure_raises_oserror(wire: str) -> None:
    raised: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        for message in (START, LAST, {"type": "http.response.early_hint", "links": []}, START):
            try:
                await send(message)
            except OSError:
                raised.append(message["type"])

    site = Site(wire, app)
    client = site.connect()
    await client.asks()
    await turns()
    await client.leaves()
    await until(lambda: not site.adapter._working, "it ends")
    assert len(raised) == 4, raised


@on_loops
async def test_an_answer_that_breaks_http_is_a_500_and_an_error(wire: str) -> None:
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
            answer = await Site(wire, app).ask(target=b"/?%d" % number)
            assert (answer.status, answer.reason) == (500, "Internal Server Error"), bad[number]
            assert any(f"GET /?{number}" in line for line in lines)


@on_loops
async def test_what_is_sent_behind_the_end_is_ignored_with_one_warning(wire: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in (START, LAST, LAST, START, LAST):
            await send(message)

    with logged() as lines:
        answer = await Site(wire, app).ask()
    assert (answer.body, answer.is_whole) == (b"end", True)
    assert len([line for line in lines if "ignoring" in line]) == 1


# --- who asks


@on_loops
async def test_a_trusted_proxy_is_believed(wire: str) -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send(START)
        await send(LAST)

    client = Site(wire, app, forwarded_allow_ips=("127.0.0.1",)).connect()
    client.connection.believes = True
    await client.asks("GET", b"/", (b"x-forwarded-for", b"1.2.3.4"), (b"x-forwarded-proto", b"https"))
    assert (scopes[0]["client"][0], scopes[0]["scheme"]) == ("1.2.3.4", "https")


@on_loops
async def test_a_unix_socket_has_a_path_for_a_server(wire: str) -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send(START)
        await send(LAST)

    client = Site(wire, app).connect()
    client.connection.client, client.connection.server = None, ("/run/socket", None)
    await client.asks()
    assert (scopes[0]["client"], scopes[0]["server"]) == (None, ("/run/socket", None))


# --- the state, cancelling


@on_loops
async def test_a_scope_is_no_other_requests(wire: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        parts = (scope, scope["asgi"], scope["extensions"], *scope["extensions"].values(), scope["state"])
        assert len(parts) == 4 + len(EXTENSIONS)
        assert not any("mine" in part for part in parts)
        for part in parts:
            part["mine"] = {}
        scope["state"]["shared"].append(1)
        await send(START)
        await send({**LAST, "body": b"%d" % len(scope["state"]["shared"])})

    site = Site(wire, app)
    site.adapter.state = {"shared": []}
    client = site.connect()
    for number in (1, 2, 3):
        await client.asks()
        assert client.answers[-1].body == b"%d" % number
    assert (await site.ask()).body == b"4"


def test_the_extension_tls_is_no_other_requests_either() -> None:
    known = {"tls": {"client_cert_chain": ["certificate"], "client_cert_name": "CN=a"}}
    mine = own_extensions(known)
    mine["tls"]["client_cert_chain"].append("mine")
    mine["tls"]["client_cert_name"] = "mine"
    assert own_extensions(known)["tls"] == {"client_cert_chain": ["certificate"], "client_cert_name": "CN=a"}


@on_loops
async def test_what_is_tied_to_a_task_stays_with_its_request(wire: str) -> None:
    """As it would if each request had been given a task by `create_task`."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        task: Any = asyncio.current_task()
        user = getattr(task, "user", None)
        task.user = scope["query_string"]
        await send(START)
        await send({**LAST, "body": repr(user).encode()})

    client = Site(wire, app).connect()
    for number in (1, 2, 3):
        await client.asks(target=b"/?%d" % number)
        assert client.answers[-1].body == b"None"


@on_loops
async def test_the_end_cancels_what_runs(wire: str) -> None:
    log: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    site = Site(wire, app)
    clients = [site.connect() for _ in range(3)]
    for client in clients:
        await client.asks()
    await in_callback(site.adapter.end)
    assert await site.adapter.wait_idle(5)
    assert log == ["cancelled"] * 3
    assert [client.answers[-1].status for client in clients] == [500] * 3
