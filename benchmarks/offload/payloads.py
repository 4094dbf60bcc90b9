"""The part `payloads`: calls with a large argument, and calls with a large result, one at a time."""

from __future__ import annotations

import dataclasses
from typing import Any

from benchmarks import report, table
from benchmarks.offload import measuring
from benchmarks.offload.rows import EXECUTOR, Caller
from benchmarks.offload.task import Answer, Task
from benchmarks.servers import Server

_KIB, _MIB = 1 << 10, 1 << 20
_SIZES = {  # how a table calls them -> bytes
    "1 KiB": _KIB,
    "64 KiB": 64 * _KIB,
    "1 MiB": _MIB,
    "16 MiB": 16 * _MIB,
    "64 MiB": 64 * _MIB,
}
_WAYS = ("argument", "result")
_AT_LEAST = 3  # calls of a size


@dataclasses.dataclass(frozen=True)
class Sample:
    """What one round found of one caller."""

    answers: dict[str, Answer]
    """By way and size: `argument 1 KiB`."""
    others: float
    """Cores that others used meanwhile."""

    def p50_us(self, way: str, size: str) -> float:
        """Return the median duration of a call. Raises `KeyError` for a size beyond the limit of its pool."""
        return self.answers[f"{way} {size}"].p50_us


_Found = dict[str, dict[int, Sample]]  # caller -> round -> sample


def measure(rows: list[Caller], plan: report.Plan, failures: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """Measure the callers; return the tables and the raw figures. Blocks for about rows x runs x 4 x seconds."""
    found = measuring.rounds("payloads", rows, lambda row: _one(row, plan), plan, failures)
    texts = [_text(way, found, plan) for way in _WAYS]
    return "\n\n".join(texts), measuring.plain("payloads", found)


def _one(row: Caller, plan: report.Plan) -> Sample:
    """Measure all sizes, each for a fifth of the time that other measurements take."""
    seconds = plan.seconds / len(_SIZES)
    tasks = {
        f"{way} {name}": Task(way, number, seconds=seconds, at_least=_AT_LEAST)
        for way in _WAYS
        for name, number in _SIZES.items()
        if number <= row.most
    }
    first = next(iter(tasks))
    tasks[first] = measuring.pinned(tasks[first], 1)
    with Server(row.command(1)) as server:
        found = measuring.asked(server, tasks)
    sample = Sample(found.answers, found.others)
    words = ", ".join(f"{way} of 16 MiB {sample.p50_us(way, '16 MiB') / 1e3:.1f} ms" for way in _WAYS)
    report.say(f"  {words}; others used {sample.others:.0%} of a core")
    return sample


def _text(way: str, found: _Found, plan: report.Plan) -> str:
    title = (
        f"Offload, payloads: calls with bytes as their {way}, one at a time, one pool process; p50 in ms, and share of "
        f"{EXECUTOR}'s;\ncaller and pool have a core each; medians of {plan.runs} rounds of {plan.seconds:g} s"
    )
    columns = ["<caller", *[column for size in _SIZES for column in (size, "share")]]
    theirs = found.get(EXECUTOR, {})
    lines = [
        [name, *[cell for size in _SIZES for cell in _cells(way, size, mine, theirs)]] for name, mine in found.items()
    ]
    return "\n".join([table.render(title, columns, lines), *measuring.notes(found)])


def _cells(way: str, size: str, mine: dict[int, Sample], theirs: dict[int, Sample]) -> list[str]:
    def p50_us(sample: Sample) -> float:
        return sample.p50_us(way, size)

    if any(f"{way} {size}" not in sample.answers for sample in mine.values()):
        return ["-", "-"]
    middle = measuring.median_of(mine, p50_us)
    shown = table.show(None if middle is None else middle / 1e3, 3 if middle and middle < 1e3 else 1)
    return [shown, table.times(measuring.ratio(mine, theirs, p50_us))]
