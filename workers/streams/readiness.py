"""`Readiness`: the awaitable that a reader's task waits on, one per connection and reused for every wait.

The poller's callback *is* `context.run(wakeup, self)`, so the task runs as soon as its socket is readable. See
`hybrid.workers.tasks`. Benchmark: `python -m benchmarks echo`.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Generator
from functools import partial
from typing import Any

from hybrid.workers.hub.watch import Watch, Watches
from hybrid.workers.pollers.contract import READ
from hybrid.workers.tasks.parked import Failed, Parked, Wakeup, cancellation


class Readiness(Parked):
    """Wait for a watch to become readable: `await readiness`. One task at a time."""

    __slots__ = ("_watches", "watch")

    def __init__(self, loop: asyncio.AbstractEventLoop, watches: Watches, watch: Watch) -> None:
        self._loop = loop
        self._watches = watches
        self.watch = watch
        self.blocking = False

    def __await__(self) -> Generator[Any, Any, None]:
        if self.watch.fd < 0:
            return iter(())  # type: ignore[return-value]  # closed by this side: do not wait, the next recv raises
        self.blocking = True
        return iter((self,))  # type: ignore[return-value]  # not the base's: a frame more

    __iter__ = __await__

    def add_done_callback(self, wakeup: Wakeup, *, context: contextvars.Context) -> None:
        """Arm the watch. Called by the task once it has yielded this object."""
        self.watch.on_readable = partial(context.run, wakeup, self)
        try:
            self.arm()
        except OSError as error:
            self._wake_with(error)

    def arm(self) -> None:
        """Make sure that the poller watches. Raises `OSError`."""
        if not self.watch.armed & READ:
            self._watches.arm(self.watch, READ)

    @property
    def meaning(self) -> str:  # type: ignore[override]
        """See `Parked`."""
        return f"data at descriptor {self.watch.fd}"

    def waiting(self) -> bool:
        """Return True if a task waits."""
        return self.watch.on_readable is not None

    def cancel(self, msg: Any = None) -> bool:
        """Wake the task with CancelledError; return False if none waits. Called by `Task.cancel`."""
        if self.watch.on_readable is None:
            return False
        self._wake_with(cancellation(msg))
        return True

    def _wake_with(self, error: BaseException) -> None:
        waking, self.watch.on_readable = self.watch.on_readable, None
        assert isinstance(waking, partial)
        self._loop.call_soon(waking.func, waking.args[0], Failed(error))
