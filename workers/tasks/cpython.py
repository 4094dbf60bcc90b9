"""The private names of asyncio that the workers use. No other module names one; `tests/test_architecture.py` looks.

Each is aliased, so that it costs what the name itself costs: functions under a name of ours, attributes by their
descriptors. Checked with CPython 3.11, 3.12 and 3.13.
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
"""Say which loop runs in this thread."""
enter_task: Callable[[Any, Any], None] = asyncio.tasks._enter_task
"""`enter_task(loop, task)` makes a task the loop's current one. asyncio documents it in "Extending"."""
leave_task: Callable[[Any, Any], None] = asyncio.tasks._leave_task
"""`leave_task(loop, task)` ends that."""

# -- the queue of a loop ---------------------------------------------------------------------------------------------

CreateTask = Callable[[asyncio.AbstractEventLoop, Coroutine[Any, Any, Any]], "asyncio.Task[Any]"]


def begin_task(
    create_task: CreateTask, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]
) -> asyncio.Task[Any]:
    """Make a task by `create_task` and, where no task is running, give it its first turn now. It may be done then."""
    task = create_task(loop, coroutine)
    if asyncio.current_task(loop) is None:
        ready: Any = loop._ready  # type: ignore[attr-defined]
        # The last entry is the task's first step, unless a task factory has begun the task already or queued more.
        if ready and getattr(ready[-1]._callback, "__self__", None) is task:
            ready.pop()._run()
    return task


def queue_of(loop: asyncio.AbstractEventLoop) -> collections.deque[asyncio.Handle] | None:
    """Return the handles that this turn of the loop is still to run; None where the loop does not show them."""
    found = getattr(loop, "_ready", None)
    return found if isinstance(found, collections.deque) else None


# -- what a task waits for -------------------------------------------------------------------------------------------


class Waitable:
    """The attributes by which a task knows what it may wait for."""

    __slots__ = ("_asyncio_future_blocking", "_loop")
    _loop: asyncio.AbstractEventLoop
    """The task's own."""
    blocking: Any
    """To be set to True before the task is given the object: it waits for it then, and sets it to False."""


Waitable.blocking = Waitable.__dict__["_asyncio_future_blocking"]


def can_wait_for(found: object) -> bool:
    """Return True if a task that is given `found` now would wait for it."""
    return getattr(found, "_asyncio_future_blocking", None) is True


def do_not_wait_for(found: Any) -> None:
    """Take back that `found` is to be waited for, as a task does when it throws an error into its coroutine."""
    if getattr(found, "_asyncio_future_blocking", None):
        found._asyncio_future_blocking = False


class OpenTask(asyncio.Task[None]):
    """A task that shows who waits for its end, and whether its next step will raise `CancelledError`."""

    __slots__ = ()
    callbacks: Any = asyncio.Task.__dict__.get("_callbacks", asyncio.Future.__dict__["_callbacks"])
    """Called at its end; None or empty if nothing waits for it."""
    must_cancel: Any = asyncio.Task.__dict__["_must_cancel"]
    """`cancel` was called where the task waited for nothing."""


def mark_coroutine_function(function: Any) -> None:
    """Let `function`, which returns awaitables, pass for a coroutine function: asgiref asks and warns otherwise."""
    function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(function)


# -- transports and loops that asyncio's own functions are to accept -------------------------------------------------


class AcceptedTransport(asyncio.transports._FlowControlMixin, ABC):
    """A transport that `start_tls` and `loop.sendfile` accept.

    Nothing of asyncio's mixin is used: `loop.sendfile` insists on it where it has to copy.
    """

    _start_tls_compatible = True
    _sendfile_compatible = asyncio.constants._SendfileMode.TRY_NATIVE

    @abstractmethod
    def is_paused(self) -> bool:
        """Whether the protocol was told to write no more."""

    @abstractmethod
    def break_off(self, error: Exception | None) -> None:
        """End the connection at once, with `error` for the protocol if there is one."""

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
    """Give a protocol of streams its transport without `connection_made`; it holds the reader weakly from now on."""
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
