"""The request `stacks` of the control line: which children are asked, and the answer once all of them have answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from hybrid.supervisor.control.requests import BUSY, UNKNOWN_SLOT
from hybrid.supervisor.core.roles import ZYGOTE
from hybrid.supervisor.shell.branch import Branch
from hybrid.supervisor.shell.happenings import Happening
from hybrid.supervisor.shell.tasks import Refused
from hybrid.supervisor.watch.inquiries import Inquiry
from hybrid.workers.contract.records import record
from hybrid.workers.contract.stack_report import SECTIONS

MOST_AT_ONCE: Final = 4
"""Requests in progress, of all clients: each costs the workers some milliseconds."""
_MOST_ANSWER = 900 * 1024  # bytes of the whole answer; `clients.MOST_UNSENT` is the limit
_LEAST_SHARE = 1024  # bytes of it for each child, at least
_LONGEST = 2.0  # seconds; the inquiries end earlier
_ENDLESS = "it has not answered, and neither has the system"
_VACANT = "no process runs in this slot now"


class Inspecting:
    """Begins requests for stacks. No method blocks."""

    def __init__(self, branches: Mapping[str, Branch]) -> None:
        """`branches`: the services that have not ended."""
        self._branches = branches
        self._tasks: list[StacksTask] = []

    def begin(self, service: str | None, slot: int | None, now: float, companion: str = "") -> StacksTask:
        """Ask the children of one service or of all, of one slot or of all. Raises `answering.Refused`.

        `companion`: only the companions of this name, and `slot` is the number of one of them.
        """
        self._tasks = [task for task in self._tasks if not task.is_over(now)]
        if len(self._tasks) >= MOST_AT_ONCE:
            raise Refused(BUSY, f"{MOST_AT_ONCE} requests for stacks are in progress")
        chosen = [branch for name, branch in self._branches.items() if service is None or name == service]
        which = _Which(slot, companion)
        if slot is not None and not any(_has(branch, which) for branch in chosen):
            where = f"{service}.{companion}" if companion else service or "any service"
            raise Refused(UNKNOWN_SLOT, f"there is no slot {slot} in {where}")
        pids = [(branch, pid) for branch in chosen for pid in _children(branch, which)]
        share = max(_LEAST_SHARE, _MOST_ANSWER // max(1, len(pids)))
        asked = [(_service_of(branch, pid), branch.inquiries.open(pid, share, now)) for branch, pid in pids]
        vacant = [_vacant(branch, index) for branch in chosen for index in _vacancies(branch, which)]
        task = StacksTask(asked, vacant, now + _LONGEST)
        self._tasks.append(task)
        return task


@record(frozen=True, slots=True)
class _Which:
    """The slots that are meant."""

    slot: int | None
    """None: all."""
    companion: str
    """The name of companions; empty: workers and all others."""

    def has(self, branch: Branch, slot: int) -> bool:
        """Return True if a slot of a service is meant."""
        name, number = branch.roster.companion(slot)
        if self.companion:
            return name == self.companion and self.slot in (None, number)
        return self.slot is None or (not name and self.slot == slot)


class StacksTask:
    """Ends when all children have answered, or are known not to."""

    def __init__(self, asked: list[tuple[str, Inquiry]], vacant: list[dict[str, Any]], ends: float) -> None:
        self._asked = asked
        self._vacant = vacant
        self._ends = ends
        self.due: float | None = ends
        """See `answering.Task`."""

    def is_over(self, now: float) -> bool:
        """Return True if there is nothing to wait for."""
        return now >= self._ends or all(inquiry.is_over for _, inquiry in self._asked)

    def progress(self) -> Mapping[str, object] | None:
        """Return None: it is over soon."""
        return None

    def hear(self, happening: Happening) -> None:
        """Do nothing: events do not matter."""

    def look(self, now: float) -> Mapping[str, object] | None:
        """Return the stacks of all children; None before the end."""
        if not self.is_over(now):
            return None
        for _, inquiry in self._asked:
            inquiry.end(error=_ENDLESS)
        told = [{"service": service, **inquiry.result} for service, inquiry in self._asked]
        return {"workers": sorted([*told, *self._vacant], key=_place)}


def _place(row: dict[str, Any]) -> tuple[str, bool, int]:
    """Return the place of a row: by service and slot, zygotes last."""
    slot = row["slot"]
    return row["service"], slot == "zygote", -1 if slot == "zygote" else slot


def _service_of(branch: Branch, pid: int) -> str:
    return branch.children.place(branch.children[pid].slot)[0]


def _children(branch: Branch, which: _Which) -> list[int]:
    """Return the pids of the children that are meant."""
    return [pid for pid, handle in branch.children if which.has(branch, handle.slot)]


def _has(branch: Branch, which: _Which) -> bool:
    return any(which.has(branch, slot) for slot in branch.machine.slots) or bool(_children(branch, which))


def _vacancies(branch: Branch, which: _Which) -> Iterator[int]:
    occupied = {handle.slot for _, handle in branch.children if handle.slot != ZYGOTE}
    for index in branch.machine.slots:
        if index not in occupied and which.has(branch, index):
            yield index


def _vacant(branch: Branch, index: int) -> dict[str, Any]:
    """Return the row of a slot without a process."""
    service, slot = branch.children.place(index)
    who = {"service": service, "slot": slot, "pid": None, "generation": branch.machine.generation}
    return {**who, "source": None, **{name: [] for name in SECTIONS}, "left_out": {}, "error": _VACANT}
