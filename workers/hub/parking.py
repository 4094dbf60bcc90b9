"""`Parking`: one greenlet waits for one thing and is woken once, by the first of several callbacks."""

from __future__ import annotations

import asyncio
from typing import Any

import greenlet

from hybrid.workers.runtime import WOULD_BLOCK
from hybrid.workers.tasks.cpython import running_loop, set_running_loop


class Parking:
    """One wait of the greenlet that makes it. For slow paths: sockets inline the same steps.

    Raises `RuntimeError` in the greenlet that runs the loop: parking it would stop the loop.
    """

    __slots__ = ("_home", "_loop", "_parked", "_woken")

    def __init__(self, loop: asyncio.AbstractEventLoop, home: greenlet.greenlet) -> None:
        self._parked = greenlet.getcurrent()
        self._home = home
        self._loop = loop
        self._woken = False
        if self._parked is home:
            raise RuntimeError(WOULD_BLOCK)

    def wait(self, timeout: float | None = None) -> Any:
        """Park until `wake` or `fail` is called; return the value or raise the error.

        Raises `TimeoutError` after `timeout` seconds, and any error thrown into the greenlet meanwhile (a kill).
        """
        timer = None if timeout is None else self._loop.call_later(timeout, self.fail, TimeoutError("timed out"))
        hidden = running_loop() is None  # see `pool`
        if hidden:
            set_running_loop(self._loop)
        try:
            return self._home.switch()
        finally:
            if hidden:
                set_running_loop(None)
            self._woken = True
            if timer is not None:
                timer.cancel()
            del self._parked  # a greenlet keeps the error that ends it, and the error this frame

    def wake(self, value: Any = None) -> None:
        """Switch to the greenlet. Call it only from a callback of the loop; later calls do nothing."""
        if not self._woken:
            self._woken = True
            self._parked.switch(value)

    def fail(self, error: BaseException) -> None:
        """Raise `error` in the greenlet. Call it only from a callback of the loop; later calls do nothing."""
        if not self._woken:
            self._woken = True
            self._parked.throw(error)

    def wake_soon(self, value: Any = None) -> None:
        """Wake in the loop's next turn; from anywhere on the loop's thread."""
        self._loop.call_soon(self.wake, value)
