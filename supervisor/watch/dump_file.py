"""The dump file: memory that a worker writes its stacks to, and the request for one dump.

A `StackDump` is the request for one dump, and never waits. It sends the first signal of `contract.signals` and reads
the memory each time it is called. If nothing arrives although the worker can run, it sends the second signal. These
signals kill a worker that has no handler for them yet, so /proc is read first.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from hybrid.supervisor.watch.stacks import Stack, describe, innermost
from hybrid.workers.contract.records import record
from hybrid.workers.contract.signals import DUMP_STACK, MAX_DUMP, TELL_STACKS

PATIENCE = 0.2
"""Seconds after which a worker counts as unable to answer. It may wait for the GIL, which 40 busy threads hold for
5 ms each."""
_STARVED = 0.4  # seconds more if the worker has not been scheduled to take the signal
_LOOK = 0.02  # seconds between reads; a dump is complete if nothing was added for this long

_SEALS = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


def sealed_memory(name: str, size: int) -> int:
    """Return a descriptor of memory that other processes can write to, but neither enlarge nor shrink (fcntl(2)).

    Pages are used once they are written. Raises `OSError` (EMFILE, ENFILE, ENOMEM).
    """
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd


class DumpFile:
    """Memory of a fixed size, shared with one worker through its descriptor, which includes the write position.

    The worker gets the descriptor by the fork or over a socket (SCM_RIGHTS), and does not open the file itself. Writes
    cannot enlarge it (F_SEAL_GROW, fcntl(2)); those beyond its size fail in the worker. No method blocks.
    """

    def __init__(self) -> None:
        """Raises `OSError` (EMFILE, ENFILE, ENOMEM)."""
        self._taken = 0  # bytes returned already
        self._fd = sealed_memory("hybrid-dump", MAX_DUMP)

    def fileno(self) -> int:
        """Return the descriptor; -1 once closed."""
        return self._fd

    def take(self) -> str:
        """Return the text written since the last call, at most `MAX_DUMP` bytes; "" once closed.

        A call that finds nothing new frees all of the room.
        """
        if self._fd == -1:
            return ""
        written = os.lseek(self._fd, 0, os.SEEK_CUR)
        begin = self._taken if self._taken <= written else 0
        data = os.pread(self._fd, min(written - begin, MAX_DUMP), begin)
        self._taken = begin + len(data)
        if written and not data:  # only when quiet: text written between these two calls would be lost
            os.lseek(self._fd, 0, os.SEEK_SET)
            self._taken = 0
        return data.decode("ascii", "backslashreplace")

    def close(self) -> None:
        """Close the descriptor; may be called twice. The worker's own stays open."""
        fd, self._fd = self._fd, -1
        if fd != -1:
            os.close(fd)


@record(frozen=True, slots=True)
class Condition:
    """The state of the main thread of a process (proc_pid_status(5))."""

    state: str
    """R running, S sleeping, D in uninterruptible sleep, T stopped, t stopped by a tracer, Z ended."""
    caught: int
    """The signals with a handler: bit n - 1 for signal n."""
    blocked: int
    """The signals that the thread blocks."""
    pending: int
    """The signals sent to the thread or the process, and not delivered yet."""

    def hears(self, number: int) -> bool:
        """Return True if the signal has a handler."""
        return bool(self.caught >> (number - 1) & 1)

    def blocks(self, number: int) -> bool:
        """Return True if the main thread blocks the signal."""
        return bool(self.blocked >> (number - 1) & 1)

    def waits(self, number: int) -> bool:
        """Return True if the signal was sent but not delivered: the process has not run since."""
        return bool(self.pending >> (number - 1) & 1)

    @property
    def hindrance(self) -> str:
        """Why the process cannot run at all; "" if it can."""
        return _HINDRANCES.get(self.state, "")


_HINDRANCES = {
    "T": "the process is stopped (SIGSTOP)",
    "t": "the process is stopped by a debugger",
    "D": "the process is in uninterruptible sleep (waiting for a disk or a network file system)",
    "Z": "the process has ended",
    "X": "the process has ended",
}
_ENDED = frozenset("ZX")


def condition_of(pid: int) -> Condition | None:
    """Return the condition of a process from /proc; None if the process is gone or hidden."""
    try:
        text = Path(f"/proc/{pid}/status").read_text("utf-8", "replace")
        fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        pending, shared, caught, blocked = (int(fields[name], 16) for name in ("SigPnd", "ShdPnd", "SigCgt", "SigBlk"))
        return Condition(fields["State"].strip()[:1], caught, blocked, pending | shared)
    except (OSError, KeyError, ValueError):
        return None


@record(frozen=True, slots=True)
class DumpResult:
    """The result of a stack dump."""

    stack: Stack
    missing: str = ""
    """Why there is no stack."""
    text: str = ""
    """The dump as the worker wrote it."""

    def describe(self, seconds: float, *, is_zygote: bool = False, turns_again: bool = False) -> str:
        """Return the text of a log record about a child that has been stalled for `seconds`."""
        return describe(self.stack, seconds, self.missing, is_zygote=is_zygote, turns_again=turns_again)


class StackDump:
    """Requests the stacks of one stalled worker. Never blocks; call `advance` until it returns a `DumpResult`."""

    def __init__(self, dump_file: DumpFile, pid: int, send: Callable[[int, int], None]) -> None:
        """`send(pid, signal)` must ignore a process that is gone."""
        self._dump_file = dump_file
        self._pid = pid
        self._send = send
        self._asked = 0  # the signal sent last
        self._asked_at = 0.0
        self._text = ""  # the dump so far
        self.due: float | None = 0.0
        """When to call `advance` next, at the latest; None once it has ended."""

    def advance(self, now: float) -> DumpResult | None:
        """Send a signal, read, or give up; returns None while an answer may still come, for less than a second."""
        if self.due is None:
            raise RuntimeError("this stack dump is over")
        self.due = now + _LOOK
        if not self._asked:
            for _ in range(2):  # drops late answers to an earlier request; the second call rewinds
                self._dump_file.take()
            return self._ask(TELL_STACKS, now)
        news = self._dump_file.take()
        self._text += news
        if self._text and (self._asked == TELL_STACKS or not news):
            stack = innermost(self._text, OURS, OUR_SIDE, _working_directory())
            return self._end("" if stack != Stack() else "the text that the worker wrote is no stack", stack)
        if news or now < self._asked_at + PATIENCE:
            return None
        return self._ask_again(now) if self._asked == TELL_STACKS else self._end("the worker does not answer")

    def _ask(self, number: int, now: float) -> DumpResult | None:
        condition = condition_of(self._pid)
        if condition is None:
            return self._end("the process is not visible in /proc")
        if condition.state in _ENDED:
            return self._end(condition.hindrance)
        if not condition.hears(number):
            return self._end("the worker has no handler yet, or its application has replaced it")
        self._asked, self._asked_at = number, now
        self._send(self._pid, number)
        return None

    def _ask_again(self, now: float) -> DumpResult | None:
        """Send the second signal if the first was delivered: it must not arrive while Python code runs."""
        condition = condition_of(self._pid)
        if condition is not None and condition.hindrance:
            return self._end(condition.hindrance)
        if condition is not None and condition.waits(TELL_STACKS):
            starved = now >= self._asked_at + PATIENCE + _STARVED
            return self._end("the process gets no CPU time, or blocks signals") if starved else None
        if condition is not None and condition.blocks(DUMP_STACK):
            return self._end("the application blocks the signal")  # another thread would get it, and dump its own stack
        return self._ask(DUMP_STACK, now)

    def _end(self, missing: str, stack: Stack = Stack()) -> DumpResult:  # noqa: B008 - it is immutable
        self.due = None
        return DumpResult(stack, missing, self._text)


def _working_directory() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # removed meanwhile
        return ""


def _folders() -> Iterator[str]:
    for name in ("hybrid", "hybrid.supervisor", "hybrid.workers"):
        file = sys.modules[name].__file__
        if file is not None:
            yield str(Path(file).parent)


OURS = frozenset(_folders())
"""The folders of this package, as they appear in the stacks of workers."""
OUR_SIDE = str(Path(__file__).parents[1])
"""The folder of the code that forked a worker, which is below the worker's own on the stack."""
