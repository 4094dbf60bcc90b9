"""Follows the chunks of one request body alongside llhttp: finds the end of the body and validates its lines.

llhttp accepts chunk extensions of any length, also without a name, and buffers trailer fields of any length (RFC 9112,
section 7.1.1: the total length of extensions ought to be limited). Here each line with a size and extensions has a
limit, the total of these lines is limited in proportion to the data, and the trailer section has the limit of a head.
"""

from __future__ import annotations

import re

from hybrid.workers.http.exchange import Refused

MOST_LINE = 8192  # bytes of a chunk size line with its extensions, which are kept until the line is complete
MOST_WRAPPING = 16  # bytes of chunk sizes and extensions per byte of data; chunks of one byte need 5
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'  # RFC 9110, section 5.6.4
_SIZE = re.compile(rb"([0-9A-Fa-f]+)(?:;%b(?:=(?:%b|%b))?)*\r\n" % (_TOKEN, _TOKEN, _QUOTED))


class Chunks:
    """Position in a body. Belongs to one request."""

    __slots__ = ("_ahead", "_data", "_line", "_most", "_most_line", "_trailing", "_wrapping", "fault")

    def __init__(self, most: float) -> None:
        self._most = most  # bytes of trailers, and of sizes and extensions beyond the allowance for the data
        self._most_line = min(most, MOST_LINE)
        self._ahead = 0  # bytes still to come of the chunk and its CRLF
        self._data = 0
        self._wrapping = 0
        self._line = b""  # an incomplete line; of a trailer, only enough to tell it from an empty line
        self._trailing = False  # the last chunk was read; the trailers follow
        self.fault: Refused | None = None
        """Why the bytes after the position returned by `follow` are rejected."""

    def follow(self, data: bytes, position: int) -> int:
        """Continue at `position`; return the position where the body ends, a fault begins, or `data` ends."""
        size = len(data)
        while position < size:
            if self._ahead:
                step = min(self._ahead, size - position)
                self._ahead -= step
                position += step
                continue
            end = data.find(b"\n", position) + 1
            step = (end or size) - position
            self._wrapping += step
            if self._is_too_large(step):
                self.fault = Refused(431, "the chunk extensions or trailers are too large")
                return position
            line = self._line + data[position : position + step]
            if not end:
                self._line = line[:3] if self._trailing else line
                return size
            self._take(line)
            if self.fault is not None:
                return position
            self._line = b""
            position = end
            if self._trailing and line == b"\r\n":
                self.fault = Refused(400, "there is data after the end of the chunked body")  # unless it is complete
                break
        return position

    def _is_too_large(self, step: int) -> bool:
        """Return True if `step` more bytes of a line are too many; called before they are joined to the line."""
        if self._wrapping > self._most + MOST_WRAPPING * self._data:
            return True
        return not self._trailing and len(self._line) + step > self._most_line

    def _take(self, line: bytes) -> None:
        """Process a complete line: a chunk size, or a trailer, which is left to the parser."""
        if self._trailing:
            return
        match = _SIZE.fullmatch(line)
        if match is None:
            self.fault = Refused(400, "malformed request: a chunk size or chunk extension is invalid")
            return
        size = int(match[1], 16)
        if size:
            self._ahead = size + 2
            self._data += size
        else:
            self._trailing = True
            self._data = self._wrapping = 0
