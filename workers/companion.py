"""The body of a companion: a process beside the workers that runs a function of the application.

A coroutine function runs on the service's loop, which obeys orders and shows that it turns, as a worker's does; it is
cancelled when the companion is to end. Any other function runs in the main thread without a loop, and gets SystemExit
there; a thread beside it obeys the orders that need no loop. What bounds both is the supervisor's SIGKILL.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
import logging
import os
import signal
import types
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from hybrid.workers.accepting.adoption import close_all
from hybrid.workers.accepting.recycle import RecycleCheck
from hybrid.workers.apps.detect import is_coroutine_function
from hybrid.workers.boot.application import Application
from hybrid.workers.boot.dispositions import Dispositions, do_nothing
from hybrid.workers.common import forks
from hybrid.workers.common.heartbeat import Heartbeat
from hybrid.workers.contract import offload_queue, reopening
from hybrid.workers.contract.channel import ChannelClosed
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import (
    CallDied,
    Drain,
    Draining,
    LogLevel,
    Message,
    Ping,
    Ready,
    RecycleDue,
    Reopened,
    TellStacks,
)
from hybrid.workers.contract.scoreboard import Activity
from hybrid.workers.contract.worker_spec import WorkerSpec
from hybrid.workers.loops.driver import Driver
from hybrid.workers.loops.driver import run as run_loop
from hybrid.workers.offload import place as offloading
from hybrid.workers.ordering_thread import OrderingThread
from hybrid.workers.orders import Orders, told_stacks
from hybrid.workers.runtime import Runtime

_log = logging.getLogger("hybrid")
_INTERFACE = "companion"
_MARGIN = 1.0  # seconds before SIGKILL at which a coroutine that refuses to end is given up


def run(spec: WorkerSpec, application: Application, driver: Driver, function: Callable[[], Any]) -> int:
    """Run a companion; return its exit code. Blocks until the function ends. Call it in the main thread.

    Raises any `SystemExit` of a function that is not async.
    """
    if not is_coroutine_function(function):
        return _Sync(spec, function).run()
    made: list[_Async] = []

    def begin(runtime: Runtime) -> Coroutine[Any, Any, int]:
        made.append(_Async(spec, application, function, runtime))
        return made[0].run()

    return run_loop(driver, begin, lambda error: made[0].survive(error))


class _Sync:
    """A function that is not async."""

    def __init__(self, spec: WorkerSpec, function: Callable[[], Any]) -> None:
        self._spec = spec
        self._function = function
        self._heartbeat = Heartbeat(spec.record)

    def run(self) -> int:
        """Run the function. Raises its `SystemExit`."""
        forks.guard(self._spec.channel, self._heartbeat.abandon)
        signal.signal(signal.SIGTERM, self._on_sigterm)
        try:
            self._heartbeat.tells(Activity.READY)
            thread = OrderingThread(self._spec.channel, self._heartbeat.answers)
            self._tell(Ready("", _INTERFACE, listens=thread.begin()))
            _log.info("running %s", _name(self._function))
            result = self._function()
        except Exception:  # noqa: BLE001 - logged, and the exit code tells the supervisor
            _log.critical("the companion failed", exc_info=True)
            return Exit.ERROR
        finally:
            signal.signal(signal.SIGTERM, do_nothing)
        if inspect.iscoroutine(result):
            result.close()  # otherwise Python warns that it was never awaited
            _log.critical("%s returned a coroutine: make it async def", _name(self._function))
            return Exit.ERROR
        return Exit.OK

    def _on_sigterm(self, number: int, frame: types.FrameType | None) -> None:
        """End the function. Further signals must not interrupt its `finally` blocks."""
        signal.signal(signal.SIGTERM, do_nothing)
        self._spec.grace.begin(self._spec.graceful_timeout)
        self._heartbeat.tells(Activity.DRAINING)
        if os.getppid() != self._spec.supervisor_pid:
            _limit_life(self._spec.graceful_timeout + _MARGIN)
            raise SystemExit(int(Exit.ORPHANED))
        self._tell(Draining())  # another process may have sent the signal
        raise SystemExit(0)

    def _tell(self, message: Message) -> None:
        with contextlib.suppress(ChannelClosed):  # SIGTERM follows: the supervisor is gone
            self._spec.channel.send_nowait(message)


class _Async:
    """A coroutine function on the loop of `runtime`."""

    def __init__(
        self, spec: WorkerSpec, application: Application, function: Callable[[], Any], runtime: Runtime
    ) -> None:
        self._spec = spec
        self._function = function
        self._offload = application.offload
        self._runtime = runtime
        self._loop = runtime.loop
        self._heartbeat = Heartbeat(spec.record)
        self._orders = Orders(spec.channel, runtime.loop, self._obey, self._orphaned)
        limits = dataclasses.replace(application.recycle, max_requests=0, refork_after=0)
        self._recycle_check = RecycleCheck(limits, self._heartbeat, lambda why: self._orders.tell(RecycleDue(why)))
        self._dispositions = Dispositions(self._loop, self._on_sigterm, lambda: self._end("SIGTERM"))
        self._task: asyncio.Task[Any] | None = None
        self._told = asyncio.Event()  # to end
        self._code = Exit.OK

    async def run(self) -> int:
        """Run the function until it returns or is told to end; return the exit code."""
        self._loop.set_exception_handler(_log_loop_error)
        self._dispositions.take()
        forks.guard(self._spec.channel, self._abandon)
        self._runtime.observe(self._heartbeat)
        self._orders.listen()
        settings = self._offload
        if settings is not None:
            address = partial(offload_queue.address, self._spec.offload_key, self._spec.generation)
            offloading.serves(self._loop, address, self._orders.tell, self._spec.record, settings)
        self._recycle_check.begin()
        self._heartbeat.tells(Activity.READY)
        self._orders.tell(Ready(self._runtime.name, _INTERFACE, takes_orders=True))
        _log.info("running %s on %s", _name(self._function), self._runtime.name)
        self._task = task = self._loop.create_task(self._function(), name=self._spec.companion)
        told = self._loop.create_task(self._told.wait())
        await asyncio.wait((task, told), return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if not task.done():
            task.cancel()
            grace = self._spec.graceful_timeout
            await asyncio.wait((task,), timeout=max(grace - _MARGIN, grace / 2))
        offloading.leaves()
        self._dispositions.release()
        return self._code_of(task)

    def survive(self, error: SystemExit) -> None:
        """Let the loop continue after a SystemExit; log it unless it is the function's own, which ends it."""
        if self._task is None or not self._task.done() or self._task.exception() is not error:
            text = "ignoring sys.exit(%r) of a callback or task: only the function of a companion ends it"
            _log.error(text, error.code, exc_info=error)

    def _code_of(self, task: asyncio.Task[Any]) -> int:
        if not task.done():
            _log.warning("%s did not end within its grace period: it is killed", _name(self._function))
            return self._code
        if task.cancelled():
            if not self._told.is_set():
                _log.critical("the companion failed: its coroutine was cancelled, by itself")
                return Exit.ERROR
            return self._code
        error = task.exception()
        if isinstance(error, SystemExit):
            raise error
        if error is not None:
            _log.critical("the companion failed", exc_info=error)
            return Exit.ERROR
        return self._code

    def _obey(self, order: Message, descriptors: list[int]) -> None:
        """Carry out an order. Raises `ValueError` if that is impossible."""
        match order:
            case Drain():
                self._end("asked by the supervisor")
            case Ping():
                self._dispositions.restore()
                self._heartbeat.answers()
                self._recycle_check.look()
            case TellStacks():
                self._orders.tell(told_stacks(order, descriptors, self._loop, tuple))
            case LogLevel(level):
                _log.setLevel(level)
            case CallDied():
                offloading.hear(order)
            case Reopened(numbers):
                reopening.replace(numbers, descriptors)
                return
            case _:
                close_all(descriptors)
                raise ValueError(f"{order} is not for a companion")
        close_all(descriptors)

    def _end(self, why: str) -> None:
        if self._told.is_set():
            return
        self._spec.grace.begin(self._spec.graceful_timeout)
        self._heartbeat.tells(Activity.DRAINING)
        _log.info("ending (%s)", why)
        self._told.set()
        self._orders.tell(Draining())  # another process may have sent the signal

    def _on_sigterm(self) -> None:
        """Run by Python between two bytecodes, even if the loop is stuck."""
        if os.getppid() != self._spec.supervisor_pid:
            _limit_life(self._spec.graceful_timeout + _MARGIN)

    def _orphaned(self) -> None:
        self._code = Exit.ORPHANED
        _limit_life(self._spec.graceful_timeout + _MARGIN)
        self._end("the supervisor is gone")

    def _abandon(self) -> None:
        """Called in a process that the function forked."""
        offloading.abandon()
        self._heartbeat.abandon()
        self._runtime.abandon()


def _limit_life(seconds: float) -> None:
    """Set the kernel's timer (SIGALRM) to end the process, because no supervisor is left to send SIGKILL."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _log_loop_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Asyncio's exception handler: log one record for an exception that no task or protocol caught."""
    _log.error("%s", context.get("message", "unhandled error in the event loop"), exc_info=context.get("exception"))


def _name(function: Callable[[], Any]) -> str:
    return str(getattr(function, "__qualname__", None) or type(function).__qualname__)
