"""Requests the stacks of stalled children, logs them, and sends SIGABRT to the children that must end."""

from __future__ import annotations

import dataclasses
import logging

from hybrid.supervisor.children.handles import ChildHandle, Children
from hybrid.supervisor.children.kernel import Kernel
from hybrid.supervisor.core.table import ZYGOTE
from hybrid.supervisor.watch.dump_file import StackDump
from hybrid.supervisor.watch.stall_detector import turns_again
from hybrid.workers.contract import log

logger = logging.getLogger(log.LOGGER_NAME)


@dataclasses.dataclass(slots=True)
class _Request:
    """A stack dump of one child in progress."""

    dump: StackDump
    since: float
    """When the child began to hang, monotonic seconds."""
    aborts: bool
    """True if SIGABRT follows the dump."""


class StackDumps:
    """All stack dumps in progress. No method blocks; times are monotonic seconds."""

    def __init__(self, kernel: Kernel, children: Children) -> None:
        self._kernel = kernel
        self._children = children
        self._requests: dict[int, _Request] = {}  # pid -> its case

    @property
    def due(self) -> float | None:
        """When to call `advance`, at the latest; None: no dump is in progress."""
        times = [request.dump.due for request in self._requests.values() if request.dump.due is not None]
        return min(times, default=None)

    def open(self, pid: int, since: float, now: float, *, aborts: bool) -> None:
        """Request the stacks of a child that has hung since `since`; with `aborts`, send SIGABRT after that."""
        request = self._requests.get(pid)
        if request is None:
            dump = StackDump(self._children[pid].dump_file, pid, self._kernel.send)
            self._requests[pid] = _Request(dump, since, aborts)
        else:
            request.aborts = request.aborts or aborts
        self.advance(now)

    def close(self, pid: int) -> None:
        """Forget a child that is gone."""
        self._requests.pop(pid, None)

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
            handle = self._children[pid]
            text = result.describe(
                now - request.since,
                is_zygote=handle.slot == ZYGOTE,
                turns_again=turns_again(handle.record, request.since, now),
            )
            logger.warning("%s", text, extra=_labels(pid, handle))
            if request.aborts:
                self._kernel.abort(pid)


def _labels(pid: int, handle: ChildHandle) -> dict[str, object]:
    slot = "zygote" if handle.slot == ZYGOTE else handle.slot
    return {"slot": slot, "generation": handle.generation, "subject_pid": pid}
