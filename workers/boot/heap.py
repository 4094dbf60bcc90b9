"""The C library's heap, told once per worker to keep a little room at its end, and to use it for large buffers.

asyncio and uvloop take a large buffer for every read and shrink it to what came. With glibc's defaults the end of the
heap is then given back to the kernel and asked for again, page faults included, for every message, as long as the
buffer happens to lie last: a fresh process served its first connections at a third of its speed. Benchmark: `python
-m benchmarks echo`. Fast bins are off: with them, each read tidies up what small objects have left there, and it is the
caches per thread that make small objects fast.

Who sets one of these values also stops glibc from adapting the size from which on a buffer is mapped by itself: at its
128 KiB, each read of 256 KiB for which the end of the heap is too small costs an mmap(2), an mremap(2), a munmap(2) and
page faults, 30 us altogether (measured: HTTPS on uvloop). So that size is set too. Benchmark: `python -m benchmarks
https`.
"""

from __future__ import annotations

import contextlib
import ctypes

_M_MXFAST, _M_TOP_PAD, _M_MMAP_THRESHOLD = 1, -2, -3  # malloc.h; see mallopt(3)
ROOM = 1 << 20  # bytes of address space; memory only where it is written to


def keep_room() -> None:
    """Have malloc keep `ROOM` bytes at the end of the heap; does nothing where the C library is not glibc."""
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MXFAST, 0)
        mallopt(_M_TOP_PAD, ROOM)
        mallopt(_M_MMAP_THRESHOLD, ROOM)
