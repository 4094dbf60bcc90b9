"""The private names of asyncio that the workers use. No other module uses one; `tests/test_architecture.py` checks.

Each is an alias, so it costs no more than the name itself: functions under a new name, attributes by their descriptors.
Checked with CPython 3.11, 3.12 and 3.13.
"""

from __future__ import annotations

import asyncio
import asyncio.constants
import collections
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import IO, Any

# -- the running loop and the current task of a thread ---------------------------------------------------------------

running_loop: Callable[[], asyncio.AbstractEventLoop | None] = asyncio._get_running_loop
"""Return the loop that runs in this thread, or None."""
set_running_loop: Callable[[asyncio.AbstractEventLoop | None], None] = asyncio._set_running_loop
"""Set the loop that runs in this thread."""
enter_task: Callable[[Any, Any], None] = asyncio.tasks._enter_task
"""`enter_task(loop, task)` makes a task the loop's current one. asyncio documents it in "Extending"."""
leave_task: Callable[[Any, Any], None] = asyncio.tasks._leave_task
"""`leave_task(loop, task)` undoes that."""

# -- the queue of a loop ---------------------------------------------------------------------------------------------

CreateTask = Callable[[asyncio.AbstractEventLoop, Coroutine[Any, Any, Any]], "asyncio.Task[Any]"]


def begin_task(
    create_task: CreateTask, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]
) -> asyncio.Task[Any]:
    """Make a task with `create_task` and, if no task is running, run its first step now. It may be done afterwards."""
    task = create_task(loop, coroutine)
    if asyncio.current_task(loop) is None:
        ready: Any = loop._ready  # type: ignore[attr-defined]
        # The last entry is the task's first step, unless a task factory has already started the task or queued more.
        if ready and getattr(ready[-1]._callback, "__self__", None) is task:
            ready.pop()._run()
    return task


def queue_of(loop: asyncio.AbstractEventLoop) -> collections.deque[asyncio.Handle] | None:
    """Return the handles that this turn of the loop has not run yet; None if the loop does not expose them."""
    found = getattr(loop, "_ready", None)
    return found if isinstance(found, collections.deque) else None


# -- awaitables of a task -------------------------------------------------------------------------------------------


class Waitable:
    """Base of objects that a task may wait for: the attributes that the task checks."""

    __slots__ = ("_asyncio_future_blocking", "_loop")
    _loop: asyncio.AbstractEventLoop
    """The loop of the task."""
    blocking: Any
    """Set it to True before the object is yielded to a task: the task then waits for it, and sets it to False."""


Waitable.blocking = Waitable.__dict__["_asyncio_future_blocking"]


def can_wait_for(found: object) -> bool:
    """Return True if a task to which `found` is yielded now would wait for it."""
    return getattr(found, "_asyncio_future_blocking", None) is True


def do_not_wait_for(found: Any) -> None:
    """Clear the mark of `found`, as a task does when it throws an error into its coroutine."""
    if getattr(found, "_asyncio_future_blocking", None):
        found._asyncio_future_blocking = False


def awaited_by(task: Any) -> Any:
    """Return the future that a task waits for; None if it is about to be stepped, or is none of asyncio's."""
    return getattr(task, "_fut_waiter", None) if issubclass(type(task), asyncio.Task) else None


class OpenTask(asyncio.Task[None]):
    """A task that exposes its callbacks, and if its next step will raise `CancelledError`."""

    __slots__ = ()
    callbacks: Any = asyncio.Task.__dict__.get("_callbacks", asyncio.Future.__dict__["_callbacks"])
    """Called when it is done; None or empty if nothing waits for it."""
    must_cancel: Any = asyncio.Task.__dict__["_must_cancel"]
    """True if `cancel` was called while the task waited for nothing."""


def mark_coroutine_function(function: Any) -> None:
    """Mark `function`, which returns awaitables, as a coroutine function: asgiref checks that, and warns otherwise."""
    function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(function)


# -- transports and loops that asyncio's own functions accept --------------------------------------------------------


class AcceptedTransport(asyncio.transports._FlowControlMixin, ABC):
    """A transport that `start_tls` and `loop.sendfile` accept.

    Nothing of asyncio's mixin is used, but `loop.sendfile` requires it when it has to copy.
    """

    _start_tls_compatible = True
    _sendfile_compatible = asyncio.constants._SendfileMode.TRY_NATIVE

    @abstractmethod
    def is_paused(self) -> bool:
        """Return True if the protocol was told to pause writing."""

    @abstractmethod
    def break_off(self, error: Exception | None) -> None:
        """End the connection immediately, with `error` for the protocol if there is one."""

    @abstractmethod
    async def send_file(self, file: IO[bytes], offset: int, count: int | None) -> int:
        """Send a file with sendfile(2) behind all unsent data; return the number of bytes.

        Raises `asyncio.SendfileNotAvailableError` unless it is a regular file, `OSError` if the connection is lost.
        """

    @property
    def _protocol_paused(self) -> bool:
        return self.is_paused()

    def _force_close(self, exc: Exception | None) -> None:
        """Called by asyncio's TLS."""
        self.break_off(exc)


def serve_by(protocol: Any, callback: Callable[..., object]) -> None:
    """Mark an `asyncio.StreamReaderProtocol` as a server's: `start_tls` takes one with a callback for that."""
    protocol._client_connected_cb = callback


def adopt_reader(protocol: Any, transport: asyncio.BaseTransport) -> None:
    """Give a stream protocol its transport without `connection_made`; it refers to the reader weakly from now on."""
    protocol._strong_reader = None
    protocol._transport = transport


class SendfileLoop(asyncio.SelectorEventLoop):
    """asyncio's loop, whose `sendfile` also takes transports with a `send_file` of their own."""

    async def _sendfile_native(self, transp: Any, file: IO[bytes], offset: int, count: int | None) -> int:
        if isinstance(transp, AcceptedTransport):
            return await transp.send_file(file, offset, count)
        return await super()._sendfile_native(transp, file, offset, count)  # type: ignore[misc, no-any-return]


class UncheckedLoop(asyncio.SelectorEventLoop):
    """asyncio's loop without its check of the calling thread in debug mode."""

    def _check_thread(self) -> None:
        """Do nothing."""
