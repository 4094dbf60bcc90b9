"""Responses on the wire: the length and the end of a body, and responses that break their promise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from support.echo import read_answers
from support.http import connect, in_callback, until
from support.hub import run_on, turns
from support.malformed import get
from support.records import logged
from support.rows import for_each

from hybrid.workers.apps.asgi.interface import Asgi
from hybrid.workers.apps.wsgi.interface import Wsgi
from hybrid.workers.common.connections import Connections
from hybrid.workers.http.settings import HttpSettings
from hybrid.workers.runtime import Runtime

SETTINGS = HttpSettings(server_header=False, date_header=False, threads=0)
OK = b"HTTP/1.1 200 OK\r\n"
FAILED = b"HTTP/1.1 500 Internal Server Error\r\n"
Pairs = list[tuple[str, str]]
Ask = Callable[..., bytes]


def asgi(pieces: list[bytes], fields: Pairs = [], status: int = 200, request: bytes = get()) -> bytes:  # noqa: B006
    """Send a request to an ASGI application that responds with pieces; return the response."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for number, piece in enumerate(pieces):
            await send({"type": "http.response.body", "body": piece, "more_body": number < len(pieces) - 1})

    return _ask(lambda runtime: Asgi(application, runtime, Connections(), SETTINGS), request)


def wsgi(pieces: list[bytes], fields: Pairs = [], status: int | str = 200, request: bytes = get()) -> bytes:  # noqa: B006
    """Send a request to a WSGI application that responds with pieces; return the response."""
    first = (
        status if isinstance(status, str) else {200: "200 OK", 204: "204 No Content", 304: "304 Not Modified"}[status]
    )

    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response(first, fields)
        return pieces

    return _ask(lambda runtime: Wsgi(application, runtime, Connections(), SETTINGS), request)


def _ask(make: Callable[[Runtime], Any], request: bytes) -> bytes:
    async def main(runtime: Runtime) -> bytes:
        connection, transport = connect(make(runtime))
        await in_callback(connection.data_received, request)
        await until(lambda: transport.closing or connection.current is None, "the response is complete")
        await turns()
        if not transport.closing:
            transport.abort()
        await turns()
        await asyncio.sleep(0)
        return bytes(transport.received)

    with logged():
        return run_on("epoll", main)


both = pytest.mark.parametrize("ask", [asgi, wsgi])
HEAD = get(line=b"HEAD / HTTP/1.1")
OLD = get(line=b"GET / HTTP/1.0")
OLD_KEPT = get(b"Connection: keep-alive", line=b"GET / HTTP/1.0")


@both
def test_a_body_in_one_piece_gets_a_content_length(ask: Ask) -> None:
    """The application need not count."""
    assert ask([b"hello"]) == OK + b"content-length: 5\r\n\r\nhello"


@both
def test_an_empty_body_gets_a_content_length(ask: Ask) -> None:
    """Without it, a client would wait."""
    assert ask([b""]) == OK + b"content-length: 0\r\n\r\n"


@both
def test_pieces_of_unknown_total_length_are_chunked(ask: Ask) -> None:
    """An empty chunk would end the body, so an empty piece sends none."""
    answer = ask([b"hello", b"", b" " * 17, b"."])
    assert (
        answer
        == OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n11\r\n" + b" " * 17 + b"\r\n1\r\n.\r\n0\r\n\r\n"
    )


@both
def test_pieces_with_a_content_length_are_sent_unchanged(ask: Ask) -> None:
    """The application's Content-Length is sent once."""
    answer = ask([b"he", b"", b"llo"], [("Content-Length", "5")])
    assert answer == OK + b"content-length: 5\r\n\r\nhello"


@both
def test_an_application_does_not_choose_the_framing(ask: Ask) -> None:
    """Its Transfer-Encoding is dropped: its data is not chunked."""
    answer = ask([b"hello"], [("Transfer-Encoding", "chunked"), ("Keep-Alive", "timeout=5")])
    assert answer == OK + b"content-length: 5\r\n\r\nhello"


@both
def test_an_application_may_close_the_connection(ask: Ask) -> None:
    """`Connection: close` is sent once."""
    assert ask([b"hello"], [("Connection", "close")]) == OK + b"content-length: 5\r\nconnection: close\r\n\r\nhello"


@both
@pytest.mark.parametrize("pieces", [[b"hello"], [b"he", b"llo"]], ids=["one", "two"])
def test_the_response_to_head_has_no_body(ask: Ask, pieces: list[bytes]) -> None:
    """Its head is the same as for GET (RFC 9110, section 9.3.2)."""
    head, _, body = ask(pieces, [("Content-Length", "5")], request=HEAD).partition(b"\r\n\r\n")
    assert head == OK + b"content-length: 5"
    assert body == b""


@both
def test_an_empty_response_to_head_has_no_length(ask: Ask) -> None:
    """The application may have skipped the body."""
    assert ask([b""], request=HEAD) == OK + b"\r\n"


@both
def test_a_204_has_neither_body_nor_length(ask: Ask) -> None:
    """RFC 9110, section 8.6."""
    assert ask([b"hello"], [("Content-Length", "5")], 204) == b"HTTP/1.1 204 No Content\r\n\r\n"


@both
def test_a_304_has_no_body_but_may_have_a_length(ask: Ask) -> None:
    """RFC 9110, section 15.4.5."""
    answer = ask([b""], [("Content-Length", "5"), ("ETag", '"a"')], 304)
    assert answer == b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\ncontent-length: 5\r\n\r\n'


@both
def test_http_1_0_gets_no_chunks(ask: Ask) -> None:
    """The end of the connection ends the body."""
    assert ask([b"he", b"llo"], request=OLD) == OK + b"connection: close\r\n\r\nhello"
    assert ask([b"he", b"llo"], request=OLD_KEPT) == OK + b"connection: close\r\n\r\nhello"


@both
def test_http_1_0_is_kept_alive_if_the_length_is_known(ask: Ask) -> None:
    """If the client has asked for it; the response confirms it."""
    assert ask([b"hello"], request=OLD) == OK + b"content-length: 5\r\nconnection: close\r\n\r\nhello"
    assert ask([b"hello"], request=OLD_KEPT) == OK + b"content-length: 5\r\nconnection: keep-alive\r\n\r\nhello"


@both
@pytest.mark.parametrize("length", ["4", "6"])
def test_a_body_of_the_wrong_length_becomes_a_500(ask: Ask, length: str) -> None:
    """Only while nothing has been sent."""
    assert ask([b"hello"], [("Content-Length", length)]).startswith(FAILED)


@both
@pytest.mark.parametrize("pieces", [[b"he", b"l", b""], [b"he", b"llo", b"!", b""]], ids=["short", "long"])
def test_a_body_of_the_wrong_length_is_cut_once_it_has_begun(ask: Ask, pieces: list[bytes]) -> None:
    """Surplus bytes are never sent: they would look like the next response. Missing bytes close the connection."""
    head, _, body = ask(pieces, [("Content-Length", "5")]).partition(b"\r\n\r\n")
    assert head == OK + b"content-length: 5"
    assert b"hello".startswith(body)


@both
@pytest.mark.parametrize(
    "field",
    [
        ("X", "a\r\nSet-Cookie: b"),
        ("X", "a\r\n\r\nHTTP/1.1 200 OK"),
        ("X\r\nY", "a"),
        ("X Y", "a"),
        ("", "a"),
        ("Content-Length", "5, 5"),
        ("Content-Length", "-5"),
        ("Location", "/\nX: a"),
        ("Date", "a\rb"),
        ("X", "a\0"),
    ],
)
def test_invalid_fields_become_a_500(ask: Ask, field: tuple[str, str]) -> None:
    """No part of them reaches the client."""
    answers = read_answers(ask([b"hello"], [("X-Good", "1"), field]))
    assert [answer.status for answer in answers] == [500]
    assert {name for name, _ in answers[0].fields} == {b"content-type", b"content-length"}


@for_each("status", [100, 101, 103, 199, 99, 1000])
def test_an_asgi_response_must_have_a_final_status(status: int) -> None:
    """After an informational one, a client waits for the next head and would parse the body as such."""
    assert asgi([b"hello"], status=status).startswith(FAILED)


@for_each(
    "status",
    [
        "100 Continue",
        "101 x",
        "99 x",
        "1000 x",
        "20 x",
        "abc",
        "",
        "200\r\nX: a",
        "200 OK\r\nX: a",
        "200 \u20ac",
        "²00 x",
    ],
)
def test_a_wsgi_response_must_have_a_final_status(status: str) -> None:
    """Its reason cannot split the response."""
    assert wsgi([b"hello"], status=status).startswith(FAILED)


def test_a_wsgi_reason_is_sent_unchanged() -> None:
    """PEP 3333: the application chooses the text of the status."""
    assert wsgi([b""], status="200 Fine \xe9").startswith(b"HTTP/1.1 200 Fine \xe9\r\n")
