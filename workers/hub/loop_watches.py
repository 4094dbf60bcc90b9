"""The registry of watches over a loop's `add_reader` and `add_writer`, for asyncio's own loop and uvloop."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterable

from hybrid.workers.hub.outbox import Outbox
from hybrid.workers.hub.pool import Job
from hybrid.workers.hub.watch import Watch
from hybrid.workers.pollers.contract import READ, WRITE
from hybrid.workers.runtime import Listen, polled_by


class LoopWatches:
    """`Watches` (see `hub.watch`) for asyncio's loop and uvloop. Disarming is lazy here too: see `_readable`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, abandon_loop: Callable[[], None]) -> None:
        self._loop = loop
        self._abandon_loop = abandon_loop
        self._abandoned = False
        self.listen: Listen = polled_by(loop)
        self.outbox = Outbox()
        """Never open: the loop does not report the end of a turn."""

    def after_turn(self, callback: Callable[[], object]) -> bool:
        """Do nothing: the loop does not report the end of a turn."""
        return False

    def run_by(self, run_jobs: Callable[[Iterable[Job]], None]) -> Callable[[Job], None]:
        """Return a function that runs one job immediately with `run_jobs`."""
        return lambda job: run_jobs((job,))

    def open(self, fd: int) -> Watch:
        """Return a watch for `fd` with nothing armed."""
        return Watch(fd)

    def arm(self, watch: Watch, mask: int) -> None:
        """Watch for `mask` too. Raises `OSError`."""
        if watch.fd < 0:
            raise OSError(errno.EBADF, "the connection is closed")
        if mask & READ & ~watch.armed:
            self._loop.add_reader(watch.fd, self._readable, watch)
        if mask & WRITE & ~watch.armed:
            self._loop.add_writer(watch.fd, self._writable, watch)
        watch.armed |= mask

    def release(self, watch: Watch) -> None:
        """Forget `watch` and wake its waiters."""
        self._disarm(watch, READ | WRITE)
        watch.fd = -1
        if not self._loop.is_closed() and (watch.on_readable is not None or watch.on_writable is not None):
            self._loop.call_soon(watch.wake_waiters)

    def abandon(self) -> None:
        """Stop using the loop in a process that a handler forked."""
        self._abandoned = True
        self._abandon_loop()

    def _readable(self, watch: Watch) -> None:
        callback, watch.on_readable = watch.on_readable, None
        if callback is None:
            self._disarm(watch, READ)  # ready, but without a waiter: polling for it would spin
        else:
            callback()

    def _writable(self, watch: Watch) -> None:
        callback, watch.on_writable = watch.on_writable, None
        if callback is None:
            self._disarm(watch, WRITE)
        else:
            callback()

    def _disarm(self, watch: Watch, mask: int) -> None:
        if self._loop.is_closed() or self._abandoned:
            return
        if watch.armed & mask & READ:
            self._loop.remove_reader(watch.fd)
        if watch.armed & mask & WRITE:
            self._loop.remove_writer(watch.fd)
        watch.armed &= ~mask
