"""Request ids without a connection: which one is kept, and what the two interfaces make of it."""

from __future__ import annotations

import asyncio
import contextvars
import re
from typing import Any

import pytest
from support.rows import for_each

from hybrid.workers.apps import request_ids
from hybrid.workers.contract.log import REQUEST_ID
from hybrid.workers.http.exchange import Request
from hybrid.workers.http.head import UNKNOWN
from hybrid.workers.http.request_ids import RequestIds

MADE = re.compile(r"[0-9a-f]{32}")


class FakePeer:
    def __init__(self, trusts_proxy: bool) -> None:
        self.trusts_proxy = trusts_proxy


class FakeExchange:
    """The part of an exchange that ids are about."""

    def __init__(self, *fields: tuple[bytes, bytes], trusts_proxy: bool = True) -> None:
        self.connection = FakePeer(trusts_proxy)
        self.request = Request("GET", b"/", b"/", "1.1", [(b"host", b"a"), *fields])
        if trusts_proxy:
            self.request.forwarded = "as forwarded"  # type: ignore[assignment]
        self.repeated: Any = "a repetition"


def given(exchange: FakeExchange) -> str | None:
    """Give an id to a request, and return it."""
    ids = RequestIds("X-Request-ID")
    seen: list[Any] = []
    ids.before(seen.append)(exchange)  # type: ignore[arg-type]
    assert seen == [exchange]
    return ids.of(exchange.request)


def test_the_id_of_a_trusted_proxy_is_kept() -> None:
    exchange = FakeExchange((b"x-request-id", b"!~" * 64))
    before = exchange.request.headers
    assert given(exchange) == "!~" * 64
    assert exchange.request.forwarded == "as forwarded"  # type: ignore[comparison-overlap]
    assert exchange.repeated is None
    assert exchange.request.headers is not before


@for_each("value", [b"", b"a b", b"\xe9", b"x" * 129, b"a\x7f", b"a\tb"])
def test_an_id_that_is_not_sane_is_made_anew(value: bytes) -> None:
    made = given(FakeExchange((b"x-request-id", value)))
    assert made is not None
    assert MADE.fullmatch(made)


def test_others_are_not_believed_and_the_request_has_one_field() -> None:
    fields = ((b"x-request-id", b"forged"), (b"x_request-id", b"forged"), (b"x_request_id", b"forged"))
    exchange = FakeExchange(*fields, trusts_proxy=False)
    before = list(exchange.request.headers)
    old = exchange.request
    made = given(exchange)
    assert made is not None
    assert exchange.request.headers == [(b"host", b"a"), (b"x-request-id", made.encode())]
    assert old.headers == before  # it may be shared


def test_two_ids_are_none() -> None:
    exchange = FakeExchange((b"x-request-id", b"one"), (b"x-request-id", b"two"))
    assert MADE.fullmatch(given(exchange) or "")


def test_a_request_that_was_refused_has_none() -> None:
    ids = RequestIds("X-Request-ID")
    fields = (b"a: b\r\n", UNKNOWN, 0)
    for headers in ([], [(b"x-request-id", b"not sane")], [(b"x-request-id", b"1")] * 2):
        request = Request("", b"", b"", "", headers)
        assert ids.of(request) is None
        assert ids.with_id(fields, request) is fields
    request = Request("", b"", b"", "", [(b"x-request-id", b"abc")])
    assert ids.with_id(fields, request) == (b"a: b\r\nX-Request-ID: abc\r\n", UNKNOWN, 0)


def test_a_wsgi_application_finds_it_and_sends_it() -> None:
    sent: list[Any] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [("A", "b"), ("x-request-id", "its own")], None)
        assert write == "write"
        return [str((environ["hybrid.request_id"], REQUEST_ID.get())).encode()]

    def start_response(*arguments: Any) -> str:
        sent.append(arguments)
        return "write"

    wrapped = request_ids.wsgi(application, "X-Request-ID")
    environ = {"HTTP_X_REQUEST_ID": "abc"}
    assert contextvars.Context().run(wrapped, environ, start_response) == [b"('abc', 'abc')"]
    assert sent == [("200 OK", [("A", "b"), ("X-Request-ID", "abc")], None)]


@pytest.mark.parametrize("kind", ["http.response.start", "websocket.accept", "websocket.http.response.start"])
def test_an_asgi_application_finds_it_and_sends_it(kind: str) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        assert asyncio.iscoroutinefunction(send)
        assert (scope["hybrid.request_id"], REQUEST_ID.get()) == ("abc", "abc")
        message = {"type": kind, "headers": [[b"A", b"b"], (b"X-Request-Id", b"its own")]}
        await send(message)
        assert message["headers"][1:] == [(b"X-Request-Id", b"its own")]  # it may use it again
        await send({"type": kind})
        await send({"type": "http.response.body"})

    wrapped = request_ids.asgi(application, "X-Request-ID")
    scope = {"type": "http", "headers": [(b"x-request-id", b"abc")]}
    asyncio.run(wrapped(scope, None, send))  # type: ignore[arg-type]
    expected = (b"x-request-id", b"abc")
    assert sent == [
        {"type": kind, "headers": [[b"A", b"b"], expected]},
        {"type": kind, "headers": [expected]},
        {"type": "http.response.body"},
    ]
