"""The head of a response as HTTP/2 sends it: fields with names in lower case, without those about the connection."""

from __future__ import annotations

from hybrid.workers.http.clock import Clock
from hybrid.workers.http.head import OWN_DATE, OWN_SERVER, Head, fields_of

Pairs = tuple[tuple[bytes, bytes], ...]
_MOST_BLOCKS = 512
_LONGEST_KEPT = 1024  # bytes of a block that is kept
_known: dict[bytes, Pairs] = {}  # block of lines -> its fields
_statuses = {number: (b":status", b"%d" % number) for number in range(100, 1000)}


def pairs_of(block: bytes) -> Pairs:
    """Return the fields of a validated block of lines, see `Head`. Applications send the same blocks again."""
    pairs = _known.get(block)
    if pairs is None:
        pairs = tuple((name.lower(), value.strip(b" \t")) for name, value in fields_of((block, 0, 0)))
        if len(block) <= _LONGEST_KEPT:
            if len(_known) >= _MOST_BLOCKS:  # values that change with every response, such as cookies
                _known.clear()
            _known[block] = pairs
    return pairs


def head_of(status: int, fields: Head, clock: Clock, length: int) -> list[tuple[bytes, bytes]]:
    """Return all fields of a final response; `length` below 0: without a Content-Length."""
    block, _, flags = fields
    if flags & (OWN_DATE | OWN_SERVER):
        block += b"" if flags & OWN_SERVER else clock.server_field
        block += b"" if flags & OWN_DATE else clock.date_field
        pairs = [_statuses[status], *pairs_of(block)]
    else:
        pairs = [_statuses[status], *pairs_of(block), *pairs_of(clock.fields)]
    if length >= 0:
        pairs.append((b"content-length", b"%d" % length))
    return pairs


def informational(status: int, fields: Head) -> list[tuple[bytes, bytes]]:
    """Return the fields of an informational response."""
    return [_statuses[status], *pairs_of(fields[0])]
