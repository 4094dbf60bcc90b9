"""`Stepper`: the coroutine of a connection's task, which lets the poller step the handler while the task stays parked.

A handler's task is an ordinary `asyncio.Task`, but waking one through the future protocol for every message costs
more than the rest of the loop together (0.9 us of 1.9, measured). So the task runs this object instead of the
handler's coroutine directly. When the handler waits for its socket, the task is given one long-lived awaitable, the
*gate* (this object too). When the socket is readable, the poller's callback sends the handler its next turn right
away, in the task's context and as the loop's current task. When the handler waits for anything else, returns, raises,
or is cancelled, the gate opens and the task goes on as any task would.

    the task is ...    the handler waits for ...    who steps the handler
    parked at the gate its socket                   the poller, by `_advance`
    parked at a future that future                  asyncio, by `send` and `throw`

Benchmark: `python -m benchmarks echo`.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any

from hybrid.workers.pollers.contract import READ
from hybrid.workers.streams.readiness import Readiness
from hybrid.workers.tasks import cpython
from hybrid.workers.tasks.cpython import enter_task, leave_task
from hybrid.workers.tasks.parked import Failed, Parked, Wakeup, cancel_awaited, cancellation


def create_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], name: str | None = None
) -> asyncio.Task[Any]:
    """Return a task that runs `coroutine`, stepped by the poller whenever it waits for a socket of the hub."""
    stepper = Stepper(loop, coroutine)
    # A task factory may be older than the argument `context`, so the stepper learns its context from the task.
    task = loop.create_task(stepper) if name is None else loop.create_task(stepper, name=name)
    if not task.done():  # an eager one may be, and would form a cycle
        stepper.task = task
    return task


begin_task = partial(cpython.begin_task, create_task)
"""As `create_task`, and where no task is running, give the task its first turn now: it may be done when this returns.

A connection that has just been accepted is read before the loop turns to others, who may take long.
"""


class Stepper(Parked, Coroutine[Any, Any, Any]):
    """Two roles that share their state: the coroutine of the task, and the gate that the task waits at."""

    __slots__ = (
        "_context",
        "_coroutine",
        "_ended",
        "_failure",
        "_next",
        "_opened",
        "_parked",
        "_resume",
        "_send",
        "_wakeup",
        "task",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._loop = loop
        self._coroutine = coroutine
        self._context: contextvars.Context | None = None  # the task's; it brings it along when it comes to the gate
        self._send = coroutine.send
        self._resume: Callable[[], object] = tuple  # calls `_advance` in that context
        self._parked: Readiness | None = None  # what the handler waits for while the task is at the gate
        self._wakeup: Wakeup | None = None  # the task's own; set while it is at the gate
        self._opened = False  # the gate has opened, and the task has not yet asked what for:
        self._next: Any = None  # ... a future the handler waits for now, or
        self._ended: BaseException | None = None  # ... how it ended: StopIteration with its result, or its error
        self._failure: BaseException | None = None  # to be raised in the handler: CancelledError, or why it cannot wait
        self.blocking = False
        self.task: asyncio.Task[Any] | None = None

    # -- the hot path; benchmark: python -m benchmarks echo ------------------------------------------------------

    def _advance(self) -> None:
        """The socket is readable: give the handler its turn. Called by the poller, in the task's context."""
        self._parked = None
        loop, task = self._loop, self.task
        enter_task(loop, task)
        try:
            waits_for = self._send(None)
        except BaseException as error:  # noqa: BLE001 - raised again by `send`, to the task
            leave_task(loop, task)
            del task  # see `_end`
            self._end(error)
            return
        leave_task(loop, task)
        if type(waits_for) is Readiness and self._failure is None:
            watch = waits_for.watch
            watch.on_readable = self._resume
            self._parked = waits_for
            if not watch.armed & READ:
                self._arm(waits_for)
        else:
            self._hand_over(waits_for)

    # -- the gate, as the task's future --------------------------------------------------------------------------

    def add_done_callback(self, wakeup: Wakeup, *, context: contextvars.Context) -> None:
        """Called by the task when it begins to wait at the gate: from here on the poller steps the handler."""
        self._wakeup = wakeup
        if context is not self._context:
            self._context = context
            self._resume = partial(context.run, self._advance)
        if self._parked is not None:
            self._parked.watch.on_readable = self._resume
            self._arm(self._parked)

    def cancel(self, msg: Any = None) -> bool:
        """Called by `Task.cancel` while the task is at the gate; False if it is not, or was cancelled already."""
        if self._wakeup is None or self._failure is not None:
            return False
        self._fail(cancellation(msg))
        return True

    def _arm(self, readiness: Readiness) -> None:
        try:
            readiness.arm()
        except OSError as error:
            self._fail(error)

    def _fail(self, failure: BaseException) -> None:
        """Have `failure` raised in the handler: soon if it is parked, when its turn is over if it runs."""
        self._failure = failure
        if self._parked is not None:
            self._parked.watch.on_readable = None
            self._parked = None
            self._loop.call_soon(self._open, context=self._context)

    def _hand_over(self, waits_for: Any) -> None:
        """The handler waits for something that is not its socket, or was cancelled in its own turn."""
        self._forget_what_was_taken_back()
        if type(waits_for) is Readiness and self._failure is None:
            self._parked = waits_for
            waits_for.watch.on_readable = self._resume
            self._arm(waits_for)
            return
        failure = self._failure
        if isinstance(failure, asyncio.CancelledError) and type(waits_for) is not Readiness:
            # the failure is gone where that wakes the task with it
            self._failure = None if cancel_awaited(waits_for, failure) else failure
        del failure  # see `_end`
        self._next = waits_for
        self._open()

    def _forget_what_was_taken_back(self) -> None:
        """Since Python 3.13 the last `uncancel` takes back a cancel that the handler has not seen yet."""
        if sys.version_info >= (3, 13) and self._failure is not None and self.task and not self.task.cancelling():
            self._failure = None

    def _end(self, error: BaseException) -> None:
        """The handler returned or raised."""
        self._forget_what_was_taken_back()
        if self._failure is not None and isinstance(error, StopIteration):
            error = self._failure  # cancelled right before it returned: the task counts as cancelled
        self._failure = None
        self._ended = error
        # Frames of this file get into the traceback of the handler's error, and the task holds that. A local variable
        # that holds the error or the task closes a circle, which only the garbage collector would find.
        del error
        self._open()

    def _open(self) -> None:
        """Let the task go on. Runs in the task's context."""
        wakeup, self._wakeup = self._wakeup, None
        told: Stepper | Failed = self
        if self._failure is None:
            self._opened = True
        else:
            told = Failed(self._failure)
            self._failure = self._next = None
        if wakeup is not None:
            try:
                wakeup(told)
            finally:
                del wakeup  # it holds the task; see `_end`

    # -- the task's coroutine ------------------------------------------------------------------------------------

    def send(self, value: Any) -> Any:
        """Called by the task: give the handler its turn, or tell what happened at the gate."""
        if not self._opened:
            return self._seen_by_task(self._step(self._send, value))
        self._opened = False
        ended, self._ended = self._ended, None
        if ended is not None:
            self._release()
            try:
                raise ended
            finally:
                del ended  # see `_end`
        waits_for, self._next = self._next, None
        return waits_for

    def throw(self, *error: Any) -> Any:
        """Called by the task: raise in the handler."""
        try:
            return self._seen_by_task(self._step(self._coroutine.throw, *error))
        finally:
            del error  # see `_end`

    def close(self) -> None:
        """End the handler; called when the task is thrown away."""
        self._release()
        self._coroutine.close()

    def _step(self, step: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return step(*arguments)
        except BaseException:
            self._release()
            raise
        finally:
            del arguments  # see `_end`

    def _seen_by_task(self, waits_for: Any) -> Any:
        if type(waits_for) is not Readiness:
            return waits_for
        self._parked = waits_for
        self.blocking = True
        return self

    def _release(self) -> None:
        """Drop the references that form a cycle: the handler is over."""
        self._resume = tuple
        self.task = None

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()

    # -- what debuggers and `Task.get_stack` look at ---------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        """`cr_code`, `cr_frame`, `cr_running`, `cr_await`, `__name__`, `__qualname__` are the handler's."""
        if name.startswith("cr_") or name in ("__name__", "__qualname__"):
            return getattr(self._coroutine, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
