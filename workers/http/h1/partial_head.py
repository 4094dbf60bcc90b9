"""A request head received in pieces, or after other bytes. Most heads arrive whole and skip this."""

from __future__ import annotations

from hybrid.workers.http.h1 import refusals


class PartialHead:
    """The part of a head received so far, and the empty lines before it."""

    __slots__ = ("_line_is_whole", "_tail", "line", "size", "timed")

    def __init__(self, *, timed: bool) -> None:
        self.size = 0
        """Bytes received."""
        self.line = b""
        """The head up to the piece that completes its first line, without preceding empty lines."""
        self._line_is_whole = False
        self._tail = b""  # the last bytes before a cut: an empty line may continue after it
        self.timed = timed
        """True if the connection has set a deadline for the end of the head."""

    def cut(self, data: bytes, position: int, most: float) -> int:
        """Return where the head ends in `data`: after the next empty line, which may have begun before `data`.

        Without an empty line, that is the end of `data`. It is at most `most` bytes after `position`.
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
        """Add a piece that goes to the parser."""
        self.size += len(piece)
        if self._line_is_whole:
            return
        self.line += piece
        while self.line.startswith(b"\r\n"):  # RFC 9112, section 2.2
            self.line = self.line[2:]
        self._line_is_whole = b"\r\n" in self.line

    def check_line(self) -> None:
        """Raise `Refused` if the first line of the complete head is malformed."""
        if self._line_is_whole:
            refusals.check_request_line(self.line)
