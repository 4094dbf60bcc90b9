"""Cleanup in a process that an application forks: it must not act for the worker, whose descriptors it shares.

Two dangers, both measured. Python's signal wake-up descriptor is shared, so a SIGTERM for the child drains the worker.
An epoll set is shared, so a socket closed in the child is no longer watched in the worker (epoll(7), "Questions").

A child of a handler ends when it returns to the event loop. A child of a request ends when it returns, yields or sends
anything to the server: only the parent responds to the request and runs the other requests of the turn. A child of an
offloaded call ends when the call returns: only the parent answers, and accepts further calls.

Requests do not check if they run in such a child. Instead, methods are replaced in the child: see `replace`.
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
_replacements: list[tuple[type | ModuleType, dict[str, object]]] = []  # to be applied in a forked child
_replaced: list[tuple[type | ModuleType, str, object]] = []  # in a forked child: the original attributes
_guarded: tuple[Channel, Callable[[], None]] | None = None  # set while this process is a worker
_is_registered = False  # the fork hooks are registered, in this process or an ancestor; they cannot be removed
_masks: dict[int, set[int]] = {}  # forking thread -> its signal mask before the fork
_abandoned: list[object] = []  # kept in a forked child: a pending task that is dropped logs an error
_RESET = (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGUSR2)


def guard(channel: Channel, abandon: Callable[[], None]) -> None:
    """From now on let every forked child drop `channel`, the worker's signals and, by `abandon()`, its loop."""
    global _guarded, _is_registered
    _restore()  # a worker may be a descendant of such a child
    _guarded = channel, abandon
    if not _is_registered:
        _is_registered = True
        os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)


def disarm() -> None:
    """From now on do nothing in a forked child: this process is no longer a worker."""
    global _guarded
    _guarded = None


def replace(owner: type | ModuleType, **attributes: object) -> None:
    """In every forked child set these attributes of `owner`, and of its subclasses if it is a class.

    Meant for methods that the application calls, or that run when it returns; replace them by `finish`, `fail` or
    `leave`. A bound method that the application holds is not replaced, but the methods it calls are.
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
        # until the child has its own handlers: a signal for it would be written to the shared wake-up descriptor
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
    """In a forked child, replace the remaining callbacks of this turn, which belong to the worker, by `leave`.

    asyncio's loops keep them in a queue that must not shrink during a turn. uvloop does not expose its queue, and its
    loop would continue in the child with its own epoll set (uv_loop_fork): schedule `leave` as soon as possible.
    """
    ready = queue_of(loop)
    if ready is not None:
        _abandoned.extend(ready)
        for place in range(len(ready)):
            ready[place] = asyncio.Handle(leave, (), loop)
    else:
        with contextlib.suppress(RuntimeError):  # the loop is closed, or in debug mode another thread forked
            loop.call_soon(leave)


def leave(*_: object, **__: object) -> NoReturn:
    """End a forked child that returned to the event loop: it would accept the worker's connections."""
    _log.error(
        "a process that a handler forked returned to the event loop: ending it; leave such a process with os._exit"
    )
    os._exit(1)


class Home:
    """Replaces a buffer that the event loop slices on its next read: ends a forked child that gets there."""

    def __getitem__(self, _: object) -> NoReturn:
        """See `leave`."""
        leave()


def finish(*_: object, **__: object) -> NoReturn:
    """End a forked child that gives the server a response or a part of it: nothing is sent to the client."""
    os._exit(0)


def fail(_: object, error: BaseException | None) -> NoReturn:
    """End a forked child that reached the end of a request or of an offloaded call, with or without an `error`.

    Its exit code is 0, or the code of a `SystemExit`, or 1 with the error in the log.
    """
    code = 0
    if isinstance(error, SystemExit):
        code = _code_of(error)
    elif error is not None and not isinstance(error, (GreenletExit, GeneratorExit)):
        _log.error("a process that a request or a call forked failed", exc_info=error)
        code = 1
    os._exit(code)


def _code_of(error: SystemExit) -> int:
    """Return the exit code as the interpreter computes it (`sys.exit`)."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    _log.error("a process that a request or a call forked ended: %s", error.code)
    return 1
