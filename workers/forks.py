"""What a process gives up that an application forks: it must not act for the worker, whose descriptors it shares.

Two dangers, both measured: Python's signal wake-up descriptor is shared, so that a SIGTERM for the child drains the
worker; and an epoll set is shared, so that a socket closed in the child is no longer watched in the worker (epoll(7),
"Questions").

A handler's child ends when it returns to the event loop, that of a request when it gives the server anything: what it
returns, yields or sends is the parent's to answer with, and the other requests of the turn are the parent's to run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import NoReturn

from greenlet import GreenletExit

from hybrid.workers.contract.channel import Channel
from hybrid.workers.tasks.cpython import queue_of

_log = logging.getLogger("hybrid")
forked = False
"""Whether this process was forked by the application of a worker. A flag because requests look at it: no getpid(2)."""
_guarded: tuple[Channel, Callable[[], None]] | None = None  # of the worker that this process is
_is_registered = False  # the hooks are, in this process or an ancestor: they cannot be taken back
_masks: dict[int, set[int]] = {}  # thread that forks -> what it had blocked before
_abandoned: list[object] = []  # in a forked child, for good: a task that is dropped says that it was still pending
_RESET = (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGUSR2)


def guard(channel: Channel, abandon: Callable[[], None]) -> None:
    """From now on have every forked child give up `channel`, the worker's signals, and by `abandon()` its loop."""
    global forked, _guarded, _is_registered
    forked = False  # a worker may stand below such a process
    _guarded = channel, abandon
    if not _is_registered:
        _is_registered = True
        os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)


def disarm() -> None:
    """From now on a forked child has nothing to give up: this process is a worker no more."""
    global _guarded
    _guarded = None


def _before() -> None:
    if _guarded is not None:
        # until the child has handlers of its own: a signal for it would be written to the descriptor it shares
        _masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, _RESET)


def _in_parent() -> None:
    mask = _masks.pop(threading.get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _in_child() -> None:
    global forked
    if _guarded is None:
        return
    channel, abandon = _guarded
    forked = True
    signal.set_wakeup_fd(-1)
    for number in _RESET:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    channel.close()
    abandon()
    _in_parent()


def abandon_turn(loop: asyncio.AbstractEventLoop) -> None:
    """In a forked child: what this turn of the loop was still to do is the worker's. Coming to it ends the process.

    asyncio's loops keep it in a queue that must not become shorter while a turn is under way. uvloop does not show
    it, and its loop would go on in the child, over an epoll set of its own (uv_loop_fork): end it at the next chance.
    """
    ready = queue_of(loop)
    if ready is not None:
        _abandoned.extend(ready)
        for place in range(len(ready)):
            ready[place] = asyncio.Handle(leave, (), loop)
    else:
        with contextlib.suppress(RuntimeError):  # the loop is closed, or in debug mode: forked by another thread
            loop.call_soon(leave)


def leave() -> NoReturn:
    """End a forked child that returned to the event loop: it would take the worker's connections."""
    _log.error("a process that a handler forked returned to the event loop: ending it; leave it by os._exit")
    os._exit(1)


def finish(error: BaseException | None = None) -> NoReturn:
    """End a forked child that came to the end of a request, with `error` if that is how: nothing is sent to the client.

    Its exit code is 0, that of a `SystemExit`, or 1 with the error in the log.
    """
    code = 0
    if isinstance(error, SystemExit):
        code = _code_of(error)
    elif error is not None and not isinstance(error, (GreenletExit, GeneratorExit)):
        _log.error("a process that a request forked failed", exc_info=error)
        code = 1
    os._exit(code)


def _code_of(error: SystemExit) -> int:
    """As the interpreter has it (`sys.exit`)."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    _log.error("a process that a request forked ended: %s", error.code)
    return 1
