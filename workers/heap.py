"""The C library's heap, told once per worker to keep a little room at its end.

asyncio and uvloop take a large buffer for every read and shrink it to what came. With glibc's defaults the end of the
heap is then given back to the kernel and asked for again, page faults included, for every message, as long as the
buffer happens to lie last: a fresh process served its first connections at a third of its speed. Benchmark: `python
-m benchmarks echo`.
"""

from __future__ import annotations

import contextlib
import ctypes

_M_TOP_PAD = -2  # malloc.h; see mallopt(3)
ROOM = 1 << 20  # bytes of address space; memory only where it is written to


def keep_room() -> None:
    """Have malloc keep `ROOM` bytes at the end of the heap; does nothing where the C library is not glibc."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_TOP_PAD, ROOM)
