"""`Readiness`: the awaitable that a reader's task waits on, one per connection and used again for every wait.

It speaks the part of the future protocol that `asyncio.Task` uses (Modules/_asynciomodule.c, `task_step` and
`task_wakeup`; PEP 3156): the task sees `_asyncio_future_blocking`, compares `_loop`, calls `add_done_callback(wakeup,
context=...)`, and later `wakeup(self)` asks for `result()`. A real Future would put `wakeup` into the loop's queue;
here the poller's callback *is* `context.run(wakeup, self)`, so the task runs the moment its socket is readable.
Benchmark: `python -m benchmarks echo`.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from hybrid.workers.hub.watch import Watch, Watches
from hybrid.workers.pollers.contract import READ


class Readiness:
    """Wait for a watch to become readable: `await readiness`. One task at a time."""

    __slots__ = ("_asyncio_future_blocking", "_loop", "_message", "_watches", "result", "watch")

    def __init__(self, loop: asyncio.AbstractEventLoop, watches: Watches, watch: Watch) -> None:
        self._loop = loop
        self._watches = watches
        self.watch = watch
        self._asyncio_future_blocking = False
        self._message: Any = None
        # What the task calls to learn of an error; the value is dropped. A type of C called without arguments is the
        # cheapest thing that returns; `cancel` puts a method that raises in its place.
        self.result: Callable[[], object] = tuple

    def __await__(self) -> Generator[Any, Any, Any]:
        if self.watch.fd < 0:
            return iter(())  # type: ignore[return-value]  # closed by this side: nothing to wait for, the next recv tells
        self._asyncio_future_blocking = True
        return iter((self,))  # type: ignore[return-value]  # yields self once, cheaper than a generator

    __iter__ = __await__

    def add_done_callback(self, wakeup: Callable[..., object], *, context: contextvars.Context) -> None:
        """Called by the task once it has yielded this object. Arms the watch."""
        self.watch.on_readable = partial(context.run, wakeup, self)
        try:
            self.arm()
        except OSError as error:
            self._wake_with(error)

    def arm(self) -> None:
        """See that the poller watches. Raises `OSError`."""
        if not self.watch.armed & READ:
            self._watches.arm(self.watch, READ)

    def waiting(self) -> bool:
        """Whether a task waits."""
        return self.watch.on_readable is not None

    def cancel(self, msg: Any = None) -> bool:
        """Called by `Task.cancel`: wake the task with CancelledError; False if none waits."""
        if self.watch.on_readable is None:
            return False
        self._wake_with(asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg))
        return True

    def _wake_with(self, error: BaseException) -> None:
        callback, self.watch.on_readable = self.watch.on_readable, None
        self._message = error
        self.result = self._raise
        if callback is not None:
            self._loop.call_soon(callback)

    def _raise(self) -> None:
        error, self._message, self.result = self._message, None, tuple
        try:
            raise error
        finally:
            del error  # its traceback holds this frame: together they would wait for the garbage collector

    def done(self) -> bool:
        """Always False: it is armed anew for every wait."""
        return False
