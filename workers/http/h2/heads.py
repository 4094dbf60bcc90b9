"""The head of a request in HTTP/2: from fields to what applications get. Pure functions, with the limits of HTTP/1.

The session has checked the grammar of names and values, the pseudo-header fields, and fields about the connection.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import httptools

from hybrid.workers.http.exchange import Fields, Likeness, Refused, Request, Template
from hybrid.workers.http.h1 import checks, refusals
from hybrid.workers.http.h1.extras import UNDERSCORE
from hybrid.workers.http.h1.repeated import METHODS
from hybrid.workers.http.h1.rules import Rules

_COLON = ord(":")
_PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path"})
_USUAL = len(_PSEUDO)  # pseudo-header fields of nearly all requests
_LINE_OVERHEAD = len(b": \r\n")  # of a field in HTTP/1: the limits mean the same bytes on both
_REQUEST_LINE = len(b"  HTTP/1.1\r\n")
_SPECIAL = frozenset({b"host", b"content-length", b"expect", b"cookie", b"proxy"})
_methods: dict[bytes, str | None] = {}  # an uncommon method -> its text; None: HTTP/1 does not know it
_MOST_METHODS = 256
_LONGEST_METHOD = 32  # bytes
_is_path = re.compile(rb"/[!\x22$-~]*").fullmatch
NONE, FIELDS, ALL = Likeness


class Section:
    """The header section of a request, checked; kept for the next one, which often repeats it. See `Repetition`.

    Requests in threads may use it at the same time: a template is replaced as a whole, and says what it is made for.
    """

    __slots__ = (
        "_authority",
        "_sent",
        "continues",
        "fields",
        "headers",
        "length",
        "likeness",
        "request",
        "size",
        "target",
        "template",
    )

    headers: Sequence[tuple[bytes, bytes]]
    """All that the newest request with this section has sent; set with `request`."""
    request: Request
    """That request."""

    def __init__(self, authority: bytes | None, sent: Sequence[tuple[bytes, bytes]], rules: Rules) -> None:
        """`sent`: the fields behind the pseudo-header fields. Raises `Refused`."""
        self._authority = authority
        self._sent = sent
        self.length = -1
        """The Content-Length; negative: none."""
        self.continues = False
        """True if the client waits for 100 Continue."""
        self.likeness = NONE
        self.template: Template | None = None
        self.target = b""
        """Of the newest request with this section."""
        self.size = 0
        """Bytes that it would have in HTTP/1."""
        self.fields: Fields = self._check(rules)
        """What applications get: Host first."""

    def is_repeated_by(self, authority: bytes | None, sent: Sequence[tuple[bytes, bytes]]) -> bool:
        """Return True if another request has the same section."""
        return authority == self._authority and sent == self._sent

    def repeat(self, target: bytes) -> bytes:
        """Note that a request with `target` has the same section; return the target, as an object that is kept."""
        if target == self.target:
            self.likeness = ALL
        else:
            self.target = target
            self.likeness = FIELDS
        return self.target

    def _check(self, rules: Rules) -> Fields:
        host, kept, cookies = self._authority, [], []
        size = 0 if host is None else len(b"host") + len(host) + _LINE_OVERHEAD
        for name, value in self._sent:
            size += len(name) + len(value) + _LINE_OVERHEAD
            if name in _SPECIAL:
                if name == b"host":
                    host = _agreed_host(host, value, self._authority)
                elif name == b"cookie":
                    cookies.append(value)
                    continue
                elif name == b"content-length":
                    self.length = checks.length_of(value)
                elif name == b"expect":
                    self.continues = checks.expects_continue(value, "1.1")
                if name in (b"host", b"proxy"):  # Proxy would become HTTP_PROXY (httpoxy)
                    continue
            elif UNDERSCORE in name and not rules.underscore_headers:
                continue
            kept.append((name, value))
        self.size = size
        if size > rules.max_header_bytes:
            raise Refused(431, "the header fields are too large")
        if host is None:
            checks.check_hosts(0, "1.1")
        elif host not in rules.hosts and not rules.is_host(host):
            raise Refused(400, "the host of the request is invalid")
        else:
            kept.insert(0, (b"host", host))
        if cookies:
            kept.append((b"cookie", b"; ".join(cookies)))  # RFC 9113, section 8.2.3
        if len(kept) > rules.max_headers:
            raise Refused(431, "there are too many header fields")
        return kept


def _agreed_host(known: bytes | None, value: bytes, authority: bytes | None) -> bytes:
    """Return the host: a Host field must repeat the authority (RFC 9113, section 8.3.1). Raises `Refused`."""
    if known is not None and known.lower() != value.lower():
        raise Refused(400, "the Host header field differs from the authority of the request")
    return value if authority is None else authority


class Asked(NamedTuple):
    """The head of a request."""

    method: str
    target: bytes
    section: Section
    protocol: bytes | None
    """Of an extended CONNECT (RFC 8441); its method is that of the handshake in HTTP/1."""


def read(headers: Sequence[tuple[bytes, bytes]], last: Section | None, rules: Rules) -> Asked:
    """Return the head of a request; `last`: the section of the one before. Raises `Refused`."""
    pseudo = dict(headers[:_USUAL])
    if (
        len(pseudo) == _USUAL
        and pseudo.keys() == _PSEUDO
        and (len(headers) == _USUAL or headers[_USUAL][0][0] != _COLON)
    ):
        count = _USUAL  # nearly always
    else:
        count = next((at for at, (name, _) in enumerate(headers) if name[0] != _COLON), len(headers))
        pseudo = dict(headers[:count])
    name, target, authority = pseudo[b":method"], pseudo.get(b":path", b""), pseudo.get(b":authority")
    protocol = pseudo.get(b":protocol")
    method = method_of(name) if protocol is None else "GET"
    if len(target) > rules.max_request_line:
        raise Refused(414, "the request target is too long")
    if not _is_path(target):
        check_target(method, target)
    sent = headers[count:]
    if last is not None and last.is_repeated_by(authority, sent):
        section = last
    else:
        section = Section(authority, sent, rules)
    if section.size + len(name) + len(target) + _REQUEST_LINE > rules.max_header_bytes:
        raise Refused(431, "the header fields are too large")
    return Asked(method, target, section, protocol)


def method_of(name: bytes) -> str:
    """Return the method as text. Raises `Refused`."""
    known = METHODS.get(name)
    if known is not None:
        return known
    if name not in _methods:
        if len(_methods) >= _MOST_METHODS:  # a client invents names
            _methods.clear()
        _methods[name] = checks.rare_method(name) if _is_known_to_http1(name) else None
    known = _methods[name]
    if known is None:
        raise Refused(501, f"the method {name.decode('ascii', 'replace')} is not known to this server")
    return known


def _is_known_to_http1(name: bytes) -> bool:
    """Return True if the parser of HTTP/1 has this method in its list."""
    if len(name) > _LONGEST_METHOD or name == b"PRI":  # the latter only begins the preface of HTTP/2
        return False
    parser: Any = httptools.HttpRequestParser(object())
    try:
        parser.feed_data(name + b" / HTTP/1.1\r\n")
    except httptools.HttpParserError:
        return False
    return True


def check_target(method: str, target: bytes) -> None:
    """Check a target that is not of the common form. Raises `Refused`."""
    if not target.startswith(b"/") and not (target == b"*" and method == "OPTIONS"):
        raise Refused(400, "the request target is not a path")
    refusals.split_target(method, target)
