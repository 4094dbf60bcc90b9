"""Writes the stack of a worker whose loop does not turn, when the supervisor asks for it.

See `hybrid.workers.contract.signals` for the two signals. Their effects on the interrupted code:

- Both restart system calls (SA_RESTART), so that C code of applications sees EINTR only from calls that are never
  restarted: poll, epoll_wait, select, nanosleep (signal(7)), as with any other signal.
- Python's own calls run the handler of the first signal and continue after EINTR (PEP 475). If the kernel restarts the
  call (recv, a lock), the first signal is not answered, but the second one is.
- Both run on the alternate stack of the main thread (SA_ONSTACK), the large one of `crash`.

A process that the application forks keeps both handlers: the default action of such a signal would end it, and SIG_IGN
would be inherited by programs that it executes (execve(2)). The supervisor does not signal such a process. If another
process does, its stack goes to the worker's dump file, of which the supervisor reads a bounded part.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import types
from collections.abc import Iterator

from hybrid.workers.contract.signals import DUMP_STACK, MAX_DUMP, TELL_STACKS

_MOST_FRAMES = 100  # of one thread; both limits are faulthandler's
_MOST_THREADS = 100
_fd = -1  # a descriptor, not a file object, which a handler might find locked


def dump_on_request(fd: int) -> None:
    """Make this process write its stacks to `fd` when asked. Call it in the main thread, first thing in a process.

    May be called again, e.g. by a worker whose zygote has called it: the latest `fd` is used. Neither blocks nor
    writes. Raises `OSError` if the system refuses the signals.
    """
    global _fd
    _fd = fd
    signal.signal(TELL_STACKS, _tell)
    signal.siginterrupt(TELL_STACKS, False)
    faulthandler.register(DUMP_STACK, fd, all_threads=False, chain=False)


def _tell(number: int, frame: types.FrameType | None) -> None:
    """Write the stacks of all threads. Never raises into the interrupted code."""
    try:
        text = ""
        for line in _stacks(frame):
            text += line
            if len(text) > MAX_DUMP:
                break
        os.write(_fd, text[:MAX_DUMP].encode())
    except Exception:  # noqa: BLE001 - out of memory, recursion or room: no answer then
        pass


def _stacks(interrupted: types.FrameType | None) -> Iterator[str]:
    """Yield the lines that faulthandler would write, the interrupted thread first, because the end may be cut off."""
    here = sys._getframe()  # not threading.get_ident, which gevent replaces: the keys below are real thread ids
    threads = sys._current_frames()
    while interrupted is not None and interrupted.f_code.co_filename == __file__:
        interrupted = interrupted.f_back  # asked again while answering
    me = next((ident for ident, frame in threads.items() if frame is here), 0)
    yield f"Current thread 0x{me:016x} (most recent call first):\n"
    yield from _frames(interrupted)
    for ident in [ident for ident in threads if ident != me][:_MOST_THREADS]:
        yield f"\nThread 0x{ident:016x}{_name_of(ident)} (most recent call first):\n"
        yield from _frames(threads[ident])


def _name_of(ident: int) -> str:
    """Return the name of a thread as faulthandler writes it from Python 3.14 on; "" if it is not known.

    Takes no lock: the interrupted code may hold it.
    """
    known = getattr(sys.modules.get("threading"), "_active", {}).get(ident)
    name = None if known is None else known.__dict__.get("_name")
    return f" [{_printable(name)}]" if isinstance(name, str) else ""


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
    """Escape a name of the application: it must not contain a line break. Uses no codec, which might be an import."""
    return ascii(name[:500])[1:-1]
