"""The interface between the worker and a kind of application: accepted connections, start-up, the steps of a stop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from hybrid.workers.common.connections import Connection
from hybrid.workers.common.requests import RequestInProgress
from hybrid.workers.runtime import Accepted


class Adapter:
    """One per worker, for all its listeners. A kind overrides the methods that it needs."""

    guessed = False
    """True if the kind of the target was guessed."""

    def connected(self, accepted: Accepted) -> None:
        """Serve a connection. Called from the loop."""
        raise NotImplementedError

    async def start_up(self) -> None:
        """Prepare to serve. Raises `BootError`."""

    def drain(self) -> None:
        """The worker stops: only connections queued so far will follow. Called once, from the loop."""

    def move(self, due: Callable[[int], int]) -> int:
        """End some connections of a web application; their clients reconnect, and reach other workers.

        `due` gets the number of those that leave already, and returns how many more must. Returns how many will.
        """
        return 0

    def close_idle(self, *, at_once: bool) -> None:
        """Close idle connections because the whole service stops, after a delay or at once.

        Called after `drain`, possibly again. A handler's connections are never idle: only the handler would know.
        """

    def interrupt(self) -> None:
        """Tell the application that its clients are gone: the grace period is nearly over."""

    def in_progress(self) -> Sequence[RequestInProgress]:
        """Return the requests in progress, for operators; none for a kind that knows no requests."""
        return ()

    def end(self) -> None:
        """End work that has no connection: the grace period is over."""

    async def wait_idle(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for work that has no connection; return True if none is left."""
        return True

    async def shut_down(self, timeout: float) -> None:
        """Let the application close its resources, within `timeout` seconds."""


def serve_in_task(
    create_task: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    coroutine: Coroutine[Any, Any, None],
    connection: Connection,
    fd: int = -1,
) -> asyncio.Task[None] | None:
    """Return a task that serves `connection`; None if the application's task factory raises.

    In that case the error is logged, the descriptor and the connection are closed, and the loop continues.
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
