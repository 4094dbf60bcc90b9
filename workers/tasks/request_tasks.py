"""Tasks for requests, made before they are needed and used again by requests that never wait.

An ASGI application expects a current task of its own and a context of its own for each request. Making both and
stepping the task through the loop's queue costs more than a small application does. So the coroutine of a request is
stepped at once, in the name of a spare task that is parked at a *gate*. If it ends without waiting, which is what
small requests do, the task stays parked and serves the next one. If it waits, the gate opens and the task carries on
with the coroutine: from there on it is a task like any other, and another spare one is made.

An application that sets a task factory wants to see all tasks made, so with one each request has a task of its own from
the factory.

What a request leaves behind must not be found by the next one. So a context that it has changed is not used again,
nor a task with other references when the request is over, strongly or weakly (as the keys of a dict do), that
was given an attribute or a name, or that was cancelled. What cannot be seen is a note of `id(task)`: the
next request may have the same. With ordinary tasks it may as well, for the memory of one that has ended is used again.

Benchmark: `python -m benchmarks asgi`.
"""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections.abc import Coroutine, Generator
from sys import getrefcount
from typing import Any

from hybrid.workers.tasks.cpython import OpenTask, do_not_wait_for, enter_task, leave_task
from hybrid.workers.tasks.parked import Failed, Parked, Wakeup, cancel_awaited, cancellation

_weak_references = weakref.getweakrefcount
_NOTHING: Any = object()
NAME = "request"
"""Of a task that has no name yet."""


class RequestTasks:
    """Runs coroutines of one loop. Belongs to its thread; `run` is called from a callback, not from a task."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task_factory = loop.get_task_factory
        self._pristine = contextvars.copy_context()
        self._spare: Host | None = None
        self._has_values = len(self._pristine) > 0

    def run(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """Step `coroutine` now; return its task if it waits, None if it has ended.

        It must raise nothing but `CancelledError`, which is dropped. With a task factory that is not eager, the first
        step is that of the task, in the loop's next turn.
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
                or task.callbacks  # its end is waited for
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
        # The context surrounds the call, because a factory may be older than the argument `context`.
        task = self._pristine.run(self._loop.create_task, coroutine)
        return None if task.done() else task

    def close(self) -> None:
        """End the spare task."""
        if self._spare is not None:
            self._spare.retire()

    def drop(self, host: Host) -> None:
        """`host` serves no further request."""
        if self._spare is host:
            self._spare = None

    def _differs(self, context: contextvars.Context) -> bool:
        """Compare by identity: equal contexts may hold other objects, for it is their values that say what is equal."""
        pristine = self._pristine
        return len(context) != len(pristine) or any(
            context.get(name, _NOTHING) is not pristine[name] for name in pristine
        )


class RequestTask(OpenTask):
    """The task of a request. It tells its host when it is given an attribute, which nothing else shows.

    A task of asyncio takes attributes, but has no `__dict__` to look at.
    """

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        host = self.get_coro()
        if isinstance(host, Host):
            host.marked = True
        super().__setattr__(name, value)


class Host(Parked, Coroutine[Any, Any, None]):
    """The coroutine of a spare task, and the gate at which it is parked; later a mere shell around a request's."""

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
        self.cancelled: asyncio.CancelledError | None = None  # asked for while the task was at the gate
        self._waits_for: Any = _NOTHING  # what the first step of the request waits for; the task has not seen it yet
        self.marked = False
        """True once the task was given an attribute, or was cancelled in a request."""
        self.wakeup: Wakeup | None = None
        """The task's own; set while it is at the gate, which a new task reaches in the loop's next turn."""
        self._over = False
        self.__name__ = self.__qualname__ = NAME
        self.blocking = False
        self._failed: Failed | None = (
            None  # what the task is woken with if nothing ran in its name when it was cancelled
        )
        self.task: Any = RequestTask(self, loop=loop, context=context, name=NAME)
        """The task while it is spare, then None: task and host would hold each other until a collection."""

    def carry_on(self, waits_for: Any) -> None:
        """The request waits: give it to the task. Called in the loop, outside of tasks."""
        assert self.coroutine is not None
        self.__name__ = getattr(self.coroutine, "__name__", NAME)
        self.__qualname__ = getattr(self.coroutine, "__qualname__", NAME)
        # not by way of a variable, see `throw`
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
        self._loop.call_soon(self._open)  # this may be the turn of another task

    def _open(self) -> None:
        wakeup, self.wakeup = self.wakeup, None
        if wakeup is not None:
            self.context.run(wakeup, self._failed or self)

    # -- the coroutine of the task -----------------------------------------------------------------------------------

    def send(self, value: Any) -> Any:
        """Give the task what it is to wait for. Raises `StopIteration` at the end."""
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
        """Raise an error in the request, as the task asks."""
        if self.coroutine is None or self._over:
            self._tasks.drop(self)
            self.task = None
            try:
                raise error[0]
            finally:
                del error  # its traceback holds this frame
        waits_for, self._waits_for = self._waits_for, _NOTHING
        if waits_for is not _NOTHING:  # a new task, cancelled before it has seen what its request waits for
            if isinstance(error[0], asyncio.CancelledError) and cancel_awaited(waits_for, error[0]):
                return waits_for
            do_not_wait_for(waits_for)
        try:
            return self.coroutine.throw(*error)
        finally:
            # This frame called those in the error's traceback, and from Python 3.12 on they hold it. A variable that
            # holds the error closes a cycle, which only the garbage collector would find.
            del error

    def close(self) -> None:
        """End the request's coroutine; called when the task is thrown away."""
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
        if self.coroutine is None:  # nothing runs in its name: all tasks are being cancelled
            self._tasks.drop(self)
            self._failed = self._failed or Failed(cancellation(msg))
            self._loop.call_soon(self._open)
        elif self.cancelled is None:
            self.cancelled = cancellation(msg)
            self.marked = True
        return True

    # -- what anyio and debuggers ask a coroutine: the answers are the request's. No __getattr__: it would make every
    # other attribute slow.

    @property
    def cr_await(self) -> Any:
        """What the request waits for."""
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
        """Where it was made."""
        return getattr(self.coroutine, "cr_origin", None)

    @property
    def cr_running(self) -> bool:
        """Whether it is running."""
        return bool(getattr(self.coroutine, "cr_running", False))

    @property
    def cr_suspended(self) -> bool:
        """Whether it waits."""
        return bool(getattr(self.coroutine, "cr_suspended", True))


def _is_cancelled(task: Any) -> bool:
    """Whether the first step of a new task will find that it was cancelled; `uncancel` alone does not undo that."""
    return bool(task.cancelling() or task.must_cancel)
