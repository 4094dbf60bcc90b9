"""The chunks of one request body, followed beside llhttp: where the body ends, and that its lines are right.

llhttp takes chunk extensions without a name and of any length, and keeps a trailer field of any length in memory
(RFC 9112, section 7.1.1: the total length of extensions ought to be limited). Here a line with a size and extensions
has a limit of its own, all of them together one that grows with the data, and the trailer section that of a head.
"""

from __future__ import annotations

import re

from hybrid.workers.http.exchange import Refused

MOST_LINE = 8192  # bytes of a chunk's size and extensions, which are kept until the line is whole
MOST_WRAPPING = 16  # bytes of chunk sizes and extensions for each byte of data; chunks of one byte need 5
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'  # RFC 9110, section 5.6.4
_SIZE = re.compile(rb"([0-9A-Fa-f]+)(?:;%b(?:=(?:%b|%b))?)*\r\n" % (_TOKEN, _TOKEN, _QUOTED))


class Chunks:
    """Where a body is. Belongs to one request."""

    __slots__ = ("_ahead", "_data", "_line", "_most", "_most_line", "_trailing", "_wrapping", "fault")

    def __init__(self, most: float) -> None:
        self._most = most  # bytes of trailers, and of sizes and extensions beyond what the data allows
        self._most_line = min(most, MOST_LINE)
        self._ahead = 0  # bytes of the chunk that are still to come, with the CRLF behind it
        self._data = 0
        self._wrapping = 0
        self._line = b""  # a line of which the end has not come; of a trailer only what tells it from an empty line
        self._trailing = False  # the last chunk has come; the trailers follow
        self.fault: Refused | None = None
        """Why what comes behind the place that `follow` has returned is not taken."""

    def follow(self, data: bytes, position: int) -> int:
        """Go on at `position`; return where the body ends, or a fault begins, or the end of `data`."""
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
                self.fault = Refused(400, "the chunked body goes on behind its end")  # unless the parser finds it whole
                break
        return position

    def _is_too_large(self, step: int) -> bool:
        """Whether `step` bytes more of a line are too many; asked before they are joined to what there is of it."""
        if self._wrapping > self._most + MOST_WRAPPING * self._data:
            return True
        return not self._trailing and len(self._line) + step > self._most_line

    def _take(self, line: bytes) -> None:
        """Take a whole line: a chunk's size, or a trailer, which is the parser's business."""
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
