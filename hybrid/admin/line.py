"""The connection of the admin process to its supervisor: requests, their answers, and events.

The supervisor makes it at the fork. If it breaks, the supervisor has ended or has dropped this process: nothing is left
to show, so the process ends too.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Any

from hybrid.control.errors import ControlError, GoneError, LateError
from hybrid.control.messages import MAX_LINE, Event, Failure, Progress, Result, message_of, request_line

logger = logging.getLogger("hybrid")


class Line:
    """Asks the supervisor. Belongs to one loop; all methods are for coroutines of it."""

    def __init__(self, sock: socket.socket) -> None:
        """Nothing is read or written before `open`."""
        self._sock = sock
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._progress: dict[int, Callable[[Mapping[str, Any]], None]] = {}  # those of `_waiting` that want to hear
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._is_closing = False
        self.listeners: list[Callable[[Mapping[str, Any]], None]] = []
        """Called with each event, once `ask("subscribe")` was answered."""

    async def open(self) -> None:
        """Begin to read."""
        reader, self._writer = await asyncio.open_connection(sock=self._sock, limit=MAX_LINE)
        self._reading = asyncio.get_running_loop().create_task(self._read(reader))

    async def ask(
        self,
        request: str,
        timeout: float,
        on_progress: Callable[[Mapping[str, Any]], None] | None = None,
        **parameters: object,
    ) -> Mapping[str, Any]:
        """Return the result of a request, at most `timeout` seconds later. Raises `ControlError`.

        `on_progress` is called with each progress of it.
        """
        if self._writer is None or self._reading is None or self._reading.done():
            raise GoneError("there is no connection to the supervisor")
        number = next(self._numbers)
        answer: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        if on_progress is not None:
            self._progress[number] = on_progress
        try:
            self._writer.write(request_line(number, request, parameters))
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise LateError(f"the supervisor has not answered within {timeout:g} s") from None
        finally:
            del self._waiting[number]
            self._progress.pop(number, None)

    async def close(self) -> None:
        """Close the connection."""
        self._is_closing = True
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        if self._writer is not None:
            self._writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._take(line)
        except (OSError, ValueError, ControlError) as error:  # ValueError: too long a line
            logger.warning("the connection to the supervisor: %s", error)
        finally:
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(GoneError("the supervisor has closed the connection"))
            if not self._is_closing:
                os.kill(os.getpid(), signal.SIGTERM)  # drain; the supervisor starts another one, if it still lives

    def _take(self, line: bytes) -> None:
        match message_of(line):
            case Result(id=int(number), value=value) if number in self._waiting:
                self._settle(number, value)
            case Failure(id=int(number)) as failure if number in self._waiting:
                self._settle(number, failure.error())
            case Progress(id=int(number), value=value) if number in self._progress:
                self._progress[number](value)
            case Event(value=event):
                for listener in self.listeners:
                    try:
                        listener(event)
                    except Exception:  # of another version: the probes must go on
                        logger.exception("an event of the supervisor could not be used: %r", event)

    def _settle(self, number: int, outcome: Mapping[str, Any] | ControlError) -> None:
        answer = self._waiting[number]
        if answer.done():
            return
        if isinstance(outcome, ControlError):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)
