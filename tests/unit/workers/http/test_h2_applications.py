"""ASGI applications over HTTP/2, without a socket: what they get, and what their clients get."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from support import frames
from support.echo import on_loop
from support.h2_scene import Scene
from support.http import asgi_adapter, until
from support.websocket import BINARY, CLOSE, TEXT, close_frame, code_of, frame, received
from support.wires import Http2Client

from hybrid.workers.http.exchange import Exchange
from hybrid.workers.http.head import UNKNOWN, status_of
from hybrid.workers.http.settings import HttpSettings

Application = Callable[[Any, Any, Any], Awaitable[None]]
OPEN = frames.END_HEADERS


def asked(application: Application, main: Callable[[Http2Client], Awaitable[None]], **settings: Any) -> None:
    """Run a test with a client of an application."""

    async def run() -> None:
        client = Http2Client(asgi_adapter(application, HttpSettings(**settings)).context)
        await main(client)
        await client.leaves()

    on_loop(run)


# --- requests


def test_the_scope_says_that_it_is_http2() -> None:
    scopes = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    async def main(client: Http2Client) -> None:
        await client.asks("GET", b"/a%20b?c", (b"x-mine", b"1"))
        (scope,) = scopes
        assert (scope["http_version"], scope["scheme"], scope["method"]) == ("2", "http", "GET")
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"c")
        assert scope["headers"] == [(b"host", b"a"), (b"x-mine", b"1")]

    asked(application, main)


def test_an_exchange_like_grpcs_streams_both_ways_and_ends_with_trailers() -> None:
    """Each message is answered as it comes; the status comes behind the last one."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        head = [(b"content-type", b"application/grpc")]
        await send({"type": "http.response.start", "status": 200, "headers": head, "trailers": True})
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            if message["body"]:
                await send({"type": "http.response.body", "body": message["body"].upper(), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        await send({"type": "http.response.trailers", "headers": [(b"Grpc-Status", b"0"), (b"grpc-message", b"")]})

    async def main(client: Http2Client) -> None:
        await client.asks("POST", b"/service/Call", (b"te", b"trailers"), more=True)
        await client.sends(b"one")
        await until(lambda: client.answers and client.answers[0].body == b"ONE", "the first message is answered")
        await client.sends(b"two")
        await until(lambda: client.answers[0].body == b"ONETWO", "the second message is answered")
        await client.ends_body()
        await until(lambda: client.answers[0].is_whole, "the end")
        assert dict(client.answers[0].fields)[b"content-type"] == b"application/grpc"
        assert client.answers[0].trailers == [(b"grpc-status", b"0"), (b"grpc-message", b"")]

    asked(application, main)


def test_early_hints_come_before_the_response() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]})
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"styled"})

    async def main(client: Http2Client) -> None:
        await client.asks()
        (answer,) = client.answers
        assert answer.informed == [(103, [(b"link", b"</a.css>; rel=preload")])]
        assert answer.body == b"styled"

    asked(application, main)


def test_a_request_gets_its_id_and_its_response_has_it() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        given = dict(scope["headers"])[b"x-request-id"]
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": given})

    async def main(client: Http2Client) -> None:
        for _ in range(2):
            await client.asks()
        first, second = client.answers
        assert first.body == dict(first.fields)[b"x-request-id"]
        assert second.body == dict(second.fields)[b"x-request-id"]
        assert first.body != second.body

    asked(application, main, request_id_header="X-Request-ID")


def test_a_trusted_proxy_names_the_client() -> None:
    scopes = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    async def main(client: Http2Client) -> None:
        client.connection.trusts_proxy = True
        fields = ((b"x-forwarded-for", b"192.0.2.7"), (b"x-forwarded-proto", b"https"))
        await client.asks("GET", b"/", *fields)
        assert (scopes[0]["client"][0], scopes[0]["scheme"]) == ("192.0.2.7", "https")

    asked(application, main, forwarded_allow_ips=("127.0.0.1",))


# --- WebSockets (RFC 8441)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Echo each message; one of `leave` ends the session."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept", "subprotocol": "chat", "headers": [(b"x-mine", b"1")]})
    while (event := await receive())["type"] == "websocket.receive":
        if event.get("text") == "leave":
            await send({"type": "websocket.close", "code": 4001})
            return
        await send({**event, "type": "websocket.send"})


CHAT = (b"sec-websocket-protocol", b"chat")


def test_a_websocket_is_accepted_with_200_and_without_the_fields_of_http1() -> None:
    async def main(client: Http2Client) -> None:
        await client.asks_for_websocket(CHAT)
        (answer,) = client.answers
        assert answer.status == 101  # what 200 means to this client
        assert dict(answer.fields) == {b"x-mine": b"1", b"sec-websocket-protocol": b"chat"}

    asked(echo, main, websocket_compression=False)


def test_messages_go_both_ways_over_a_stream() -> None:
    async def main(client: Http2Client) -> None:
        await client.asks_for_websocket(CHAT)
        await client.sends(frame(TEXT, b"one") + frame(BINARY, b"2" * 100_000))
        await until(lambda: len(client.answers[0].body) > 100_000, "both are echoed")
        one, two = received(client.answers[0].body)
        assert (one.opcode, one.payload, two.opcode, len(two.payload)) == (TEXT, b"one", BINARY, 100_000)

    asked(echo, main)


def test_requests_and_websockets_share_a_connection() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await echo(scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"served"})

    async def main(client: Http2Client) -> None:
        await client.asks_for_websocket(CHAT)
        socket = client.stream
        assert client.connection.activity() == (0, 1)
        await client.asks()
        assert client.by_stream[client.stream].body == b"served"
        client.stream = socket
        await client.sends(frame(TEXT, b"still there"))
        await until(lambda: client.by_stream[socket].body, "it is echoed")
        assert received(client.by_stream[socket].body)[0].payload == b"still there"

    asked(application, main)


def test_a_session_that_ends_ends_its_stream_and_not_the_connection() -> None:
    async def main(client: Http2Client) -> None:
        for end in (frame(TEXT, b"leave"), close_frame(4001)):
            await client.asks_for_websocket(CHAT)
            await client.sends(end)
            await until(lambda: client.answers[-1].body, "a close frame")
            await client.sends(close_frame(4001))
            await until(lambda: client.is_closed, "the stream ends")
            (last,) = received(client.answers[-1].body)
            assert (last.opcode, code_of(last)) == (CLOSE, 4001)
            assert not client.transport.closing
        assert client.connection.streams == {}

    asked(echo, main)


def test_a_client_that_resets_the_stream_ends_the_session() -> None:
    events = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        events.append(await receive())

    async def main(client: Http2Client) -> None:
        await client.asks_for_websocket()
        client.speaks.reset_stream(client.stream)
        await client.settles()
        await until(lambda: events, "the application is told")
        assert events[0]["code"] == 1006
        assert not client.transport.closing

    asked(application, main)


def test_a_denial_is_an_ordinary_response() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close"})

    async def main(client: Http2Client) -> None:
        await client.asks_for_websocket()
        (answer,) = client.answers
        assert (answer.status, answer.is_whole, client.resets) == (403, True, {client.stream: frames.NO_ERROR})

    asked(application, main)


def test_a_session_is_closed_when_the_worker_stops() -> None:
    async def main(client: Http2Client) -> None:
        await client.asks_for_websocket(CHAT)
        client.connection.drain()
        await client.settles()
        assert code_of(received(client.answers[0].body)[0]) == 1012

    asked(echo, main)


def test_a_silent_client_is_pinged_and_then_closed() -> None:
    async def main(client: Http2Client) -> None:
        await client.asks_for_websocket(CHAT)
        for _ in range(8):
            await client.lets_time_pass()
            await client.settles()
            if client.is_closed:
                break
        ping, close = received(client.answers[0].body)
        assert (ping.opcode, code_of(close)) == (9, 1011)

    asked(echo, main)


def test_messages_that_the_application_does_not_take_stop_the_client() -> None:
    gates: list[asyncio.Event] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await gates[0].wait()
        while (await receive())["type"] == "websocket.receive":
            pass

    async def main(client: Http2Client) -> None:
        gates.append(asyncio.Event())
        await client.asks_for_websocket()
        for _ in range(8):
            await client.sends(frame(BINARY, b"x" * 30_000))
        assert client.is_held_up
        gates[0].set()
        while client.is_held_up:
            await client.settles()
            await asyncio.sleep(0)
        await client.sends(close_frame(1000))

    asked(application, main)


# --- a WebSocket whose application writes the handshake of HTTP/1 by itself, as those of WSGI do


class Alone:
    """The listener of such an application."""

    owed = 0
    ended_by = None

    def __init__(self, exchange: Exchange) -> None:
        exchange.listener = self
        self.exchange = exchange
        self.got = b""

    def data_received(self, data: bytes) -> None:
        self.got += data

    def peer_done(self) -> bool:
        return True

    def expired(self) -> None:
        """Wait on."""

    body_arrived = resumed = disconnected = draining = interrupt = expired


def alone(main: Callable[[Scene, Alone], Awaitable[None]]) -> None:
    async def run() -> None:
        found: list[Alone] = []
        it = Scene()
        it.context.answer_websocket = lambda exchange: found.append(Alone(exchange))
        pseudo = ((b":method", b"CONNECT"), (b":protocol", b"websocket"), *frames.GET[1:])
        await it.says(frames.headers(1, (*pseudo, (b"sec-websocket-version", b"13")), OPEN))
        await main(it, found[0])

    on_loop(run)


def test_the_handshake_of_http1_is_in_the_request() -> None:
    async def main(it: Scene, application: Alone) -> None:
        request = application.exchange.request
        fields = dict(request.headers)
        assert (request.method, fields[b"upgrade"], fields[b"connection"]) == ("GET", b"websocket", b"Upgrade")
        assert len(fields[b"sec-websocket-key"]) == 24

    alone(main)


def test_its_answer_is_translated_however_it_is_cut() -> None:
    async def main(it: Scene, application: Alone) -> None:
        tunnel = application.exchange.connection
        application.exchange.take_over(101, 0)
        for piece in (b"HTTP/1.1 101 Switching", b" Protocols\r\nUpgrade: websocket\r\nX-Mine: 1\r\n\r", b"\nframes"):
            tunnel.write(piece)
        tunnel.write(b" and more")
        await it.says(frames.frame(frames.DATA, 1, b"from the client"))
        assert it.heads(1) == [{b":status": b"200", b"x-mine": b"1"}]
        assert (it.body(1), application.got) == (b"frames and more", b"from the client")
        application.exchange.finish()
        await it.settles()
        assert it.is_whole(1)

    alone(main)


def test_its_refusal_is_translated_too() -> None:
    async def main(it: Scene, application: Alone) -> None:
        application.exchange.take_over(400, 0)
        application.exchange.connection.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nno")
        application.exchange.finish()
        await it.settles()
        assert (it.heads(1), it.body(1), it.is_whole(1)) == ([{b":status": b"400"}], b"no", True)

    alone(main)


def test_such_a_request_may_be_answered_as_any_other() -> None:
    async def main(it: Scene, application: Alone) -> None:
        application.exchange.start(status_of(503), (b"", UNKNOWN, 0), b"full", more=False)
        await it.settles()
        assert (it.status(1), it.body(1), it.resets) == (503, b"full", {1: frames.NO_ERROR})

    alone(main)
