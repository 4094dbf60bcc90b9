"""Checks of header fields that concern the framing of a request. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from hybrid.workers.http.exchange import Refused
from hybrid.workers.http.h1.rules import Rules


def rare_method(name: bytes) -> str:
    """Return the name of an uncommon method. Raises `Refused`."""
    if name == b"CONNECT":
        raise Refused(501, "this server is not a proxy: CONNECT is not supported")
    return name.decode("ascii")


def length_of(value: bytes) -> int:
    """Return a Content-Length. llhttp has checked for digits; not every recipient can count as far as llhttp."""
    if len(value) > 18:
        raise Refused(400, "the Content-Length has too many digits")
    return int(value)


def expects_continue(value: bytes, version: str) -> bool:
    """Return True if the client waits for 100 Continue (RFC 9110, section 10.1.1). Raises `Refused`."""
    if value.lower() != b"100-continue":
        raise Refused(417, "the only supported expectation is 100-continue")
    return version == "1.1"


def too_large(rules: Rules, target: bytes) -> Refused:
    """Return the refusal of a head that is too large."""
    if len(target) > rules.max_request_line:
        return Refused(414, "the request target is too long")
    return Refused(431, "the header fields are too large")


def beyond_limits(rules: Rules, count: int) -> Refused:
    """Return the refusal of a head with too many fields, or else with too long a target."""
    if count > rules.max_headers:
        return Refused(431, "there are too many header fields")
    return Refused(414, "the request target is too long")


def too_long(rules: Rules) -> Refused:
    """Return the refusal of a body that is too long."""
    return Refused(413, f"the body is larger than {rules.max_body_size} bytes")


def check_hosts(count: int, version: str) -> None:
    """Check for exactly one Host field, optional in HTTP/1.0 (RFC 9112, section 3.2). Raises `Refused`."""
    if count > 1:
        raise Refused(400, "there is more than one Host header field")
    if version == "1.1":
        raise Refused(400, "the Host header field is missing")


def check_codings(codings: Sequence[bytes], version: str) -> None:
    """Check that the only transfer coding, in lower case, is `chunked` (RFC 9112, section 6.1). Raises `Refused`."""
    if version == "1.0":
        raise Refused(400, "Transfer-Encoding is not part of HTTP/1.0")
    if tuple(codings) != (b"chunked",):
        raise Refused(400, "the only supported transfer coding is chunked")
