"""`Greenlet`: returned by `hybrid.spawn` on every loop except gevent, with the methods that gevent users know."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

import greenlet
from greenlet import GreenletExit

from hybrid.workers.common.frames import without_own_frame
from hybrid.workers.hub.parking import Parking
from hybrid.workers.tasks.cpython import running_loop, set_running_loop

_log = logging.getLogger("hybrid")
Link = Callable[["Greenlet"], object]


class Greenlet(greenlet.greenlet):
    """A function that runs in its own greenlet, started in the loop's next turn.

    An exception never ends the loop: it is kept for `get`, and logged.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        home: greenlet.greenlet,
        function: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        report: bool = True,
    ) -> None:
        super().__init__(parent=home)
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"{function!r} is a coroutine function: use asyncio.create_task, or hybrid.await_")
        self.gr_context = contextvars.copy_context()  # as asyncio does: a child sees its parent's variables
        self._loop = loop
        self._home = home
        self._call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] | None = (function, args, kwargs or {})
        self._report = report
        self._hides_loop = running_loop() is None  # inherited from its parent: see `pool`
        self._links: list[Link] = []  # called by the loop after the greenlet has ended, in order
        self._ended = False
        self.value: Any = None
        """The result; None before the end, and after an exception."""
        self.exception: BaseException | None = None
        """The exception that ended it, if any."""
        self._trace: TracebackType | None = None  # the exception's traceback before it was raised again
        loop.call_soon(self._start)

    @property
    def started(self) -> bool:
        """True unless it was killed before its first turn."""
        return not (self._ended and self._call is not None)

    def ready(self) -> bool:
        """Return True if it has ended."""
        return self._ended

    def successful(self) -> bool:
        """Return True if it has ended without an error; a kill by `GreenletExit` counts as success, as in gevent."""
        return self._ended and self.exception is None

    @property
    def exc_info(self) -> tuple[type[BaseException] | None, BaseException | None, TracebackType | None]:
        """The error in the form of `sys.exc_info()`."""
        error = self.exception
        return (None, None, None) if error is None else (type(error), error, error.__traceback__)

    def __bool__(self) -> bool:
        return self._call is None and not self._ended

    def run(self) -> None:
        """Body of the greenlet: call the function."""
        if self._call is None:
            raise RuntimeError("a greenlet runs once")
        (function, args, kwargs), self._call = self._call, None
        if self._hides_loop:
            set_running_loop(None)
        try:
            self.value = function(*args, **kwargs)
        except GreenletExit as exit_:
            self.value = exit_.with_traceback(None)
        except BaseException as error:  # noqa: BLE001 - it must not reach the parent, which runs the loop
            self._fail(without_own_frame(error))
            if self._report:
                _log.error("greenlet %s failed", _name_of(function), exc_info=error)
        finally:
            if self._hides_loop and self._loop.is_running():
                set_running_loop(self._loop)
            self._end()
            del self  # it keeps the error, and this frame called the frame that raised it

    def join(self, timeout: float | None = None) -> None:
        """Wait, at most `timeout` seconds, until it has ended. Parks the calling greenlet."""
        joinall(self._loop, self._home, [self], timeout)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Return its result or raise its error. Parks the calling greenlet.

        Raises `TimeoutError` if it has not ended within `timeout` seconds, or, without `block`, if it has not ended
        yet.
        """
        if not self._ended and block:
            self.join(timeout)
        if not self._ended:
            raise TimeoutError(f"{self!r} has not ended" + (f" within {timeout} s" if block else ""))
        try:
            self.raise_error()
            return self.value
        finally:
            del self  # it keeps its error, and the error this frame

    def raise_error(self) -> None:
        """Raise its error, if there is one, with its original traceback."""
        try:
            if self.exception is not None:
                raise self.exception.with_traceback(self._trace)
        finally:
            del self  # it keeps the error, and the error this frame

    def kill(
        self,
        exception: type[BaseException] | BaseException = GreenletExit,
        block: bool = True,
        timeout: float | None = None,
    ) -> None:
        """Raise `exception` where it is parked. With `block`, wait for its end (at most `timeout` seconds).

        A greenlet that has not started never starts. Does not block in the loop's own greenlet.
        """
        if not self._ended and self._call is not None:
            self._raise(exception)  # now: its start is already in the loop's queue
        elif not self._ended:
            self._loop.call_soon(self._raise, exception)
            here = greenlet.getcurrent()
            if block and here is not self._home and here is not self:
                self.join(timeout)

    def link(self, callback: Link) -> None:
        """Let the loop call `callback(self)` after the end; in the next turn if it has ended already."""
        if self._ended:
            self._loop.call_soon(callback, self)
        else:
            self._links.append(callback)

    rawlink = link

    def unlink(self, callback: Link) -> None:
        """Remove a `link`; does nothing if there is none."""
        if callback in self._links:
            self._links.remove(callback)

    def _start(self) -> None:
        if not self._ended:
            self.switch()

    def _raise(self, exception: type[BaseException] | BaseException) -> None:
        if self._ended:
            return
        if self._call is None:
            self.throw(exception)
            return
        error = exception() if isinstance(exception, type) else exception
        if isinstance(error, GreenletExit):
            self.value = error
        else:
            self._fail(error)
        self._end()

    def _fail(self, error: BaseException) -> None:
        self.exception = error
        self._trace = error.__traceback__

    def _end(self) -> None:
        self._ended = True
        links, self._links = self._links, []
        for callback in links:
            self._loop.call_soon(callback, self)


def joinall(
    loop: asyncio.AbstractEventLoop,
    home: greenlet.greenlet,
    greenlets: Iterable[Greenlet],
    timeout: float | None = None,
    raise_error: bool = False,
    count: int | None = None,
) -> list[Greenlet]:
    """Wait until `count` (None: all) of `greenlets` have ended; return them in the order in which they ended.

    After `timeout` seconds, returns those that have ended. With `raise_error`, raises the first error. Parks the
    caller.
    """
    try:
        done = _wait_for(loop, home, list(dict.fromkeys(greenlets)), timeout, raise_error, count)
        if raise_error:
            for item in done:
                item.raise_error()
        return done
    finally:
        del greenlets
        done = item = None  # type: ignore[assignment]  # greenlets keep their error, and the error this frame


def _wait_for(
    loop: asyncio.AbstractEventLoop,
    home: greenlet.greenlet,
    awaited: list[Greenlet],
    timeout: float | None,
    raise_error: bool,
    count: int | None,
) -> list[Greenlet]:
    done = [item for item in awaited if item.ready()]
    wanted = len(awaited) if count is None else min(count, len(awaited))
    waiting = [item for item in awaited if not item.ready()]
    if len(done) < wanted and not (raise_error and any(item.exception for item in done)):
        parking = Parking(loop, home)

        def ended(item: Greenlet) -> None:
            if len(done) < wanted:
                done.append(item)
            if len(done) >= wanted or (raise_error and item.exception is not None):
                parking.wake()

        _park_until(parking, waiting, ended, timeout)
    return list(done)


def _park_until(parking: Parking, waiting: list[Greenlet], ended: Link, timeout: float | None) -> None:
    """Park until `ended`, which is linked to `waiting`, wakes the caller, at most `timeout` seconds."""
    for item in waiting:
        item.link(ended)
    try:
        parking.wait(timeout)
    except TimeoutError:
        if timeout is None:  # thrown in by other code, not ours
            raise
    finally:
        for item in waiting:
            item.unlink(ended)


def _name_of(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(function))}"
