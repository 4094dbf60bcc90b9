"""What a terminal sends for a key. Pure: bytes in, keys out."""

from __future__ import annotations

import enum
from collections.abc import Iterator


class Key(enum.Enum):
    """A key without a character of its own."""

    UP = "up"
    DOWN = "down"
    PAGE_UP = "page up"
    PAGE_DOWN = "page down"
    HOME = "home"
    END = "end"
    ENTER = "enter"
    ESCAPE = "escape"


_SEQUENCES = {
    b"\x1b[A": Key.UP,
    b"\x1b[B": Key.DOWN,
    b"\x1bOA": Key.UP,  # in application mode
    b"\x1bOB": Key.DOWN,
    b"\x1b[5~": Key.PAGE_UP,
    b"\x1b[6~": Key.PAGE_DOWN,
    b"\x1b[H": Key.HOME,
    b"\x1b[F": Key.END,
    b"\x1bOH": Key.HOME,
    b"\x1bOF": Key.END,
    b"\x1b[1~": Key.HOME,
    b"\x1b[4~": Key.END,
}
_SINGLE = {0x0D: Key.ENTER, 0x0A: Key.ENTER}
_ESCAPE = 0x1B
_MAX_SEQUENCE = 32  # bytes; longer ones are no keys


class Keys:
    """Bytes as they come, in keys. A sequence may come in several pieces."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def is_incomplete(self) -> bool:
        """Whether a sequence has begun. If nothing follows within some milliseconds, call `flush`."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[Key | str]:
        """Return the keys that `data` completes; a `str` is one ASCII character. Unknown sequences are left out."""
        data = self._rest + data
        self._rest = b""
        keys: list[Key | str] = []
        while data:
            if data[0] != _ESCAPE:
                keys += _single(data[0])
                data = data[1:]
                continue
            length = _length(data)
            if length is None:
                self._rest = data
                break
            sequence, data = data[:length], data[length:]
            if sequence == b"\x1b":
                keys.append(Key.ESCAPE)
            elif sequence in _SEQUENCES:
                keys.append(_SEQUENCES[sequence])
        return keys

    def flush(self) -> list[Key | str]:
        """Return the key for a sequence that goes no further: Escape alone is a key, a longer beginning is none."""
        rest, self._rest = self._rest, b""
        return [Key.ESCAPE] if rest == b"\x1b" else []


def _single(byte: int) -> Iterator[Key | str]:
    if byte in _SINGLE:
        yield _SINGLE[byte]
    elif 0x20 <= byte < 0x7F:
        yield chr(byte)


def _length(data: bytes) -> int | None:
    """Return how many bytes the sequence at the beginning has (ECMA-48, 5.4); None: its end has not come."""
    if len(data) == 1:
        return None
    if data[1:2] == b"O":
        return 3 if len(data) >= 3 else None
    if data[1:2] != b"[":
        return 1  # Escape, then another key
    for place in range(2, len(data)):
        if 0x40 <= data[place] <= 0x7E:
            return place + 1
        if not 0x20 <= data[place] <= 0x3F or place >= _MAX_SEQUENCE:
            return place
    return None
