"""`Stepper`: the coroutine of a connection's task. It lets the poller step the handler while the task stays parked.

A handler's task is an ordinary `asyncio.Task`, but waking a task through the future protocol for every message costs
almost as much as the rest of the loop together (0.9 us of 1.9, measured). So the task runs this object instead of the
handler's coroutine. While the handler waits for its socket, the task waits for one long-lived awaitable, the *gate*,
which is also this object. When the socket is readable, the poller's callback steps the handler immediately, in the
task's context and as the loop's current task. When the handler waits for anything else, returns, raises, or is
cancelled, the gate opens and the task continues like any task.

    the task is ...    the handler waits for ...    stepped by
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
    """Return a task that runs `coroutine`; the poller steps it whenever it waits for a socket of the hub."""
    stepper = Stepper(loop, coroutine)
    # A task factory may not accept the argument `context`, so the stepper takes its context from the task.
    task = loop.create_task(stepper) if name is None else loop.create_task(stepper, name=name)
    if not task.done():  # an eager one may be, and would form a cycle
        stepper.task = task
    return task


begin_task = partial(cpython.begin_task, create_task)
"""As `create_task`, but if no task is running, run the first step now: the task may be done when this returns.

So a newly accepted connection is read before the loop serves others, which may take long.
"""


class Stepper(Parked, Coroutine[Any, Any, Any]):
    """Two roles with shared state: the coroutine of the task, and the gate at which the task waits."""

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
        self._context: contextvars.Context | None = None  # the task's; passed to the gate by the task
        self._send = coroutine.send
        self._resume: Callable[[], object] = tuple  # calls `_advance` in that context
        self._parked: Readiness | None = None  # awaited by the handler while the task is at the gate
        self._wakeup: Wakeup | None = None  # of the task; set while it is at the gate
        self._opened = False  # the gate has opened, and the task has not read the reason yet:
        self._next: Any = None  # ... a future that the handler waits for now, or
        self._ended: BaseException | None = None  # ... how it ended: StopIteration with its result, or its error
        self._failure: BaseException | None = None  # to be raised in the handler: CancelledError, or an error of arming
        self.blocking = False
        self.task: asyncio.Task[Any] | None = None

    # -- the hot path; benchmark: python -m benchmarks echo ------------------------------------------------------

    def _advance(self) -> None:
        """Step the handler: its socket is readable. Called by the poller, in the task's context."""
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
        """Called by the task when it begins to wait at the gate: from now on the poller steps the handler."""
        self._wakeup = wakeup
        if context is not self._context:
            self._context = context
            self._resume = partial(context.run, self._advance)
        if self._parked is not None:
            self._parked.watch.on_readable = self._resume
            self._arm(self._parked)

    def cancel(self, msg: Any = None) -> bool:
        """Called by `Task.cancel`. Return False if the task is not at the gate or was already cancelled."""
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
        """Raise `failure` in the handler: soon if it is parked; after the current step if it is running."""
        self._failure = failure
        if self._parked is not None:
            self._parked.watch.on_readable = None
            self._parked = None
            self._loop.call_soon(self._open, context=self._context)

    def _hand_over(self, waits_for: Any) -> None:
        """The handler waits for something other than its socket, or was cancelled during its own step."""
        self._forget_what_was_taken_back()
        if type(waits_for) is Readiness and self._failure is None:
            self._parked = waits_for
            waits_for.watch.on_readable = self._resume
            self._arm(waits_for)
            return
        failure = self._failure
        if isinstance(failure, asyncio.CancelledError) and type(waits_for) is not Readiness:
            # drop the failure if this wakes the task with it
            self._failure = None if cancel_awaited(waits_for, failure) else failure
        del failure  # see `_end`
        self._next = waits_for
        self._open()

    def _forget_what_was_taken_back(self) -> None:
        """Since Python 3.13 the last `uncancel` undoes a cancel that the handler has not seen yet."""
        if sys.version_info >= (3, 13) and self._failure is not None and self.task and not self.task.cancelling():
            self._failure = None

    def _end(self, error: BaseException) -> None:
        """The handler returned or raised."""
        self._forget_what_was_taken_back()
        if self._failure is not None and isinstance(error, StopIteration):
            error = self._failure  # cancelled just before it returned: the task counts as cancelled
        self._failure = None
        self._ended = error
        # Frames of this file are in the traceback of the handler's error, which the task holds. A local variable that
        # refers to the error or the task would close a cycle, left to the garbage collector.
        del error
        self._open()

    def _open(self) -> None:
        """Wake the task. Runs in the task's context."""
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
        """Called by the task: step the handler, or return the outcome of the wait at the gate."""
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
        """Called by the task: raise an error in the handler."""
        try:
            return self._seen_by_task(self._step(self._coroutine.throw, *error))
        finally:
            del error  # see `_end`

    def close(self) -> None:
        """Close the handler; called when the task is discarded."""
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
        """Drop the references that form a cycle: the handler has ended."""
        self._resume = tuple
        self.task = None

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()

    # -- attributes for operators, see `Parked` --------------------------------------------------------------------

    @property
    def meaning(self) -> str:  # type: ignore[override]
        """What the handler waits for."""
        return Parked.meaning if self._parked is None else self._parked.meaning

    @property
    def wrapped(self) -> Any:
        """The handler's coroutine."""
        return self._coroutine

    # -- attributes that debuggers and `Task.get_stack` read -------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        """Return `cr_code`, `cr_frame`, `cr_running`, `cr_await`, `__name__`, `__qualname__` of the handler."""
        if name.startswith("cr_") or name in ("__name__", "__qualname__"):
            return getattr(self._coroutine, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
