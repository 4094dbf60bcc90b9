"""How much is read at once from a connection that has more: as much as its protocol takes quickly.

A client chooses what its bytes cost: 256 KiB of a body take microseconds, as empty WebSocket frames a quarter of a
second, in which no other client is served.
"""

from __future__ import annotations

from typing import Any

PIECE = 16_384  # bytes for one read; beyond 64 KiB malloc(3) tidies up at every free
LARGEST = 262_144
_SMALLEST = 256
_GROWTH = 4  # times the piece before


def kept(piece: int, count: int) -> int:
    """Return how many bytes to read after a read of `piece` bytes has found only `count`.

    The larger piece is kept while most of it is of use: the network brings an upload in any sizes.
    """
    return piece if count * _GROWTH >= piece > PIECE else PIECE


def next_piece(piece: int, seconds: float, within: float, protocol: Any) -> int:
    """Return how many bytes to read after `piece` of them, which `protocol` took `seconds` for, to need `within`.

    A protocol that has `upgraded` to WebSocket gets no large pieces, because their cost changes from one to the next.
    The rest of a frame, which it tells by `owed`, is read at once all the same.
    """
    largest = max(PIECE, min(protocol.owed(), LARGEST)) if getattr(protocol, "upgraded", False) else LARGEST
    fitting = int(piece * within / seconds) if seconds > 0 else LARGEST
    return max(_SMALLEST, min(fitting, piece * _GROWTH, largest))
