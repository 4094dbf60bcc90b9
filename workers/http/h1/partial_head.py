"""The head of a request that comes in pieces, or behind other bytes. Most come whole, and need none of this."""

from __future__ import annotations

from hybrid.workers.http.h1 import refusals


class PartialHead:
    """What there is of a head so far, and of empty lines before it."""

    __slots__ = ("_line_is_whole", "_tail", "line", "size", "timed")

    def __init__(self, *, timed: bool) -> None:
        self.size = 0
        """Bytes that have come."""
        self.line = b""
        """The head up to the piece with the end of its first line, without empty lines before it."""
        self._line_is_whole = False
        self._tail = b""  # the last bytes before a cut: an empty line may go on behind it
        self.timed = timed
        """True if a deadline for the end of the head is set; the connection sees to that."""

    def cut(self, data: bytes, position: int, most: float) -> int:
        """Return where the head ends in `data`: behind the next empty line, which may have begun before `data`.

        Where there is none it is the end of `data`, and in any case at most `most` bytes behind `position`.
        """
        end = self._end_of_fields(data, position)
        if end - position > most:
            end = position + int(most)
            self._tail = b""
        return end

    def _end_of_fields(self, data: bytes, position: int) -> int:
        tail = self._tail
        if tail:
            end = (tail + data[position : position + 3]).find(b"\r\n\r\n")
            if end >= 0:
                self._tail = b""
                return position + end + 4 - len(tail)
        end = data.find(b"\r\n\r\n", position)
        if end >= 0:
            self._tail = b""
            return end + 4
        self._tail = (tail + data[max(position, len(data) - 3) :])[-3:]
        return len(data)

    def add(self, piece: bytes) -> None:
        """Take a piece that goes to the parser."""
        self.size += len(piece)
        if self._line_is_whole:
            return
        self.line += piece
        while self.line.startswith(b"\r\n"):  # RFC 9112, section 2.2
            self.line = self.line[2:]
        self._line_is_whole = b"\r\n" in self.line

    def check_line(self) -> None:
        """Raise `Refused` if the first line is not of the form that it should have. The head is whole."""
        if self._line_is_whole:
            refusals.check_request_line(self.line)
