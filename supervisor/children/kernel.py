"""The interface to the operating system: children, signals, time, waiting. `except OSError` lives here, not above.

The contract. Each clause has a test of the same number that runs over `LinuxKernel` and over the fake of the tests:

    1. `now()` is monotonic: seconds that never go back.
    2. `fork(main)` returns at once with the child's pid and our end of its channel. `main` runs in the child only, with
       the other end; its result is the child's exit code. It raises `CannotFork`, and then no child exists and
       nothing is left open.
    3. A child's death is the EOF of its channel, unless it has children that hold the other end.
    4. `reap(pids)` returns the deaths among `pids`, and never waits. A returned pid may be recycled, and must not be
       passed again. Children not in `pids` belong to other code and are left alone - unless they were adopted
       (clause 11), or this process is PID 1, the parent of every orphan: then all are reaped, but only those in
       `pids` returned.
    5. A child that other code has reaped is returned too, as ended unseen.
    6. `terminate(pid)`, `abort(pid)`, `kill(pid)` send SIGTERM, SIGABRT, SIGKILL, `send(pid, number)` any signal, to
       the process group `-pid` if that is negative; a pid that is gone is not an error, nor is a program that runs as
       another user.
    7. `wait(timeout)` sleeps until a watched descriptor is ready, a signal has come, a child has died, or `timeout`
       seconds have passed (None: forever; 0 or less: not at all). It returns the ready ones, or None if only time
       has passed. It never wakes early by more than the clock's resolution, except after 11 days; an interrupted
       system call is not an event.
    8. `wait` returns at once for events from before the call.
    9. `take_signals()` returns the names of the signals since the last call, in order; SIGCHLD is not among them.
   10. `watch` takes a descriptor, or changes what it is watched for. With `reads` (the default) it is ready when it is
       readable or at EOF, with `writes` when it has room; with neither, and with both, when its other end has hung up
       (POLLHUP, poll(2)). `unwatch` forgets it, before or after it was closed.
   11. `adopt_orphans(True)` makes processes whose parent dies, and that descend from this one, its children, until
       `adopt_orphans(False)` (PR_SET_CHILD_SUBREAPER, prctl(2)). `is_child(pid)` tells whether a process is a child
       of this one, alive or not yet reaped; any number may be asked for.
       `end_orphans(pids, is_bereaved, heirs)` collects the processes adopted since the last call. While one of `pids`
       is dying, they may be its children, so they wait until `is_bereaved` reports a death. Then the forks among them
       that stayed in our session get SIGTERM, and SIGKILL a second later, and so do their own leftovers; with `heirs`
       this happens once none of the heirs is in `pids`. It returns the seconds until the next call, or None if no
       process has to end.
   12. `close()` restores signal handlers, wake-up descriptor and signal mask. It may be called twice.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import time
import traceback
import types
from collections.abc import Callable, Collection, Iterator
from typing import Protocol

from hybrid.supervisor.children.orphans import Orphans
from hybrid.supervisor.core.events import How
from hybrid.workers.contract.channel import Channel

ChildMain = Callable[[Channel], int]


class CannotFork(Exception):  # noqa: N818 - a state of the machine, not a bug
    """The kernel gave no process or no descriptor (EAGAIN, ENOMEM, EMFILE); a later try may succeed."""


class Kernel(Protocol):
    """The operating system, as far as the shell needs it. See the clauses above."""

    def now(self) -> float:
        """Return the monotonic time in seconds (clause 1)."""

    def fork(self, main: ChildMain) -> tuple[int, Channel]:
        """Start a child that runs `main`; return its pid and our end of its channel (clauses 2, 3)."""

    def reap(self, pids: Collection[int]) -> list[tuple[int, How]]:
        """Return the deaths among `pids`; never waits (clauses 4, 5)."""

    def terminate(self, pid: int) -> None:
        """Send SIGTERM (clause 6)."""

    def abort(self, pid: int) -> None:
        """Send SIGABRT (clause 6)."""

    def kill(self, pid: int) -> None:
        """Send SIGKILL (clause 6)."""

    def send(self, pid: int, number: int) -> None:
        """Send a signal (clause 6)."""

    def adopt_orphans(self, wanted: bool) -> None:
        """Start or stop adopting orphaned descendants (clause 11)."""

    def end_orphans(self, pids: Collection[int], *, is_bereaved: bool, heirs: Collection[int] = ()) -> float | None:
        """End the leftovers of a dead child; return the seconds until the next call (clause 11)."""

    def is_child(self, pid: int) -> bool:
        """Return True if a process is a child of this one (clause 11)."""

    def watch(self, fd: int, *, reads: bool = True, writes: bool = False) -> None:
        """Let `wait` return when `fd` is readable or at EOF, has room to write, or has hung up (clause 10)."""

    def unwatch(self, fd: int) -> None:
        """Forget `fd` (clause 10)."""

    def wait(self, timeout: float | None) -> list[int] | None:
        """Sleep until something happens; return the ready descriptors, None after the timeout (clauses 7, 8)."""

    def take_signals(self) -> list[str]:
        """Return the names of the signals since the last call, in order; never waits (clause 9)."""

    def close(self) -> None:
        """Restore the state of the process (clause 12)."""


CAUGHT = (
    signal.SIGCHLD,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR1,  # ignored here; its default would end the service, and operators of other servers send it
    signal.SIGUSR2,
)
"""The signals a supervisor handles."""
_GROUP_WIDE = frozenset(CAUGHT) - {signal.SIGCHLD, signal.SIGTERM}
"""Signals that a terminal or an operator may send to the whole process group; workers ignore them."""
# number -> name; the signals of an embedding program arrive at the pipe too, and are not here
_NAMED = {int(signum): signum.name for signum in CAUGHT if signum is not signal.SIGCHLD}
_LONGEST_WAIT = 1_000_000.0  # seconds; poll(2) takes at most 2 ** 31 milliseconds
_PIPE_CHUNK = 65536  # bytes; the capacity of the wake-up pipe


def _on_signal(signum: int, frame: types.FrameType | None) -> None:
    """Do nothing: because a handler is set, CPython writes the number to the wake-up pipe.

    Unlike SIG_IGN, a handler is not inherited by programs that a worker executes.
    """


class LinuxKernel:
    """The real kernel. Create it in the main thread (only there can Python set signal handlers); one at a time."""

    def __init__(self) -> None:
        # a pipe and not a socket pair: it holds 65536 signals, a socket pair 278 (each byte costs a buffer there)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._wake_read, select.POLLIN)
        self._signals: list[str] = []  # names of the signals not taken yet, oldest first
        self._old_wakeup = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._old_handlers = {signum: signal.signal(signum, _on_signal) for signum in CAUGHT}
        # our parent may have blocked signals, and a mask outlives fork and exec
        self._old_mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, CAUGHT)
        self._is_open = True
        self._orphans = Orphans()

    def now(self) -> float:
        """Return the monotonic time in seconds."""
        return time.monotonic()

    def fork(self, main: ChildMain) -> tuple[int, Channel]:
        """Start a child that runs `main`. Raises `CannotFork`."""
        try:
            ours, theirs = Channel.pair()
        except OSError as error:
            raise CannotFork(os.strerror(error.errno or 0)) from error
        with _blocked_signals():
            try:
                pid = os.fork()
            except OSError as error:
                ours.close()
                theirs.close()
                raise CannotFork(os.strerror(error.errno or 0)) from error
            if pid == 0:
                ours.close()
                os._exit(self._be_child(main, theirs))
        theirs.close()
        self._orphans.forked(pid)
        return pid, ours

    def _be_child(self, main: ChildMain, channel: Channel) -> int:
        try:
            self._shed()
            return main(channel)
        except BaseException:  # noqa: BLE001 - must not return into the supervisor's code
            traceback.print_exc()
            return 1

    def _shed(self) -> None:
        """Undo, in a child, the changes of this object to the process. Signals are blocked until then.

        Otherwise a signal for the child would be written to the pipe that it shares with the supervisor, which would
        take it for its own.
        """
        signal.set_wakeup_fd(-1)
        os.close(self._wake_read)
        os.close(self._wake_write)
        for signum in signal.valid_signals():
            if callable(signal.getsignal(signum)):  # ours and an embedding program's; ignored signals stay ignored
                signal.signal(signum, signal.SIG_DFL)
        for signum in _GROUP_WIDE:
            signal.signal(signum, _on_signal)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def reap(self, pids: Collection[int]) -> list[tuple[int, How]]:
        """Return the deaths among `pids`; never waits."""
        found = dict(_reap_all()) if os.getpid() == 1 else {}
        self._orphans.reap(pids)
        return [(pid, how) for pid in pids if (how := found.get(pid) or _reap_one(pid)) is not None]

    def terminate(self, pid: int) -> None:
        """Send SIGTERM; a pid that is gone is not an error."""
        self.send(pid, signal.SIGTERM)

    def abort(self, pid: int) -> None:
        """Send SIGABRT; a pid that is gone is not an error."""
        self.send(pid, signal.SIGABRT)

    def kill(self, pid: int) -> None:
        """Send SIGKILL; a pid that is gone is not an error."""
        self.send(pid, signal.SIGKILL)

    def send(self, pid: int, number: int) -> None:
        """Send a signal; a pid that is gone is not an error, nor is one that runs as another user."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)

    def adopt_orphans(self, wanted: bool) -> None:
        """Start or stop adopting orphaned descendants."""
        self._orphans.adopt(wanted)

    def end_orphans(self, pids: Collection[int], *, is_bereaved: bool, heirs: Collection[int] = ()) -> float | None:
        """End the leftovers of a dead child; return the seconds until the next call, None if there are none."""
        return self._orphans.end(pids, is_bereaved=is_bereaved, heirs=heirs)

    def is_child(self, pid: int) -> bool:
        """Return True if a process is a child of this one, alive or not yet reaped."""
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except (OSError, OverflowError):  # no child of ours, not in use, 0 and less, or no pid at all
            return False
        return True

    def watch(self, fd: int, *, reads: bool = True, writes: bool = False) -> None:
        """Let `wait` return when `fd` is readable or at EOF, has room to write, or has hung up."""
        self._poll.register(fd, (select.POLLIN if reads else 0) | (select.POLLOUT if writes else 0))

    def unwatch(self, fd: int) -> None:
        """Forget `fd`."""
        with contextlib.suppress(KeyError):
            self._poll.unregister(fd)

    def wait(self, timeout: float | None) -> list[int] | None:
        """Sleep until something happens; return the ready descriptors, None after the timeout.

        poll(2) counts milliseconds: round up, or the last one before a deadline would be spent spinning.
        """
        milliseconds = None if timeout is None else math.ceil(min(max(timeout, 0.0), _LONGEST_WAIT) * 1000)
        ready = [fd for fd, _ in self._poll.poll(0 if self._signals else milliseconds)]
        if not ready and not self._signals:
            return None
        if self._wake_read in ready:
            ready.remove(self._wake_read)
            self._signals += [_NAMED[number] for number in os.read(self._wake_read, _PIPE_CHUNK) if number in _NAMED]
        return ready

    def take_signals(self) -> list[str]:
        """Return the names of the signals since the last call, in order."""
        taken, self._signals = self._signals, []
        return taken

    def close(self) -> None:
        """Restore signal handlers, wake-up descriptor and mask; may be called twice."""
        if not self._is_open:
            return
        self._is_open = False
        self.adopt_orphans(False)
        for signum, handler in self._old_handlers.items():
            # None: a handler that was not set from Python, and cannot be restored from Python
            signal.signal(signum, handler if handler is not None else signal.SIG_DFL)
        signal.set_wakeup_fd(self._old_wakeup)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._old_mask)
        os.close(self._wake_read)
        os.close(self._wake_write)


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    old = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def _reap_one(pid: int) -> How | None:
    try:
        reaped, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:  # an embedding program waits for all its children, or SIGCHLD was ignored
        return How()
    return _how(status) if reaped else None


def _reap_all() -> Iterator[tuple[int, How]]:
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            yield found[0], _how(found[1])


def _how(status: int) -> How:
    if not os.WIFSIGNALED(status):
        return How(code=os.waitstatus_to_exitcode(status))
    number = os.WTERMSIG(status)
    try:
        return How(signal=signal.Signals(number).name)
    except ValueError:  # a real-time signal between SIGRTMIN and SIGRTMAX has no name
        return How(signal=f"signal {number}")
