"""Asks the supervisor for its status once a second, whether a page is open or not: an operator sees what was before.

A sample costs the supervisor some work for each worker, so more than `EACH_SECOND` of them are asked less often.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from hybrid.admin.history import History
from hybrid.admin.journal import Journal
from hybrid.admin.line import Line
from hybrid.control.errors import ControlError

PERIOD: Final = 1.0
"""Seconds between two samples."""
_ANSWER: Final = 5.0  # seconds for an answer
EACH_SECOND: Final = 200
"""Workers that are sampled each second; twice as many are sampled every two seconds."""
logger = logging.getLogger("hybrid")


class Sampler:
    """Feeds the history and the journal. Belongs to one loop."""

    def __init__(self, line: Line, history: History, journal: Journal, publish: Callable[[Any], None]) -> None:
        """`publish` is called with each status, after the history has got it."""
        self._line = line
        self._history = history
        self._journal = journal
        self._publish = publish
        self._status: Mapping[str, Any] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._line.listeners.append(self._journal.take)
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def newest(self) -> Mapping[str, Any]:
        """Return the newest status; before the first sample, ask for one. Raises `ControlError`."""
        return await self._line.ask("status", _ANSWER) if self._status is None else self._status

    async def _run(self) -> None:
        has_subscribed = False
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            try:
                if not has_subscribed:
                    await self._subscribe()
                    has_subscribed = True
                self._status = await self._line.ask("status", _ANSWER)
                self._history.take(self._status)
                self._publish(self._status)
            except ControlError as error:
                logger.debug("dashboard: no sample: %s", error)
            except Exception:  # the next one may be better
                logger.exception("dashboard: a status could not be used")
            await asyncio.sleep(max(0.0, began + period(self._status) - clock()))

    async def _subscribe(self) -> None:
        answer = await self._line.ask("subscribe", _ANSWER)
        for event in answer.get("recent", ()):
            self._journal.take(event)


def period(status: Mapping[str, Any] | None) -> float:
    """Return the seconds between two samples."""
    workers = 0 if status is None else sum(len(service["workers"]) for service in status["services"])
    return PERIOD * max(1.0, workers / EACH_SECOND)
