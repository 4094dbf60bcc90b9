"""Header fields of applications: validated and encoded. None of them can split a response or change its framing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rows import for_each

from hybrid.workers.http import head as heads
from hybrid.workers.http.head import CLOSE, OWN_DATE, OWN_SERVER, UNKNOWN, Head, HeadError


def _text(fields: list[tuple[bytes, bytes]]) -> Head:
    return heads.from_text([(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields])


both = pytest.mark.parametrize("encode", [heads.from_bytes, _text], ids=["bytes", "text"])
Encode = Callable[[list[tuple[bytes, bytes]]], Head]


@both
def test_ordinary_fields_keep_their_order_and_spelling(encode: Encode) -> None:
    """They are sent as the application wrote them."""
    fields = [(b"Content-Type", b"text/plain"), (b"X-A", b"\xe9\t1"), (b"x-a", b"")]
    assert encode(fields) == (b"Content-Type: text/plain\r\nX-A: \xe9\t1\r\nx-a: \r\n", UNKNOWN, 0)


@both
@for_each("value", [b"a\r\nX: b", b"a\nX: b", b"a\rX: b", b"a\0b", b"\r\n", b"a\r\n", b"a\r\n\r\nHTTP/1.1"])
@for_each("name", [b"X-A", b"Location", b"Set-Cookie", b"Date", b"Server"])
def test_a_value_cannot_split_the_response(encode: Encode, name: bytes, value: bytes) -> None:
    """CR, LF and NUL are refused (RFC 9110, section 5.5), the first time and the second."""
    for _ in range(2):
        with pytest.raises(HeadError):
            encode([(b"X-Good", b"1"), (name, value)])


@both
@for_each("value", [b"1\r\nX: b", b"1\n", b"close\r\nX: b"])
@for_each("name", [b"Content-Length", b"Connection", b"Transfer-Encoding", b"Upgrade"])
def test_a_framing_field_cannot_split_the_response(encode: Encode, name: bytes, value: bytes) -> None:
    """It is refused or dropped."""
    with contextlib.suppress(HeadError):
        block, _, _ = encode([(name, value)])
        assert block == b""


@both
@for_each(
    "name",
    [b"", b" X", b"X ", b"X Y", b"X:", b"X: a\r\nY", b"X\r\n", b"X\n", b"X\0", b"X\xe9", b"(X)", b"X/Y", b'"X"', b"\t"],
)
def test_a_name_is_a_token(encode: Encode, name: bytes) -> None:
    """RFC 9110, section 5.1; also the second time."""
    for _ in range(2):
        with pytest.raises(HeadError):
            encode([(name, b"a")])


@both
@for_each("value", [b"", b"-1", b"+1", b"0x1", b"1.0", b"1, 1", b"1 1", b"a", b"1_0", b"9" * 19, b"\xb2"])
def test_a_content_length_is_a_number(encode: Encode, value: bytes) -> None:
    """RFC 9110, section 8.6."""
    with pytest.raises(HeadError):
        encode([(b"Content-Length", value)])


@both
def test_a_content_length_is_removed_from_the_block(encode: Encode) -> None:
    """The server writes it, once."""
    assert encode([(b"content-length", b" 12 ")]) == (b"", 12, 0)
    assert encode([(b"Content-Length", b"12"), (b"CONTENT-LENGTH", b"12")]) == (b"", 12, 0)


@both
def test_two_different_content_lengths_are_refused(encode: Encode) -> None:
    """A client would have to choose."""
    with pytest.raises(HeadError):
        encode([(b"Content-Length", b"12"), (b"content-length", b"13")])


@both
@pytest.mark.parametrize("name", [b"Transfer-Encoding", b"Keep-Alive", b"Proxy-Connection", b"TE", b"Upgrade"])
def test_hop_by_hop_fields_are_dropped(encode: Encode, name: bytes) -> None:
    """The server controls the connection (RFC 9110, section 7.6.1)."""
    for written in (name, name.lower(), name.upper()):
        assert encode([(written, b"chunked"), (b"X", b"a")]) == (b"X: a\r\n", UNKNOWN, 0)


@both
@pytest.mark.parametrize("value", [b"close", b"Close", b"x, CLOSE ", b"close,keep-alive"])
def test_an_application_may_request_a_close(encode: Encode, value: bytes) -> None:
    """Its `Connection: close` is honoured, and written by the server."""
    assert encode([(b"Connection", value)]) == (b"", UNKNOWN, CLOSE)


@both
def test_other_connection_options_are_dropped(encode: Encode) -> None:
    """An application cannot keep a connection alive."""
    assert encode([(b"Connection", b"keep-alive, Upgrade")]) == (b"", UNKNOWN, 0)


@both
def test_date_and_server_of_an_application_replace_ours(encode: Encode) -> None:
    """They are not sent twice."""
    _, _, flags = encode([(b"Date", b"today"), (b"Server", b"mine")])
    assert flags == OWN_DATE | OWN_SERVER


@for_each("pair", [("X-Text", "a"), (b"X", "a"), ("X", b"a"), (b"X", 1), (b"X", None), (1, b"a"), (None, b"a")])
def test_asgi_fields_are_bytes(pair: Any) -> None:
    """Anything else is an error of the application."""
    for _ in range(2):
        with pytest.raises(TypeError):
            heads.from_bytes([pair])


@for_each("pair", [(b"X-Bytes", b"a"), (b"X", "a"), ("X", b"a"), ("X", 1), ("X", None), (1, "a"), (None, "a")])
def test_wsgi_fields_are_text(pair: Any) -> None:
    """PEP 3333: native strings."""
    for _ in range(2):
        with pytest.raises(TypeError):
            heads.from_text([pair])


def test_text_beyond_latin_1_is_refused() -> None:
    """It cannot be encoded (PEP 3333, "Unicode Issues")."""
    with pytest.raises(HeadError):
        heads.from_text([("X", "\u20ac")])


def test_fields_may_be_lists() -> None:
    """ASGI allows any iterable."""
    assert heads.from_bytes(iter([[b"X", b"a"], [b"Content-Length", b"1"]])) == (b"X: a\r\n", 1, 0)  # type: ignore[list-item]


@pytest.mark.parametrize("status", [99, 1000, 0, -200])
def test_a_status_has_three_digits(status: int) -> None:
    """RFC 9112, section 4."""
    with pytest.raises(HeadError):
        heads.status_of(status)


def test_unknown_statuses_have_an_empty_reason() -> None:
    """The reason may be empty, but its space is required."""
    assert heads.status_of(299).line == b"HTTP/1.1 299 \r\n"
    assert heads.status_of(200).line == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("reason", [b"OK\r\nX: a", b"a\nb", b"a\rb", b"a\0b"])
def test_a_reason_cannot_split_the_response(reason: bytes) -> None:
    """In WSGI it is the application's text."""
    with pytest.raises(HeadError):
        heads.status_of(200, reason)


@given(st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=12)), max_size=4))
def test_any_accepted_field_stays_one_line(fields: list[tuple[bytes, bytes]]) -> None:
    """The encoded block has exactly the given names, and no other line."""
    try:
        block, _, _ = heads.from_bytes(fields)
    except HeadError:
        return
    lines = block.split(b"\r\n")
    assert lines.pop() == b""
    assert not any(set(b"\r\n\0") & set(line) for line in lines)
    given_lines = [b"%b: %b" % field for field in fields]
    assert [line for line in lines if line in given_lines] == lines
