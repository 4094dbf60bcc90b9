"""Hypothesis strategies for what clients send on a connection: requests whose header section mostly stays the same."""

from __future__ import annotations

from hypothesis import strategies as st

FIRST = b"GET /a HTTP/1.1\r\nHost: a\r\nX: b\r\n\r\n"

# what clients vary, and what they should not; many are refused
LINES = (
    *(
        b"GET /a HTTP/1.1",
        b"GET / HTTP/1.1",
        b"GET /b?c=%20 HTTP/1.1",
        b'GET /"<>\\^`{|}~ HTTP/1.1',
        b"GET //h/p HTTP/1.1",
    ),
    *(b"HEAD /a HTTP/1.1", b"POST /a HTTP/1.1", b"OPTIONS /a HTTP/1.1", b"PATCH / HTTP/1.1", b"PROPFIND /a HTTP/1.1"),
    *(b"BREW /a HTTP/1.1", b"get /a HTTP/1.1", b"Get / HTTP/1.1", b"CONNECT a:1 HTTP/1.1"),
    *(b"GET http://b/c HTTP/1.1", b"GET http://b HTTP/1.1", b"OPTIONS * HTTP/1.1", b"OPTIONS http://b HTTP/1.1"),
    *(b"GET * HTTP/1.1", b"GET /a#b HTTP/1.1", b"GET a HTTP/1.1", b"GET /a b HTTP/1.1", b"GET  /a HTTP/1.1"),
    *(
        b"GET /a HTTP/1.0",
        b"GET /a HTTP/1.2",
        b"GET /a HTTP/2.0",
        b"GET /a http/1.1",
        b"GET /a",
        b"\r\nGET / HTTP/1.1",
    ),
    *(b"GET /a HTTP/1.1\r\nX: 1", b"GET /a HTTP/1.1\nX: 1", b"GET /a HTTP/1.1\r", b"GET /close HTTP/1.1"),
    *(b"GET /" + b"x" * size + b" HTTP/1.1" for size in (1, 18, 19, 20, 21)),
)
BLOCKS = (
    *(
        b"Host: a\r\n\r\n",
        b"Host: b\r\n\r\n",
        b"host: a\r\n\r\n",
        b"X: 1\r\nHost: a\r\n\r\n",
        b"Host: a\r\nX: 1\r\n\r\n",
    ),
    *(b"X: 1\r\nX: 1\r\nHost: a\r\n\r\n", b"X_Y: 1\r\nHost: a\r\n\r\n", b"Host: a\r\nProxy: e\r\nX: 1\r\n\r\n"),
    *(b"\r\n", b"X: 1\r\n\r\n", b"Host: a\r\nHost: a\r\n\r\n", b"Host: a b\r\n\r\n", b"Host : a\r\n\r\n"),
    *(
        b"Host: a\r\nConnection: close\r\n\r\n",
        b"Host: a\r\nConnection: keep-alive\r\n\r\n",
        b"Host: a\r\nTE: trailers\r\n\r\n",
    ),
    *(b"Host: a\r\nContent-Length: 0\r\n\r\n", b"Host: a\r\nContent-Length: 3\r\n\r\nabc"),
    b"Host: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Host: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n\r\n",
    *(b"Host: a\r\nExpect: 100-continue\r\n\r\n", b"Host: a\r\nExpect: x\r\n\r\n"),
    b"Host: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n\r\n",
    *(b"Host: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", b"Host: a\r\nUpgrade: h2c\r\n\r\n"),
    *(
        b"Host: a\r\nA: 1\r\nB: 2\r\n\r\n",
        b"Host: a\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n",
        b"Host: a\r\nX: %b\r\n\r\n" % (b"x" * 60),
    ),
)
COMMON = LINES[:8]
lines = st.sampled_from(COMMON) | st.sampled_from(LINES)
blocks = st.sampled_from(BLOCKS)


@st.composite
def series(draw: st.DrawFn) -> list[bytes]:
    """Requests of which many have the header section of the one before."""
    requests, block = [], draw(blocks)
    for _ in range(draw(st.integers(1, 10))):
        if draw(st.integers(0, 3)) == 0:
            block = draw(blocks)
        requests.append(draw(lines) + b"\r\n" + block)
    return requests
