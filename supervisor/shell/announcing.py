"""Runs a program for each event, `--on-event`: one at a time, in order, and never waits for it.

An event waits in a queue while the program runs for an earlier one. If the queue is full, the oldest event is dropped,
and the next one that is delivered says how many were.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import logging
import os
import signal
from collections.abc import Callable, Iterable, Sequence

from hybrid.supervisor.children.command import Output, execute_with_input
from hybrid.supervisor.children.kernel import CannotFork, Kernel
from hybrid.supervisor.children.spawn import is_child_of
from hybrid.supervisor.core.events import How
from hybrid.supervisor.shell.happenings import Happening
from hybrid.workers.contract.channel import Channel, ChannelClosed
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.log import LOGGER_NAME
from hybrid.workers.contract.messages import BootFailed, MessageError

LONGEST_RUN = 10.0
"""Seconds for one event; then the process group of the program is killed."""
MOST_WAITING = 100
"""Events that wait for the program."""
AT_THE_END = 2.0
"""Seconds for all events that wait when the supervisor ends."""
_REAPED = 1.0  # seconds to reap the program that is killed then
_RETRY = 1.0  # seconds after a fork that failed
_QUIET = 60.0  # seconds for which the same complaint is not logged again
_BATCH = 16  # reads of the last output
_IMPATIENT = frozenset({"SIGTERM", "SIGINT", "SIGQUIT"})
_LABELS = {"service": "on-event"}

logger = logging.getLogger(LOGGER_NAME)


@dataclasses.dataclass(slots=True)
class _Run:
    """The program, while it runs for an event."""

    pid: int
    channel: Channel
    output: Output
    deadline: float | None
    """When it is killed, in monotonic seconds; None once it was."""
    complaint: str = ""
    """Why it could not be executed, or was killed."""


class Announcing:
    """The program for events, and the events that wait for it. Only `finish` and `close` block."""

    def __init__(
        self,
        command: Sequence[str],
        kernel: Kernel,
        children: dict[int, Callable[[How], None]],
        foreign: Callable[[], Iterable[Callable[[], None]]],
        most_waiting: int = MOST_WAITING,
    ) -> None:
        """`children`: pid -> called at its death. The program is entered there, because one call reaps all children.

        `foreign` returns functions that close the descriptors of the supervisor, in a child. `most_waiting`: events
        that may wait; later ones take the places of the oldest.
        """
        self._command = command
        self._kernel = kernel
        self._children = children
        self._foreign = foreign
        self._supervisor_pid = os.getpid()
        self._most_waiting = most_waiting
        self._waiting: collections.deque[Happening] = collections.deque()
        self._dropped = 0  # events since the last one that was delivered
        self._run: _Run | None = None
        self._not_before = 0.0  # monotonic seconds: no fork until then
        self._complaint = ""  # the last one that was logged,
        self._complained = 0.0  # and when, in monotonic seconds

    @property
    def due(self) -> float | None:
        """When to call `advance`, in monotonic seconds; None: no need."""
        if self._run is not None:
            return self._run.deadline
        return self._not_before if self._waiting else None

    def hear(self, event: Happening) -> None:
        """Let an event wait for the program."""
        if len(self._waiting) >= self._most_waiting:
            self._waiting.popleft()
            self._dropped += 1
        self._waiting.append(event)

    def advance(self, now: float) -> None:
        """End a program that runs for too long; start it for the next event."""
        run = self._run
        if run is None:
            if self._waiting and self._not_before <= now:
                self._start(now)
        elif run.deadline is not None and run.deadline <= now:
            run.complaint = f"killed after {LONGEST_RUN:g} s"
            run.deadline = None
            self._kill(run)

    def take(self, fd: int) -> bool:
        """Log the output at a readable descriptor; return True if it is of the program."""
        run = self._run
        if run is None or fd < 0:
            return False
        if fd == run.channel.fileno():
            self._read_channel(run)
        elif fd == run.output.fileno():
            lines = run.output.read()
            if lines is None:  # it has closed its output, and lives on
                self._kernel.unwatch(fd)
            self._log(run, lines or [])
        else:
            return False
        return True

    def finish(self) -> None:
        """Deliver the events that wait, for at most 2 seconds or until a signal asks to end; then kill the program.

        Blocks. Other descriptors are no longer watched afterwards if they were readable.
        """
        until = self._kernel.now() + AT_THE_END
        while (now := self._kernel.now()) < until:
            self.advance(now)
            due = self.due
            if due is None and self._run is None:
                break
            self._wait(min(until, until if due is None else due))
            if not _IMPATIENT.isdisjoint(self._kernel.take_signals()):
                break
        if self._run is not None:
            self._run.complaint = "killed, as the supervisor ends"
        left = len(self._waiting) + self._dropped
        self._waiting.clear()
        if left:
            self._complain(f"the supervisor ends, and {left} events were not delivered")
        self.close()

    def close(self) -> None:
        """Kill the program if it runs, and reap it; blocks for a second at most. May be called twice."""
        run = self._run
        if run is None:
            return
        self._kill(run)
        until = self._kernel.now() + _REAPED
        while self._run is not None and self._kernel.now() < until:
            self._wait(until)
            self._kernel.take_signals()  # otherwise the next wait returns at once
        if self._run is not None:  # stuck in the kernel
            self._forget(run)

    def close_in_child(self) -> None:
        """Close the descriptors in a child."""
        if self._run is not None:
            self._run.channel.close()
            self._run.output.close()

    def _wait(self, until: float) -> None:
        """Sleep until something happens, while nothing else of the supervisor runs any more."""
        for fd in self._kernel.wait(until - self._kernel.now()) or ():
            if not self.take(fd):
                self._kernel.unwatch(fd)  # it would stay readable
        if self._run is not None:
            for pid, how in self._kernel.reap((self._run.pid,)):
                self._children.pop(pid)(how)

    def _start(self, now: float) -> None:
        """Start the program for the next event. If that is impossible now, try again in a moment."""
        event = dict(self._waiting[0])
        if self._dropped:
            event["dropped"] = self._dropped
        content = f"{json.dumps(event, default=str)}\n".encode("ascii")
        try:
            output = Output()
        except OSError as error:
            self._postpone(os.strerror(error.errno or 0), now)
            return
        try:
            pid, channel = self._kernel.fork(lambda channel: self._be_program(content, output, channel))
        except CannotFork as error:
            output.close()
            self._postpone(str(error), now)
            return
        output.close_theirs()
        self._waiting.popleft()
        self._dropped = 0
        self._run = _Run(pid, channel, output, now + LONGEST_RUN)
        self._children[pid] = self._ended
        self._kernel.watch(channel.fileno())
        self._kernel.watch(output.fileno())

    def _be_program(self, content: bytes, output: Output, channel: Channel) -> int:
        for close in self._foreign():
            close()
        if not is_child_of(self._supervisor_pid):
            return Exit.ORPHANED
        return execute_with_input(self._command, content, output.theirs, channel)

    def _postpone(self, reason: str, now: float) -> None:
        self._complain(f"cannot start: {reason}")
        self._not_before = now + _RETRY

    def _ended(self, how: How) -> None:
        """The program is dead, and reaped."""
        run = self._run
        assert run is not None, "its pid was entered when it was started"
        self._read_channel(run)
        for _ in range(_BATCH):
            lines = run.output.read()
            if not lines:
                break
            self._log(run, lines)
        self._log(run, run.output.rest())
        # what it has left in its process group; the pid is not in use again so soon, as the kernel counts up
        self._kernel.send(-run.pid, signal.SIGKILL)
        if run.complaint:
            self._complain(run.complaint)
        elif how.signal is not None or how.code:
            self._complain(f"it ended with {how.signal or f'exit code {how.code}'}")
        self._forget(run)

    def _read_channel(self, run: _Run) -> None:
        """Read why the program could not be executed. EOF without a message: it runs."""
        fd = run.channel.fileno()
        if fd < 0:
            return
        try:
            message = run.channel.receive_nowait()
        except (ChannelClosed, MessageError):
            self._kernel.unwatch(fd)
            run.channel.close()
            return
        if isinstance(message, BootFailed):
            run.complaint = message.reason

    def _kill(self, run: _Run) -> None:
        self._kernel.send(-run.pid, signal.SIGKILL)
        self._kernel.kill(run.pid)  # it may not have made its process group yet

    def _forget(self, run: _Run) -> None:
        for fd in (run.channel.fileno(), run.output.fileno()):
            if fd >= 0:
                self._kernel.unwatch(fd)
        run.channel.close()
        run.output.close()
        self._children.pop(run.pid, None)
        self._run = None

    def _log(self, run: _Run, lines: Iterable[str]) -> None:
        for line in lines:
            logger.info("%s", line, extra={**_LABELS, "subject_pid": run.pid})

    def _complain(self, text: str) -> None:
        """Log what is wrong, the same at most once a minute."""
        now = self._kernel.now()
        if text == self._complaint and now < self._complained + _QUIET:
            return
        self._complaint, self._complained = text, now
        logger.warning("--on-event: %s", text, extra=_LABELS)
