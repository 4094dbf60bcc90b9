"""The stack dump of a crash: the stacks of all threads on stderr when a worker dies in C code.

`faulthandler.enable()` also gives the main thread a small alternate signal stack, and since Python 3.10 (bpo-43390)
*every* signal handler of Python runs on it. A few nested signals, each with a frame that holds the registers of AVX-512
or AMX, overflow it, and the worker dies of SIGSEGV (seen with eight). So the main thread gets a large one.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import mmap

STACK = 1 << 20  # bytes of address space, room for 64 nested frames of 16 KiB; memory only where it is used


class _Stack(ctypes.Structure):
    """`stack_t` of sigaltstack(2)."""

    _fields_ = (("ss_sp", ctypes.c_void_p), ("ss_flags", ctypes.c_int), ("ss_size", ctypes.c_size_t))


_memory: list[mmap.mmap] = []  # the stack in use; never freed, because the kernel keeps its address


def dump_on_crash(fd: int) -> None:
    """Make a crash write its stacks to `fd`, and make many nested signals safe; call it once, in the main thread."""
    faulthandler.enable(fd)
    with contextlib.suppress(AttributeError, OSError, ValueError):
        memory = mmap.mmap(-1, STACK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        _memory.append(memory)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        ctypes.CDLL(None).sigaltstack(ctypes.byref(_Stack(address, 0, STACK)), None)
