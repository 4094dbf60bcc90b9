"""A record of the access log: one request and its response, and the text of each field. Pure.

No text here can end a line, end a quotation, or look like another field: control characters, quotes, backslashes and
non-ASCII characters are escaped.
"""

from __future__ import annotations

import binascii
import dataclasses
import enum
import os
import re
import time
from collections.abc import Callable, Sequence

Pairs = Sequence[tuple[bytes, bytes]]

_UNSAFE = re.compile(r"[^ !#-\[\]-~]")
# independent of the locale
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class End(enum.Enum):
    """How a response ended."""

    WHOLE = "whole"
    """It was passed to the connection completely; for a WebSocket: the closing handshake was correct."""
    REFUSED = "refused"
    """The server rejected the request without the application."""
    CUT = "cut"
    """The server aborted it: the application failed midway, the client read nothing, or the worker stopped."""
    GONE = "gone"
    """The client disconnected before it was complete."""


@dataclasses.dataclass(slots=True)
class AccessRecord:
    """One request and its response, as plain data."""

    client: tuple[str, int] | None
    """Host and port, from a trusted proxy if there is one; None: the peer of a UNIX socket."""
    method: str
    """Empty, like `target`, if the request was refused before they were known."""
    target: bytes
    """Path and query, or the whole URL, as the client sent it."""
    version: str
    """Of HTTP: `1.0` or `1.1`; empty if unknown."""
    status: int
    """101 for a WebSocket; 0: none was sent."""
    sent: int
    """Bytes of the response body, without chunk framing, passed to the connection; for a WebSocket, all bytes."""
    seconds: float
    """From the end of the request's header fields to the end of the response, including the wait for earlier ones."""
    request_headers: Pairs
    """Names in lower case."""
    head: bytes
    """The head of the response as sent; empty if unknown or unused."""
    scheme: str
    """`http` or `https`."""
    time: float
    """End of the response, in seconds since the epoch."""
    end: End = End.WHOLE
    request_id: str | None = None
    """None: requests have no ids, or this one was refused before it got one."""


Atom = Callable[[AccessRecord], str]


def field(headers: Pairs, name: bytes) -> str | None:
    """Return the first field with this lower-case name, read as Latin-1."""
    for key, value in headers:
        if key == name:
            return value.decode("latin-1")
    return None


def sent_field(head: bytes, name: bytes) -> str | None:
    """Return the first field with this lower-case name from a response head, read as Latin-1."""
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip(b" \t").decode("latin-1")
    return None


def quoted(text: str | None) -> str:
    """Return a text escaped for use between quotes; a dash for none."""
    if not text:
        return "-"
    # several times faster than a search with the pattern
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return _UNSAFE.sub(_escape, text)


def word(text: str | None) -> str:
    """Return a text escaped for use without quotes: spaces are escaped too."""
    return quoted(text).replace(" ", "\\x20")


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    if character in '"\\':
        return "\\" + character
    return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"


def user(headers: Pairs) -> str | None:
    """Return the user of `Authorization: Basic` (RFC 7617); None if there is none."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, credentials = value.partition(b" ")
            if scheme.lower() != b"basic":
                return None
            try:
                return binascii.a2b_base64(credentials).partition(b":")[0].decode("latin-1") or None
            except binascii.Error:
                return None
    return None


def _path(record: AccessRecord) -> str:
    path = record.target.partition(b"?")[0].decode("latin-1")
    if not path.startswith("/") and "://" in path:  # the absolute form, RFC 9112 section 3.2.2
        path = "/" + path.partition("://")[2].partition("/")[2]
    return word(path)


def _query(record: AccessRecord) -> str:
    return word(record.target.partition(b"?")[2].decode("latin-1"))


def _request_line(record: AccessRecord) -> str:
    if not record.method:
        return "-"
    return quoted(f"{record.method} {record.target.decode('latin-1')} {_protocol(record)}")


def _protocol(record: AccessRecord) -> str:
    return f"HTTP/{record.version}" if record.version else "-"


def _client(record: AccessRecord) -> str:
    return word(record.client[0]) if record.client else "-"


def _stamped() -> Atom:
    """Return a formatter for a record's local time in brackets; the text is cached for each second."""
    second, text = -1, ""

    def stamp(record: AccessRecord) -> str:
        nonlocal second, text
        now = int(record.time)
        if now != second:
            local = time.localtime(now)
            hours, minutes = divmod(abs(local.tm_gmtoff) // 60, 60)
            zone = f"{'-' if local.tm_gmtoff < 0 else '+'}{hours:02}{minutes:02}"
            second, text = now, time.strftime(f"[%d/{_MONTHS[local.tm_mon - 1]}/%Y:%H:%M:%S {zone}]", local)
        return text

    return stamp


ATOMS: dict[str, Atom] = {
    "h": _client,
    "l": lambda record: "-",
    "u": lambda record: word(user(record.request_headers)),
    "t": _stamped(),
    "r": _request_line,
    "m": lambda record: word(record.method),
    "U": _path,
    "q": _query,
    "H": _protocol,
    "s": lambda record: str(record.status or "-"),
    "B": lambda record: str(record.sent),
    "b": lambda record: str(record.sent or "-"),
    "f": lambda record: quoted(field(record.request_headers, b"referer")),
    "a": lambda record: quoted(field(record.request_headers, b"user-agent")),
    "T": lambda record: str(int(record.seconds)),
    "D": lambda record: str(int(record.seconds * 1_000_000)),
    "M": lambda record: str(int(record.seconds * 1000)),
    "L": lambda record: f"{record.seconds:.6f}",
    "p": lambda record: f"<{os.getpid()}>",
    "X": lambda record: record.end.value,
    "R": lambda record: word(record.request_id),
}
"""Letter of a place in a format -> its text."""

VARIABLES: dict[str, Atom] = {
    "REMOTE_ADDR": _client,
    "REMOTE_PORT": lambda record: str(record.client[1]) if record.client else "-",
    "REQUEST_METHOD": ATOMS["m"],
    "RAW_URI": lambda record: word(record.target.decode("latin-1")),
    "PATH_INFO": _path,
    "QUERY_STRING": _query,
    "SERVER_PROTOCOL": ATOMS["H"],
    "REMOTE_USER": ATOMS["u"],
    "CONTENT_TYPE": lambda record: quoted(field(record.request_headers, b"content-type")),
    "CONTENT_LENGTH": lambda record: quoted(field(record.request_headers, b"content-length")),
    "wsgi.url_scheme": lambda record: word(record.scheme),
}
"""Name of a request variable -> its text; those of PEP 3333 that depend on the request alone."""
