"""WebSocket frames as bytes: what clients send, and what servers have sent."""

from __future__ import annotations

import dataclasses
import itertools

from websockets.frames import Opcode

CONT, TEXT, BINARY, CLOSE, PING, PONG = (int(code) for code in Opcode)
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455, section 1.3
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
HANDSHAKE = (
    b"GET /chat?room=1 HTTP/1.1\r\nHost: example.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n"
)


@dataclasses.dataclass(frozen=True)
class Received:
    """One frame from the server."""

    opcode: int
    payload: bytes
    fin: bool = True


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | None = b"\1\2\3\4"
) -> bytes:
    """Return a frame of a client; with `mask` None it is not masked, which no client may do."""
    bit = 0 if mask is None else 0x80
    head = bytes(((0x80 if fin else 0) | rsv << 4 | opcode,))
    size = len(payload)
    if size < 126:
        head += bytes((bit | size,))
    elif size < 65_536:
        head += bytes((bit | 126,)) + size.to_bytes(2, "big")
    else:
        head += bytes((bit | 127,)) + size.to_bytes(8, "big")
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ key for byte, key in zip(payload, itertools.cycle(mask), strict=False))


def close_frame(code: int, reason: str = "") -> bytes:
    """Return a client's close frame."""
    return frame(CLOSE, code.to_bytes(2, "big") + reason.encode())


def received(data: bytes) -> list[Received]:
    """Return the frames of a server. Raises `AssertionError` for half a frame, or a masked one."""
    found = []
    while data:
        assert not data[1] & 0x80, "servers do not mask"
        size, start = data[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start], "big")
        assert len(data) >= start + size, "half a frame"
        found.append(Received(data[0] & 0x0F, bytes(data[start : start + size]), bool(data[0] & 0x80)))
        data = data[start + size :]
    return found


def code_of(item: Received) -> int:
    """Return the code of a close frame."""
    assert item.opcode == CLOSE
    return int.from_bytes(item.payload[:2], "big")
