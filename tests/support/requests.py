"""Hypothesis strategies for HTTP: requests that are right, and ways to cut and to spoil bytes."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

TOKEN = "!#$%&'*+-.^`|~0123456789ABCXYZabcxyz"  # no underscore: fields with one do not reach the application
# what is said about the connection and the body is added by `requests`, and belongs to no other field
SPOKEN_FOR = frozenset({"host", "connection", "te", "expect", "upgrade", "content-length", "proxy", "trailer"})
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND")

names = st.text(TOKEN, min_size=1, max_size=12).filter(lambda name: name.lower() not in SPOKEN_FOR)
values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20).map(
    lambda text: text.encode("latin-1")
)
spaces = st.text(" \t", max_size=3).map(str.encode)
paths = st.text("/abc%20.~;:@[]|", max_size=20).map(lambda text: "/" + text)
queries = st.one_of(st.just(""), st.text("abc=&%41?/+", max_size=10).map(lambda text: "?" + text))


class Body(NamedTuple):
    """A body, how the head announces it, and how it goes over the wire."""

    fields: bytes
    wire: bytes
    content: bytes


class Request(NamedTuple):
    """A request that is right."""

    wire: bytes
    method: str
    target: str
    content: bytes


@st.composite
def _fields(draw: st.DrawFn) -> bytes:
    lines = draw(st.lists(st.tuples(names, spaces, values, spaces), max_size=4))
    return b"".join(b"%b:%b%b%b\r\n" % (name.encode(), left, value, right) for name, left, value, right in lines)


@st.composite
def _chunked(draw: st.DrawFn) -> Body:
    parts = draw(st.lists(st.binary(min_size=1, max_size=30) | st.just(b"\r\n\r\n0\r\n\r\n"), max_size=4))
    extensions = st.sampled_from([b"", b";a", b";a=b", b';a="b;c";d'])
    wire = b"".join(b"%x%b\r\n%b\r\n" % (len(part), draw(extensions), part) for part in parts)
    end = b"0%b\r\n%b\r\n" % (draw(extensions), draw(st.just(b"") | _fields()))
    return Body(b"Transfer-Encoding: chunked\r\n", wire + end, b"".join(parts))


def _with_length(content: bytes) -> Body:
    return Body(b"Content-Length: %d\r\n" % len(content), content, content)


bodies = st.one_of(st.just(Body(b"", b"", b"")), st.binary(max_size=60).map(_with_length), _chunked())


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Requests of HTTP/1.1 behind which the connection stays open."""
    method, target, body = draw(st.sampled_from(METHODS)), draw(paths) + draw(queries), draw(bodies)
    more = draw(
        st.sampled_from(
            [
                b"",
                b"Connection: keep-alive\r\n",
                b"Expect: 100-continue\r\n",
                b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
                b"Upgrade: x\r\n",
                b"TE: trailers\r\n",
            ]
        )
    )
    lead = draw(st.sampled_from([b"", b"", b"\r\n"]))
    fields = draw(_fields()) + body.fields + more + draw(_fields())
    head = f"{method} {target} HTTP/1.1\r\nHost: a\r\n".encode()
    return Request(lead + head + fields + b"\r\n" + body.wire, method, target, body.content)


def cut(data: bytes, points: list[int]) -> list[bytes]:
    """Cut `data` at the points that lie within it."""
    within = sorted({point % (len(data) or 1) for point in points} - {0})
    return [data[start:end] for start, end in zip([0, *within], [*within, len(data)], strict=True)]


points = st.lists(st.integers(0, 5000), max_size=12)

SPOILERS = (
    *(bytes([byte]) for byte in b'\r\n\0\t \x0b\x0c\x7f\x80\xff:;,"=/#?@+-_0123456789abcxX%*'),
    *(
        b"\r\n",
        b"\r\n\r\n",
        b"\n\n",
        b"\r\r",
        b" HTTP/1.1\r\n",
        b"HTTP/1.0",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"Host: b\r\n",
    ),
    *(b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"Content-Length : 5\r\n", b"content-length:", b"0\r\n\r\n"),
    *(
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"transfer-encoding:\x0bchunked\r\n",
        b"chunked",
    ),
    *(
        b"Connection: close\r\n",
        b"Connection: upgrade\r\nUpgrade: websocket\r\n",
        b"Proxy-Connection: keep-alive\r\n",
        b"http://",
        b"/close",
    ),
    *(
        b"Expect: 100-continue\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"RTSP",
        b"ffffffffffffffff",
    ),
)


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """Requests of which some bytes are replaced, left out, doubled or moved."""
    data = b"".join(request.wire for request in draw(st.lists(requests(), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 0, 1, 1, 2, 5, 20])))
        new = draw(st.sampled_from(SPOILERS) | st.just(b"") | st.just(data[start:end] * 2))
        data = data[:start] + new + data[end:]
    return data


garbage = st.one_of(
    st.binary(max_size=200),
    st.lists(st.sampled_from(SPOILERS) | st.sampled_from([b"GET", b"POST", b" ", b"/", b"Host: a"]), max_size=30).map(
        b"".join
    ),
    spoiled(),
)
