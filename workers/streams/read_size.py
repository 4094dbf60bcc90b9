"""How many bytes to read at once from a connection that has more: as many as its protocol handles quickly.

The client decides how expensive its bytes are. 256 KiB of a request body take microseconds; 256 KiB of empty WebSocket
frames take a quarter of a second, during which no other client is served.
"""

from __future__ import annotations

from typing import Any

DEFAULT = 16_384  # bytes for one read; above 64 KiB malloc(3) consolidates at every free
LARGEST = 262_144
_SMALLEST = 256
_GROWTH = 4  # times the size before


def after_short_read(size: int, count: int) -> int:
    """Return the next read size after a read of `size` bytes returned only `count`.

    A large size is kept while a quarter of it or more is used: an upload arrives in segments of any size.
    """
    return size if count * _GROWTH >= size > DEFAULT else DEFAULT


def after_full_read(size: int, seconds: float, within: float, protocol: Any) -> int:
    """Return the next read size, so that `protocol`, which handled `size` bytes in `seconds`, needs about `within`.

    A protocol that has `upgraded` to WebSocket gets no large reads, because their cost varies from one to the next. The
    rest of a frame, `protocol.owed()` bytes, is still read at once.
    """
    largest = max(DEFAULT, min(protocol.owed(), LARGEST)) if getattr(protocol, "upgraded", False) else LARGEST
    fitting = int(size * within / seconds) if seconds > 0 else LARGEST
    return max(_SMALLEST, min(fitting, size * _GROWTH, largest))
