"""The framing of a request body, and how much of it has been read. Made only for a request with a body."""

from __future__ import annotations

from hybrid.workers.http.exchange import Refused
from hybrid.workers.http.h1.chunks import Chunks
from hybrid.workers.http.h1.rules import Rules

LONG = 65_536
"""Bytes from which on a body of known length costs more in the parser than another parser does."""
_NOT_TRAILERS = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect", b"te", b"trailer"}
)  # they control how the message is read, which is over by then (RFC 9110, section 6.5.1); llhttp would obey some


class BodyFraming:
    """The framing of one body, and its limits."""

    __slots__ = ("_keep_alive", "_rules", "_trailers", "chunks", "is_passed_by", "left", "received")

    def __init__(self, rules: Rules, length: int, keep_alive: bool) -> None:
        self._rules = rules
        self._keep_alive = keep_alive
        self._trailers = 0
        self.chunks = Chunks(rules.max_header_bytes) if length < 0 else None
        """Position in a chunked body; None if the length is known."""
        self.left = length
        """Bytes still to come, if the length is known."""
        self.is_passed_by = length >= LONG and keep_alive
        """True if the parser need not see the body. After `Connection: close` it must: it refuses what follows."""
        self.received = 0
        """Bytes of data received; counted by the reader."""

    def take_trailer(self, name: bytes) -> None:
        """Drop a trailer field: no interface passes them on. `Chunks` bounds their total size. Raises `Refused`."""
        if name.lower() in _NOT_TRAILERS:
            raise Refused(400, "a trailer field is allowed only in the header section")
        self._trailers += 1
        if self._trailers > self._rules.max_headers:
            raise Refused(431, "there are too many trailer fields")

    def stand_in(self) -> bytes:
        """Return a head with this framing, for a parser that has skipped the body after the real head."""
        coding = b"content-length: %d" % self.left if self.chunks is None else b"transfer-encoding: chunked"
        if not self._keep_alive:
            coding += b"\r\nconnection: close"  # so that bytes after the body are not parsed as a request
        return b"POST / HTTP/1.1\r\n%b\r\n\r\n" % coding
