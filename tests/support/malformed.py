"""Requests that no application may get, and odd ones that it must: tables of bytes, for tests with and without sockets.

The limits are the default ones, except for bodies: `MAX_BODY`.
"""

from __future__ import annotations

from typing import NamedTuple

from hybrid.workers.http.settings import Limits

MAX_BODY = 100_000  # bytes; what the server under test must be set to
LIMITS = Limits(max_body_size=MAX_BODY)


class Malformed(NamedTuple):
    """A request that is refused."""

    name: str
    request: bytes
    status: int
    why: str
    """The rule, and where it stands."""
    ends: bool = False
    """Whether the client ends its side behind it."""
    before: int = 0
    """How many requests it holds that are right, and answered, before the one that is not."""


class Odd(NamedTuple):
    """Requests that are unusual, right, and served."""

    name: str
    request: bytes
    seen: tuple[bytes, ...]
    """What the application must have got: method, target, and body of each request."""
    why: str
    closes: bool = False
    """Whether the server closes the connection behind the last answer."""


def get(*lines: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = b"Host: a\r\n") -> bytes:
    """Return a request without a body."""
    return line + b"\r\n" + host + b"".join(field + b"\r\n" for field in lines) + b"\r\n"


def post(*lines: bytes, body: bytes = b"", line: bytes = b"POST / HTTP/1.1") -> bytes:
    """Return a request with a body, framed as `lines` say."""
    return get(*lines, line=line) + body


def chunked(body: bytes, *lines: bytes) -> bytes:
    """Return a request whose body is sent in chunks, as they are given."""
    return post(b"Transfer-Encoding: chunked", *lines, body=body)


_LENGTH = "RFC 9112 6.3, RFC 9110 8.6: Content-Length is one number"
_CODING = "RFC 9112 6.1: chunked, once and last; this server knows no other coding"
_BOTH = "RFC 9112 6.1, 11.2: Content-Length beside Transfer-Encoding is how requests are smuggled"
_CHUNK = "RFC 9112 7.1: the grammar of chunks"
_EXTENSION = "RFC 9112 7.1.1: the grammar of chunk extensions"
_TRAILER = "RFC 9110 6.5.1: no field that says how to read or route the message"
_LINE = "RFC 9112 3: method, target and version, one space between them, CRLF behind"
_TARGET = "RFC 9112 3.2: the forms of a target; RFC 3986: its characters"
_METHOD = "RFC 9110 9.1: methods are case-sensitive tokens; to unknown ones the answer is 501"
_VERSION = "RFC 9112 2.3, RFC 9110 15.6.6"
_HOST = "RFC 9112 3.2: one valid Host field"
_FIELD = "RFC 9112 5: name, colon, value; RFC 9110 5.1, 5.5: their characters"
_END = "RFC 9112 2.2: lines end with CRLF; a bare CR or LF splits requests"
_FOLD = "RFC 9112 5.2: line folding is obsolete"
_LIMIT = "RFC 9110 2.3, 15.5.14, 15.5.15; RFC 6585 5: limits"

_DELIMITERS = b'"(),/;<=>?@[\\]{}'  # RFC 9110, section 5.6.2; without the colon, which ends a name
_TOKENS = b"!#$%&'*+-.^_`|~09AZaz"

FRAMING = (
    Malformed("CL and TE", post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400, _BOTH),
    Malformed("TE and CL", post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"), 400, _BOTH),
    Malformed("CL and TE on GET", get(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n", 400, _BOTH),
    Malformed(
        "CL and TE in HTTP/1.0",
        post(b"Content-Length: 5", b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0", body=b"0\r\n\r\n"),
        400,
        _BOTH,
    ),
    Malformed("CL behind a bare LF", post(b"X: a\nContent-Length: 3", body=b"abc"), 400, _END),
    Malformed("CL behind a bare CR", post(b"X: a\rContent-Length: 3", body=b"abc"), 400, _END),
    Malformed("CL with trailing comma", post(b"Content-Length: 3,", body=b"abc"), 400, _LENGTH),
    Malformed("CL with leading comma", post(b"Content-Length: ,3", body=b"abc"), 400, _LENGTH),
    Malformed("CL in other digits", post(b"Content-Length: \xd9\xa3", body=b"abc"), 400, _LENGTH),
    Malformed("CL before a no-break space", post(b"Content-Length: 3\xa0", body=b"abc"), 400, _LENGTH),
    Malformed("CL folded", post(b"Content-Length:", b" 3", body=b"abc"), 400, _FOLD),
    Malformed("CL and unknown TE", post(b"Content-Length: 3", b"Transfer-Encoding: x", body=b"abc"), 400, _BOTH),
    Malformed("two CL, different", post(b"Content-Length: 3", b"Content-Length: 4", body=b"abcd"), 400, _LENGTH),
    Malformed("two CL, equal", post(b"Content-Length: 3", b"Content-Length: 3", body=b"abc"), 400, _LENGTH),
    Malformed("CL list", post(b"Content-Length: 3, 3", body=b"abc"), 400, _LENGTH),
    Malformed("CL with plus", post(b"Content-Length: +3", body=b"abc"), 400, _LENGTH),
    Malformed("CL negative", post(b"Content-Length: -3", body=b"abc"), 400, _LENGTH),
    Malformed("CL hexadecimal", post(b"Content-Length: 0x3", body=b"abc"), 400, _LENGTH),
    Malformed("CL empty", post(b"Content-Length:"), 400, _LENGTH),
    Malformed("CL of a space", post(b"Content-Length: "), 400, _LENGTH),
    Malformed("CL with inner space", post(b"Content-Length: 3 3", body=b"abc"), 400, _LENGTH),
    Malformed("CL with underscore", post(b"Content-Length: 1_0", body=b"0123456789"), 400, _LENGTH),
    Malformed("CL with exponent", post(b"Content-Length: 1e1", body=b"0123456789"), 400, _LENGTH),
    Malformed("CL fractional", post(b"Content-Length: 3.0", body=b"abc"), 400, _LENGTH),
    Malformed("CL in quotes", post(b'Content-Length: "3"', body=b"abc"), 400, _LENGTH),
    Malformed("CL with semicolon", post(b"Content-Length: 3;", body=b"abc"), 400, _LENGTH),
    Malformed("CL after vertical tab", post(b"Content-Length: \x0b3", body=b"abc"), 400, _LENGTH),
    Malformed("CL of 20 digits", post(b"Content-Length: 99999999999999999999", body=b"abc"), 400, _LENGTH),
    Malformed("CL of 2**64 - 1", post(b"Content-Length: 18446744073709551615", body=b"abc"), 400, _LENGTH),
    Malformed("CL of 30 zeros and 3", post(b"Content-Length: " + b"0" * 30 + b"3", body=b"abc"), 400, _LENGTH),
    Malformed("space before the colon of CL", post(b"Content-Length : 3", body=b"abc"), 400, _FIELD),
    Malformed("TE identity", post(b"Transfer-Encoding: identity"), 400, _CODING),
    Malformed("TE gzip", post(b"Transfer-Encoding: gzip"), 400, _CODING),
    Malformed("TE gzip, chunked", post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 400, _CODING),
    Malformed("TE chunked, gzip", post(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n"), 400, _CODING),
    Malformed("TE chunked, chunked", post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"), 400, _CODING),
    Malformed("TE identity, chunked", post(b"Transfer-Encoding: identity, chunked", body=b"0\r\n\r\n"), 400, _CODING),
    Malformed("TE with leading comma", post(b"Transfer-Encoding: ,chunked", body=b"0\r\n\r\n"), 400, _CODING),
    Malformed("TE with trailing comma", post(b"Transfer-Encoding: chunked,", body=b"0\r\n\r\n"), 400, _CODING),
    Malformed("two TE", chunked(b"0\r\n\r\n", b"Transfer-Encoding: chunked"), 400, _CODING),
    Malformed("two TE, the second unknown", chunked(b"0\r\n\r\n", b"Transfer-Encoding: x"), 400, _CODING),
    Malformed(
        "two TE, the first unknown",
        post(b"Transfer-Encoding: x", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        400,
        _CODING,
    ),
    Malformed("TE xchunked", post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), 400, _CODING),
    Malformed("TE chunkedx", post(b"Transfer-Encoding: chunkedx", body=b"0\r\n\r\n"), 400, _CODING),
    Malformed("TE with inner space", post(b"Transfer-Encoding: chun ked", body=b"0\r\n\r\n"), 400, _CODING),
    Malformed("TE with semicolon", post(b"Transfer-Encoding: chunked;", body=b"0\r\n\r\n"), 400, _CODING),
    Malformed("TE after form feed", post(b"Transfer-Encoding: \x0cchunked", body=b"0\r\n\r\n"), 400, _CODING),
    Malformed(
        "TE before a tab",
        post(b"Transfer-Encoding: chunked\t", body=b"0\r\n\r\n"),
        400,
        "RFC 9112 11.2: right by RFC 9110 5.5, but read in several ways",
    ),
    Malformed("TE before vertical tab", post(b"Transfer-Encoding: chunked\x0b", body=b"0\r\n\r\n"), 400, _CODING),
    Malformed("TE before a no-break space", post(b"Transfer-Encoding: chunked\xa0", body=b"0\r\n\r\n"), 400, _CODING),
    Malformed("tab before the colon of TE", post(b"Transfer-Encoding\t: chunked", body=b"0\r\n\r\n"), 400, _FIELD),
    Malformed("vertical tab in the name TE", post(b"Transfer-Encoding\x0b: chunked", body=b"0\r\n\r\n"), 400, _FIELD),
    Malformed("NUL in the name TE", post(b"Transfer-Encoding\0: chunked", body=b"0\r\n\r\n"), 400, _FIELD),
    Malformed("space before the name TE", post(b" Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400, _FOLD),
    Malformed("TE in quotes", post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"), 400, _CODING),
    Malformed("TE with parameter", post(b"Transfer-Encoding: chunked;q=1", body=b"0\r\n\r\n"), 400, _CODING),
    Malformed("TE empty", post(b"Transfer-Encoding:", body=b"0\r\n\r\n"), 400, _CODING),
    Malformed("TE after vertical tab", post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"), 400, _CODING),
    Malformed("TE with NUL", post(b"Transfer-Encoding: chunked\0", body=b"0\r\n\r\n"), 400, _FIELD),
    Malformed("space before the colon of TE", post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"), 400, _FIELD),
    Malformed("TE folded", post(b"Transfer-Encoding:", b" chunked", body=b"0\r\n\r\n"), 400, _FOLD),
    Malformed("TE behind a bare CR", post(b"X: a\rTransfer-Encoding: chunked", body=b"0\r\n\r\n"), 400, _END),
    Malformed(
        "TE in HTTP/1.0",
        post(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0", body=b"0\r\n\r\n"),
        400,
        "RFC 9112 6.1: HTTP/1.0 has no transfer codings",
    ),
    Malformed(
        "TE in HTTP/1.0 kept alive",
        post(b"Transfer-Encoding: chunked", b"Connection: keep-alive", line=b"POST / HTTP/1.0", body=b"0\r\n\r\n"),
        400,
        "RFC 9112 6.1: HTTP/1.0 has no transfer codings",
    ),
    Malformed(
        "TE in HTTP/1.0 kept alive by Proxy-Connection",
        post(
            b"Transfer-Encoding: chunked", b"Proxy-Connection: keep-alive", line=b"POST / HTTP/1.0", body=b"0\r\n\r\n"
        ),
        400,
        "RFC 9112 6.1: HTTP/1.0 has no transfer codings",
    ),
    Malformed("body cut by the end", post(b"Content-Length: 5", body=b"abc"), 400, "RFC 9112 8", ends=True),
    Malformed("chunks cut by the end", chunked(b"3\r\nabc\r\n"), 400, "RFC 9112 8", ends=True),
)

CHUNKS = (
    Malformed("chunk size 0x3", chunked(b"0x3\r\nabc\r\n0\r\n\r\n"), 400, _CHUNK),
    Malformed("chunk size +3", chunked(b"+3\r\nabc\r\n0\r\n\r\n"), 400, _CHUNK),
    Malformed("chunk size -3", chunked(b"-3\r\nabc\r\n0\r\n\r\n"), 400, _CHUNK),
    Malformed("chunk size 1_0", chunked(b"1_0\r\nabc\r\n0\r\n\r\n"), 400, _CHUNK),
    Malformed("chunk size g", chunked(b"g\r\nabc\r\n0\r\n\r\n"), 400, _CHUNK),
    Malformed("chunk size 3,3", chunked(b"3,3\r\nabc\r\n0\r\n\r\n"), 400, _CHUNK),
    Malformed("chunk size 3 x", chunked(b"3 x\r\nabc\r\n0\r\n\r\n"), 400, _CHUNK),
    Malformed("last chunk 0x0", chunked(b"0x0\r\n\r\n"), 400, _CHUNK),
    Malformed("last chunk -0", chunked(b"-0\r\n\r\n"), 400, _CHUNK),
    Malformed("chunk size missing", chunked(b"\r\nabc\r\n0\r\n\r\n"), 400, _CHUNK),
    Malformed("chunk size over 64 bits", chunked(b"10000000000000003\r\nabc\r\n0\r\n\r\n"), 400, _CHUNK),
    Malformed("chunk size far over 64 bits", chunked(b"f" * 40 + b"\r\nabc\r\n0\r\n\r\n"), 400, _CHUNK),
    Malformed("space before a chunk size", chunked(b" 3\r\nabc\r\n0\r\n\r\n"), 400, _CHUNK),
    Malformed("space behind a chunk size", chunked(b"3 \r\nabc\r\n0\r\n\r\n"), 400, _CHUNK),
    Malformed("tab behind a chunk size", chunked(b"3\t\r\nabc\r\n0\r\n\r\n"), 400, _CHUNK),
    Malformed("LF behind a chunk size", chunked(b"3\nabc\r\n0\r\n\r\n"), 400, _END),
    Malformed("CR behind a chunk size", chunked(b"3\rabc\r\n0\r\n\r\n"), 400, _END),
    Malformed("two CR behind a chunk size", chunked(b"3\r\r\nabc\r\n0\r\n\r\n"), 400, _END),
    Malformed("chunk longer than its size", chunked(b"3\r\nabcd\r\n0\r\n\r\n"), 400, _CHUNK),
    Malformed("chunk shorter than its size", chunked(b"5\r\nabc\r\n0\r\n\r\n"), 400, _CHUNK),
    Malformed("nothing behind a chunk", chunked(b"3\r\nabc0\r\n\r\n"), 400, _CHUNK),
    Malformed("LF behind a chunk", chunked(b"3\r\nabc\n0\r\n\r\n"), 400, _END),
    Malformed("LF behind the last chunk", chunked(b"0\n\n"), 400, _END),
    Malformed("LF for the last line", chunked(b"0\r\n\n"), 400, _END),
    Malformed("CR behind the last line", chunked(b"0\r\n\rX"), 400, _END),
    Malformed("extension without name", chunked(b"3;\r\nabc\r\n0\r\n\r\n"), 400, _EXTENSION),
    Malformed("extension of a value", chunked(b"3;=a\r\nabc\r\n0\r\n\r\n"), 400, _EXTENSION),
    Malformed("extension of a value behind the last chunk", chunked(b"0;=a\r\n\r\n"), 400, _EXTENSION),
    Malformed("extension behind a space", chunked(b"3 ;a\r\nabc\r\n0\r\n\r\n"), 400, "RFC 9112 7.1.1: BWS, a bad one"),
    Malformed("extension before a space", chunked(b"3;a \r\nabc\r\n0\r\n\r\n"), 400, "RFC 9112 7.1.1: BWS, a bad one"),
    Malformed("extension of two words", chunked(b"3;a b\r\nabc\r\n0\r\n\r\n"), 400, _EXTENSION),
    Malformed("extension without value", chunked(b"3;a=\r\nabc\r\n0\r\n\r\n"), 400, _EXTENSION),
    Malformed("two semicolons", chunked(b"3;;a\r\nabc\r\n0\r\n\r\n"), 400, _EXTENSION),
    Malformed("quote that stays open", chunked(b'3;a="b\r\nabc\r\n0\r\n\r\n'), 400, _EXTENSION),
    Malformed("more behind a quote", chunked(b'3;a="b"c\r\nabc\r\n0\r\n\r\n'), 400, _EXTENSION),
    Malformed("quoted control character", chunked(b'3;a="\x01"\r\nabc\r\n0\r\n\r\n'), 400, _EXTENSION),
    Malformed("escaped CR in quotes", chunked(b'3;a="\\\r"\r\nabc\r\n0\r\n\r\n'), 400, _EXTENSION),
    Malformed("extension with LF", chunked(b"3;a\nabc\r\n0\r\n\r\n"), 400, _END),
    Malformed("extension with CR", chunked(b"3;a\rb\r\nabc\r\n0\r\n\r\n"), 400, _END),
    Malformed("extension with NUL", chunked(b"3;a=\0\r\nabc\r\n0\r\n\r\n"), 400, _EXTENSION),
    Malformed("quoted extension with LF", chunked(b'3;a="\n"\r\nabc\r\n0\r\n\r\n'), 400, _EXTENSION),
    Malformed("quoted extension with CRLF", chunked(b'3;a="\r\n"\r\nabc\r\n0\r\n\r\n'), 400, _EXTENSION),
    Malformed("trailer Content-Length", chunked(b"0\r\nContent-Length: 5\r\n\r\nhello"), 400, _TRAILER),
    Malformed("trailer Transfer-Encoding", chunked(b"0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400, _TRAILER),
    Malformed("trailer Host", chunked(b"0\r\nHost: b\r\n\r\n"), 400, _TRAILER),
    Malformed("trailer Connection", chunked(b"0\r\nConnection: close\r\n\r\n" + get()), 400, _TRAILER),
    Malformed("trailer Upgrade", chunked(b"0\r\nUpgrade: h2c\r\n\r\n" + get()), 400, _TRAILER),
    Malformed("trailer without colon", chunked(b"0\r\nX\r\n\r\n"), 400, _FIELD),
    Malformed("trailer folded", chunked(b"0\r\nX: a\r\n b\r\n\r\n"), 400, _FOLD),
    Malformed("trailer with LF", chunked(b"0\r\nX: a\n\r\n"), 400, _END),
)

LINES = (
    Malformed("two spaces behind the method", get(line=b"GET  / HTTP/1.1"), 400, _LINE),
    Malformed("two spaces before the version", get(line=b"GET /  HTTP/1.1"), 400, _LINE),
    Malformed("tab behind the method", get(line=b"GET\t/ HTTP/1.1"), 400, _LINE),
    Malformed("tab before the version", get(line=b"GET /\tHTTP/1.1"), 400, _LINE),
    Malformed("form feed behind the method", get(line=b"GET\x0c/ HTTP/1.1"), 400, _LINE),
    Malformed("vertical tab before the version", get(line=b"GET /\x0bHTTP/1.1"), 400, _LINE),
    Malformed("more behind the version", get(line=b"GET / HTTP/1.1 x"), 400, _LINE),
    Malformed("two versions", get(line=b"GET / HTTP/1.1 HTTP/1.1"), 400, _LINE),
    Malformed("two CR behind the request line", get(line=b"GET / HTTP/1.1\r"), 400, _END),
    Malformed("space behind the version", get(line=b"GET / HTTP/1.1 "), 400, _LINE),
    Malformed("space before the method", get(line=b" GET / HTTP/1.1"), 400, _LINE),
    Malformed("space within the target", get(line=b"GET /a b HTTP/1.1"), 400, _LINE),
    Malformed("LF for all lines", b"GET / HTTP/1.1\nHost: a\n\n", 400, _END),
    Malformed("LF behind the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400, _END),
    Malformed("CR behind the request line", b"GET / HTTP/1.1\rHost: a\r\n\r\n", 400, _END),
    Malformed("bare LF before the request", b"\n" + get(), 400, _END),
    Malformed("bare CR before the request", b"\r" + get(), 400, _END),
    Malformed("CRLF and LF before the request", b"\r\n\n" + get(), 400, _END),
    Malformed("NUL before the request", b"\0" + get(), 400, _LINE),
    Malformed("no target", get(line=b"GET HTTP/1.1"), 400, _LINE),
    Malformed("no version (HTTP/0.9)", b"GET /\r\n\r\n", 400, _LINE),
    Malformed("no version, but fields", get(line=b"GET /"), 400, _LINE),
    Malformed("no version behind a space", get(line=b"GET / "), 400, _LINE),
    Malformed("HTTP/0.9", get(line=b"GET / HTTP/0.9"), 505, _VERSION),
    Malformed("HTTP/1.2", get(line=b"GET / HTTP/1.2"), 505, _VERSION),
    Malformed("HTTP/2.0", get(line=b"GET / HTTP/2.0"), 505, _VERSION),
    Malformed("HTTP/1", get(line=b"GET / HTTP/1"), 400, _VERSION),
    Malformed("HTTP/1.", get(line=b"GET / HTTP/1."), 400, _VERSION),
    Malformed("HTTP/11", get(line=b"GET / HTTP/11"), 400, _VERSION),
    Malformed("HTTP/ 1.1", get(line=b"GET / HTTP/ 1.1"), 400, _LINE),
    Malformed("NUL in the version", get(line=b"GET / HTTP/1.1\0"), 400, _VERSION),
    Malformed("HTTP/1.10", get(line=b"GET / HTTP/1.10"), 400, _VERSION),
    Malformed("HTTP/01.1", get(line=b"GET / HTTP/01.1"), 400, _VERSION),
    Malformed("HTTP/1,1", get(line=b"GET / HTTP/1,1"), 400, _VERSION),
    Malformed("http/1.1", get(line=b"GET / http/1.1"), 400, _VERSION),
    Malformed("HTPP/1.1", get(line=b"GET / HTPP/1.1"), 400, _VERSION),
    Malformed("RTSP/1.1", get(line=b"GET / RTSP/1.1"), 400, _VERSION),
    Malformed("RTSP/1.0 with its own method", get(line=b"DESCRIBE / RTSP/1.0"), 400, _VERSION),
    Malformed("ICE/1.1", get(line=b"SOURCE / ICE/1.1"), 400, _VERSION),
    Malformed("method in lower case", get(line=b"get / HTTP/1.1"), 501, _METHOD),
    Malformed("method in both cases", get(line=b"Get / HTTP/1.1"), 501, _METHOD),
    Malformed("method with NUL", get(line=b"GET\0 / HTTP/1.1"), 400, _METHOD),
    Malformed("method with colon", get(line=b"GET: / HTTP/1.1"), 400, _METHOD),
    Malformed("unknown method", get(line=b"BREW / HTTP/1.1"), 501, _METHOD),
    Malformed("registered method", get(line=b"VERSION-CONTROL / HTTP/1.1"), 501, _METHOD),
    Malformed("method of a cache", get(line=b"BAN / HTTP/1.1"), 501, _METHOD),
    Malformed("method of all characters", get(line=b"!#$%&'*+-.^_`|~09aZ / HTTP/1.1"), 501, _METHOD),
    Malformed(
        "unknown method with a body", post(b"Content-Length: 3", body=b"abc", line=b"BAN / HTTP/1.1"), 501, _METHOD
    ),
    Malformed("known method and more", get(line=b"GETS / HTTP/1.1"), 501, _METHOD),
    Malformed("method of 33 bytes", get(line=b"A" * 33 + b" / HTTP/1.1"), 501, _METHOD),
    Malformed("unknown method, HTTP/2.0", get(line=b"BAN / HTTP/2.0"), 505, _VERSION),
    Malformed("unknown method, two spaces", get(line=b"BAN  / HTTP/1.1"), 400, _LINE),
    Malformed("unknown method, bare LF", b"BAN / HTTP/1.1\nHost: a\n\n", 400, _LINE),
    Malformed("an answer", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 400, _LINE),
    Malformed("method with control character", get(line=b"G\x01T / HTTP/1.1"), 400, _METHOD),
    Malformed("no method", get(line=b" / HTTP/1.1"), 400, _METHOD),
    Malformed("CONNECT", get(line=b"CONNECT a:443 HTTP/1.1"), 501, "RFC 9110 9.3.6: for proxies"),
    Malformed("CONNECT to a path", get(line=b"CONNECT / HTTP/1.1"), 501, "RFC 9110 9.3.6: for proxies"),
    Malformed("asterisk with GET", get(line=b"GET * HTTP/1.1"), 400, _TARGET),
    Malformed("asterisk with M-SEARCH", get(line=b"M-SEARCH * HTTP/1.1"), 400, _TARGET),
    Malformed("asterisk and more", get(line=b"OPTIONS *x HTTP/1.1"), 400, _TARGET),
    Malformed("target without slash", get(line=b"GET index HTTP/1.1"), 400, _TARGET),
    Malformed("authority as target", get(line=b"GET a:80 HTTP/1.1"), 400, _TARGET),
    Malformed("fragment", get(line=b"GET /#a HTTP/1.1"), 400, _TARGET),
    Malformed("fragment behind a query", get(line=b"GET /?a#b HTTP/1.1"), 400, _TARGET),
    Malformed("NUL in the target", get(line=b"GET /\0 HTTP/1.1"), 400, _TARGET),
    Malformed("control character in the target", get(line=b"GET /\x01 HTTP/1.1"), 400, _TARGET),
    Malformed("DEL in the target", get(line=b"GET /\x7f HTTP/1.1"), 400, _TARGET),
    Malformed("eight-bit target", get(line=b"GET /\xc3\xa9 HTTP/1.1"), 400, _TARGET),
    Malformed("CR in the target", get(line=b"GET /\rX HTTP/1.1"), 400, _END),
    Malformed(
        "URL with userinfo", get(line=b"GET http://u:p@a/ HTTP/1.1"), 400, "RFC 9110 4.2.4: refused as an attack"
    ),
    Malformed("URL without host", get(line=b"GET http:///a HTTP/1.1"), 400, "RFC 9110 4.2.1: the host is not empty"),
    Malformed("URL with a bad port", get(line=b"GET http://a:8x/ HTTP/1.1"), 400, _TARGET),
    Malformed("URL with a large port", get(line=b"GET http://a:65536/ HTTP/1.1"), 400, _TARGET),
    Malformed("URL with an open bracket", get(line=b"GET http://[::1/ HTTP/1.1"), 400, _TARGET),
    Malformed("URL with one slash", get(line=b"GET http:/a HTTP/1.1"), 400, _TARGET),
    Malformed("URL and two Host", get(b"Host: b", line=b"GET http://a/ HTTP/1.1"), 400, _HOST),
    Malformed("URL of another scheme", get(line=b"GET ftp://a/ HTTP/1.1"), 400, _TARGET),
    Malformed("URL with backslashes", get(line=b"GET http:\\\\a\\ HTTP/1.1"), 400, _TARGET),
    Malformed("URL with fragment", get(line=b"GET http://a/#b HTTP/1.1"), 400, _TARGET),
    Malformed("URL and no Host", get(line=b"GET http://a/ HTTP/1.1", host=b""), 400, _HOST),
    Malformed("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40, 400, _LINE),
    Malformed("garbage", bytes(range(1, 9)) * 4, 400, _LINE),
)

FIELDS = (
    Malformed("no Host", get(host=b""), 400, _HOST),
    Malformed("two Host, different", get(b"Host: b"), 400, _HOST),
    Malformed("two Host, equal", get(b"Host: a"), 400, _HOST),
    Malformed("two Host in HTTP/1.0", get(b"Host: b", line=b"GET / HTTP/1.0"), 400, _HOST),
    Malformed("Host list", get(host=b"Host: a, b\r\n"), 400, _HOST),
    Malformed("Host list without space", get(host=b"Host: a,b\r\n"), 400, _HOST),
    Malformed("Host with path", get(host=b"Host: a/b\r\n"), 400, _HOST),
    Malformed("Host with userinfo", get(host=b"Host: u@a\r\n"), 400, _HOST),
    Malformed("Host with a bad port", get(host=b"Host: a:8x\r\n"), 400, _HOST),
    Malformed("Host with a large port", get(host=b"Host: a:65536\r\n"), 400, _HOST),
    Malformed("Host of a port", get(host=b"Host: :80\r\n"), 400, _HOST),
    Malformed("Host with two ports", get(host=b"Host: a:80:81\r\n"), 400, _HOST),
    Malformed("Host with open bracket", get(host=b"Host: [::1\r\n"), 400, _HOST),
    Malformed("Host of a bad address", get(host=b"Host: [1:2]\r\n"), 400, _HOST),
    Malformed("Host of an address with a zone", get(host=b"Host: [fe80::1%25eth0]\r\n"), 400, _HOST),
    Malformed("Host with space", get(host=b"Host: a b\r\n"), 400, _HOST),
    Malformed("Host with tab", get(host=b"Host: a\tb\r\n"), 400, _HOST),
    Malformed("Host with NUL", get(host=b"Host: a\0b\r\n"), 400, _FIELD),
    Malformed("Host with backslash", get(host=b"Host: a\\b\r\n"), 400, _HOST),
    Malformed("Host with query", get(host=b"Host: a?b\r\n"), 400, _HOST),
    Malformed("Host with fragment", get(host=b"Host: a#b\r\n"), 400, _HOST),
    Malformed("Host with quotes", get(host=b'Host: "a"\r\n'), 400, _HOST),
    Malformed("Host with a negative port", get(host=b"Host: a:-80\r\n"), 400, _HOST),
    Malformed("Host folded", get(host=b"Host:\r\n a\r\n"), 400, _FOLD),
    Malformed("Host with a lone percent", get(host=b"Host: a%zz\r\n"), 400, _HOST),
    Malformed("Host eight-bit", get(host=b"Host: \xc3\xa9\r\n"), 400, _HOST),
    Malformed("Host of a URL", get(host=b"Host: http://a\r\n"), 400, _HOST),
    Malformed("Host behind a space", get(host=b" Host: a\r\n"), 400, _FIELD),
    Malformed("space before the colon", get(b"X : a"), 400, _FIELD),
    Malformed("tab before the colon", get(b"X\t: a"), 400, _FIELD),
    Malformed("space in a name", get(b"X Y: a"), 400, _FIELD),
    Malformed("no colon", get(b"X"), 400, _FIELD),
    Malformed("no name", get(b": a"), 400, _FIELD),
    Malformed("eight-bit name", get(b"X\xe9: a"), 400, _FIELD),
    Malformed("NUL in a name", get(b"X\0: a"), 400, _FIELD),
    *(Malformed(f"{bytes([byte]).decode()} in a name", get(b"X%cY: a" % byte), 400, _FIELD) for byte in _DELIMITERS),
    Malformed("CR in a name", get(b"X\r: a"), 400, _END),
    Malformed("LF in a name", get(b"X\n: a"), 400, _END),
    Malformed("NUL in a value", get(b"X: a\0b"), 400, _FIELD),
    Malformed("control character in a value", get(b"X: a\x01b"), 400, _FIELD),
    Malformed("vertical tab in a value", get(b"X: a\x0bb"), 400, _FIELD),
    Malformed("DEL in a value", get(b"X: a\x7fb"), 400, _FIELD),
    Malformed("CR in a value", get(b"X: a\rb"), 400, _END),
    Malformed("LF in a value", get(b"X: a\nY: b"), 400, _END),
    Malformed("two CR behind a value", get(b"X: a\r"), 400, _END),
    Malformed("LF behind the fields", b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400, _END),
    Malformed("CR behind the fields", b"GET / HTTP/1.1\r\nHost: a\r\n\rX", 400, _END),
    Malformed("folded with a space", get(b"X: a", b" b"), 400, _FOLD),
    Malformed("folded with a tab", get(b"X: a", b"\tb"), 400, _FOLD),
    Malformed("folded first line", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, _FOLD),
    Malformed("another expectation", get(b"Expect: 200-ok"), 417, "RFC 9110 10.1.1"),
    Malformed("an expectation more", post(b"Expect: 100-continue, x", b"Content-Length: 3"), 417, "RFC 9110 10.1.1"),
    Malformed("garbage behind a request", get() + b"\x01\x02\r\n\r\n", 400, _LINE, before=1),
    Malformed("body without framing", post(body=b"abc\r\n\r\n"), 400, "RFC 9112 6.3: it is empty", before=1),
    Malformed("body longer than CL", post(b"Content-Length: 3", body=b"abcdef\r\n\r\n"), 400, _LENGTH, before=1),
)

SIZES = (
    Malformed("target over its limit", get(line=b"GET /" + b"a" * 8190 + b" HTTP/1.1"), 414, _LIMIT),
    Malformed("endless target", b"GET /" + b"a" * 40_000, 414, _LIMIT),
    Malformed("endless method", b"A" * 40_000, 501, _METHOD),
    Malformed("endless field", b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 40_000, 431, _LIMIT),
    Malformed("endless name", b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a" * 40_000, 431, _LIMIT),
    Malformed("fields over their limit", get(*[b"X: " + b"a" * 1000] * 40), 431, _LIMIT),
    Malformed("one field too many", get(*[b"X: a"] * 100), 431, _LIMIT),
    Malformed("endless empty lines", b"\r\n" * 20_000, 431, "RFC 9112 2.2: one empty line is ignored, not any number"),
    Malformed("announced body too large", post(b"Content-Length: 100001"), 413, _LIMIT),
    Malformed("chunked body too large", chunked(b"186a1\r\n" + b"a" * 100_001 + b"\r\n0\r\n\r\n"), 413, _LIMIT),
    Malformed("endless chunk extension", chunked(b"3;" + b"a" * 70_000), 431, _EXTENSION),
    Malformed(
        "mostly extensions", chunked(b"1;" + b"a" * 20_000 + b"\r\nx\r\n") + b"1;" + b"a" * 20_000, 431, _EXTENSION
    ),
    Malformed("endless zeros", chunked(b"0" * 70_000), 431, _CHUNK),
    Malformed("endless trailer", chunked(b"0\r\nX: " + b"a" * 70_000), 431, _LIMIT),
    Malformed("large trailers", chunked(b"0\r\n" + (b"X: " + b"a" * 1000 + b"\r\n") * 40 + b"\r\n"), 431, _LIMIT),
    Malformed("many trailers", chunked(b"0\r\n" + b"X: a\r\n" * 101 + b"\r\n"), 431, _LIMIT),
)

MALFORMED = FRAMING + CHUNKS + LINES + FIELDS + SIZES

H2C = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__")

ODD = (
    Odd("space around a value", get(b"X: \t a \t "), (b"GET / ",), "RFC 9112 5: OWS is no part of the value"),
    Odd("no space before a value", get(b"X:a", host=b"Host:a\r\n"), (b"GET / ",), "RFC 9112 5"),
    Odd("empty value", get(b"X:", b"Y: "), (b"GET / ",), "RFC 9110 5.5"),
    Odd("eight-bit value", get(b"X: \xe9\xff"), (b"GET / ",), "RFC 9110 5.5: obs-text"),
    Odd("tab within a value", get(b"X: a\tb"), (b"GET / ",), "RFC 9110 5.5"),
    Odd("name of all characters", get(_TOKENS + b": a"), (b"GET / ",), "RFC 9110 5.6.2"),
    Odd("names in upper case", get(host=b"HOST: a\r\n"), (b"GET / ",), "RFC 9110 5.1"),
    Odd("names in lower case", post(b"content-length: 3", body=b"abc"), (b"POST / abc",), "RFC 9110 5.1"),
    Odd("empty Host", get(host=b"Host:\r\n"), (b"GET / ",), "RFC 9112 3.2: there is no authority"),
    Odd("Host with port", get(host=b"Host: a.example:8080\r\n"), (b"GET / ",), "RFC 9110 7.2"),
    Odd("Host with empty port", get(host=b"Host: a:\r\n"), (b"GET / ",), "RFC 3986 3.2.3"),
    Odd("Host of an IPv6 address", get(host=b"Host: [::1]:8080\r\n"), (b"GET / ",), "RFC 3986 3.2.2"),
    Odd("Host with underscore", get(host=b"Host: a_b\r\n"), (b"GET / ",), "RFC 3986 2.3"),
    Odd("no Host in HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n", (b"GET / ",), "RFC 9112 3.2", closes=True),
    Odd("HTTP/1.0", get(line=b"GET / HTTP/1.0"), (b"GET / ",), "RFC 9112 9.3", closes=True),
    Odd(
        "HTTP/1.0 keep-alive",
        get(b"Connection: keep-alive", line=b"GET /1 HTTP/1.0") + get(line=b"GET /2 HTTP/1.1"),
        (b"GET /1 ", b"GET /2 "),
        "RFC 9112 C.2.2",
    ),
    Odd(
        "HTTP/1.0 with Proxy-Connection",
        get(b"Proxy-Connection: keep-alive", line=b"GET / HTTP/1.0", host=b""),
        (b"GET / ",),
        "RFC 9112 C.2.2: what old clients send",
    ),
    Odd("Connection: close", get(b"Connection: close"), (b"GET / ",), "RFC 9112 9.6", closes=True),
    Odd("Connection: CLOSE in a list", get(b"Connection: x, CLOSE"), (b"GET / ",), "RFC 9110 7.6.1", closes=True),
    Odd("a request behind close", get(b"Connection: close") + get(), (b"GET / ",), "RFC 9112 9.6", closes=True),
    Odd("garbage behind close", get(b"Connection: close") + b"\0\0", (b"GET / ",), "RFC 9112 9.6", closes=True),
    Odd("CRLF before the request", b"\r\n" + get(), (b"GET / ",), "RFC 9112 2.2"),
    Odd("two CRLF before the request", b"\r\n\r\n" + get(), (b"GET / ",), "RFC 9112 2.2"),
    Odd("CRLF between requests", get() + b"\r\n" + get(), (b"GET / ", b"GET / "), "RFC 9112 2.2"),
    Odd(
        "CRLF behind a body",
        post(b"Content-Length: 3", body=b"abc\r\n") + get(),
        (b"POST / abc", b"GET / "),
        "RFC 9112 2.2: what old clients add",
    ),
    Odd("absolute form", get(line=b"GET http://b/c?d HTTP/1.1"), (b"GET /c?d ",), "RFC 9112 3.2.2"),
    Odd("absolute form without path", get(line=b"GET http://b HTTP/1.1"), (b"GET / ",), "RFC 9112 3.2.1"),
    Odd("absolute form with query only", get(line=b"GET HTTP://b?c HTTP/1.1"), (b"GET /?c ",), "RFC 9110 4.2.3"),
    Odd("asterisk form", get(line=b"OPTIONS * HTTP/1.1"), (b"OPTIONS * ",), "RFC 9112 3.2.4"),
    Odd("absolute asterisk", get(line=b"OPTIONS http://b HTTP/1.1"), (b"OPTIONS * ",), "RFC 9112 3.2.4"),
    Odd("absolute form of HTTPS", get(line=b"GET https://b/c HTTP/1.1"), (b"GET /c ",), "RFC 9112 3.2.2"),
    Odd(
        "absolute form in HTTP/1.0",
        get(line=b"GET http://b/c HTTP/1.0", host=b""),
        (b"GET /c ",),
        "RFC 9112 3.2",
        closes=True,
    ),
    Odd("backslash", get(line=b"GET /a\\b HTTP/1.1"), (b"GET /a\\b ",), "what browsers send; no separator here"),
    Odd(
        "dots",
        get(line=b"GET /../a/./b HTTP/1.1"),
        (b"GET /../a/./b ",),
        "RFC 3986 6.2.2.3: the application's business",
    ),
    Odd("broken escape", get(line=b"GET /%zz% HTTP/1.1"), (b"GET /%zz% ",), "RFC 3986 2.1: the application's business"),
    Odd("URL in a query", get(line=b"GET /?a=http://b@c/ HTTP/1.1"), (b"GET /?a=http://b@c/ ",), "RFC 3986 3.4"),
    Odd("two slashes", get(line=b"GET //b/c HTTP/1.1"), (b"GET //b/c ",), "RFC 9112 3.2.1: a path, no authority"),
    Odd("escaped NUL", get(line=b"GET /%00 HTTP/1.1"), (b"GET /%00 ",), "RFC 3986 2.1: the application's business"),
    Odd("brackets", get(line=b"GET /?a[]={b}|c HTTP/1.1"), (b"GET /?a[]={b}|c ",), "what browsers send"),
    Odd("PROPFIND", get(line=b"PROPFIND / HTTP/1.1"), (b"PROPFIND / ",), "RFC 9110 16.1: registered methods"),
    Odd("TRACE", get(line=b"TRACE / HTTP/1.1"), (b"TRACE / ",), "RFC 9110 9.3.8: the application's business"),
    Odd("GET with a body", get(b"Content-Length: 3") + b"abc", (b"GET / abc",), "RFC 9110 9.3.1"),
    Odd("POST without a body", post(), (b"POST / ",), "RFC 9112 6.3"),
    Odd("empty body", post(b"Content-Length: 0"), (b"POST / ",), "RFC 9112 6.3"),
    Odd("CL with zeros", post(b"Content-Length: 003", body=b"abc"), (b"POST / abc",), "RFC 9110 8.6: 1*DIGIT"),
    Odd("CL with space", post(b"Content-Length: \t3 \t", body=b"abc"), (b"POST / abc",), "RFC 9112 5"),
    Odd("chunks", chunked(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), (b"POST / abcde",), "RFC 9112 7.1"),
    Odd("chunked in capitals", post(b"Transfer-Encoding: Chunked ", body=b"0\r\n\r\n"), (b"POST / ",), "RFC 9112 7"),
    Odd(
        "TE with spaces and tabs",
        post(b"Transfer-Encoding: \t chunked  ", body=b"0\r\n\r\n"),
        (b"POST / ",),
        "RFC 9112 5",
    ),
    Odd("TE without space", post(b"Transfer-Encoding:chunked", body=b"0\r\n\r\n"), (b"POST / ",), "RFC 9112 5"),
    Odd("chunk size in capitals", chunked(b"A\r\n0123456789\r\n0\r\n\r\n"), (b"POST / 0123456789",), "RFC 9112 7.1"),
    Odd("chunk size with zeros", chunked(b"0003\r\nabc\r\n00\r\n\r\n"), (b"POST / abc",), "RFC 9112 7.1"),
    Odd("chunk extensions", chunked(b'3;a;b=c;d="e;f"\r\nabc\r\n0;g\r\n\r\n'), (b"POST / abc",), "RFC 9112 7.1.1"),
    Odd("trailers", chunked(b"3\r\nabc\r\n0\r\nX: a\r\nY: b\r\n\r\n"), (b"POST / abc",), "RFC 9112 7.1.2"),
    Odd(
        "empty lines in a chunk",
        chunked(b"8\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n"),
        (b"POST / " + b"\r\n" * 4,),
        "RFC 9112 7.1",
    ),
    Odd(
        "chunks, then a request",
        chunked(b"3\r\nabc\r\n0\r\n\r\n") + get(),
        (b"POST / abc", b"GET / "),
        "RFC 9112 9.3.2",
    ),
    Odd("HEAD", get(line=b"HEAD / HTTP/1.1"), (b"HEAD / ",), "RFC 9110 9.3.2"),
    Odd(
        "three at once",
        get() + get(line=b"GET /2 HTTP/1.1") + get(),
        (b"GET / ", b"GET /2 ", b"GET / "),
        "RFC 9112 9.3.2",
    ),
    Odd(
        "expectation",
        post(b"Expect: 100-Continue", b"Content-Length: 3", body=b"abc"),
        (b"POST / abc",),
        "RFC 9110 10.1.1",
    ),
    Odd("expectation without body", get(b"Expect: 100-continue"), (b"GET / ",), "RFC 9110 10.1.1"),
    Odd("upgrade to h2c", get(*H2C) + get(), (b"GET / ", b"GET / "), "RFC 9110 7.8: an upgrade may be ignored"),
    Odd(
        "upgrade with a body",
        post(*H2C, b"Content-Length: 3", body=b"abc") + get(),
        (b"POST / abc", b"GET / "),
        "RFC 9110 7.8",
    ),
    Odd(
        "upgrade with chunks",
        chunked(b"3\r\nabc\r\n0\r\nX: a\r\n\r\n", *H2C) + get(),
        (b"POST / abc", b"GET / "),
        "RFC 9110 7.8",
    ),
    Odd(
        "upgrade with a body in HTTP/1.0, and garbage",
        post(*H2C, b"Content-Length: 3", line=b"POST / HTTP/1.0", body=b"abc\0"),
        (b"POST / abc",),
        "RFC 9112 9.6: nothing is read behind the last request",
        closes=True,
    ),
    Odd(
        "upgrade with chunks and close, and a request",
        chunked(b"3\r\nabc\r\n0\r\n\r\n", *H2C, b"Connection: close") + get(),
        (b"POST / abc",),
        "RFC 9112 9.6: nothing is read behind the last request",
        closes=True,
    ),
    Odd(
        "application that closes, and garbage",
        get(line=b"GET /close HTTP/1.1") + b"\0",
        (b"GET /close ",),
        "RFC 9112 9.6",
        closes=True,
    ),
    Odd(
        "application that closes, and a request",
        get(line=b"GET /close HTTP/1.1") + get(),
        (b"GET /close ",),
        "RFC 9112 9.6",
        closes=True,
    ),
    Odd("upgrade in HTTP/1.0", get(*H2C, line=b"GET / HTTP/1.0"), (b"GET / ",), "RFC 9110 7.8", closes=True),
    Odd("100 fields", get(*[b"X: a"] * 99), (b"GET / ",), "the default limit"),
    Odd(
        "longest target",
        get(line=b"GET /" + b"a" * 8189 + b" HTTP/1.1"),
        (b"GET /" + b"a" * 8189 + b" ",),
        "the default limit",
    ),
)
