"""Ends a running call when its caller has given it up: SIGIO, when the caller has shut its side of the connection.

The signal's handler raises `Interrupted` between two bytecodes of the main thread. A call that is in C for long gets it
late, and one that catches everything not at all: for those there is the supervisor's SIGKILL. An import is not cut:
half a package would stay in `sys.modules`, and every later call that imports it would fail.

Python sees a signal that comes right before a system call only after it. So `remind`, called by a second thread now and
then, sends it again, also to a call that was importing. The desk of a caller does the same, but a caller may be dead.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
import types
from typing import Any, Final

from hybrid.workers.contract import log

_IMPORTS: Final = frozenset({"importlib._bootstrap", "_frozen_importlib"})  # the module of imports, under both names
_GONE: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class Interrupted(BaseException):
    """The caller does not want the outcome any more. It derives from BaseException, as GreenletExit does."""


class Interruption:
    """Watches the connection of the call that runs. Belongs to the main thread."""

    def __init__(self) -> None:
        """Set the handler of SIGIO."""
        hub: Any = sys.modules.get("gevent.hub")  # not imported for this
        if hub is not None and Interrupted not in hub.Hub.NOT_ERROR:
            hub.Hub.NOT_ERROR += (Interrupted,)  # raised in the hub if the call waits there: it would print a traceback
        self._runs = False
        self._fd = -1  # of the current call
        self._thread = log.unpatched("get_ident", "_thread")()  # gevent numbers greenlets
        self._pid = os.getpid()
        self._poll = log.unpatched("poll")
        signal.signal(signal.SIGIO, self._on_signal)

    def watches(self, fd: int) -> None:
        """Watch a connection, which blocks from now on."""
        self._fd = fd
        fcntl.fcntl(fd, fcntl.F_SETOWN, self._pid)
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_ASYNC)

    def remind(self) -> bool:
        """Send the signal again if the caller of the current call has gone; return False if it has not.

        Call it in any other thread. If another call has begun meanwhile, the main thread asks for the caller of that.
        """
        fd = self._fd
        if fd < 0 or not self._is_gone(fd):
            return False
        signal.pthread_kill(self._thread, signal.SIGIO)
        return True

    def restore(self) -> None:
        """Set the handler again if a call has set another one. Call it between two calls."""
        if signal.getsignal(signal.SIGIO) != self._on_signal:
            signal.signal(signal.SIGIO, self._on_signal)

    def begins(self) -> None:
        """From now on a signal raises `Interrupted`; raise it now if the caller has gone already."""
        self._runs = True
        if self._is_gone(self._fd):  # after `_runs`: a signal that comes earlier does nothing
            self._runs = False
            raise Interrupted

    def ends(self) -> None:
        """From now on it does not."""
        self._runs = False
        self._fd = -1

    def _on_signal(self, number: int, frame: types.FrameType | None) -> None:
        if not self._runs or os.getpid() != self._pid or not self._is_gone(self._fd) or _is_importing(frame):
            return
        self._runs = False
        raise Interrupted

    def _is_gone(self, fd: int) -> bool:
        poll = self._poll()
        poll.register(fd, select.POLLRDHUP)
        return any(events & _GONE for _, events in poll.poll(0))


def _is_importing(frame: types.FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__") in _IMPORTS:
            return True
        frame = frame.f_back
    return False
