"""What the header fields of a request say about its body and its rules, or why it is refused. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from hybrid.workers.http.exchange import Refused
from hybrid.workers.http.h1.rules import Rules


def rare_method(name: bytes) -> str:
    """Return the name of a method that is seldom asked for. Raises `Refused`."""
    if name == b"CONNECT":
        raise Refused(501, "this server is no proxy: CONNECT is not supported")
    return name.decode("ascii")


def length_of(value: bytes) -> int:
    """Return a Content-Length, which llhttp has found to be digits; others may not count as far as it does."""
    if len(value) > 18:
        raise Refused(400, "the Content-Length has too many digits")
    return int(value)


def expects_continue(value: bytes, version: str) -> bool:
    """Whether the client waits for 100 Continue (RFC 9110, section 10.1.1). Raises `Refused`."""
    if value.lower() != b"100-continue":
        raise Refused(417, "the only expectation this server can meet is 100-continue")
    return version == "1.1"


def too_large(rules: Rules, target: bytes) -> Refused:
    """Return why a head that has grown too large is refused."""
    if len(target) > rules.max_request_line:
        return Refused(414, "the request target is too long")
    return Refused(431, "the header fields are too large")


def beyond_limits(rules: Rules, count: int) -> Refused:
    """Return why a head with so many fields is refused: for them, or else for its target."""
    if count > rules.max_headers:
        return Refused(431, "there are too many header fields")
    return Refused(414, "the request target is too long")


def too_long(rules: Rules) -> Refused:
    """Return why a body is refused that is longer than it may be."""
    return Refused(413, f"the body is larger than {rules.max_body_size} bytes")


def check_hosts(count: int, version: str) -> None:
    """See that there is one Host field, which HTTP/1.0 may lack (RFC 9112, section 3.2). Raises `Refused`."""
    if count > 1:
        raise Refused(400, "there is more than one Host header field")
    if version == "1.1":
        raise Refused(400, "the Host header field is missing")


def check_codings(codings: Sequence[bytes], version: str) -> None:
    """See that transfer codings, in lower case, are one, `chunked` (RFC 9112, section 6.1). Raises `Refused`."""
    if version == "1.0":
        raise Refused(400, "Transfer-Encoding is not part of HTTP/1.0")
    if tuple(codings) != (b"chunked",):
        raise Refused(400, "the only transfer coding this server knows is chunked")
