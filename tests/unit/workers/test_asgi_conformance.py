"""The pages of the conformance application behind their referee, in this process, over messages and over HTTP/1.

What `tests/integration/test_asgi.py` and `test_asgi_waiting.py` ask of a service, as far as it concerns the
application's side. Left out, because no exchange takes part:

- chunks, `100 Continue` and `Connection: close` as bytes: they are HTTP/1's, see `tests/unit/workers/http`;
- UNIX sockets and TLS: they are the transport's;
- memory of large bodies, exit codes, signals, and who cancels what at the end of the grace period: the process's;
- the modes of the lifespan (`test_asgi_lifespan.py`): it knows no wire. The referee's own lifespan runs around each
  test here.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from support.court import Court, Courts, answer_of, get_on, moment
from support.court import courts as courts
from support.echo import on_loop
from support.http import until
from support.records import logged
from support.websocket import TEXT, Received, close_frame, code_of, frame, received
from support.wires import WIRES, Client, end_worker

BLOCK = bytes(range(256)) * 256  # as `asgi_pages` has it
TRAILERS = (b"te", b"gzip, Trailers")

Scenario = Callable[[Court, Path], Awaitable[None]]


def on_wires(scenario: Scenario) -> Callable[..., None]:
    """Make a test of a scenario, which gets a court and a folder: over each wire."""

    @pytest.mark.parametrize("wire", WIRES)
    @functools.wraps(scenario)
    def test(courts: Courts, tmp_path: Path, wire: str) -> None:
        async def main() -> None:
            async with courts.of(wire).sits() as court:
                await scenario(court, tmp_path)

        on_loop(main)

    del test.__wrapped__  # type: ignore[attr-defined]  # pytest would take its parameters for fixtures
    return test


# --- every page

# page -> the request for it, and the status of the response; None: an endless page with a test of its own below
PAGES: dict[str, tuple[str, int] | None] = {
    "hello": ("/", 200),
    "missing": ("/no-such", 404),
    "show": ("/show", 200),
    "echo": ("/echo", 200),
    "upload": ("/upload", 200),
    "download": ("/download?3", 200),
    "kinds": ("/kinds", 200),
    "generated_headers": ("/generated-headers", 200),
    "status": ("/status?418", 418),
    "length": ("/length?2:a,b", 200),
    "trailers": ("/trailers", 200),
    "hints": ("/hints", 200),
    "path": (f"/path?{__file__}", 200),
    "nap": ("/nap?0.001", 200),
    "background": ("/background?0.001", 200),
    "tasks": ("/tasks", 200),
    "count_tasks": ("/count-tasks", 200),
    "state": ("/state", 200),
    "cancelled": ("/cancelled", 500),
    "fail": ("/fail?before", 500),
    "wrong": ("/wrong?nothing", 500),
    "quit_": ("/quit-", 500),
    "wait_gone": None,
    "sleep_on": None,
    "events": None,
    "stubborn": None,
}


@pytest.mark.parametrize("page", [page for page, asked in PAGES.items() if asked is not None])
@pytest.mark.parametrize("wire", WIRES)
def test_a_page_gets_a_complete_response_on_a_persistent_connection(courts: Courts, wire: str, page: str) -> None:
    asked = PAGES[page]
    assert asked is not None

    async def main() -> None:
        async with courts.of(wire).sits() as court:
            client = court.connect()
            for number in range(3):
                answer = await get_on(client, asked[0])
                assert (answer.status, answer.is_whole) == (asked[1], True), number

    with logged():
        on_loop(main)


def test_every_page_is_asked_for(courts: Courts) -> None:
    import asgi_pages

    assert PAGES.keys() == asgi_pages.PAGES.keys()


# --- scopes


@on_wires
async def test_the_scope_describes_the_request(court: Court, tmp_path: Path) -> None:
    fields = ((b"x-twice", b"1"), (b"x-twice", b"\xe4 2"), (b"accept", b""))
    scope = json.loads((await court.get("/sh%6fw?a=%20b?&c", *fields)).body)
    assert (scope["client"], scope["server"]) == (["127.0.0.1", 4711], ["127.0.0.1", 80])
    assert (scope["method"], scope["scheme"], scope["http_version"]) == ("GET", "http", "1.1")
    assert (scope["path"], scope["raw_path"]) == ("/show", "/sh%6fw")
    assert (scope["query_string"], scope["root_path"]) == ("a=%20b?&c", "")
    assert scope["headers"][:4] == [["host", "a"], ["x-twice", "1"], ["x-twice", "\xe4 2"], ["accept", ""]]
    old = json.loads((await court.get("/show", version="1.0")).body)
    assert old["http_version"] == "1.0"


@pytest.mark.parametrize("wire", WIRES)
def test_the_root_path_stands_before_the_path(courts: Courts, wire: str) -> None:
    async def main() -> None:
        async with courts.of(wire, root_path="/mounted").sits() as court:
            scope = json.loads((await court.get("/show")).body)
            assert (scope["root_path"], scope["path"]) == ("/mounted", "/mounted/show")
            assert scope["raw_path"] == "/mounted/show"

    on_loop(main)


@on_wires
async def test_requests_share_only_the_state_of_the_lifespan(court: Court, tmp_path: Path) -> None:
    """The referee puts something into each scope, and a value into each context."""
    client, other = court.connect(), court.connect()
    for target in ("/hello", "/show", "/nap?0", "/nap?0.001", "/hello") * 2:
        before = len(other.answers)
        await other.asks(target=b"/nap?0.002")
        assert (await get_on(client, target)).status == 200
        assert (await answer_of(other, before)).status == 200
    assert [(await get_on(client, "/state")).body for _ in range(3)] == [b"1", b"2", b"3"]
    assert (await get_on(other, "/state")).body == b"4"
    before_ = (await get_on(client, "/count-tasks")).body
    assert {(await get_on(client, "/count-tasks")).body for _ in range(20)} == {before_}, "no tasks are left behind"


@on_wires
async def test_requests_of_a_pipeline_are_answered_in_order(court: Court, tmp_path: Path) -> None:
    client = court.connect()
    targets = (b"/nap?0.01", b"/hello", b"/nap?0", b"/tasks", b"/missing", b"/hello")
    for target in targets:
        await client.asks(target=target)
    await answer_of(client, len(targets) - 1)
    starts = [answer.body[:6] for answer in client.answers]
    assert starts == [b"rested", b"hello ", b"rested", b'{"canc', b"no suc", b"hello "]


# --- bodies


@on_wires
async def test_bodies_of_every_kind_go_both_ways(court: Court, tmp_path: Path) -> None:
    client = court.connect()
    digest = hashlib.sha256(BLOCK * 10).hexdigest().encode()
    nothing = hashlib.sha256(b"").hexdigest().encode()
    assert (await get_on(client, "/kinds")).body == b"one two three four"
    assert (await get_on(client, "/upload", method="POST", body=BLOCK * 10)).body == digest
    assert (await get_on(client, "/upload", method="POST")).body == nothing
    assert (await get_on(client, "/echo")).body == b""
    assert (await court.get("/echo", method="PUT", body=BLOCK * 10)).body == BLOCK * 10
    assert (await court.get("/hello", method="POST", body=BLOCK * 10)).status == 200, "the body is not read"
    answer = await get_on(client, "/generated-headers")
    assert answer.fields == [(b"first", b"1"), (b"second", b"1"), (b"first", b"1")]
    assert (await get_on(client, "/download?30")).body == BLOCK * 30


@on_wires
async def test_a_body_of_unknown_length_has_an_end(court: Court, tmp_path: Path) -> None:
    client = court.connect()
    await client.asks("POST", b"/upload", more=True)
    for piece in (b"abc", b"de"):
        await client.sends(piece)
    await client.ends_body()
    assert (await answer_of(client, 0)).body == hashlib.sha256(b"abcde").hexdigest().encode()


@on_wires
async def test_a_client_that_expects_it_gets_100_continue(court: Court, tmp_path: Path) -> None:
    client = court.connect()
    await client.asks("POST", b"/upload", length=1, expects=True)
    await until(lambda: client.answers, "it is told")
    assert client.answers[0].informed == [(100, [])]
    await client.sends(b"x")
    assert (await answer_of(client, 0)).body == hashlib.sha256(b"x").hexdigest().encode()


@on_wires
async def test_pieces_are_echoed_while_the_request_still_arrives(court: Court, tmp_path: Path) -> None:
    client = court.connect()
    await client.asks("POST", b"/echo", length=9)
    for so_far, piece in ((b"one", b"one"), (b"onetwo", b"two"), (b"onetwoend", b"end")):
        await client.sends(piece)
        await until(lambda so_far=so_far: client.answers[-1].body == so_far, "it comes back")
    assert (await answer_of(client, 0)).is_whole


@on_wires
async def test_responses_without_a_body_have_none(court: Court, tmp_path: Path) -> None:
    client = court.connect()
    for target in ("/hello", "/kinds", "/download?3", "/trailers", "/status?200"):
        answer = await get_on(client, target, (b"te", b"trailers"), method="HEAD")
        assert (answer.status, answer.body) == (200, b"")
    for status in (204, 304):
        answer = await get_on(client, f"/status?{status}")
        assert (answer.status, answer.body) == (status, b"")
    assert (await get_on(client, "/status?404")).body == b"a body"
    assert (await get_on(client, "/status?299")).reason == ""
    assert (await get_on(client, "/length?5:abc,de")).length == 5
    assert (await court.get("/kinds", version="1.0")).body == b"one two three four"


@on_wires
async def test_a_body_that_does_not_match_its_length_does_not_look_complete(court: Court, tmp_path: Path) -> None:
    with logged() as lines:
        for target in ("/length?3:abcd", "/length?3:ab", "/length?x:ab"):
            assert (await court.get(target)).status == 500
        for target in ("/length?5:ab,", "/length?3:ab,cd"):
            assert not (await court.get(target)).is_whole
    assert any("shorter than its Content-Length by 3 bytes" in line for line in lines)
    assert any("the application failed at GET /length?3:ab,cd" in line for line in lines)


# --- extensions


@on_wires
async def test_trailers_are_sent_to_clients_that_accept_them(court: Court, tmp_path: Path) -> None:
    for target, body in (("/trailers", b"a body"), ("/trailers?pieces", b"a body in pieces")):
        answer = await court.get(target, TRAILERS)
        assert (answer.body, answer.trailers, answer.is_whole) == (body, [(b"x-sum", b"1"), (b"x-more", b"2")], True)
        answer = await court.get(target)
        assert (answer.body, answer.trailers, answer.is_whole) == (body, [], True)
    with logged() as lines:
        assert not (await court.get("/trailers?never", TRAILERS)).is_whole
    assert any("an incomplete response to GET /trailers" in line for line in lines)


@on_wires
async def test_early_hints_precede_the_response(court: Court, tmp_path: Path) -> None:
    links = [(b"link", b"</style.css>; rel=preload; as=style"), (b"link", b"</b>; rel=next")]
    answer = await court.get("/hints")
    assert (answer.informed, answer.body) == ([(103, links)] * 2, b"styled")
    assert (await court.get("/hints", version="1.0")).informed == [], "HTTP/1.0 does not know them"


@on_wires
async def test_files_are_sent_by_their_path(court: Court, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(BLOCK * 40 + b"end")
    (tmp_path / "empty").write_bytes(b"")
    client = court.connect()
    answer = await get_on(client, f"/path?{path}")
    assert (answer.body, answer.length) == (BLOCK * 40 + b"end", 40 * 65536 + 3)
    assert (await get_on(client, f"/path?{path}:1000")).body == BLOCK[:1000]
    assert (await get_on(client, f"/path?{path}", method="HEAD")).length == 40 * 65536 + 3
    assert (await get_on(client, f"/path?{tmp_path}/empty")).body == b""
    assert (await get_on(client, "/path?/proc/version")).body == Path("/proc/version").read_bytes()
    with logged():
        assert (await get_on(client, f"/path?{tmp_path}/empty:1")).status == 500
        assert (await court.get(f"/path?{tmp_path}")).status == 500
        assert (await court.get(f"/path?{tmp_path}/none")).status == 500


# --- failing


@pytest.mark.parametrize("name", ["LookupError", "SystemExit", "KeyboardInterrupt", "Group", "Cancelled"])
@pytest.mark.parametrize("wire", WIRES)
def test_an_error_is_logged_and_leaves_the_connection_in_a_known_state(courts: Courts, wire: str, name: str) -> None:
    async def main() -> None:
        async with courts.of(wire).sits() as court:
            client = court.connect()
            for moment in ("before", "waited", "start"):
                with logged() as lines:
                    assert (await get_on(client, f"/fail?{moment}-{name}")).status == 500
                assert lines == [f"ERROR the application failed at GET /fail?{moment}-{name}"]
            with logged() as lines:
                assert (await get_on(client, f"/fail?end-{name}")).body == b"part", "the answer was whole already"
                assert (await get_on(client, "/hello")).status == 200
                answer = await get_on(client, f"/fail?body-{name}")
            assert (answer.body, answer.is_whole) == (b"part", False)
            assert client.is_cut
            assert len(lines) == 2

    on_loop(main)


WRONG = {
    "body-first": "ResponseError",
    "two-starts": "ResponseError",
    "unknown": "ResponseError",
    "websocket": "ResponseError",
    "status": "HeadError",
    "text-status": "TypeError",
    "no-status": "KeyError",
    "text-body": "TypeError",
    "splitting": "HeadError",
    "text-header": "TypeError",
    "directory": "ResponseError",
}


@on_wires
async def test_invalid_messages_are_refused_with_an_error(court: Court, tmp_path: Path) -> None:
    client = court.connect()
    with logged() as lines:
        for name, error in WRONG.items():
            assert (await get_on(client, f"/wrong?{name}")).status == 500, name
            await court.wait_seen(f"/wrong {name} {error}")
        assert (await get_on(client, "/wrong?behind-the-end")).body == b"y"
        for name in ("nothing", "no-body"):
            assert (await get_on(client, f"/wrong?{name}")).status == 500
        for name in ("trailers", "path-behind-body", "half"):
            assert not (await court.get(f"/wrong?{name}")).is_whole
    assert "ERROR the application returned with no response to GET /wrong?nothing" in lines
    assert "ERROR the application returned with an incomplete response to GET /wrong?half" in lines
    assert [line for line in lines if "ignoring http.response.body after the end" in line]
    assert [line for line in court.seen() if "behind-the-end" in line] == [], "ignored"


@on_wires
async def test_asyncio_features_work_within_a_request(court: Court, tmp_path: Path) -> None:
    client = court.connect()
    for _ in range(3):
        found = json.loads((await get_on(client, "/tasks")).body)
        assert found.pop("name") == "GET /tasks"
        assert all(found.values()), found


# --- clients that leave


@on_wires
async def test_an_application_is_told_of_a_disconnect(court: Court, tmp_path: Path) -> None:
    """Wherever it waits for one; sending then raises OSError, which is not logged."""
    with logged() as lines:
        waiting, sleeping = court.connect(), court.connect()
        await waiting.asks("POST", b"/wait-gone?goes", body=b"body")
        await sleeping.asks("POST", b"/sleep-on?0.01&goes", body=b"body")
        await court.wait_seen("/wait-gone waits", "/sleep-on sleeps")
        await waiting.leaves()
        await sleeping.leaves()
        both = "/wait-gone http.disconnect http.disconnect http.disconnect"
        await court.wait_seen(both, "/wait-gone OSError", "/sleep-on woke up to http.disconnect")
        streaming, listening = court.connect(), court.connect()
        streaming.stops_taking()
        await streaming.asks(target=b"/download?1000000&goes")
        await listening.asks(target=b"/events?goes")
        await until(lambda: listening.answers, "the stream begins")
        await streaming.leaves()
        await listening.leaves()
        await court.wait_seen("/download OSError", "/events ended")
        assert (await court.get("/hello")).status == 200
    assert lines == []


@on_wires
async def test_a_half_closed_client_gets_its_response(court: Court, tmp_path: Path) -> None:
    client = court.connect()
    await client.asks(target=b"/nap?0.01")
    await client.ends_stream()
    answer = await answer_of(client, 0)
    assert (answer.body, answer.is_whole) == (b"rested", True)


@on_wires
async def test_an_application_that_waits_for_it_is_told_of_the_end_of_the_stream(court: Court, tmp_path: Path) -> None:
    client = court.connect()
    await client.asks(target=b"/events?goes")
    await until(lambda: client.answers, "the stream begins")
    await client.ends_stream()
    await court.wait_seen("/events ended")


@on_wires
async def test_a_body_that_breaks_off_is_a_disconnect(court: Court, tmp_path: Path) -> None:
    client = court.connect()
    await client.asks("POST", b"/sleep-on?0.01&goes", body=b"half", length=10)
    await court.wait_seen("/sleep-on sleeps")
    await client.ends_stream()
    await court.wait_seen("/sleep-on woke up to http.disconnect")


# --- work after the response, the stop


@on_wires
async def test_work_continues_after_the_response(court: Court, tmp_path: Path) -> None:
    """The connection serves the next request meanwhile."""
    client = court.connect()
    gate = tmp_path / "gate"
    assert (await get_on(client, f"/background?{gate}")).body == b"begun"
    assert (await get_on(client, "/nap?0")).status == 200
    assert "/background finished" not in court.seen()
    gate.touch()
    await court.wait_seen("/background behind the answer: http.disconnect", "/background finished")


@on_wires
async def test_a_response_during_the_stop_ends_the_connection(court: Court, tmp_path: Path) -> None:
    client = court.connect()
    assert (await get_on(client, "/hello")).is_whole
    assert not client.is_closed
    await client.asks(target=b"/nap?0.01")
    court.adapter.drain()
    answer = await answer_of(client, 1)
    assert (answer.status, answer.body, answer.is_whole) == (200, b"rested", True)
    assert client.is_closed


@on_wires
async def test_a_waiting_application_is_told_near_the_end_of_the_grace_period(court: Court, tmp_path: Path) -> None:
    waiting = court.connect()
    await waiting.asks(target=b"/wait-gone?goes")
    await court.wait_seen("/wait-gone waits")
    court.adapter.drain()
    await moment()
    assert court.seen() == ["/wait-gone waits"]
    await end_worker(waiting)
    await court.wait_seen("/wait-gone http.disconnect http.disconnect http.disconnect")
    await waiting.leaves()


@on_wires
async def test_endless_work_is_cancelled(court: Court, tmp_path: Path) -> None:
    clients = [court.connect() for _ in range(2)]
    await clients[0].asks(target=b"/stubborn")
    await clients[1].asks(target=b"/background?1000")
    await court.wait_seen("/stubborn begins", "/background behind the answer: http.disconnect")
    court.adapter.end()
    await court.wait_seen("/stubborn cancelled", "/background cancelled")
    assert clients[0].answers[-1].status == 500


@on_wires
async def test_a_stop_ends_websockets_and_event_streams_cleanly(court: Court, tmp_path: Path) -> None:
    """The streams end as bodies do, the WebSockets with 1012."""
    chats = [await chatting(court) for _ in range(5)]
    streams = [court.connect() for _ in range(5)]
    for stream in streams:
        await stream.asks(target=b"/events?goes")
        await until(lambda stream=stream: stream.answers, "the stream begins")
    court.adapter.drain()
    await until(lambda: court.seen().count("/events ended") == 5, "the streams end")
    assert all(stream.answers[0].is_whole for stream in streams)
    assert all(stream.answers[0].body.endswith(b"data: tick\n\n") for stream in streams)
    for chat in chats:
        assert code_of(frames(chat)[-1]) == 1012
        await chat.sends(close_frame(1012))
        assert chat.is_closed
    await until(lambda: court.seen().count("/chat 1012") == 5, "the applications are told")


# --- WebSockets


def frames(client: Client) -> list[Received]:
    """The client's input after the handshake."""
    answer = client.answers[-1]
    assert answer.status == 101
    return received(answer.body)


async def chatting(court: Court) -> Client:
    """Return a client with a WebSocket that has given back a word."""
    client = court.connect()
    await client.asks_for_websocket()
    await client.sends(frame(TEXT, b"hello"))
    await until(lambda: client.answers and frames(client), "the echo")
    assert frames(client) == [Received(TEXT, b"hello")]
    return client


@on_wires
async def test_a_websocket_echoes_messages_until_its_client_closes_it(court: Court, tmp_path: Path) -> None:
    client = await chatting(court)
    await client.sends(close_frame(4001, "enough"))
    await court.wait_seen("/chat 4001 enough")
    assert code_of(frames(client)[-1]) == 4001
    assert client.is_closed


@on_wires
async def test_a_websocket_whose_client_leaves_ends_with_1006(court: Court, tmp_path: Path) -> None:
    client = await chatting(court)
    await client.leaves()
    await court.wait_seen("/chat 1006")


# --- back-pressure, many at once


@on_wires
async def test_an_application_waits_for_a_client_that_does_not_take(court: Court, tmp_path: Path) -> None:
    client = court.connect()
    client.stops_taking()
    await client.asks(target=b"/download?100")
    for _ in range(5):
        assert (await court.get("/nap?0")).status == 200, "others are served"
    assert client.unsent < 10 * len(BLOCK)
    await client.takes()
    assert (await answer_of(client, 0)).body == BLOCK * 100


@on_wires
async def test_a_client_waits_for_an_application_that_does_not_read(court: Court, tmp_path: Path) -> None:
    client = court.connect()
    await client.asks("POST", b"/sleep-on?0.05&goes", length=10**9)
    sent = 0
    while not client.is_held_up:
        await client.sends(BLOCK)
        sent += len(BLOCK)
    assert sent <= 2 * len(BLOCK)
    await client.leaves()
    await court.wait_seen("/sleep-on woke up to http.disconnect")


@on_wires
async def test_many_requests_at_once_keep_apart(court: Court, tmp_path: Path) -> None:
    """The referee looks at the context, the state and the task of each."""
    targets = ("/hello", "/nap?0.001", "/tasks", "/nap?0", "/show", "/background?0.001", "/upload", "/echo")

    async def turns_of(number: int) -> None:
        client = court.connect()
        for turn in range(8):
            answer = await get_on(client, targets[(number + turn) % len(targets)])
            assert (answer.status, answer.is_whole) == (200, True)

    await asyncio.gather(*(turns_of(number) for number in range(16)))
