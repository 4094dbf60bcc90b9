"""What a process gives up that an application forks: it must not act for the worker, whose descriptors it shares.

Two dangers, both measured: Python's signal wake-up descriptor is shared, so that a SIGTERM for the child drains the
worker; and an epoll set is shared, so that a socket closed in the child is no longer watched in the worker (epoll(7),
"Questions").

A handler's child ends when it returns to the event loop, that of a request when it gives the server anything: what it
returns, yields or sends is the parent's to answer with, and the other requests of the turn are the parent's to run.

Requests do not ask whether they run in such a child. The child has other methods instead: see `replace`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import NoReturn

from greenlet import GreenletExit

from hybrid.workers.contract.channel import Channel
from hybrid.workers.tasks.cpython import queue_of

_log = logging.getLogger("hybrid")
_ABSENT = object()
_replacements: list[tuple[type | ModuleType, dict[str, object]]] = []  # for a forked child
_replaced: list[tuple[type | ModuleType, str, object]] = []  # in a forked child: the attributes from before
_guarded: tuple[Channel, Callable[[], None]] | None = None  # of the worker that this process is
_is_registered = False  # the hooks are, in this process or an ancestor: they cannot be taken back
_masks: dict[int, set[int]] = {}  # thread that forks -> what it had blocked before
_abandoned: list[object] = []  # in a forked child, for good: a task that is dropped says that it was still pending
_RESET = (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGUSR2)


def guard(channel: Channel, abandon: Callable[[], None]) -> None:
    """From now on have every forked child give up `channel`, the worker's signals, and by `abandon()` its loop."""
    global _guarded, _is_registered
    _restore()  # a worker may stand below such a process
    _guarded = channel, abandon
    if not _is_registered:
        _is_registered = True
        os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)


def disarm() -> None:
    """From now on a forked child has nothing to give up: this process is a worker no more."""
    global _guarded
    _guarded = None


def replace(owner: type | ModuleType, **attributes: object) -> None:
    """In every forked child give `owner` these attributes; those of a class go to its subclasses too.

    Meant for methods that the application calls, or that are called when it comes back; `finish`, `fail` and `leave`
    can stand for them. A bound method that the application holds stays as it is, but what it calls is looked up anew.
    """
    _replacements.append((owner, attributes))


def _replace() -> None:
    if _replaced:  # forked by a forked child
        return
    for owner, attributes in _replacements:
        for one in _family(owner):
            for name, value in attributes.items():
                _replaced.append((one, name, vars(one).get(name, _ABSENT)))
                setattr(one, name, value)


def _family(owner: type | ModuleType) -> Iterator[type | ModuleType]:
    yield owner
    if isinstance(owner, type):
        subclasses: list[type] = type.__subclasses__(owner)
        for subclass in subclasses:
            yield from _family(subclass)


def _restore() -> None:
    while _replaced:
        owner, name, value = _replaced.pop()
        if value is _ABSENT:
            delattr(owner, name)
        else:
            setattr(owner, name, value)


def _before() -> None:
    if _guarded is not None:
        # until the child has handlers of its own: a signal for it would be written to the descriptor it shares
        _masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, _RESET)


def _in_parent() -> None:
    mask = _masks.pop(threading.get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _in_child() -> None:
    if _guarded is None:
        return
    channel, abandon = _guarded
    _replace()
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


def leave(*_: object, **__: object) -> NoReturn:
    """End a forked child that returned to the event loop: it would take the worker's connections."""
    _log.error("a process that a handler forked returned to the event loop: ending it; leave it by os._exit")
    os._exit(1)


class Home:
    """What the event loop takes pieces of when it goes on: ends a forked child that comes so far."""

    def __getitem__(self, _: object) -> NoReturn:
        """See `leave`."""
        leave()


def finish(*_: object, **__: object) -> NoReturn:
    """End a forked child that gives the server a part of an answer, or the whole: nothing is sent to the client."""
    os._exit(0)


def fail(_: object, error: BaseException | None) -> NoReturn:
    """End a forked child that came to the end of a request, by `error` or without one. To stand for a method.

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
