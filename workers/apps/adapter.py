"""What every interface is to the worker: takes accepted connections, and has its say at the start and at the end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any

from hybrid.workers.common.connections import Connection
from hybrid.workers.runtime import Accepted


class Adapter:
    """One per worker, for all its listeners. An interface overrides what it needs."""

    guessed = False
    """Whether the kind of the target was guessed."""

    def connected(self, accepted: Accepted) -> None:
        """Serve a connection. Called from the loop."""
        raise NotImplementedError

    async def start_up(self) -> None:
        """Get ready; raises `BootError`."""

    def drain(self) -> None:
        """The worker stops: no connection follows but those that are queued. Called once, from the loop."""

    def close_idle(self, *, at_once: bool) -> None:
        """The whole service stops: close connections on which nothing happens, after a while or at once.

        Called after `drain`, perhaps again. A handler's connections are never idle: only the handler knows.
        """

    def interrupt(self) -> None:
        """The grace period is nearly over: tell the application that its clients are gone."""

    def end(self) -> None:
        """The grace period is over: end what runs and has no connection."""

    async def wait_idle(self, timeout: float) -> bool:
        """Wait until nothing runs that has no connection, at most `timeout` seconds; tell whether that is so."""
        return True

    async def shut_down(self, timeout: float) -> None:
        """Let the application close what it has opened, within `timeout` seconds."""


def serve_in_task(
    create_task: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    coroutine: Coroutine[Any, Any, None],
    connection: Connection,
    fd: int = -1,
) -> asyncio.Task[None] | None:
    """Return a task that serves `connection`; None if the application's task factory raises.

    The error is logged then, the descriptor and the connection are closed, and the loop goes on.
    """
    try:
        return create_task(coroutine)
    except Exception as error:  # noqa: BLE001 - logged
        coroutine.close()
        if fd >= 0:
            os.close(fd)
        connection.failed(error)
        connection.closed()
        return None
