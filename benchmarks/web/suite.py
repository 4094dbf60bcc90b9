"""Measures one HTTP suite and prints its table: one worker process on one core, the client on the other one.

Every server is started anew in every round, has its answers checked, gets a wave of connections to warm up on, is
measured with the next wave, and is ended; who comes first changes from round to round.
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from pathlib import Path

from benchmarks import figures, load, machine, quiet, report, servers, table
from benchmarks.web.suites import SUITES, Row, Suite

_SATURATED = 0.95  # of the client's core
_WARM_UP = 1.0  # seconds, at most


@dataclasses.dataclass(frozen=True)
class Sample:
    """What one round found of one server."""

    load: load.Load
    cpu_us: float
    """Microseconds of processor time of the server, all its processes together, for each request."""
    others: float
    """Cores that others used meanwhile."""


@dataclasses.dataclass
class _Found:
    """What is known of one server: round -> sample."""

    samples: dict[int, Sample] = dataclasses.field(default_factory=dict)

    @property
    def rates(self) -> dict[int, float]:
        return {number: one.load.per_second for number, one in self.samples.items()}

    @property
    def per_cpu_second(self) -> dict[int, float]:
        return {number: 1e6 / one.cpu_us for number, one in self.samples.items() if one.cpu_us}

    @property
    def others(self) -> float:
        return max((one.others for one in self.samples.values()), default=0.0)

    def median(self, name: str) -> float | None:
        return figures.median([getattr(one.load, name) for one in self.samples.values()])


def measure(name: str, plan: report.Plan) -> report.Report:
    """Measure the suite `name`. Blocks for about servers x runs x (seconds + 3).

    Raises `LookupError` if the plan wants none of its servers, `compiler.ToolMissing` if a client is missing.
    """
    with tempfile.TemporaryDirectory() as folder:
        suite = SUITES[name](Path(folder))
        chosen = report.wanted(suite.rows, plan)
        suite.client.prepare()
        found = {row.command.name: _Found() for row in chosen}
        failures: dict[str, str] = {}
        for number in range(plan.runs):
            for row in figures.rotated(chosen, number * 7):
                server = row.command.name
                report.say(f"{name}, round {number + 1} of {plan.runs}: {server}")
                with report.attempt(server, failures):
                    one = functools.partial(_one, row, suite, plan)
                    found[server].samples[number] = quiet.quietest(one, plan.retries)
    return report.Report(_text(suite, chosen, found, plan), _data(found), failures)


def _one(row: Row, suite: Suite, plan: report.Plan) -> Sample:
    """Start one server, check it, warm it up, measure it, and end it."""
    core = machine.load_core()
    with servers.Server(row.command, machine.server_core()) as server:
        suite.client.check(server.port)
        suite.client.run(server.port, seconds=min(_WARM_UP, plan.seconds), core=core)
        with quiet.watched(server.pid) as usage:
            found = suite.client.run(server.port, seconds=plan.seconds, core=core)
    sample = Sample(found, usage.server_seconds / found.rounds * 1e6, usage.others(found.busy))
    report.say(f"  {found.per_second:,.0f} a second; others used {sample.others:.0%} of a core")
    return sample


def _text(suite: Suite, chosen: list[Row], found: dict[str, _Found], plan: report.Plan) -> str:
    title = (
        f"{suite.title}, {suite.client.connections} connections, one worker on one core; "
        f"medians of {plan.runs} rounds of {plan.seconds:g} s"
    )
    columns = [
        "<server",
        f"{suite.per}s/s",
        f"CPU us/{suite.per}",
        "spread",
        "p50 us",
        "p99 us",
        "<beside (per CPU second)",
    ]
    lines = [_line(row, found) for row in chosen]
    return "\n".join([table.render(title, columns, lines), *_notes(found)])


def _line(row: Row, found: dict[str, _Found]) -> list[str]:
    mine = found[row.command.name]
    spread = figures.spread(list(mine.rates.values()))
    return [
        row.command.name,
        table.show(mine.median("per_second")),
        table.show(figures.median([one.cpu_us for one in mine.samples.values()]), 1),
        table.show(spread and spread * 100, unit=" %"),
        table.show(mine.median("p50_us")),
        table.show(mine.median("p99_us")),
        ", ".join(_beside(mine, found[other], other) for other in row.against if mine.samples and other in found),
    ]


def _beside(mine: _Found, theirs: _Found, name: str) -> str:
    rate = figures.paired_ratio(mine.rates, theirs.rates)
    frugality = figures.paired_ratio(mine.per_cpu_second, theirs.per_cpu_second)
    return f"{table.times(rate)} ({table.times(frugality)}) {name}"


def _notes(found: dict[str, _Found]) -> list[str]:
    """What makes the figures doubtful, if anything does."""
    notes = quiet.notes(max((one.others for one in found.values()), default=0.0))
    full = [name for name, one in found.items() if (one.median("busy") or 0) > _SATURATED]
    if full:
        notes.append(f"! the client's core was full too: {', '.join(full)} may be faster than shown")
    if machine.server_core() is None:
        notes.append("! there is one core only: server and client shared it")
    return notes


def _data(found: dict[str, _Found]) -> dict[str, object]:
    return {
        name: {"rounds": {number: dataclasses.asdict(sample) for number, sample in one.samples.items()}}
        for name, one in found.items()
    }
