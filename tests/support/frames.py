"""Frames of HTTP/2 as bytes (RFC 9113, section 4): what a client sends, right or wrong, and what a server has sent."""

from __future__ import annotations

import struct
from typing import NamedTuple

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
PRIORITY_UPDATE = 0x10  # RFC 9218, section 7.1
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, WITH_PRIORITY = 0x4, 0x8, 0x20
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT, INITIAL_WINDOW, MAX_FRAME_SIZE, MAX_HEADER_LIST = range(1, 7)
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0, 1, 2, 3
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 5, 6, 7, 8, 9, 11
GET = ((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a"))
POST = ((b":method", b"POST"), *GET[1:])
_HEAD = 9  # bytes

Fields = tuple[tuple[bytes, bytes], ...]


class Frame(NamedTuple):
    """A frame as it was received."""

    kind: int
    flags: int
    stream: int
    payload: bytes
    wire: bytes


def frame(kind: int, stream: int = 0, payload: bytes = b"", flags: int = 0, *, length: int | None = None) -> bytes:
    """Return a frame; `length` is said in place of the real one."""
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, payload=b"".join(struct.pack(">HI", *pair) for pair in pairs))


def block(fields: Fields) -> bytes:
    """Return a field block that uses no state of the connection, without Huffman codes."""
    encoded: bytes = hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*field) for field in fields], huffman=False)
    return encoded


def headers(stream: int, fields: Fields = GET, flags: int = END_STREAM | END_HEADERS) -> bytes:
    """Return a HEADERS frame."""
    return frame(HEADERS, stream, block(fields), flags)


def window_update(stream: int, increment: int) -> bytes:
    """Return a WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, stream, struct.pack(">I", increment))


def reset(stream: int, code: int = CANCEL) -> bytes:
    """Return a RST_STREAM frame."""
    return frame(RST_STREAM, stream, struct.pack(">I", code))


def goaway(last: int = 0, code: int = NO_ERROR) -> bytes:
    """Return a GOAWAY frame."""
    return frame(GOAWAY, payload=struct.pack(">II", last, code))


def goaway_of(received: Frame) -> tuple[int, int]:
    """Return the last stream and the error code of a GOAWAY frame."""
    last, code = struct.unpack(">II", received.payload[:8])
    return last, code


def code_of(received: Frame) -> int:
    """Return the error code of a RST_STREAM frame."""
    return int.from_bytes(received.payload, "big")


def whole(data: bytes) -> tuple[list[Frame], int]:
    """Return the frames that are complete, and their size together."""
    found: list[Frame] = []
    at = 0
    while len(data) - at >= _HEAD:
        size = int.from_bytes(data[at : at + 3], "big")
        kind, flags, stream = struct.unpack(">BBI", data[at + 3 : at + _HEAD])
        end = at + _HEAD + size
        if end > len(data):
            break
        found.append(Frame(kind, flags, stream, data[at + _HEAD : end], data[at:end]))
        at = end
    return found, at


def read(data: bytes) -> list[Frame]:
    """Return the frames of a server. Raises `AssertionError` for half a frame."""
    found, size = whole(data)
    assert size == len(data), "half a frame"
    return found
