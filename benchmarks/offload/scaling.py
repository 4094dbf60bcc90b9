"""The part `scaling`: calls that compute, in one pool process and in two."""

from __future__ import annotations

import dataclasses
from typing import Any

from benchmarks import report, table
from benchmarks.offload import measuring, work
from benchmarks.offload.rows import Caller
from benchmarks.offload.task import Answer, Task
from benchmarks.servers import Server

_EACH = 2  # calls outstanding for each process: one runs, one waits


@dataclasses.dataclass(frozen=True)
class Sample:
    """What one round found of one caller."""

    one: Answer
    two: Answer
    cpu_us: float
    """Processor time of caller and pool for each call, with two processes."""
    others: float
    """Cores that others used meanwhile."""

    @property
    def gain(self) -> float:
        """How many times as many calls two processes have run."""
        return self.two.per_second / self.one.per_second


def measure(rows: list[Caller], plan: report.Plan, failures: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """Measure the callers; return the table and the raw figures. Blocks for about rows x runs x 2 x (seconds + 1)."""
    found = measuring.rounds("scaling", rows, lambda row: _one(row, plan), plan, failures)
    return _text(found, plan), measuring.plain("scaling", found)


def _one(row: Caller, plan: report.Plan) -> Sample:
    found: list[measuring.Asked] = []
    for processes in (1, 2):
        task = measuring.pinned(Task("compute", outstanding=_EACH * processes, seconds=plan.seconds), processes)
        with Server(row.command(processes)) as server:
            found.append(measuring.asked(server, {"": task}))
    one, two = found
    sample = Sample(one.answers[""], two.answers[""], two.cpu_us[""], max(one.others, two.others))
    report.say(f"  {sample.gain:.2f}x with two processes; others used {sample.others:.0%} of a core")
    return sample


def _text(found: dict[str, dict[int, Sample]], plan: report.Plan) -> str:
    title = (
        f"Offload, scaling: calls that compute for {work.COMPUTE_SECONDS * 1e3:g} ms; each pool process has a core, "
        f"the second one that of the caller; medians of {plan.runs} rounds of {plan.seconds:g} s"
    )
    lines = [
        [
            name,
            table.show(measuring.median_of(mine, lambda one: one.one.per_second), 1),
            table.show(measuring.median_of(mine, lambda one: one.two.per_second), 1),
            table.times(measuring.median_of(mine, lambda one: one.gain)),
            table.show(measuring.median_of(mine, lambda one: one.cpu_us / 1e3), 1),
        ]
        for name, mine in found.items()
    ]
    columns = ["<caller", "calls/s, 1 process", "2 processes", "gain", "CPU ms/call"]
    return "\n".join([table.render(title, columns, lines), *measuring.notes(found)])
