"""The hooks of a worker while its loop runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from hybrid.workers.common.errors import BootError
from hybrid.workers.contract.exits import Exit
from hybrid.workers.hooks import registry
from hybrid.workers.hooks.calling import Calls, failure
from hybrid.workers.hooks.readiness import ReadyChecks
from hybrid.workers.hooks.registry import Hook
from hybrid.workers.identity import Identity
from hybrid.workers.runtime import Greenlets

SLOW = 5.0
"""Seconds after which a start hook that still runs is named in the log."""
_log = logging.getLogger("hybrid")


def _say_slow(function: Callable[..., Any]) -> None:
    _log.warning("still waiting for the hook %s: %s", Hook.WORKER_START.value, registry.name_of(function))


class LifeHooks:
    """One per worker that has hooks. Call all methods in the loop."""

    def __init__(self, runtime: Greenlets, worker: Identity, interval: float) -> None:
        """`interval`: seconds between two ready checks."""
        self._loop = runtime.loop
        self._worker = worker
        self._interval = interval
        self._calls = Calls(runtime, worker)
        self._checks: ReadyChecks | None = None
        self._draining: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Call `worker_start`. Waits for each function; the supervisor ends a worker that takes too long.

        Raises `BootError` (TARGET) if one fails.
        """
        for function in registry.functions(Hook.WORKER_START):
            timer = self._loop.call_later(SLOW, _say_slow, function)
            try:
                outcome = await self._calls.outcome(Hook.WORKER_START, function)
            finally:
                timer.cancel()
            if outcome.error is not None:
                raise BootError(Exit.TARGET, failure(Hook.WORKER_START, function, outcome.error))

    def serves(self, tell: Callable[[str], object]) -> None:
        """Begin the ready checks, if there are any. `tell` is called with each new result: "", or why it is not ready.

        Does not wait.
        """
        if registry.functions(Hook.READY_CHECK):
            self._checks = ReadyChecks(self._calls, self._interval, tell)
            self._checks.begin()

    def drains(self, until: float) -> None:
        """End the ready checks, and call `worker_drain` while the worker drains, at most until the loop's time `until`.

        Does not wait.
        """
        if self._checks is not None:
            self._checks.end()
        if registry.functions(Hook.WORKER_DRAIN):
            calls = self._call_all(Hook.WORKER_DRAIN, until)
            self._draining = asyncio.Task(calls, loop=self._loop, name="worker_drain hooks")  # see `Calls.outcome`

    async def drained(self) -> None:
        """Wait for the end of `worker_drain`."""
        if self._draining is not None:
            await asyncio.wait((self._draining,))

    async def stop(self, until: float) -> None:
        """Call `worker_stop`, at most until the loop's time `until`."""
        await self._call_all(Hook.WORKER_STOP, until)

    async def _call_all(self, hook: Hook, until: float) -> None:
        """Call the functions of a hook. An error is logged, and the others are called."""
        for function in registry.functions(hook):
            left = until - self._loop.time()
            if left <= 0:
                _log.error(
                    "the hook %s was not called, as the grace period is over: %s",
                    hook.value,
                    registry.name_of(function),
                )
                continue
            outcome = await self._calls.outcome(hook, function, left)
            if outcome.error is not None:
                _log.error("%s", failure(hook, function, outcome.error))
