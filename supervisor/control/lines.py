"""The form of the control line: bytes to lines, JSON values to lines. Pure: no socket, no clock, no request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

LONGEST_LINE: Final = 64 * 1024
"""The maximum bytes of a line from a client, without its end."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


class LineTooLong(Exception):  # noqa: N818 - the peer's fault
    """A client sent more than `LONGEST_LINE` bytes without the end of a line."""

    def __str__(self) -> str:
        return f"a line has at most {LONGEST_LINE} bytes"


class UnencodableError(ValueError):
    """A value that JSON cannot express; the text says why."""


class Lines:
    """Cuts the bytes of one client into lines. Feed it when it has no line: it does not limit what is fed."""

    def __init__(self) -> None:
        self._bytes = bytearray()  # lines that were not taken, the last one perhaps without its end
        self._end = -1  # where the first line ends; -1: the end is missing

    @property
    def has_line(self) -> bool:
        """True if `take` has something to return or to raise."""
        return self._end >= 0 or len(self._bytes) > LONGEST_LINE

    @property
    def has_part(self) -> bool:
        """True if the end of the last line is missing."""
        return bool(self._bytes) and not self._bytes.endswith(b"\n")

    @property
    def size(self) -> int:
        """The bytes that were not taken."""
        return len(self._bytes)

    def feed(self, data: bytes) -> None:
        """Add bytes."""
        before = len(self._bytes)
        self._bytes += data
        if self._end < 0:
            self._end = self._bytes.find(b"\n", before)

    def take(self) -> bytes | None:
        """Return the next line without its end, or None. Raises `LineTooLong`, and does so at each later call."""
        end = self._end
        if (len(self._bytes) if end < 0 else end) > LONGEST_LINE:
            raise LineTooLong
        if end < 0:
            return None
        line = bytes(self._bytes[:end])
        del self._bytes[: end + 1]
        self._end = self._bytes.find(b"\n")
        return line

    def cut(self) -> None:
        """Forget a line that has begun, because its end will not come."""
        del self._bytes[self._bytes.rfind(b"\n") + 1 :]

    def clear(self) -> None:
        """Forget everything."""
        self._bytes.clear()
        self._end = -1


class Encoded(str):
    """A JSON object as text already, for an answer."""

    __slots__ = ()


def text_of(value: object) -> str:
    """Return a JSON value as text. Raises `UnencodableError`."""
    try:
        return _ENCODER.encode(value)
    except (ValueError, TypeError, RecursionError) as error:  # NaN, a cycle; no JSON type; too deep
        raise UnencodableError(f"{type(error).__name__}: {error}") from error


def encode_result(request_id: float | str | None, result: Mapping[str, object] | Encoded) -> bytes:
    """Return the line that answers a request. Raises `UnencodableError`."""
    if not isinstance(result, Encoded):
        return encode({"id": request_id, "result": result})
    return _line(f'{{"id": {text_of(request_id)}, "result": {result}}}')


def encode(value: Mapping[str, object]) -> bytes:
    """Return a JSON object as one line of UTF-8. Raises `UnencodableError`.

    A lone surrogate, as a file name that is no UTF-8 has it, becomes U+FFFD: strict readers refuse its escape.
    """
    return _line(text_of(value))


def _line(text: str) -> bytes:
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode() + b"\n"
