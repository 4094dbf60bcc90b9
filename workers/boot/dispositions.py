"""The signal handlers of a worker while its loop runs, restored when application code has changed them.

An event loop that runs inside a request resets SIGTERM to its default and drops the wake-up descriptor when it closes
(`loop.remove_signal_handler`); libraries set their own handlers. So the supervisor orders a drain over the channel, and
the dispositions, which signals from other processes need, are restored three times a second.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import types
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio  # not at run time: gevent must come first

_log = logging.getLogger("hybrid")
FOR_THE_SUPERVISOR = (
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
)
"""Signals that a terminal or a tool sends to the whole process group."""
_DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)


def do_nothing(number: int, frame: types.FrameType | None) -> None:
    """Ignore a signal that is not for workers. Unlike SIG_IGN, started programs get the default again (execve(2))."""


class Dispositions:
    """The handlers for SIGTERM and the process group's signals in a worker. Use it in the main thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, arrived: Callable[[], None], drain: Callable[[], None]) -> None:
        """SIGTERM calls `arrived` at once, between two bytecodes, and `drain` in a turn of the loop."""
        self._loop = loop
        self._arrived = arrived
        self._drain = drain
        self._wakeup = -1
        self._has_told = False

    def take(self) -> None:
        """Set the handlers. Warns if the application has set a handler for SIGTERM, which is not called."""
        self._tell_of(signal.getsignal(signal.SIGTERM))
        # until `restore`: in between a signal would run asyncio's handler, which does nothing
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        self._loop.add_signal_handler(signal.SIGTERM, self._drain)  # gives the loop its wake-up descriptor
        self._wakeup = signal.set_wakeup_fd(-1)
        self.restore()

    def release(self) -> None:
        """Ignore further SIGTERMs: the loop is about to be closed, which would make the signal fatal."""
        old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        self._loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, do_nothing)
        signal.pthread_sigmask(signal.SIG_SETMASK, old)

    def restore(self) -> None:
        """Restore handlers that application code has changed. Takes microseconds."""
        found = signal.getsignal(signal.SIGTERM)
        if found != self._on_sigterm:
            self._tell_of(found)
            signal.signal(signal.SIGTERM, self._on_sigterm)
        for number in FOR_THE_SUPERVISOR:
            if signal.getsignal(number) in _DEFAULTS:  # the application's own handler stays
                signal.signal(number, do_nothing)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        with contextlib.suppress(ValueError, OSError):  # the loop has closed it
            signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)

    def _on_sigterm(self, number: int, frame: types.FrameType | None) -> None:
        """Works without the loop's wake-up descriptor too: select, poll and epoll run handlers on EINTR."""
        self._arrived()
        with contextlib.suppress(RuntimeError):  # the loop is closed: the worker is ending
            self._loop.call_soon_threadsafe(self._drain)

    def _tell_of(self, handler: object) -> None:
        module = getattr(handler, "__module__", "")
        if not callable(handler) or self._has_told or str(module).startswith(("asyncio", "uvloop", __name__)):
            return
        self._has_told = True
        name = getattr(handler, "__qualname__", repr(handler))
        _log.warning(
            "the handler for SIGTERM that the application has set (%s in %s) is not called: a worker drains; "
            "use the lifespan's shutdown or atexit",
            name,
            module or "an unknown module",
        )
