"""Requests the stacks of stalled children, logs them, and sends SIGABRT to the children that must end."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

from hybrid.supervisor.children.handles import ChildHandle, Children
from hybrid.supervisor.children.kernel import Kernel
from hybrid.supervisor.core.roles import ZYGOTE
from hybrid.supervisor.watch.dump_file import DumpResult, StackDump
from hybrid.supervisor.watch.stall_detector import turns_again
from hybrid.workers.contract import log

Tell = Callable[[int, ChildHandle, float, str], None]
"""Called with pid, handle, the seconds of a stall, and its innermost line (empty: not known)."""
Take = Callable[[DumpResult], object]
"""Takes the result of a dump."""
logger = logging.getLogger(log.LOGGER_NAME)


@dataclasses.dataclass(slots=True)
class _Request:
    """A stack dump of one child in progress."""

    dump: StackDump
    since: float | None = None
    """When the child began to hang, monotonic seconds; None: it does not, an operator asks."""
    aborts: bool = False
    """True if SIGABRT follows the dump."""
    askers: list[Take] = dataclasses.field(default_factory=list)
    """Called with the result."""


class StackDumps:
    """All stack dumps in progress. No method blocks; times are monotonic seconds."""

    def __init__(self, kernel: Kernel, children: Children, tell: Tell | None = None) -> None:
        """`tell` is called with each stall that is logged."""
        self._kernel = kernel
        self._tell = tell
        self._where: dict[int, str] = {}  # pid -> the line in which it was last found
        self._children = children
        self._requests: dict[int, _Request] = {}  # pid -> its case

    @property
    def due(self) -> float | None:
        """When to call `advance`, at the latest; None: no dump is in progress."""
        times = [request.dump.due for request in self._requests.values() if request.dump.due is not None]
        return min(times, default=None)

    def open(self, pid: int, since: float, now: float, *, aborts: bool) -> None:
        """Request the stacks of a child that has hung since `since`; with `aborts`, send SIGABRT after that."""
        request = self._request(pid)
        request.since = since if request.since is None else request.since
        request.aborts = request.aborts or aborts
        self.advance(now)

    def ask(self, pid: int, now: float, take: Take) -> None:
        """Request the stacks of a child for an operator: logs nothing, and calls `take` with the result.

        `take` is called within a second, unless the child is closed. A child has one dump file, so a dump that is in
        progress serves all who ask.
        """
        self._request(pid).askers.append(take)
        self.advance(now)

    def _request(self, pid: int) -> _Request:
        request = self._requests.get(pid)
        if request is None:
            dump = StackDump(self._children[pid].dump_file, pid, self._kernel.send)
            request = self._requests[pid] = _Request(dump)
        return request

    def close(self, pid: int) -> None:
        """Forget a child that is gone."""
        self._requests.pop(pid, None)
        self._where.pop(pid, None)

    def where(self, pid: int) -> str | None:
        """Return the line in which a stalled child was last found; None: not known."""
        return self._where.get(pid)

    def advance(self, now: float) -> None:
        """Continue the dumps that are due, not earlier: a dump is complete when nothing was added for a while."""
        for pid, request in list(self._requests.items()):
            due = request.dump.due
            if due is None or now < due or pid not in self._children:
                continue
            result = request.dump.advance(now)
            if result is None:
                continue
            del self._requests[pid]
            if request.since is not None:
                self._report(pid, result, request.since, now)
            if request.aborts:
                self._kernel.abort(pid)
            for take in request.askers:
                take(result)

    def _report(self, pid: int, result: DumpResult, since: float, now: float) -> None:
        """Log a stall."""
        handle = self._children[pid]
        text = result.describe(
            now - since, is_zygote=handle.slot == ZYGOTE, turns_again=turns_again(handle.record, since, now)
        )
        logger.warning("%s", text, extra=self._children.labels(pid, handle))
        where = str(result.stack.frames[0]) if result.stack.frames else ""
        self._where[pid] = where
        if self._tell is not None:
            self._tell(pid, handle, now - since, where)
