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
    """One child that is asked."""

    dump: StackDump
    since: float
    """When it began to hang, seconds."""
    aborts: bool
    """Whether it is to end then."""


class StackDumps:
    """All dumps under way. No method blocks; times are monotonic seconds."""

    def __init__(self, kernel: Kernel, children: Children) -> None:
        self._kernel = kernel
        self._children = children
        self._requests: dict[int, _Request] = {}  # pid -> its case

    @property
    def due(self) -> float | None:
        """When `advance` has something to do, at the latest; None: nothing is under way."""
        times = [request.dump.due for request in self._requests.values() if request.dump.due is not None]
        return min(times, default=None)

    def open(self, pid: int, since: float, now: float, *, aborts: bool) -> None:
        """Ask a child that has hung since a time where it stands; `aborts`: then end it."""
        request = self._requests.get(pid)
        if request is None:
            dump = StackDump(self._children[pid].dump_file, pid, self._kernel.send)
            self._requests[pid] = _Request(dump, since, aborts)
        else:
            request.aborts = request.aborts or aborts
        self.advance(now)

    def close(self, pid: int) -> None:
        """A child is gone."""
        self._requests.pop(pid, None)

    def advance(self, now: float) -> None:
        """Go on with what is due, not earlier: what a worker writes is taken to be whole once no more has come."""
        for pid, request in list(self._requests.items()):
            due = request.dump.due
            if due is None or now < due or pid not in self._children:
                continue
            result = request.dump.advance(now)
            if result is None:
                continue
            del self._requests[pid]
            handle = self._children[pid]
            said = result.describe(
                now - request.since,
                is_zygote=handle.slot == ZYGOTE,
                turns_again=turns_again(handle.record, request.since, now),
            )
            logger.warning("%s", said, extra=_labels(pid, handle))
            if request.aborts:
                self._kernel.abort(pid)


def _labels(pid: int, handle: ChildHandle) -> dict[str, object]:
    slot = "zygote" if handle.slot == ZYGOTE else handle.slot
    return {"slot": slot, "generation": handle.generation, "subject_pid": pid}
