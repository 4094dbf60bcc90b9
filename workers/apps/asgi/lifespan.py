"""The ASGI lifespan protocol: the application's start-up before the worker is ready, its shutdown after the drain.

Specification: https://asgi.readthedocs.io/en/latest/specs/lifespan.html.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from hybrid.workers.common.errors import BootError
from hybrid.workers.contract.exits import Exit

_log = logging.getLogger("hybrid")


class Lifespan:
    """One run of an application's lifespan. `mode` is `auto`, `on` or `off`."""

    def __init__(self, application: Callable[..., Awaitable[None]], mode: str) -> None:
        self._application = application
        self._mode = mode
        self.state: dict[str, Any] | None = None
        """The state filled by the application; None without a lifespan."""
        self._inbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._asked = False  # the application has waited for a message: it knows the protocol
        self._started = asyncio.Event()
        self._stopped = asyncio.Event()
        self._failure: str | None = None  # the message of lifespan.startup.failed
        self._error: BaseException | None = None  # the exception raised by the application
        self._task: asyncio.Task[None] | None = None

    async def start_up(self) -> None:
        """Wait until the application is ready; raises `BootError` (TARGET) if it fails. Its own message is logged.

        With `auto`, an application that raises, as those without a lifespan do, is assumed to have none, as the
        specification requires. An application stops the start by sending lifespan.startup.failed.
        """
        if self._mode == "off":
            return
        self.state = {}
        self._task = asyncio.get_running_loop().create_task(self._run(), name="lifespan")
        self._inbox.put_nowait({"type": "lifespan.startup"})
        try:
            await self._started.wait()
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        if self._failure is not None:
            raise _refusal(self._failure)
        if self._error is not None:
            self._do_without(self._error)

    def _do_without(self, error: BaseException) -> None:
        """Handle an application that raised before it was ready: it has no lifespan, or the start fails."""
        self.state = None
        if self._mode == "on" or not isinstance(error, Exception):
            _log.error("the application's start-up failed", exc_info=error)
            raise BootError(Exit.TARGET, f"the application's start-up failed: {_in_a_line(error)}") from error
        if self._asked:
            _log.warning("the application's start-up failed; going on without a lifespan", exc_info=error)
        else:
            _log.debug("the application has no lifespan: %s", _in_a_line(error))

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._application(scope, self._receive, self._send)
        except BaseException as error:  # noqa: BLE001 - reported by start_up, or logged; must not reach the loop
            if not self._started.is_set():
                self._error = error
            elif self._failure is None and not isinstance(error, asyncio.CancelledError):
                _log.error("the application's lifespan failed", exc_info=error)
        else:
            if not self._started.is_set():
                self._error = RuntimeError("it returned before lifespan.startup.complete")
        finally:
            self._started.set()
            self._stopped.set()

    async def _receive(self) -> dict[str, str]:
        self._asked = True
        return await self._inbox.get()

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        match message["type"]:
            case "lifespan.startup.complete":
                self._started.set()
            case "lifespan.startup.failed":
                if not self._started.is_set():
                    self._failure = str(message.get("message", ""))
                    self._started.set()
            case "lifespan.shutdown.complete":
                self._stopped.set()
            case "lifespan.shutdown.failed":
                _log.error("the application's shutdown failed: %s", message.get("message") or "no reason given")
                self._stopped.set()
            case other:
                raise RuntimeError(f"an application cannot send {other!r} in its lifespan")

    async def shut_down(self, timeout: float) -> None:
        """Tell the application that the worker ends; wait for it at most `timeout` seconds."""
        task = self._task
        if task is None or task.done():
            return
        self._inbox.put_nowait({"type": "lifespan.shutdown"})
        try:
            async with asyncio.timeout(max(timeout, 0.05)):
                await self._stopped.wait()
        except TimeoutError:
            _log.error("the application's shutdown took longer than the grace period")
            task.cancel()


def _refusal(message: str) -> BootError:
    """Return the error for lifespan.startup.failed, with a message of one line.

    Starlette sends a whole traceback as the message: that is logged.
    """
    lines = message.strip().splitlines() or ["no reason given"]
    if len(lines) > 1:
        _log.error("the application's start-up failed: %s", message.strip())
    return BootError(Exit.TARGET, f"the application's start-up failed: {lines[-1]}")


def _in_a_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
