"""The part `calls`: round trips of a call that does nothing, one at a time and 64 outstanding."""

from __future__ import annotations

import dataclasses
from typing import Any

from benchmarks import report, table
from benchmarks.offload import measuring
from benchmarks.offload.rows import EXECUTOR, Caller
from benchmarks.offload.task import Answer, Task
from benchmarks.servers import Server

_OUTSTANDING = 64


@dataclasses.dataclass(frozen=True)
class Sample:
    """What one round found of one caller."""

    alone: Answer
    """One call at a time."""
    many: Answer
    """64 outstanding."""
    cpu_us: float
    """Processor time of caller and pool for each of the former calls."""
    others: float
    """Cores that others used meanwhile."""


_Found = dict[str, dict[int, Sample]]  # caller -> round -> sample


def measure(rows: list[Caller], plan: report.Plan, failures: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """Measure the callers; return the table and the raw figures. Blocks for about rows x runs x 2 x seconds."""
    found = measuring.rounds("calls", rows, lambda row: _one(row, plan), plan, failures)
    return _text(found, plan), measuring.plain("calls", found)


def _one(row: Caller, plan: report.Plan) -> Sample:
    tasks = {
        "alone": measuring.pinned(Task("nothing", seconds=plan.seconds), 1),
        "many": Task("nothing", outstanding=_OUTSTANDING, seconds=plan.seconds),
    }
    with Server(row.command(1)) as server:
        found = measuring.asked(server, tasks)
    sample = Sample(found.answers["alone"], found.answers["many"], found.cpu_us["alone"], found.others)
    words = f"p50 {sample.alone.p50_us:.0f} us; {sample.many.per_second:,.0f} a second"
    report.say(f"  {words}; others used {sample.others:.0%} of a core")
    return sample


def _text(found: _Found, plan: report.Plan) -> str:
    title = (
        f"Offload, calls: a call that does nothing, one pool process; caller and pool have a core each; medians of "
        f"{plan.runs} rounds of {plan.seconds:g} s"
    )
    columns = [
        "<caller",
        "p50 us",
        "p99 us",
        f"p50 / {EXECUTOR}",
        "CPU us",
        f"calls/s, {_OUTSTANDING} outstanding",
        "beside it",
    ]
    theirs = found.get(EXECUTOR, {})
    lines = [
        [
            name,
            table.show(measuring.median_of(mine, lambda one: one.alone.p50_us)),
            table.show(measuring.median_of(mine, lambda one: one.alone.p99_us)),
            table.times(measuring.ratio(mine, theirs, lambda one: one.alone.p50_us)),
            table.show(measuring.median_of(mine, lambda one: one.cpu_us)),
            table.show(measuring.median_of(mine, lambda one: one.many.per_second)),
            table.times(measuring.ratio(mine, theirs, lambda one: one.many.per_second)),
        ]
        for name, mine in found.items()
    ]
    return "\n".join([table.render(title, columns, lines), *measuring.notes(found)])
