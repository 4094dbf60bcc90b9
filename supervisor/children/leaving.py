"""The end of a worker's interpreter, in CPython's order and with a deadline.

CPython first calls `threading._shutdown`, which tells the pools of `concurrent.futures` to end and joins the
non-daemon threads, and then the exit handlers (`Py_FinalizeEx`, Python/pylifecycle.c). The order matters: the exit
handler of `multiprocessing` joins the processes of a `ProcessPoolExecutor`, which never end unless the pool was told
before. CPython has no deadline; a worker has one.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

from hybrid.workers.contract import log

_ALARMS = 3  # alarms that interrupt a blocking call; the next one ends the process
_AGAIN = 0.1  # seconds between alarms, and the minimum for exit handlers
_MOST_NAMED = 5  # threads or processes in a log line

logger = logging.getLogger(log.LOGGER_NAME)


class _Overdue(KeyboardInterrupt):
    """Time is up. gevent's hub passes a KeyboardInterrupt on to the main greenlet, and only prints other exceptions."""


class _Alarm:
    """Raises `_Overdue` in the main thread when time is up, and a few times more; then ends the process."""

    def __init__(self, seconds: float, code: int) -> None:
        self._code = code
        self.rung = 0
        signal.signal(signal.SIGALRM, self._ring)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)

    def _ring(self, number: int, frame: types.FrameType | None) -> None:
        self.rung += 1
        if self.rung > _ALARMS:
            os._exit(self._code)
        raise _Overdue

    def stop(self) -> None:
        """Cancel the alarm."""
        signal.setitimer(signal.ITIMER_REAL, 0)


def end_interpreter(seconds: float, code: int) -> None:
    """Join the non-daemon threads and run the exit handlers. Blocks for `seconds` and a moment more.

    A thread or handler that takes longer is named in the log and abandoned. If an exit handler cannot be interrupted,
    this ends the process with `code`. Call it in the main thread.
    """
    alarm = _Alarm(max(seconds, _AGAIN), code)
    try:
        _run(threading._shutdown)  # type: ignore[attr-defined]
        if alarm.rung:
            logger.error("leaving without %s: still running when the time to end was over", _named(_threads()))
        rung = alarm.rung
        _run(atexit._run_exitfuncs)
        if alarm.rung > rung:
            logger.error("broke off an exit handler (%s): the time to end was over", _named(_processes()) or "atexit")
    finally:
        alarm.stop()


def _run(step: Callable[[], None]) -> None:
    try:
        step()
    except _Overdue:
        pass
    except BaseException:  # as in CPython, the next step follows all the same
        logger.exception("an error at the end of the interpreter")


def _named(things: list[str]) -> str:
    more = len(things) - _MOST_NAMED
    return ", ".join([*things[:_MOST_NAMED], *([f"{more} more"] if more > 0 else [])])


def _threads() -> list[str]:
    """Return the threads that keep the process alive, each with its place in the code."""
    frames = sys._current_frames()
    return [
        f"thread {thread.name!r}{_place(frames.get(thread.ident or 0))}"
        for thread in threading.enumerate()
        if not thread.daemon and thread is not threading.main_thread()
    ] or ["a thread"]


def _place(frame: types.FrameType | None) -> str:
    """Return the innermost place outside the standard library, in which threads wait."""
    library = os.path.dirname(os.__file__)  # noqa: PTH120 - pathlib at the end of an interpreter
    place = innermost = frame
    while place is not None and place.f_code.co_filename.startswith(library):
        place = place.f_back
    found = place or innermost
    return "" if found is None else f" ({found.f_code.co_filename}:{found.f_lineno}, in {found.f_code.co_name})"


def forget_processes() -> None:
    """Empty the lists of child processes that a fork copies from its parent.

    The exit handler of `multiprocessing` would terminate the daemonic ones and join the others, which only the parent
    can do.
    """
    for children in _families():
        children.clear()


def _processes() -> list[str]:
    """Return the processes of `multiprocessing` and `multiprocess` that still run."""
    return [f"process {child.pid} {child.name!r}" for children in _families() for child in tuple(children)]


def _families() -> Iterator[set[Any]]:
    for name in ("multiprocessing.process", "multiprocess.process"):
        children = getattr(sys.modules.get(name), "_children", None)
        if children is not None:
            yield children
