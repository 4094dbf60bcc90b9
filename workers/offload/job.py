"""`Job`: an offloaded call, for those who wait for it: coroutines, greenlets and threads."""

from __future__ import annotations

import asyncio
import enum
import logging
import os
from collections.abc import Callable, Generator
from typing import Any, Generic, Protocol, TypeVar

from hybrid.workers.contract import log
from hybrid.workers.offload.errors import OffloadCancelled
from hybrid.workers.tasks.parked import Gate

T = TypeVar("T")
_log = logging.getLogger("hybrid")
_allocate_lock = log.unpatched("allocate_lock", "_thread")
_lock = _allocate_lock()  # for the callbacks of all jobs: held for a few instructions


def _renew_lock() -> None:
    global _lock
    _lock = _allocate_lock()


os.register_at_fork(after_in_child=_renew_lock)  # another thread may hold it at that moment


class Outcome(enum.Enum):
    """What has become of a call; the values are words of metrics."""

    NONE = "none"
    """It has not ended."""
    DONE = "done"
    """The function has returned."""
    RAISED = "raised"
    """The function has raised."""
    DIED = "died"
    """Its process has died."""
    TIMED_OUT = "timed_out"
    """It did not end in time."""
    CANCELLED = "cancelled"
    """It was cancelled."""
    FAILED = "failed"
    """It could not run, or its outcome could not be sent."""


class Carrier(Protocol):
    """What carries a job to another process."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop on which jobs end; None: they end in a thread."""
        ...

    def cancel(self, job: Job[Any]) -> None:
        """End a job soon, from any thread: what waits for it gets `OffloadCancelled`."""
        ...


class _Ended(Gate):
    """The end of a call, for a task on the loop where it ends."""

    __slots__ = ()
    meaning = "the end of an offloaded call"


class Job(Generic[T]):
    """An offloaded call. `await` it in a coroutine; call `result` in a greenlet or a thread.

    A coroutine that is cancelled while it awaits the job cancels the job.
    """

    __slots__ = (
        *("__weakref__", "_callbacks", "_carrier", "_error", "_is_seen", "_outcome", "_value", "_waiters"),
        "name",
    )

    def __init__(self, carrier: Carrier, name: str) -> None:
        self.name = name
        """The name of the function, for messages."""
        self._carrier = carrier
        self._outcome = Outcome.NONE
        self._value: T | None = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Job[T]], object]] = []
        self._waiters: list[tuple[Callable[[], object], Callable[[], object]]] = []  # how to wake each: now, soon
        self._is_seen = False  # somebody has asked for the outcome

    def __repr__(self) -> str:
        return f"<hybrid.Job {self.name} {self._outcome.value if self.done() else 'pending'}>"

    def done(self) -> bool:
        """Return True once the call has ended in any way."""
        return self._outcome is not Outcome.NONE

    def cancelled(self) -> bool:
        """Return True if it was cancelled."""
        return self._outcome is Outcome.CANCELLED

    @property
    def outcome(self) -> Outcome:
        """What has become of the call."""
        return self._outcome

    def cancel(self) -> bool:
        """Cancel the call; return False if it has ended before. Does not block.

        From any thread; outside of the loop's own, the job ends a moment later.
        A call that waits never runs. One that runs gets an exception between two of its bytecodes; if it has not ended
        a second later, its process is killed.
        """
        if self.done():
            return False
        self._is_seen = True
        self._carrier.cancel(self)
        return True

    def result(self, timeout: float | None = None) -> T:
        """Wait for the end and return what the function has returned, or raise what it has raised.

        Parks a greenlet, blocks a thread. Raises `TimeoutError` after `timeout` seconds, without an effect on the call;
        an `OffloadError`; `RuntimeError` in a coroutine, which must await the job.
        """
        if not self.done():
            self._wait(timeout)
        return self._get()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait as `result` does, and return what it would raise; None if it would return."""
        if not self.done():
            self._wait(timeout)
        self._is_seen = True
        return self._error

    def add_done_callback(self, callback: Callable[[Job[T]], object]) -> None:
        """Call `callback(job)` when the call ends, on the loop if there is one; now if it has ended."""
        with _lock:
            if not self.done():
                self._callbacks.append(callback)
                return
        callback(self)

    def __await__(self) -> Generator[Any, None, T]:
        if not self.done():
            loop = asyncio.get_running_loop()
            ended = _Ended(loop)
            if loop is self._carrier.loop:
                self._waiters.append((ended.open, ended.open_soon))
            else:
                self.add_done_callback(lambda _: loop.call_soon_threadsafe(ended.open))
            try:
                yield from ended.__await__()
            except asyncio.CancelledError:
                self.cancel()
                raise
        return self._get()

    def _get(self) -> T:
        self._is_seen = True
        if self._error is not None:
            try:
                raise self._error
            finally:
                self = None  # type: ignore[assignment]  # otherwise the traceback and the error refer to each other
        return self._value  # type: ignore[return-value]

    def _wait(self, timeout: float | None) -> None:
        current = _runtime()
        if current is not None:
            parking = current.parking()
            if current.loop is self._carrier.loop:
                self._waiters.append((parking.wake, parking.wake_soon))
            else:
                self.add_done_callback(lambda _: current.loop.call_soon_threadsafe(parking.wake))
            parking.wait(timeout)
            return
        done = _allocate_lock()
        done.acquire()
        self.add_done_callback(lambda _: done.release())
        if not done.acquire(True, -1 if timeout is None else max(timeout, 0.0)):
            raise TimeoutError(f"{self.name} has not ended within {timeout:g} s")

    # -- for carriers

    def ends(
        self, outcome: Outcome, value: Any = None, error: BaseException | None = None, *, at_once: bool = False
    ) -> bool:
        """Note the end; return False if it has ended before.

        `at_once`: what waits on the carrier's loop goes on before this returns, not in the loop's next turn. Only from
        a callback of the loop, as for `Gate.open` and `Parking.wake`.
        """
        with _lock:
            if self._outcome is not Outcome.NONE:
                return False
            self._value, self._error = value, error
            self._outcome = outcome
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback(self)
            except Exception:  # noqa: BLE001 - one must not keep the others from being called
                _log.exception("a callback of %s failed", self.name)
        if self._waiters:  # of the loop's thread, where the job ends
            waiters, self._waiters = self._waiters, []
            for now, soon in waiters:
                if at_once:
                    now()
                else:
                    soon()
        return True

    def __del__(self) -> None:
        if self._error is not None and not self._is_seen:
            _log.error("%s was offloaded, and nobody asked for its error", self.name, exc_info=self._error)


def cancelled_error(job: Job[Any]) -> OffloadCancelled:
    """Return the error of a job that was cancelled."""
    return OffloadCancelled(f"{job.name} was cancelled")


def _runtime() -> Any:
    """Return the runtime of the calling thread; None in a thread without a loop."""
    from hybrid.workers import runtime

    try:
        return runtime.current()
    except RuntimeError:
        return None
