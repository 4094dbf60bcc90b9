"""Sends the metrics to an OpenTelemetry collector, at each interval and once when a stop begins (`--otel-endpoint`).

Sending may block for as long as the network likes, so a thread does it. At most one status is on its way: as long as it
is, no other one is made. Each different failure is logged once until one succeeds, and so is that.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from hybrid.admin.line import Line
from hybrid.control.errors import ControlError

_ANSWER: Final = 5.0  # seconds for a status
_PATIENCE: Final = 30.0  # seconds after which a status that is still on its way counts as a failure
_LAST: Final = 1.0  # seconds at the end for the last status
_MOST_TOLD: Final = 8  # different failures that are logged before a success
logger = logging.getLogger("hybrid")

Status = Mapping[str, Any]


class Sender(Protocol):
    """Sends statuses; used in one thread."""

    def send(self, status: Status) -> str | None:
        """Send one; return why that failed, or None. May block."""

    def close(self) -> None:
        """Give up the connection. May block."""


class Courier:
    """The thread that sends. It never keeps the process from ending."""

    def __init__(self, make: Callable[[], Sender]) -> None:
        """`make` is called in the thread: it may import for long. Raises `ImportError` there if it must."""
        self._make = make
        self._inbox: queue.SimpleQueue[tuple[Status, concurrent.futures.Future[str | None]] | None]
        self._inbox = queue.SimpleQueue()
        threading.Thread(target=self._work, name="otel", daemon=True).start()

    def send(self, status: Status) -> concurrent.futures.Future[str | None]:
        """Send a status later; the result is why that failed, or None. Call it when the one before has a result."""
        outcome: concurrent.futures.Future[str | None] = concurrent.futures.Future()
        outcome.set_running_or_notify_cancel()  # nobody cancels it from now on
        self._inbox.put((status, outcome))
        return outcome

    def close(self) -> None:
        """Let the thread end, after what it sends now. Does not wait for it."""
        self._inbox.put(None)

    def _work(self) -> None:
        sender: Sender | None = None
        while (item := self._inbox.get()) is not None:
            status, outcome = item
            try:
                sender = sender or self._make()
                outcome.set_result(sender.send(status))
            except Exception as error:  # noqa: BLE001 - the thread goes on, and the log tells
                outcome.set_result(str(error) or repr(error))
        if sender is not None:
            sender.close()


class Exporting:
    """Asks for statuses and has them sent. Belongs to one loop."""

    def __init__(
        self,
        line: Line,
        endpoint: str,
        interval: float,
        make: Callable[[], Sender],
        patience: float = _PATIENCE,
    ) -> None:
        """`interval`: seconds. `make` returns the sender, in a thread. `patience`: seconds for a status to be sent."""
        self._line = line
        self._endpoint = endpoint
        self._interval = interval
        self._make = make
        self._patience = patience
        self._courier: Courier | None = None
        self._task: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()  # set: do not wait for the interval
        self._is_owed = False  # True if a stop has begun since the last status
        self._on_its_way: asyncio.Future[str | None] | None = None
        self._is_failing: bool | None = None  # None: nothing is known yet
        self._told: set[str] = set()  # the failures that were logged since the last success

    def start(self) -> None:
        """Begin; the first status is sent at once."""
        self._courier = Courier(self._make)
        self._line.listeners.append(self._hear)
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End; the status that a stop asks for, or that is on its way, has a second."""
        if self._task is None or self._courier is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        with contextlib.suppress(TimeoutError, ControlError):
            async with asyncio.timeout(_LAST):
                await self._finish()
        if self._on_its_way is not None:
            self._on_its_way.cancel()  # its thread may end after the loop
        self._courier.close()

    def _hear(self, event: Mapping[str, Any]) -> None:
        if event.get("event") == "stop":
            self._is_owed = True  # the last counts, while the workers are there
            self._wanted.set()

    async def _finish(self) -> None:
        if self._on_its_way is not None:
            await asyncio.wait((self._on_its_way,))
        if self._is_owed:
            await self._export()

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            try:
                await self._export()
            except ControlError as error:
                logger.debug("no status to send to %s: %s", self._endpoint, error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, began + self._interval - clock())):
                    await self._wanted.wait()
            self._wanted.clear()

    async def _export(self) -> None:
        assert self._courier is not None, "made at the start"
        if self._on_its_way is None or self._on_its_way.done():
            status = {**await self._line.ask("status", _ANSWER), **await self._line.ask("labels", _ANSWER)}
            self._is_owed = False
            self._on_its_way = asyncio.wrap_future(self._courier.send(status))
        done, _ = await asyncio.wait((self._on_its_way,), timeout=self._patience)
        self._note(self._on_its_way.result() if done else f"no answer within {self._patience:g} s")

    def _note(self, failure: str | None) -> None:
        before, self._is_failing = self._is_failing, failure is not None
        if failure is not None:
            if failure not in self._told and len(self._told) < _MOST_TOLD:
                self._told.add(failure)
                logger.warning("metrics cannot be sent to %s: %s; trying again", self._endpoint, failure)
            return
        self._told.clear()
        if before is None:
            logger.info("sending metrics to %s every %g s", self._endpoint, self._interval)
        elif before:
            logger.info("metrics are sent to %s again", self._endpoint)
