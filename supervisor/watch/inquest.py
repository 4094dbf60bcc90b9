"""Inquests: where stalled children stand is asked, logged, and, for those that are to end, followed by SIGABRT."""

from __future__ import annotations

import dataclasses
import logging

from hybrid.supervisor.children.handles import ChildHandle, Children
from hybrid.supervisor.children.kernel import Kernel
from hybrid.supervisor.core.table import ZYGOTE
from hybrid.supervisor.watch.evidence import Inquiry
from hybrid.supervisor.watch.stall_detector import turns_again
from hybrid.workers.contract import log

logger = logging.getLogger(log.LOGGER_NAME)


@dataclasses.dataclass(slots=True)
class _Case:
    """One child that is asked."""

    inquiry: Inquiry
    since: float
    """When it began to hang, seconds."""
    aborts: bool
    """Whether it is to end then."""


class Inquest:
    """All inquiries under way. No method blocks; times are monotonic seconds."""

    def __init__(self, kernel: Kernel, children: Children) -> None:
        self._kernel = kernel
        self._children = children
        self._cases: dict[int, _Case] = {}  # pid -> its case

    @property
    def due(self) -> float | None:
        """When `advance` has something to do, at the latest; None: nothing is under way."""
        times = [case.inquiry.due for case in self._cases.values() if case.inquiry.due is not None]
        return min(times, default=None)

    def open(self, pid: int, since: float, now: float, *, aborts: bool) -> None:
        """Ask a child that has hung since a time where it stands; `aborts`: then end it."""
        case = self._cases.get(pid)
        if case is None:
            inquiry = Inquiry(self._children[pid].evidence, pid, self._kernel.send)
            self._cases[pid] = _Case(inquiry, since, aborts)
        else:
            case.aborts = case.aborts or aborts
        self.advance(now)

    def close(self, pid: int) -> None:
        """A child is gone."""
        self._cases.pop(pid, None)

    def advance(self, now: float) -> None:
        """Go on with what is due, not earlier: what a worker writes is taken to be whole once no more has come."""
        for pid, case in list(self._cases.items()):
            due = case.inquiry.due
            if due is None or now < due or pid not in self._children:
                continue
            finding = case.inquiry.advance(now)
            if finding is None:
                continue
            del self._cases[pid]
            handle = self._children[pid]
            said = finding.describe(
                now - case.since,
                is_zygote=handle.slot == ZYGOTE,
                turns_again=turns_again(handle.record, case.since, now),
            )
            logger.warning("%s", said, extra=_labels(pid, handle))
            if case.aborts:
                self._kernel.abort(pid)


def _labels(pid: int, handle: ChildHandle) -> dict[str, object]:
    slot = "zygote" if handle.slot == ZYGOTE else handle.slot
    return {"slot": slot, "generation": handle.generation, "subject_pid": pid}
