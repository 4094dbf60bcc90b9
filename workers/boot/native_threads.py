"""Threads of C libraries: which library has started a thread, and if that library restarts it after a fork.

A forked child has only the thread that forked. Some libraries handle that: they stop their threads before a fork, or
start new ones in the child when they need them (pthread_atfork(3)).
"""

from __future__ import annotations

import bisect
import contextlib
import ctypes
import functools
import mmap
import os
import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from hybrid.workers.contract.records import record

_STACK = 16_384  # bytes above the stack pointer; a waiting thread has few frames
_WORD = struct.calcsize("P")
_RUNTIME = re.compile(
    r".*/(lib-dynload/(?!_ctypes)[^/]*|(ld-linux|ld-musl|libc[.-]|libpthread|libstdc\+\+|libgcc_s|libm[.-]|libpython|_greenlet"
    r"|libcrypto|libssl|libz[.-]|liblzma|libbz2|libsqlite3|libexpat|libuuid)[^/]*"
    r"|python[0-9.]*)$"
)  # calls other libraries or starts no threads itself; stacks also hold stale addresses
_STARTERS = (b"pthread_create", b"thrd_create", b"_M_start_thread", b"ffi_call")  # C, C11, libstdc++; calls anything
# Tested with OpenBLAS, numexpr, pyarrow and Intel's libiomp5: used before a fork, and again in the child, from several
# threads. LLVM's libomp shares libiomp5's code. libgomp and polars hang in the child.
_SURVIVING = re.compile(r"(/lib(scipy_)?openblas[^/]*|/libi?omp[5.-][^/]*|/libarrow[^/]*|/numexpr/[^/]*)$")
_SURVIVING_NAMES = frozenset({"jemalloc_bg_thd"})  # it only returns memory
_CURES = {
    "libgomp": "set OMP_NUM_THREADS=1, or compute nothing at import",
    "_polars": "import it where it is first used, or take --preload on if nothing has been computed yet",
}  # start of a file name -> advice
_CURE = "import it where it is first used"
_COUNTERS = tuple(
    f"{prefix}openblas_get_num_threads{suffix}" for prefix in ("scipy_", "") for suffix in ("64_", "_64", "")
)


@record(frozen=True, slots=True)
class Mapping:
    """Executable code of a file in this process's memory."""

    start: int
    end: int
    file: str


def name_of(task: int) -> str:
    """Return the name of a thread in the process table; `?` if it has ended."""
    try:
        return Path(f"/proc/self/task/{task}/comm").read_text().strip()
    except OSError:
        return "?"


def not_surviving(tasks: Iterable[int]) -> dict[int, str]:
    """Return the threads that a fork loses, each with the file of its library, or "" if it is unknown."""
    code = list(_mapped_code())
    found: dict[int, str] = {}
    hidden: set[int] = set()
    for task in tasks:
        try:
            found[task] = _library_of(task, code)
        except PermissionError:
            found[task] = ""
            hidden.add(task)
    left = {task: file for task, file in found.items() if not _survives(task, file)}
    hidden &= left.keys()
    # after a change of account /proc hides the stacks of threads (prctl(2), PR_SET_DUMPABLE); then the library is asked
    # for the size of its pool
    if hidden and len(hidden) == sum(_pool_sizes(code)):
        return {task: file for task, file in left.items() if task not in hidden}
    return left


def describe(file: str) -> str:
    """Describe a library, with advice: `libx.so (of package x: import it where it is first used)`."""
    name = os.path.basename(file)  # noqa: PTH119 - text in, text out
    cure = next((text for start, text in _CURES.items() if name.startswith(start)), _CURE)
    package = re.search(r"/(?:site|dist)-packages/([^/]+?)(?:\.libs)?/", file)
    return f"{name} (of {package[1]}: {cure})" if package else f"{name} ({cure})"


def _survives(task: int, file: str) -> bool:
    return _SURVIVING.search(file) is not None or name_of(task) in _SURVIVING_NAMES


def _library_of(task: int, code: list[Mapping]) -> str:
    """Return the library that the thread runs code of, not the C library; "" if it is unknown.

    /proc shows the stack pointer of a waiting thread (proc_pid_syscall(5)); return addresses lie above it. Raises
    `PermissionError` if it is hidden.
    """
    try:
        fields = Path(f"/proc/self/task/{task}/syscall").read_text().split()
        with open("/proc/self/mem", "rb", buffering=0) as memory:  # noqa: PTH123 - unbuffered
            memory.seek(int(fields[-2], 16))
            stack = memory.read(_STACK)
    except PermissionError:
        raise
    except (OSError, ValueError, IndexError, OverflowError):  # it runs, or has ended
        return ""
    for (address,) in struct.iter_unpack("P", stack[: len(stack) // _WORD * _WORD]):
        place = bisect.bisect_right(code, address, key=_start_of) - 1
        if place < 0 or address >= code[place].end:
            continue
        file = code[place].file
        if not _RUNTIME.match(file) and _can_start_threads(file):
            return file
    return ""


@functools.cache
def _can_start_threads(file: str) -> bool:
    """Return False for a library that names no function to start a thread; True if its file cannot be read.

    Stacks also hold stale addresses, for instance of an extension module that has only switched greenlets.
    """
    try:
        with Path(file).open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return any(content.find(name) >= 0 for name in _STARTERS)
    except (OSError, ValueError):
        return True


def _start_of(mapping: Mapping) -> int:
    return mapping.start


def _mapped_code() -> Iterator[Mapping]:
    """Yield the executable mappings of this process, in order of address (proc_pid_maps(5))."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/maps").read_text().splitlines():
            span, mode, _, _, _, *file = line.split(maxsplit=5)
            if "x" in mode and file and file[0].startswith("/"):
                start, _, end = span.partition("-")
                yield Mapping(int(start, 16), int(end, 16), file[0])


def _pool_sizes(code: list[Mapping]) -> Iterator[int]:
    """Yield the number of threads of each OpenBLAS, without the calling thread."""
    for file in {one.file for one in code if "openblas" in os.path.basename(one.file)}:  # noqa: PTH119
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(file)
            count = next((getattr(library, name) for name in _COUNTERS if hasattr(library, name)), None)
            if count is not None:
                yield count() - 1
