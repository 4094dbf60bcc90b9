"""Tasks for requests, made in advance and reused as long as requests do not wait.

An ASGI application expects its own current task and its own context for each request. Making both, and stepping the
task through the loop's queue, costs more than a small application does. So the coroutine of a request is stepped
immediately, with a spare task, parked at a *gate*, as its current task. If it ends without waiting, as small requests
do, the task stays parked and serves the next request. If it waits, the gate opens and the task continues the coroutine:
from then on it is a task like any other, and another spare task is made.

An application that sets a task factory expects to see all tasks. So with a task factory each request gets a new task
from it.

A request must not find state of the one before it. So a context that a request has changed is not reused, nor is a task
that has new references after the request, strong or weak (such as keys of a dict), that was given an attribute or a
name, or that was cancelled. A stored `id(task)` cannot be detected: the next request may have the same id. That is also
true of ordinary tasks, because the memory of a finished task is reused.

Benchmark: `python -m benchmarks asgi`.
"""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections.abc import Callable, Coroutine, Generator
from sys import getrefcount
from typing import Any

from hybrid.workers.tasks.cpython import OpenTask, do_not_wait_for, enter_task, leave_task
from hybrid.workers.tasks.parked import Failed, Parked, Wakeup, cancel_awaited, cancellation

_weak_references = weakref.getweakrefcount
_NOTHING: Any = object()
NAME = "request"
"""The name of a task until the application names it."""


class RequestTasks:
    """Runs coroutines on one loop. Belongs to its thread; `run` is called from a callback, not from a task."""

    def __init__(self, loop: asyncio.AbstractEventLoop, task_factory: Callable[[], object] | None = None) -> None:
        """`task_factory` returns the application's task factory (None: it has none); by default the loop's."""
        self._loop = loop
        self._task_factory = loop.get_task_factory if task_factory is None else task_factory
        self._pristine = contextvars.copy_context()
        self._spare: Host | None = None
        self._has_values = len(self._pristine) > 0

    def run(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """Step `coroutine` now; return its task if it waits, None if it has ended.

        It must raise nothing but `CancelledError`, which is dropped. With a task factory that is not eager, the task
        takes its first step in the loop's next turn.
        """
        if self._task_factory() is not None:
            return self._run_by_factory(coroutine)
        host = self._spare
        if host is None or host.wakeup is None:
            host = self._usable(host)
        task: OpenTask = host.task
        host.coroutine = coroutine
        loop = self._loop
        references = getrefcount(task)
        weak_references = _weak_references(task)
        enter_task(loop, task)
        try:
            waits_for = host.context.run(coroutine.send, None)
        except StopIteration:
            leave_task(loop, task)
            host.coroutine = None
            if (
                getrefcount(task) != references  # a reference is kept
                or _weak_references(task) != weak_references
                or host.marked
                or task.get_name() is not NAME
                or (self._differs(host.context) if self._has_values else host.context != self._pristine)
                or task.callbacks  # something waits for its end
            ):
                host.retire()
            return None
        except BaseException as error:
            leave_task(loop, task)
            host.retire()
            if isinstance(error, asyncio.CancelledError):
                return None
            raise
        leave_task(loop, task)
        self._spare = None
        host.carry_on(waits_for)
        return task

    def _usable(self, host: Host | None) -> Host:
        """Return a host that is not cancelled: `host`, whose new task has not reached the gate yet, or another one."""
        if host is None or _is_cancelled(host.task):
            self._spare = host = Host(self, self._loop, self._pristine.copy())
        return host

    def _run_by_factory(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        # Run in the context, because a factory may not accept the argument `context`.
        task = self._pristine.run(self._loop.create_task, coroutine)
        return None if task.done() else task

    def close(self) -> None:
        """End the spare task."""
        if self._spare is not None:
            self._spare.retire()

    def drop(self, host: Host) -> None:
        """Stop using `host` for further requests."""
        if self._spare is host:
            self._spare = None

    def _differs(self, context: contextvars.Context) -> bool:
        """Compare by identity: contexts with equal values may still hold different objects."""
        pristine = self._pristine
        return len(context) != len(pristine) or any(
            context.get(name, _NOTHING) is not pristine[name] for name in pristine
        )


class RequestTask(OpenTask):
    """The task of a request. It tells its host when it is given an attribute, which cannot be detected otherwise.

    An asyncio task takes attributes, but has no `__dict__` to inspect.
    """

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        host = self.get_coro()
        if isinstance(host, Host):
            host.marked = True
        super().__setattr__(name, value)


class Host(Parked, Coroutine[Any, Any, None]):
    """The coroutine of a spare task, and the gate at which it is parked; later a wrapper of a request's coroutine."""

    __slots__ = (
        "__name__",
        "__qualname__",
        "_failed",
        "_over",
        "_tasks",
        "_waits_for",
        "cancelled",
        "context",
        "coroutine",
        "marked",
        "task",
        "wakeup",
    )

    def __init__(self, tasks: RequestTasks, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        self._tasks = tasks
        self._loop = loop
        self.context = context
        self.coroutine: Coroutine[Any, Any, None] | None = None
        self.cancelled: asyncio.CancelledError | None = None  # requested while the task was at the gate
        self._waits_for: Any = _NOTHING  # awaited by the first step of the request; not yet yielded to the task
        self.marked = False
        """True once the task was given an attribute, or was cancelled in a request."""
        self.wakeup: Wakeup | None = None
        """The task's callback; set while the task is at the gate, which a new task reaches in the loop's next turn."""
        self._over = False
        self.__name__ = self.__qualname__ = NAME
        self.blocking = False
        self._failed: Failed | None = None  # wakes the task if it was cancelled while it had no request
        self.task: Any = RequestTask(self, loop=loop, context=context, name=NAME)
        """The task while it is spare, then None: task and host would form a cycle."""

    def carry_on(self, waits_for: Any) -> None:
        """The request waits: pass it to the task. Called in the loop, outside of tasks."""
        assert self.coroutine is not None
        self.__name__ = getattr(self.coroutine, "__name__", NAME)
        self.__qualname__ = getattr(self.coroutine, "__qualname__", NAME)
        # not in a local variable, see `throw`
        if self.cancelled is not None and cancel_awaited(waits_for, self.cancelled):
            self.cancelled = None
        self._waits_for = waits_for
        self.task = None
        self._open()

    def retire(self) -> None:
        """Let the task end."""
        self._tasks.drop(self)
        self._over = True
        self.task = None
        self.coroutine = None
        self.cancelled = None
        self._loop.call_soon(self._open)  # another task may be running now

    def _open(self) -> None:
        wakeup, self.wakeup = self.wakeup, None
        if wakeup is not None:
            self.context.run(wakeup, self._failed or self)

    # -- the coroutine of the task -----------------------------------------------------------------------------------

    def send(self, value: Any) -> Any:
        """Return the next object for the task to wait for. Raises `StopIteration` at the end."""
        if self._over:
            raise StopIteration
        waits_for = self._waits_for
        if waits_for is not _NOTHING:
            self._waits_for = _NOTHING
            if self.cancelled is not None:
                cancelled, self.cancelled = self.cancelled, None
                do_not_wait_for(waits_for)
                assert self.coroutine is not None
                try:
                    return self.coroutine.throw(cancelled)
                finally:
                    del cancelled  # see `throw`
            return waits_for
        if self.coroutine is None:
            self.blocking = True
            return self
        return self.coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an error in the request; called by the task."""
        if self.coroutine is None or self._over:
            self._tasks.drop(self)
            self.task = None
            try:
                raise error[0]
            finally:
                del error  # its traceback holds this frame
        waits_for, self._waits_for = self._waits_for, _NOTHING
        if waits_for is not _NOTHING:  # a new task, cancelled before its request's first awaitable was yielded to it
            if isinstance(error[0], asyncio.CancelledError) and cancel_awaited(waits_for, error[0]):
                return waits_for
            do_not_wait_for(waits_for)
        try:
            return self.coroutine.throw(*error)
        finally:
            # This frame called the frames in the error's traceback, and from Python 3.12 on they refer to it. A
            # variable that refers to the error would close a cycle, left to the garbage collector.
            del error

    def close(self) -> None:
        """Close the request's coroutine; called when the task is discarded."""
        if self.coroutine is not None:
            self.coroutine.close()

    def __await__(self) -> Generator[Any, Any, None]:
        if self.coroutine is not None:
            return self.coroutine.__await__()
        return iter(())  # type: ignore[return-value]

    # -- the gate, as the task's future -------------------------------------------------------------------------------

    def add_done_callback(self, wakeup: Wakeup, *, context: contextvars.Context) -> None:
        """Called by the task when it begins to wait at the gate."""
        self.wakeup = wakeup

    def cancel(self, msg: Any = None) -> bool:
        """Called by `Task.cancel` while the task is at the gate."""
        if self.wakeup is None:
            return False
        if self.coroutine is None:  # it has no request: all tasks are being cancelled
            self._tasks.drop(self)
            self._failed = self._failed or Failed(cancellation(msg))
            self._loop.call_soon(self._open)
        elif self.cancelled is None:
            self.cancelled = cancellation(msg)
            self.marked = True
        return True

    @property
    def wrapped(self) -> Any:
        """The request's coroutine; None while the task is spare. See `Parked`."""
        return self.coroutine

    # -- attributes of a coroutine that anyio and debuggers read, from the request's. Not by `__getattr__`, which would
    # make every other attribute slow.

    @property
    def cr_await(self) -> Any:
        """The object that the request waits for."""
        return getattr(self.coroutine, "cr_await", None)

    @property
    def cr_code(self) -> Any:
        """The code of the request's coroutine."""
        return getattr(self.coroutine, "cr_code", None)

    @property
    def cr_frame(self) -> Any:
        """Its frame."""
        return getattr(self.coroutine, "cr_frame", None)

    @property
    def cr_origin(self) -> Any:
        """Where the coroutine was created."""
        return getattr(self.coroutine, "cr_origin", None)

    @property
    def cr_running(self) -> bool:
        """True while it is running."""
        return bool(getattr(self.coroutine, "cr_running", False))

    @property
    def cr_suspended(self) -> bool:
        """True while it waits."""
        return bool(getattr(self.coroutine, "cr_suspended", True))


def _is_cancelled(task: Any) -> bool:
    """Return True if a new task was cancelled before its first step; `uncancel` alone does not undo that."""
    return bool(task.cancelling() or task.must_cancel)
