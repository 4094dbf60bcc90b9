"""A watch: one file descriptor of ours, and at most one waiter for each direction.

This is the hot path's meeting point. A waiter stores a callback in `on_readable` or `on_writable` and makes sure that
the direction is armed; the loop takes the callback out and calls it (one shot). Arming survives the wake-up: whoever
waits again before the next poll, which is what a connection handler does, costs no system call. Only when a
descriptor is ready and nobody waits is the direction disarmed, so that level-triggered polling cannot spin.

Benchmark: `python -m benchmarks echo`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hybrid.workers.hub.outbox import Outbox

READABLE = 0x001 | 0x008 | 0x010  # READ, ERROR, HANGUP: the next recv tells which
WRITABLE = 0x004 | 0x008 | 0x010


class Watch:
    """One descriptor. Callbacks take no argument, are called once, and must not raise."""

    __slots__ = ("armed", "fd", "on_readable", "on_writable")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.armed = 0  # READ and WRITE bits the poller knows of
        self.on_readable: Callable[[], object] | None = None
        self.on_writable: Callable[[], object] | None = None

    def wake_waiters(self) -> None:
        """Take out and call both waiters, as far as they still wait: who was killed meanwhile has taken itself out."""
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
    3. `release(watch)` disarms everything, wakes both waiters in the next turn (their next system call tells what
       happened; who takes its callback out before is not woken), and makes `watch.fd` -1, so that it cannot be armed
       for whoever gets the number next: `arm` raises EBADF then. It comes before the descriptor is closed, may be
       called twice, and never raises.
    4. `abandon()` is called in a process that a handler forked: nothing there may change what the worker polls for, and
       a return to the loop ends that process.
    5. `after_turn(callback)` has `callback` called when the events of this turn have been served; False where that
       cannot be, and `callback` is not called. Where it cannot, `outbox` is never open.
    """

    @property
    def outbox(self) -> Outbox:
        """Clause 5: answers that go out together at the end of the turn."""
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
