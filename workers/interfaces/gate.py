"""`Gate`: where a coroutine waits for the next thing to happen, used again for every wait.

A future wakes its task through the loop's queue. Whoever opens a gate in a callback of the loop steps the task at
once instead, which halves the time from a message's arrival to its answer. It speaks the part of the future protocol
that `asyncio.Task` uses (Modules/_asynciomodule.c, `task_step` and `task_wakeup`). Benchmark: `python -m benchmarks
websocket`.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Generator
from typing import Any


class Gate:
    """`await gate` waits until it is opened. One coroutine at a time: see `taken`. Belongs to the loop's thread."""

    __slots__ = ("_asyncio_future_blocking", "_context", "_loop", "_wakeup", "taken")

    result: type = tuple
    """What a task calls to learn of an error. A type of C called without arguments is the cheapest that returns."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asyncio_future_blocking = False
        self._wakeup: Callable[[Any], object] | None = None  # the task's own; set while it waits here
        self._context: contextvars.Context | None = None
        self.taken = False
        """Whether a coroutine waits."""

    def __await__(self) -> Generator[Any, Any, None]:
        self.taken = True
        self._asyncio_future_blocking = True
        return iter((self,))  # type: ignore[return-value]  # yields self once, cheaper than a generator

    def open(self) -> None:
        """Step who waits, now. Only from a callback of the loop in whose time no task runs."""
        wakeup = self._wakeup
        if wakeup is not None:
            self._wakeup = None
            self.taken = False
            self._context.run(wakeup, self)  # type: ignore[union-attr]
        else:
            self.taken = False

    def open_soon(self) -> None:
        """Step who waits in the loop's next turn. From anywhere in the loop's thread."""
        self.taken = False
        wakeup, self._wakeup = self._wakeup, None
        if wakeup is not None:
            self._loop.call_soon(wakeup, self, context=self._context)

    # -- the task's side ---------------------------------------------------------------------------------------------

    def add_done_callback(self, wakeup: Callable[[Any], object], *, context: contextvars.Context) -> None:
        """Called by the task once it has been given this object to wait for."""
        if self.taken:
            self._wakeup = wakeup
            self._context = context
        else:  # opened before the task came to see it
            self._loop.call_soon(wakeup, self, context=context)

    def cancel(self, msg: Any = None) -> bool:
        """Called by `Task.cancel`: wake the task with CancelledError; False if none waits here."""
        self.taken = False
        wakeup, self._wakeup = self._wakeup, None
        if wakeup is None:
            return False
        error = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        self._loop.call_soon(wakeup, _Cancelled(error), context=self._context)
        return True

    def done(self) -> bool:
        """Always False: every wait is a new one."""
        return False


class _Cancelled:
    """What the wake-up of a cancelled task is given instead of the gate."""

    __slots__ = ("_error",)

    def __init__(self, error: asyncio.CancelledError) -> None:
        self._error: asyncio.CancelledError | None = error

    def result(self) -> None:
        """Raise."""
        error, self._error = self._error, None
        assert error is not None
        try:
            raise error
        finally:
            del error  # its traceback holds this frame
