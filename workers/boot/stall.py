"""The stack of a worker whose loop does not turn, left for the supervisor when it asks for it.

See `hybrid.workers.contract.signals` for the two signals. What they do to the code that they interrupt:

- Both restart system calls (SA_RESTART), so that C code of applications sees EINTR only from those that are never
  restarted, whatever a handler says: poll, epoll_wait, select, nanosleep (signal(7)), as with any other signal.
- Python's own calls go on after EINTR (PEP 475), and have the first one answered before. Where a call is restarted
  (recv, a lock) it is not answered, and the second is.
- Both run on the alternate stack of the main thread (SA_ONSTACK), the large one of `crash`.

A process that the application forks keeps both handlers: it would be ended by the default of such a signal, and an
ignored one would be inherited by programs that it executes (execve(2)). Nobody asks it; if somebody does, its stack
goes to the worker's dump file, of which the supervisor takes a bounded part.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import types
from collections.abc import Iterator

from hybrid.workers.contract.signals import DUMP_STACK, MAX_DUMP, TELL_STACKS

_MOST_FRAMES = 100  # of one thread, and threads: as faulthandler has it
_MOST_THREADS = 100
_fd = -1  # where to; a number and not a file object, for a handler must not find it locked


def dump_on_request(fd: int) -> None:
    """Have this process write its stacks to `fd` when asked; from the main thread, first thing in a process's life.

    May be called again, as by a worker whose zygote has called it: the newest `fd` counts. Neither blocks nor writes.
    Raises `OSError` where the system refuses the signals.
    """
    global _fd
    _fd = fd
    signal.signal(TELL_STACKS, _tell)
    signal.siginterrupt(TELL_STACKS, False)
    faulthandler.register(DUMP_STACK, fd, all_threads=False, chain=False)


def _tell(number: int, frame: types.FrameType | None) -> None:
    """Write the stacks of all threads. The interrupted code must never hear of it, whatever fails."""
    try:
        text = ""
        for line in _stacks(frame):
            text += line
            if len(text) > MAX_DUMP:
                break
        os.write(_fd, text[:MAX_DUMP].encode())
    except Exception:  # noqa: BLE001 - no memory, no recursion left, no room: then there is no answer
        pass


def _stacks(interrupted: types.FrameType | None) -> Iterator[str]:
    """Give the lines that faulthandler would write, the interrupted thread first: the end may be cut off."""
    here = sys._getframe()  # and not threading.get_ident, which gevent replaces: the keys are those of real threads
    threads = sys._current_frames()
    while interrupted is not None and interrupted.f_code.co_filename == __file__:
        interrupted = interrupted.f_back  # asked once more in the middle of an answer
    me = next((ident for ident, frame in threads.items() if frame is here), 0)
    yield f"Current thread 0x{me:016x} (most recent call first):\n"
    yield from _frames(interrupted)
    for ident in [ident for ident in threads if ident != me][:_MOST_THREADS]:
        yield f"\nThread 0x{ident:016x} (most recent call first):\n"
        yield from _frames(threads[ident])


def _frames(frame: types.FrameType | None) -> Iterator[str]:
    left = _MOST_FRAMES
    while frame is not None and left:
        code = frame.f_code
        line = "???" if frame.f_lineno is None else frame.f_lineno
        yield f'  File "{_printable(code.co_filename)}", line {line} in {_printable(code.co_name)}\n'
        frame = frame.f_back
        left -= 1
    if frame is not None:
        yield "  ...\n"


def _printable(name: str) -> str:
    """Names are the application's: a line break in one must not begin a line. No codec, for that may be an import."""
    return ascii(name[:500])[1:-1]
