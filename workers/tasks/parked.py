"""`Parked`: an object that a task waits for. The only implementation of the future protocol here, see `tasks`.

`Parked` is a base class because the task calls methods of the object itself: delegation would cost a call in every
wait. Subclasses decide where the task is stored and what wakes it: `Gate` here, `streams.readiness.Readiness` for
sockets, and two that are also the coroutine of the task, `streams.stepping.Stepper` and `request_tasks.Host`.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Generator
from typing import Any

from hybrid.workers.tasks.cpython import Waitable, can_wait_for

Wakeup = Callable[[Any], object]
"""The task's own callback: called with the awaited object, or with a `Failed`, it steps the task."""


class Parked(Waitable):
    """An object for repeated waits, by one task at a time. Belongs to the loop's thread."""

    __slots__ = ()

    meaning = "an event of its connection"
    """What a task waits for that waits for this, for operators."""
    wrapped: Any = None
    """The coroutine that this object runs, if it is also the coroutine of a task."""

    result: type = tuple
    """Called by the task when it is woken; the value is dropped. Calling a C type without arguments is the cheapest
    possible call. To raise instead, the task is woken with a `Failed`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.blocking = False

    def __await__(self) -> Generator[Any, Any, None]:
        self.blocking = True
        return iter((self,))  # type: ignore[return-value]  # yields self once, cheaper than a generator

    def done(self) -> bool:
        """Always False: every wait is a new one."""
        return False


class Failed:
    """Passed to a task's wakeup to raise an error in the task."""

    __slots__ = ("_error",)

    def __init__(self, error: BaseException) -> None:
        self._error: BaseException | None = error

    def result(self) -> None:
        """Raise the error, once."""
        error, self._error = self._error, None
        assert error is not None
        try:
            raise error
        finally:
            del error  # its traceback holds this frame: a cycle, left to the garbage collector


def cancellation(message: Any = None) -> asyncio.CancelledError:
    """Return the error for a call of `cancel(message)`."""
    return asyncio.CancelledError() if message is None else asyncio.CancelledError(message)


def cancel_awaited(waits_for: Any, error: asyncio.CancelledError) -> bool:
    """Cancel the object that a coroutine waits for, as its task would; return True if that wakes it with the error."""
    return can_wait_for(waits_for) and bool(waits_for.cancel(*error.args))


class Gate(Parked):
    """`await gate` waits until the gate is opened. One coroutine at a time: see `taken`.

    A future wakes its task through the loop's queue. Opening a gate in a callback of the loop steps the task
    immediately, which halves the time from a message's arrival to its answer. Benchmark: `python -m benchmarks
    websocket`.
    """

    __slots__ = ("_context", "_wakeup", "taken")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._wakeup: Wakeup | None = None  # of the task; set while it waits here
        self._context: contextvars.Context | None = None
        self.taken = False
        """True while a coroutine waits."""

    def __await__(self) -> Generator[Any, Any, None]:
        self.taken = True
        self.blocking = True
        return iter((self,))  # type: ignore[return-value]  # not the base's: a frame more

    def open(self) -> None:
        """Step the waiting task now. Only from a callback of the loop, while no task runs."""
        wakeup = self._wakeup
        if wakeup is not None:
            self._wakeup = None
            self.taken = False
            self._context.run(wakeup, self)  # type: ignore[union-attr]
        else:
            self.taken = False

    def open_soon(self) -> None:
        """Step the waiting task in the loop's next turn. From anywhere in the loop's thread."""
        self.taken = False
        wakeup, self._wakeup = self._wakeup, None
        if wakeup is not None:
            self._loop.call_soon(wakeup, self, context=self._context)

    # -- the task's side ---------------------------------------------------------------------------------------------

    def add_done_callback(self, wakeup: Wakeup, *, context: contextvars.Context) -> None:
        """Called by the task once this object was yielded to it."""
        if self.taken:
            self._wakeup = wakeup
            self._context = context
        else:  # opened before the task saw it
            self._loop.call_soon(wakeup, self, context=context)

    def cancel(self, msg: Any = None) -> bool:
        """Called by `Task.cancel`: wake the task with CancelledError; False if none waits here."""
        self.taken = False
        wakeup, self._wakeup = self._wakeup, None
        if wakeup is None:
            return False
        self._loop.call_soon(wakeup, Failed(cancellation(msg)), context=self._context)
        return True
