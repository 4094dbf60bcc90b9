"""The selector inside the hub's asyncio loop: polls once a turn, calls the hub's waiters, returns asyncio's events.

asyncio calls `select(timeout)` once per turn and runs the callbacks of the returned events through its ready queue. The
callback of a watched descriptor is called right here instead: no Handle, no queue, one dictionary look-up. If it
schedules something with `call_soon`, that runs in the same turn, because asyncio runs its queue after `select`.
"""

from __future__ import annotations

import errno
import logging
import selectors
from collections.abc import Callable, Iterable
from time import monotonic

from hybrid.workers.common import forks
from hybrid.workers.common.heartbeat import Heartbeat
from hybrid.workers.hub.outbox import Outbox
from hybrid.workers.hub.pool import Job
from hybrid.workers.hub.watch import READABLE, WRITABLE, Watch
from hybrid.workers.pollers.contract import READ, WRITE, Poller
from hybrid.workers.pollers.registrations import Registrations

_log = logging.getLogger("hybrid")
ACCEPTING = 0.0005
"""Seconds after which a turn accepts no further connection."""
LOOKS = 16
"""Turns that accept one connection only, after one that found no second."""
_MOST_JOBS = 64  # jobs that wait until this turn's events have been served
_FAILED = "a callback of the event loop failed; the loop continues"
_TO_POLLER = {
    selectors.EVENT_READ: READ,
    selectors.EVENT_WRITE: WRITE,
    selectors.EVENT_READ | selectors.EVENT_WRITE: READ | WRITE,
}


class HubSelector(Registrations):
    """A `selectors.BaseSelector` for asyncio and the `Watches` of the hub, over one poller."""

    def __init__(self, poller: Poller, clock: Callable[[], float] = monotonic) -> None:
        """`clock`: monotonic seconds."""
        super().__init__()
        self._poller = poller
        self._clock = clock
        self._wait: Callable[[float | None], list[tuple[int, int]]] = poller.wait
        self._watches: dict[int, Watch] = {}  # fd -> watch that is registered with the poller
        self._closed = False
        self.outbox = Outbox()
        """Collects the responses of a turn."""
        self._jobs: list[Job] = []  # jobs for greenlets from the events of this turn
        self._collects_jobs = False
        self._late: list[Callable[[], object]] = []  # called when this turn's events have been served
        self.run_jobs: Callable[[Iterable[Job]], object]
        """Runs jobs; the runtime sets it."""

    # -- the hot path; benchmark: python -m benchmarks echo ------------------------------------------------------

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Poll for at most `timeout` seconds (None: no limit), call the hub's waiters, return asyncio's keys."""
        foreign: list[tuple[selectors.SelectorKey, int]] = []
        watches = self._watches
        ready = self._wait(timeout)
        if len(ready) > 1:
            self.outbox.begin()
        jobs = self._jobs
        self._collects_jobs = True
        try:
            for fd, mask in ready:
                watch = watches.get(fd)
                if watch is None:
                    self._collect(fd, mask, foreign)
                    continue
                if mask == READ and (callback := watch.on_readable) is not None:  # nearly always
                    watch.on_readable = None
                    try:
                        callback()
                    except Exception:  # noqa: BLE001 - logged; one waiter must not end the loop
                        _log.exception(_FAILED)
                    if len(jobs) >= _MOST_JOBS:
                        self._run_collected()
                else:
                    self._dispatch(watch, mask)
        finally:  # a SystemExit, e.g. of a signal handler, ends the turn, but not always the loop
            try:
                self._run_all()
            finally:
                self._collects_jobs = False
                if self.outbox.open:
                    self.outbox.end()
                if self._late:
                    self._run_late()
        return foreign

    def run_by(self, run_jobs: Callable[[Iterable[Job]], None]) -> Callable[[Job], None]:
        """Set the function that runs jobs; return the method that takes one."""
        self.run_jobs = run_jobs
        return self.run_job

    def run_job(self, job: Job) -> None:
        """Run a job: within `select` once the events of this turn have been served, outside of it now."""
        if self._collects_jobs:
            self._jobs.append(job)
        else:
            self.run_jobs((job,))

    def after_turn(self, callback: Callable[[], object]) -> bool:
        """Call `callback` when the events of this turn have been served. False: the turn is over, and it is not called.

        This is `call_soon` without a handle, a context and another turn.
        """
        if self._collects_jobs:
            self._late.append(callback)
        return self._collects_jobs

    def _run_late(self) -> None:
        late, self._late = self._late, []
        while late:
            try:
                late.pop(0)()
            except Exception:  # noqa: BLE001 - logged; it must not end the loop
                _log.exception(_FAILED)
            except BaseException:  # a SystemExit, e.g. of a signal handler: the other callbacks run in the next turn
                for callback in late:
                    self.call_soon(callback)
                raise

    def _run_all(self) -> None:
        while self._jobs:
            self._run_collected()

    def _run_collected(self) -> None:
        jobs = self._jobs.copy()
        self._jobs.clear()
        try:
            self.run_jobs(jobs)
        except Exception:  # noqa: BLE001 - logged; it must not end the loop
            _log.exception(_FAILED)

    def _dispatch(self, watch: Watch, mask: int) -> None:
        """Handle the general case: any mask, with or without waiters."""
        idle = 0
        if mask & READABLE:
            idle |= 0 if self._take(watch.on_readable, watch, READ) else READ
        if mask & WRITABLE:
            idle |= 0 if self._take(watch.on_writable, watch, WRITE) else WRITE
        if idle & watch.armed:
            self._disarm(watch, idle)

    @staticmethod
    def _take(callback: Callable[[], object] | None, watch: Watch, direction: int) -> bool:
        """Call a waiter, if there is one; return False if there is none."""
        if callback is None:
            return False
        if direction == READ:
            watch.on_readable = None
        else:
            watch.on_writable = None
        try:
            callback()
        except Exception:  # noqa: BLE001 - logged; one waiter must not end the loop
            _log.exception(_FAILED)
        return True

    # -- watches (see hub.watch.Watches) -------------------------------------------------------------------------

    def open(self, fd: int) -> Watch:
        """Return a watch for `fd`; it is registered with the poller when it is first armed."""
        return Watch(fd)

    def arm(self, watch: Watch, mask: int) -> None:
        """Watch for `mask` too. Raises `OSError` (EMFILE for select beyond 1,024, ENOMEM, ENOSPC, EBADF)."""
        if watch.fd < 0:
            raise OSError(errno.EBADF, "the connection is closed")
        wanted = watch.armed | mask
        if self._watches.get(watch.fd) is watch:
            self._poller.modify(watch.fd, wanted)
        else:
            self._poller.add(watch.fd, wanted)
            self._watches[watch.fd] = watch
        watch.armed = wanted

    def listen(self, fd: int, callback: Callable[[], object]) -> Callable[[], object]:
        """Call `callback` whenever a listening socket has a connection; return a function to stop. Raises like `arm`.

        asyncio's `add_reader` needs a handle, a context and its queue for each call, and the requests of new
        connections would then be served outside of a turn's events, one by one. Benchmark: `python -m benchmarks
        fairness`.

        While `callback` returns True it is called again, within `ACCEPTING` seconds: a turn for each connection costs
        as much as accepting it. The clock is read after the requests of one connection and before the next one is
        accepted: a connection that follows a long request stays in the queue, where an idle sibling can accept it.
        A call in vain costs 10 % of a connection with one request (measured), so after one there is none for `LOOKS`
        turns.
        """
        watch = self.open(fd)
        skips = 0  # turns without a second call

        def ready() -> None:
            nonlocal skips
            watch.on_readable = ready
            self._run_all()  # one of them may compute for long: a connection accepted before it would wait for it
            ends = self._clock() + ACCEPTING
            accepted = 0
            while callback():
                self._run_all()
                accepted += 1
                if skips:
                    skips -= 1
                    return
                if watch.fd < 0 or self._clock() >= ends:
                    return
            if accepted == 1:
                skips = LOOKS

        def end() -> None:
            watch.on_readable = None
            self.release(watch)

        watch.on_readable = ready
        self.arm(watch, READ)
        return end

    def release(self, watch: Watch) -> None:
        """Forget `watch` and wake its waiters."""
        if watch.armed:
            self._forget(watch)
        watch.fd = -1
        if not self._closed and (watch.on_readable is not None or watch.on_writable is not None):
            self.call_soon(watch.wake_waiters)

    call_soon: Callable[[Callable[[], object]], object]
    """Runs a callback in the next turn; the loop sets it."""

    def _disarm(self, watch: Watch, idle: int) -> None:
        """Stop polling for the directions in `idle`, which have no waiter.

        poll and epoll report a pending HANGUP or ERROR regardless of the mask; only removing the descriptor stops that.
        """
        if self._watches.get(watch.fd) is not watch:
            return  # released by one of the callbacks above
        if watch.on_readable is not None:
            idle &= ~READ  # the callback of the other direction now waits for this one, and found it armed
        if watch.on_writable is not None:
            idle &= ~WRITE
        wanted = watch.armed & ~idle
        still_waiting = watch.on_readable is not None or watch.on_writable is not None
        if wanted == watch.armed:
            return
        if wanted and still_waiting:
            self._poller.modify(watch.fd, wanted)
            watch.armed = wanted
        elif not still_waiting:
            self._forget(watch)

    def _forget(self, watch: Watch) -> None:
        if self._watches.get(watch.fd) is watch:
            del self._watches[watch.fd]
            self._poller.remove(watch.fd)
        watch.armed = 0

    def observe(self, heartbeat: Heartbeat) -> None:
        """Report the loop's turns to `heartbeat` from now on. Called within a turn."""
        self._wait = heartbeat.watching(self._wait)

    # -- asyncio's selector --------------------------------------------------------------------------------------

    def _collect(self, fd: int, mask: int, foreign: list[tuple[selectors.SelectorKey, int]]) -> None:
        key = self._keys.get(fd)
        if key is None:
            self._poller.remove(fd)  # a callback of this batch has just closed the descriptor
            return
        events = (selectors.EVENT_READ if mask & READABLE else 0) | (selectors.EVENT_WRITE if mask & WRITABLE else 0)
        foreign.append((key, events & key.events))

    def _added(self, fd: int, events: int) -> None:
        if fd in self._watches:
            raise RuntimeError(f"file descriptor {fd} belongs to a connection of a handler: use its reader and writer")
        self._poller.add(fd, _TO_POLLER[events])

    def _changed(self, fd: int, events: int) -> None:
        self._poller.modify(fd, _TO_POLLER[events])

    def _removed(self, fd: int) -> None:
        self._poller.remove(fd)

    def abandon(self) -> None:
        """Stop polling in a process that a handler forked; the worker's poller is not affected."""
        self.close()
        self._jobs[:] = (_Home(),)  # runs when the current job, or the last event, is over
        self._late.clear()
        self.outbox.abandon()
        self._collect = forks.leave  # type: ignore[method-assign]  # all pending events belong to the worker
        self.select = forks.leave  # type: ignore[method-assign]

    def close(self) -> None:
        """Close the poller; watches and registrations are forgotten."""
        self._closed = True
        self._keys.clear()
        self._watches.clear()
        self._poller.close()


class _Home:
    """A job that ends a forked child."""

    run = parked = forks.leave
