"""Calls functions of hooks: in the loop with a deadline, or before there is a loop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import greenlet

from hybrid.workers.common.failures import in_words
from hybrid.workers.contract.records import record
from hybrid.workers.hooks.registry import Hook, is_async, name_of
from hybrid.workers.identity import Identity
from hybrid.workers.runtime import Greenlets


@record(frozen=True, slots=True)
class Outcome:
    """The end of a call: a value, or the error that was raised."""

    value: object
    error: BaseException | None = None


def failure(hook: Hook, function: Callable[..., Any], error: BaseException) -> str:
    """Return a failed call in words, with the line in the application's code."""
    return in_words(f"the hook {hook.value} failed: {name_of(function)}", error)


class Calls:
    """Calls functions in the loop's thread: async ones in a task, sync ones in a greenlet that does not see the loop.

    A sync function of a hook is thus like a WSGI application: it may use `hybrid.sleep`, `hybrid.await_` and the like.
    """

    def __init__(self, runtime: Greenlets, worker: Identity) -> None:
        """Call it in the loop. `worker` is the argument of each function."""
        self._runtime = runtime
        self._worker = worker
        self._running: dict[int, asyncio.Task[Outcome]] = {}  # id of a function -> its call that has not ended
        runtime.hide_loop()

    async def outcome(self, hook: Hook, function: Callable[..., Any], seconds: float | None = None) -> Outcome:
        """Call a function and wait for its end, at most `seconds`; then it is cancelled and the error a `TimeoutError`.

        A function that goes on although it was cancelled is not called again meanwhile. Raises `CancelledError` if the
        waiting task is cancelled, and cancels the function.
        """
        key = id(function)  # it may be an object without a hash
        if key in self._running:
            return Outcome(None, TimeoutError("its last call has not ended"))
        # not `create_task`: the application may have set a task factory that fails
        task = asyncio.Task(self._call(function), loop=self._runtime.loop, name=f"hook {hook.value}")
        self._running[key] = task
        task.add_done_callback(lambda _: self._running.pop(key, None))
        try:
            await asyncio.wait((task,), timeout=None if seconds is None else max(seconds, 0.0))
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not task.done():
            task.cancel()
            return Outcome(None, TimeoutError("it did not end before its deadline"))
        return Outcome(None, asyncio.CancelledError()) if task.cancelled() else task.result()

    async def _call(self, function: Callable[..., Any]) -> Outcome:
        try:
            if is_async(function):
                return Outcome(await function(self._worker))
            value = await _GreenCall(self._runtime, function, self._worker).value()
            return Outcome(await value if inspect.isawaitable(value) else value)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - any code may run; a SystemExit must not end the loop
            return Outcome(None, error)


class _GreenCall:
    """A call in a greenlet; a `Job` of the runtime."""

    def __init__(self, runtime: Greenlets, function: Callable[..., Any], worker: Identity) -> None:
        self._runtime = runtime
        self._function = function
        self._worker = worker
        self._greenlet: Any = None  # in which the function waits
        self._is_over = False
        self._ended: asyncio.Future[Outcome] = runtime.loop.create_future()

    async def value(self) -> Any:
        """Call the function and return its value; raise its error. Cancelled, it kills the greenlet, and waits."""
        self._runtime.loop.call_soon(self._runtime.run_job, self)
        try:
            await asyncio.wait((self._ended,))
        except asyncio.CancelledError:
            self._runtime.call_home(self._kill)
            await asyncio.wait((self._ended,))
            raise
        outcome = self._ended.result()
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    def run(self) -> None:
        """Call the function, in the greenlet."""
        try:
            self._end(Outcome(self._function(self._worker)))
        except greenlet.GreenletExit as error:
            self._end(Outcome(None, error))
            raise
        except BaseException as error:  # noqa: BLE001 - passed on
            self._end(Outcome(None, error))

    def parked(self, pool_worker: Any) -> None:
        """Note the greenlet: the function waits for the first time."""
        self._greenlet = pool_worker

    def _end(self, outcome: Outcome) -> None:
        self._is_over = True  # its greenlet may serve others from now on
        self._runtime.loop.call_soon(self._settle, outcome)

    def _settle(self, outcome: Outcome) -> None:
        if not self._ended.done():
            self._ended.set_result(outcome)

    def _kill(self) -> None:
        """Raise GreenletExit in the greenlet, from its home."""
        if self._is_over:
            return
        if self._greenlet is not None:
            self._greenlet.throw(greenlet.GreenletExit)
        if self._greenlet is None or self._greenlet.dead:  # it has not begun
            self._end(Outcome(None, greenlet.GreenletExit()))
