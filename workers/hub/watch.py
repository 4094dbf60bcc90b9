"""A watch: one file descriptor, and at most one waiter for each direction.

All hot paths meet here. A waiter stores a callback in `on_readable` or `on_writable` and makes sure that the direction
is armed; the loop removes the callback and calls it (one shot). The direction stays armed after the wake-up: a waiter
that waits again before the next poll, as a connection's handler does, needs no system call. A direction is disarmed
only when it is ready and has no waiter, so that level-triggered polling cannot spin.

Benchmark: `python -m benchmarks echo`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hybrid.workers.hub.outbox import Outbox

READABLE = 0x001 | 0x008 | 0x010  # READ, ERROR, HANGUP: the next recv tells them apart
WRITABLE = 0x004 | 0x008 | 0x010


class Watch:
    """One descriptor. Callbacks take no argument, are called once, and must not raise."""

    __slots__ = ("armed", "fd", "on_readable", "on_writable")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.armed = 0  # READ and WRITE bits that the poller watches
        self.on_readable: Callable[[], object] | None = None
        self.on_writable: Callable[[], object] | None = None

    def wake_waiters(self) -> None:
        """Remove and call both waiters if they still wait; a waiter that was killed has removed itself."""
        reader, self.on_readable = self.on_readable, None
        writer, self.on_writable = self.on_writable, None
        if reader is not None:
            reader()
        if writer is not None:
            writer()


class Watches(Protocol):
    """The registry of an event loop; `hub.selector` and `hub.loop_watches` implement it.

    1. `open(fd)` returns a watch with nothing armed; the descriptor is non-blocking and stays the caller's.
    2. `arm(watch, mask)` adds READ or WRITE; raises `OSError` if the poller cannot take it (see its clause 1).
    3. `release(watch)` disarms everything and wakes both waiters in the next turn: their next system call raises the
       error; a waiter that removes its callback first is not woken. It sets `watch.fd` to -1, so that the watch cannot
       be armed for another file with the same number: `arm` then raises EBADF. It is called before the descriptor is
       closed, may be called twice, and never raises.
    4. `abandon()` is called in a process that a handler forked: it must not change the worker's polling, and a return
       to the loop ends it.
    5. `after_turn(callback)` calls `callback` when the events of this turn have been served. It returns False if the
       loop cannot do that; then `callback` is not called, and `outbox` is never open.
    """

    @property
    def outbox(self) -> Outbox:
        """Clause 5: responses that are sent together at the end of the turn."""
        ...

    def after_turn(self, callback: Callable[[], object]) -> bool:
        """Clause 5."""
        ...

    def open(self, fd: int) -> Watch:
        """Clause 1."""
        ...

    def arm(self, watch: Watch, mask: int) -> None:
        """Clause 2."""
        ...

    def release(self, watch: Watch) -> None:
        """Clause 3."""
        ...

    def abandon(self) -> None:
        """Clause 4."""
        ...
