"""malloc(3) settings for a server: keep some room at the end of the heap, and use it for large buffers.

asyncio and uvloop allocate a large buffer for every read and shrink it to the received size. With glibc's defaults the
end of the heap is then returned to the kernel and requested again, page faults included, for every message, as long as
the buffer happens to be last in the heap: a fresh process served its first connections at a third of its speed.
Benchmark: `python -m benchmarks echo`. Fast bins are off: with them, each read consolidates the chunks that small
objects have freed, and small objects are fast because of the per-thread caches anyway.

Setting one of these values also stops glibc from adapting the threshold above which a buffer is mapped separately: at
its default of 128 KiB, each read of 256 KiB for which the end of the heap is too small costs an mmap(2), an mremap(2),
a munmap(2) and page faults, 30 us altogether (measured: HTTPS on uvloop). So that threshold is set too. Benchmark:
`python -m benchmarks https`.
"""

from __future__ import annotations

import contextlib
import ctypes

_M_MXFAST, _M_TOP_PAD, _M_MMAP_THRESHOLD = 1, -2, -3  # malloc.h; see mallopt(3)
ROOM = 1 << 20  # bytes of address space; memory is used only where it is written


def keep_room() -> None:
    """Make malloc keep `ROOM` bytes at the end of the heap; does nothing if the C library is not glibc."""
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MXFAST, 0)
        mallopt(_M_TOP_PAD, ROOM)
        mallopt(_M_MMAP_THRESHOLD, ROOM)
