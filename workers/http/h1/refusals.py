"""Requests refused before an application sees them, and the response: a short text, then the connection closes."""

from __future__ import annotations

import ipaddress
import re

from hybrid.workers.http.exchange import Refused
from hybrid.workers.http.head import status_of

PLAIN_REQUEST_LINE = re.compile(rb"[A-Z\-]+ [!-~]+ HTTP/1\.[01]\r\n")
"""The request line accepted by this server (RFC 9112, section 3); method and target are checked later."""
COMMON_REQUEST_LINE = re.compile(rb"([A-Z]+) (/[!\x22$-~]*) HTTP/1\.1\r\n")
"""The most common request line: a path without a fragment; groups: method, target. Every match is valid."""
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]*")  # RFC 9110, section 5.6.2
_UNKNOWN_METHOD = re.compile(rb"(\S+) ([!-~]+) HTTP/([0-9]\.[0-9])\r\n")
_LONGEST_METHOD = 32  # bytes; the longest registered one has 17
_OTHER_VERSION = re.compile(rb"[A-Z\-]+ [!-~]+ HTTP/[0-9]\.[0-9]\r\n")
# RFC 9110 section 7.2, RFC 3986 section 3.2.2: registered name, IPv4 or bracketed IPv6, with an optional port. No
# comma: the grammar allows it in a name, but it is never used, and a proxy joins two Host fields with one.
_HOST = re.compile(rb"(?:(?:[A-Za-z0-9\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})+|\[([0-9A-Fa-f:.]{2,45})\])(?::([0-9]{0,5}))?")
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]*)(.*)", re.DOTALL)
# RFC 3986: the characters of a path and a query; browsers send `"<>\^`{|}` unescaped, so these are accepted
_FORBIDDEN_IN_TARGET = re.compile(rb"[^\x21-\x22\x24-\x7e]")


def response(refused: Refused, fields: bytes) -> bytes:
    """Return a complete response with the reason and `Connection: close`; in reply to HEAD, only its head."""
    head = b"%b%bcontent-type: text/plain; charset=utf-8\r\n" % (status_of(refused.status).line, fields)
    if refused.head_only:  # no content, and its length may be omitted (RFC 9110, sections 8.6 and 9.3.2)
        return head + b"connection: close\r\n\r\n"
    body = f"{refused.reason}\n".encode("ascii", "replace")
    return b"%bcontent-length: %d\r\nconnection: close\r\n\r\n%b" % (head, len(body), body)


def check_request_line(head: bytes) -> None:
    """Refuse a head unless its first line is exactly method, target and version, separated by single spaces.

    llhttp accepts more: several spaces, a lone CR or LF before the line, RTSP and ICE instead of HTTP, no version.
    Raises `Refused`.
    """
    if PLAIN_REQUEST_LINE.match(head):
        return
    raise _other_version() if _OTHER_VERSION.match(head) else _no_request_line()


def _other_version() -> Refused:
    return Refused(505, "this server speaks HTTP/1.1 and HTTP/1.0")


def _no_request_line() -> Refused:
    return Refused(400, "the request line must be a method, a target and an HTTP version, separated by single spaces")


class UnknownMethod:
    """Replaces the parser at an unknown method until the request line is complete.

    The response is 501 only if the request is well-formed otherwise (RFC 9110, section 9.1), and does not depend on how
    the network split the line.
    """

    def __init__(self) -> None:
        self.target = b""
        """Set once the line is complete."""
        self._line = b""
        self._method = b""
        self._version = ""

    def feed_data(self, data: bytes) -> None:
        """Take more of the request. Raises `Refused` as soon as the reason is known."""
        self._line += data
        method = _TOKEN.match(self._line)[0]  # type: ignore[index]  # it matches anything
        if len(method) > _LONGEST_METHOD:  # RFC 9112, section 3
            raise Refused(501, "the method is longer than any that this server knows")
        rest = self._line[len(method) :]
        if rest and not (method and rest.startswith(b" ")):
            raise _no_request_line()
        if b"\n" not in rest:
            return
        line = _UNKNOWN_METHOD.match(self._line)
        if line is None:
            raise _no_request_line()
        self._method, self.target = line[1], line[2]
        self._version = line[3].decode()
        if self._version not in ("1.0", "1.1"):
            raise _other_version()
        raise Refused(501, f"the method {method.decode()} is not known to this server")

    def get_method(self) -> bytes:
        """Return the method, b"" before the line is complete."""
        return self._method

    def get_http_version(self) -> str:
        """Return the version, "" before the line is complete."""
        return self._version


def split_target(method: str, target: bytes) -> tuple[bytes, bytes | None]:
    """Return the target without scheme and authority, and the authority if present (RFC 9112, section 3.2).

    Raises `Refused` for a target in a form that the method does not allow.
    """
    if method == "CONNECT":
        raise Refused(501, "this server is not a proxy: CONNECT is not supported")
    if _FORBIDDEN_IN_TARGET.search(target):
        raise Refused(400, "the request target contains a fragment, a space or a control character")
    if target.startswith(b"/"):
        return target, None
    if target == b"*" and method == "OPTIONS":
        return target, None
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise Refused(400, "the request target is neither a path nor an absolute URL")
    authority, rest = match.groups()
    if not authority or b"@" in authority or not is_host(authority):
        raise Refused(400, "the host in the request target is invalid")
    if not rest:
        rest = b"*" if method == "OPTIONS" else b"/"
    elif rest.startswith(b"?"):
        rest = b"/" + rest
    return rest, authority


def is_host(value: bytes) -> bool:
    """Return True for a host with an optional port, or an empty value (RFC 9110, section 7.2)."""
    if not value:
        return True
    match = _HOST.fullmatch(value)
    if match is None:
        return False
    address, port = match.groups()
    if address is not None:
        try:
            ipaddress.IPv6Address(address.decode("ascii"))
        except ValueError:
            return False
    return not port or int(port) <= 65_535
