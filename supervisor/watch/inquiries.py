"""Asks children for everything that they do just now, for operators: by an order to the loop, or else by a signal.

    asked  -> the loop writes a report into memory of the inquiry, and says so
           -> no answer within `PATIENCE`: a stack dump by signal, of the threads only
           -> no dump either: the reason

Each inquiry has memory of its own, sent with the order: a late answer to an earlier one cannot be mixed up with it. The
content is written by the application's process, and is checked.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import os
from collections.abc import Iterator
from typing import Any

from hybrid.supervisor.children.handles import ChildHandle, Children
from hybrid.supervisor.core.roles import ZYGOTE
from hybrid.supervisor.watch.dump_file import OUR_SIDE, OURS, DumpResult, condition_of, sealed_memory
from hybrid.supervisor.watch.stack_dumps import StackDumps
from hybrid.supervisor.watch.stacks import Thread, threads_of, without_launcher
from hybrid.workers.contract import log, stack_report
from hybrid.workers.contract.channel import ChannelClosed
from hybrid.workers.contract.messages import StacksTold, TellStacks
from hybrid.workers.contract.signals import TELL_STACKS
from hybrid.workers.contract.stack_report import MOST_FRAMES, MOST_REPORT, MOST_TEXT, ReportError

PATIENCE = 0.1
"""Seconds for the loop to answer."""
_MOST_UNANSWERED = 4  # orders in the channel of a child that does not read it; it needs the room for other orders
_MOST_OPEN = 256  # inquiries of one service with memory, a descriptor each; further ones ask by signal at once
_STOPPED = frozenset("Tt")
_PREFIXES = tuple(f"{folder}/" for folder in OURS)
_GONE = "the process has ended"
_WAITS = "the zygote has loaded the application, and waits for orders to fork workers"
_NO_CODE_OF_OURS = "the process runs another program, whose stacks hybrid cannot see"

logger = logging.getLogger(log.LOGGER_NAME)


class _Phase(enum.Enum):
    LOOP = "the loop was asked"
    SIGNAL = "a signal was sent"
    OVER = "there is a result"


class Inquiry:
    """The stacks of one child. The result is there within a second."""

    def __init__(self, pid: int, handle: ChildHandle, slot: int | str, most: int, now: float) -> None:
        """`slot`: as people read it. `most`: the maximum size of the result in bytes, as JSON."""
        self.pid = pid
        self.number = 0
        """The id of its order; 0: there is none."""
        self.most = most
        self.due = now + PATIENCE
        """When the loop must have answered, in monotonic seconds."""
        self.fd = -1  # memory for the report; -1: none
        self.phase = _Phase.LOOP
        self._who: dict[str, Any] = {
            "slot": slot,
            "pid": pid,
            "generation": handle.generation,
        }
        self.by_signal = "signal" if handle.has_loop else "function"
        """The source of stacks that a signal brought: `function` if there is no loop that could be asked."""
        self._found: dict[str, Any] = {"source": "loop" if handle.has_loop else "function", "error": None}

    @property
    def is_over(self) -> bool:
        """True once `result` is the final one."""
        return self.phase is _Phase.OVER

    @property
    def result(self) -> dict[str, Any]:
        """The stacks and where they came from, as JSON values; or the error."""
        empty: dict[str, Any] = {name: [] for name in stack_report.SECTIONS}
        return {**self._who, **empty, "left_out": {}, **self._found}

    def end(self, **found: Any) -> None:
        """Take the result; no effect if there is one."""
        self.close()
        if self.phase is not _Phase.OVER:
            self.phase = _Phase.OVER
            self._found.update(found)

    def close(self) -> None:
        """Close the memory; may be called twice."""
        fd, self.fd = self.fd, -1
        if fd != -1:
            os.close(fd)


class Inquiries:
    """The inquiries of one service. No method blocks; times are monotonic seconds."""

    def __init__(self, children: Children, stack_dumps: StackDumps, *, executes: bool = False) -> None:
        """`executes`: the children execute programs that are not hybrid's."""
        self._children = children
        self._stack_dumps = stack_dumps
        self._executes = executes
        self._open: list[Inquiry] = []
        self._unanswered: dict[int, set[int]] = {}  # pid -> ids of orders that it has not answered
        self._last = 0  # the id given last

    @property
    def due(self) -> float | None:
        """When to call `advance`, at the latest; None: no loop is being waited for."""
        return min((one.due for one in self._open if one.phase is _Phase.LOOP), default=None)

    def open(self, pid: int, most: int, now: float) -> Inquiry:
        """Ask a child for its stacks; `most`: the maximum size of the result in bytes, as JSON."""
        handle = self._children[pid]
        inquiry = Inquiry(pid, handle, self._children.place(handle.slot)[1], min(most, MOST_REPORT), now)
        self._open.append(inquiry)
        if self._executes:
            self._end(inquiry, source="signal", error=_NO_CODE_OF_OURS)
        elif handle.slot == ZYGOTE or not handle.hears or not self._order(inquiry, handle):
            self._signal(inquiry, now)
        return inquiry

    def hear(self, pid: int, told: StacksTold) -> None:
        """A child says that it has written its report. Ignores what was not asked."""
        unanswered = self._unanswered.get(pid, set())
        if told.id not in unanswered:
            return
        unanswered.discard(told.id)
        inquiry = next((one for one in self._open if one.number == told.id and one.phase is _Phase.LOOP), None)
        if inquiry is None:  # too late
            return
        report = self._read(inquiry, told.size)
        if report is None:
            inquiry.due = 0.0  # ask by a signal
        else:
            self._end(inquiry, **report)

    def close(self, pid: int) -> None:
        """A child is gone."""
        self._unanswered.pop(pid, None)
        for inquiry in [one for one in self._open if one.pid == pid]:
            self._end(inquiry, error=_GONE)

    def advance(self, now: float) -> None:
        """Send signals to the children whose loops have not answered in time."""
        for inquiry in [one for one in self._open if one.phase is _Phase.LOOP and one.due <= now]:
            self._signal(inquiry, now)

    def close_in_child(self) -> None:
        """Close the descriptors in a child."""
        for inquiry in self._open:
            inquiry.close()

    def _order(self, inquiry: Inquiry, handle: ChildHandle) -> bool:
        """Ask the loop; return False if that is impossible."""
        unanswered = self._unanswered.setdefault(inquiry.pid, set())
        if len(unanswered) >= _MOST_UNANSWERED or len(self._open) > _MOST_OPEN:
            return False
        number = self._last + 1
        try:
            inquiry.fd = sealed_memory("hybrid-stacks", inquiry.most)
            sent = handle.channel.hand_over_nowait(TellStacks(number, inquiry.most), (inquiry.fd,))
        except (OSError, ChannelClosed):
            sent = False
        if sent:
            self._last = inquiry.number = number
            unanswered.add(number)
        return sent

    @staticmethod
    def _read(inquiry: Inquiry, size: int) -> dict[str, Any] | None:
        """Return the report of a child; None if there is none, or none that can be read."""
        if not 0 < size <= inquiry.most:
            return None
        try:
            return stack_report.decode(os.pread(inquiry.fd, size, 0))
        except ReportError as error:
            logger.debug("the report of the stacks of pid %d cannot be read: %s", inquiry.pid, error)
            return None

    def _signal(self, inquiry: Inquiry, now: float) -> None:
        inquiry.close()
        inquiry.phase = _Phase.SIGNAL
        condition = condition_of(inquiry.pid)
        if condition is not None and condition.state in _STOPPED:  # it would answer when it is continued
            self._end(inquiry, source=inquiry.by_signal, error=condition.hindrance)
        elif condition is not None and self._is_zygote(inquiry) and condition.blocks(TELL_STACKS):
            self._end(inquiry, source=inquiry.by_signal, error=_WAITS)
        else:
            self._stack_dumps.ask(inquiry.pid, now, lambda result: self._take(inquiry, result))

    def _is_zygote(self, inquiry: Inquiry) -> bool:
        handle = self._children.get(inquiry.pid)
        return handle is not None and handle.slot == ZYGOTE

    def _take(self, inquiry: Inquiry, result: DumpResult) -> None:
        threads = [_entry(thread) for thread in threads_of(result.text)]
        if not threads:
            error = result.missing or "the text that the worker wrote is no stack"
            self._end(inquiry, source=inquiry.by_signal, error=error)
            return
        chosen, left_out = _within(threads, inquiry.most)
        self._end(inquiry, source=inquiry.by_signal, threads=chosen, left_out={"threads": left_out} if left_out else {})

    def _end(self, inquiry: Inquiry, **found: Any) -> None:
        inquiry.end(**found)
        with contextlib.suppress(ValueError):
            self._open.remove(inquiry)


def _entry(thread: Thread) -> dict[str, Any]:
    frames = without_launcher(thread.frames, OUR_SIDE)
    shown = [
        stack_report.frame(
            frame.file,
            int(frame.line) if frame.line.isdecimal() else None,
            frame.function,
            is_ours=frame.file.startswith(_PREFIXES),
        )
        for frame in frames[:MOST_FRAMES]
    ]
    return {
        "name": thread.name[:MOST_TEXT],
        "is_loop": thread.is_loop,
        "frames": shown,
        "is_cut": len(frames) > MOST_FRAMES,
    }


def _within(threads: list[dict[str, Any]], most: int) -> tuple[list[dict[str, Any]], int]:
    """Return the threads that have room in `most` bytes, and the number of the others."""
    kept = list(_that_fit(threads, most))
    return kept, len(threads) - len(kept)


def _that_fit(threads: list[dict[str, Any]], most: int) -> Iterator[dict[str, Any]]:
    for thread in threads:
        texts, _ = stack_report.within([thread], most)
        if texts:
            most -= len(texts[0]) + 2
            yield thread
