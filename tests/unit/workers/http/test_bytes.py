"""Each of the 256 bytes at each position of a request: exactly those that the grammar allows there are accepted."""

from __future__ import annotations

import string

from support.echo import Wire, on_loop
from support.malformed import chunked, get
from support.rows import for_each

EVERY = frozenset(range(256))
TOKEN = frozenset(b"!#$%&'*+-.^_`|~" + (string.ascii_letters + string.digits).encode())  # RFC 9110, section 5.6.2
VISIBLE = frozenset(range(0x21, 0x7F))
TEXT = EVERY - frozenset(range(0x20)) - {0x7F} | {0x09}  # RFC 9110, section 5.5: VCHAR, obs-text, SP, HTAB
HOST = frozenset(b"-._~!$&'()*+;=" + (string.ascii_letters + string.digits).encode())  # RFC 3986, 3.2.2; no comma
BLANK = frozenset(b" \t")

# position -> (request with %c for the byte, bytes accepted there, with the reason where it is not obvious)
PLACES = {
    "method": (get(line=b"G%cT / HTTP/1.1"), frozenset(b"E")),
    "before the method": (get(line=b"%cGET / HTTP/1.1"), frozenset()),
    "behind the method": (get(line=b"GET%c/ HTTP/1.1"), frozenset(b" ")),
    "target": (get(line=b"GET /a%cb HTTP/1.1"), VISIBLE - frozenset(b"#")),
    "query": (get(line=b"GET /?%c HTTP/1.1"), VISIBLE - frozenset(b"#")),
    "behind the target": (get(line=b"GET /%cHTTP/1.1"), frozenset(b" ")),
    "protocol": (get(line=b"GET / HTT%c/1.1"), frozenset(b"P")),
    "point of the version": (get(line=b"GET / HTTP/1%c1"), frozenset(b".")),
    "version": (get(line=b"GET / HTTP/1.%c"), frozenset(b"01")),
    "behind the version": (get(line=b"GET / HTTP/1.1%c"), frozenset()),
    "name": (get(b"X%cY: a"), TOKEN | {0x3A}),  # a colon ends the name, which is then `X`
    "before a name": (get(b"%cX: a"), TOKEN),
    "before the colon": (get(b"X%c: a"), TOKEN | {0x3A}),
    "behind the colon": (get(b"X:%ca"), TEXT),
    "value": (get(b"X: a%cb"), TEXT),
    "behind a value": (get(b"X: a%c"), TEXT),
    "Host": (get(host=b"Host: a%cb\r\n"), HOST),
    "port": (get(host=b"Host: a:8%c\r\n"), frozenset(string.digits.encode()) | BLANK),
    "behind CR of a field": (b"GET / HTTP/1.1\r\nHost: a\r%c\r\n", frozenset(b"\n")),
    "for the last CR": (b"GET / HTTP/1.1\r\nHost: a\r\n%c\n", frozenset(b"\r")),
    "for the last LF": (b"GET / HTTP/1.1\r\nHost: a\r\n\r%c", frozenset(b"\n")),
    "Content-Length": (get(b"Content-Length: 0%c"), frozenset(b"0") | BLANK),
    "before Content-Length": (get(b"Content-Length: %c0"), frozenset(b"0") | BLANK),
    "Transfer-Encoding": (chunked(b"0\r\n\r\n").replace(b"chunked", b"chun%ced"), frozenset(b"kK")),
    "behind Transfer-Encoding": (chunked(b"0\r\n\r\n").replace(b"chunked", b"chunked%c"), frozenset(b" ")),
    "before Transfer-Encoding": (chunked(b"0\r\n\r\n").replace(b"chunked", b"%cchunked"), BLANK),
    "chunk size": (chunked(b"%c\r\nabcdefghijklmno\r\n0\r\n\r\n"), frozenset(b"fF")),
    "before a chunk size": (chunked(b"%c3\r\nabc\r\n0\r\n\r\n"), frozenset(b"0")),
    "behind a chunk size": (chunked(b"0%c\r\n\r\n"), frozenset(b"0")),
    "for CR of a chunk size": (chunked(b"3%c\nabc\r\n0\r\n\r\n"), frozenset(b"\r")),
    "for LF of a chunk size": (chunked(b"3\r%cabc\r\n0\r\n\r\n"), frozenset(b"\n")),
    "for CR of a chunk": (chunked(b"3\r\nabc%c\n0\r\n\r\n"), frozenset(b"\r")),
    "for LF of a chunk": (chunked(b"3\r\nabc\r%c0\r\n\r\n"), frozenset(b"\n")),
    "name of an extension": (chunked(b"0;%c\r\n\r\n"), TOKEN),
    "value of an extension": (chunked(b"0;a=%c\r\n\r\n"), TOKEN),
    "quoted extension": (chunked(b'0;a="%c"\r\n\r\n'), TEXT - frozenset(b'"\\')),
    "name of a trailer": (chunked(b"0\r\nX%c: a\r\n\r\n"), TOKEN | {0x3A}),
    "value of a trailer": (chunked(b"0\r\nX: a%cb\r\n\r\n"), TEXT),
    "for the CR behind trailers": (chunked(b"0\r\nX: a\r\n%c\n"), frozenset(b"\r")),
}


@for_each("place", PLACES)
def test_only_bytes_of_the_grammar_are_accepted(place: str) -> None:
    """All others are refused, or wait for more input that never makes them valid; both end with the client's stream."""
    template, allowed = PLACES[place]
    before, _, after = template.partition(b"%c")

    async def main() -> set[int]:
        served = set()
        for byte in EVERY:
            wire = Wire()
            await wire.deliver([before + bytes([byte]) + after])
            await wire.end()
            assert wire.transport.closing
            if wire.notes.requests:
                assert wire.answers()[0].status == 200
                served.add(byte)
        return served

    served = on_loop(main)
    assert bytes(sorted(served - allowed)) == b""
    assert bytes(sorted(allowed - served)) == b""
