"""What the access log knows of one answer, and the text of each single fact. Pure.

No text here can end a line, end a quotation, or look like another field: control characters, quotes, backslashes and
all that is not ASCII are escaped.
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
# of every locale
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class End(enum.Enum):
    """How an answer came to its end."""

    WHOLE = "whole"
    """All of it was given to the client's connection; of a WebSocket: it was closed as the protocol wants it."""
    REFUSED = "refused"
    """The server answered for the application, because of the request."""
    CUT = "cut"
    """The server broke it off: the application failed in the middle, the client took no data, the worker stopped."""
    GONE = "gone"
    """The client went before it was whole."""


@dataclasses.dataclass(slots=True)
class AccessRecord:
    """One request and its answer, as plain data."""

    client: tuple[str, int] | None
    """Host and port, as far as proxies are believed what they say; None: a UNIX socket's peer."""
    method: str
    """Empty, as `target` is, where the request was refused before they were known."""
    target: bytes
    """Path and query, or the whole URL, as the client sent them."""
    version: str
    """Of HTTP: `1.0` or `1.1`; empty where it was not known."""
    status: int
    """101 for a WebSocket; 0: none was sent."""
    sent: int
    """Bytes of the answer's body, without chunks' framing, that were given to the connection; of a WebSocket, all."""
    seconds: float
    """From the end of the request's header fields to the end of the answer, the wait behind other answers included."""
    request_headers: Pairs
    """Names in lower case."""
    head: bytes
    """The answer's, as it was sent; empty where it is not known or not used."""
    scheme: str
    """`http` or `https`."""
    time: float
    """When the answer ended, in seconds since the epoch."""
    end: End = End.WHOLE


Atom = Callable[[AccessRecord], str]


def field(headers: Pairs, name: bytes) -> str | None:
    """Return the first field of a name in lower case, read as Latin-1."""
    for key, value in headers:
        if key == name:
            return value.decode("latin-1")
    return None


def sent_field(head: bytes, name: bytes) -> str | None:
    """Return the first field of a name in lower case of an answer's head, read as Latin-1."""
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip(b" \t").decode("latin-1")
    return None


def quoted(text: str | None) -> str:
    """Return a text for a place between quotes; a dash for none."""
    if not text:
        return "-"
    # several times faster than a search by the pattern
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return _UNSAFE.sub(_escape, text)


def word(text: str | None) -> str:
    """Return a text for a place without quotes around it: spaces are escaped too."""
    return quoted(text).replace(" ", "\\x20")


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    if character in '"\\':
        return "\\" + character
    return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"


def user(headers: Pairs) -> str | None:
    """Return the user of `Authorization: Basic` (RFC 7617), None where there is none."""
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
    """Return the local time of a record in brackets; it is made once for all records of a second."""
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
}
"""Letter of a place in a format -> the text for it."""

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
"""Name of a variable of the request -> the text for it; those of PEP 3333 that a request alone decides."""
