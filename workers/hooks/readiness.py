"""The ready checks of a worker: called again and again, and told to the supervisor when their result changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hybrid.workers.hooks import registry
from hybrid.workers.hooks.calling import Calls
from hybrid.workers.hooks.registry import Hook, name_of

DEADLINE = 2.0
"""Seconds for all functions of one check."""
_MOST_REASON = 200  # characters


class ReadyChecks:
    """Checks at once, and then `interval` seconds after the end of each check. Call all methods in the loop."""

    def __init__(self, calls: Calls, interval: float, tell: Callable[[str], object]) -> None:
        """`tell` is called when the result changes: with "" if the worker is ready, otherwise with a short reason."""
        self._calls = calls
        self._interval = interval
        self._tell = tell
        self._told = ""
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Begin to check. Does not wait."""
        self._task = asyncio.Task(self._check_forever(), name="ready checks")  # see `Calls.outcome`

    def end(self) -> None:
        """Check no more; a function that runs is cancelled. Does not wait."""
        if self._task is not None:
            self._task.cancel()

    async def _check_forever(self) -> None:
        while True:
            reason = await self.why_not_ready()
            if reason != self._told:
                self._told = reason
                self._tell(reason)
            await asyncio.sleep(self._interval)

    async def why_not_ready(self) -> str:
        """Call the functions until one says that the worker is not ready; return why, or ""."""
        loop = asyncio.get_running_loop()
        until = loop.time() + DEADLINE
        for function in registry.functions(Hook.READY_CHECK):
            outcome = await self._calls.outcome(Hook.READY_CHECK, function, until - loop.time())
            reason = _why(outcome.value, outcome.error)
            if not reason and loop.time() > until:  # it blocked the loop, so that it could not be cancelled
                reason = f"the checks took longer than {DEADLINE:g} s"
            if reason:
                return _short(f"{name_of(function)}: {reason}")
        return ""


def _why(value: Any, error: BaseException | None) -> str:
    """Return why a result means "not ready"; "" if it means "ready"."""
    if error is not None:
        return f"{type(error).__name__}: {error}"
    if value is None or value is True:
        return ""
    if value is False:
        return "it returned False"
    return f"it returned an object of type {type(value).__name__}: return True, False or None"


def _short(text: str) -> str:
    """Return a text as one line of limited length."""
    line = " ".join(text.split())
    return line if len(line) <= _MOST_REASON else f"{line[: _MOST_REASON - 3]}..."
