"""A CPU-bound handler with one worker and with two, each pinned to a core: what the second core brings.

The clients mostly wait (a request keeps a worker busy for milliseconds), so the load needs no core for itself.
"""

from __future__ import annotations

import dataclasses
import functools

from benchmarks import figures, load, quiet, report, servers, table

_TARGET = "examples.one_core_many_cores:handle"
_REQUEST, _REPLY = "20000\n", "2262\n"  # the example answers how many primes there are below a number
_LOAD = ("--connections", "64", "--send", _REQUEST, "--expect", _REPLY)
_ONE, _TWO = "hybrid 1 worker", "hybrid 2 workers"


@dataclasses.dataclass(frozen=True)
class Row:
    """A server."""

    command: servers.Command


@dataclasses.dataclass(frozen=True)
class Sample:
    """What one round found."""

    load: load.Load
    others: float
    """Cores that others used meanwhile."""


def rows() -> list[Row]:
    """Return the same service with one worker and with two."""
    return [
        Row(servers.hybrid(name, _TARGET, workers=count, options=("--pin",))) for name, count in ((_ONE, 1), (_TWO, 2))
    ]


def measure(plan: report.Plan) -> report.Report:
    """Measure both. Blocks for about 2 x runs x (seconds + 1)."""
    chosen = report.wanted(rows(), plan)
    found: dict[str, dict[int, Sample]] = {row.command.name: {} for row in chosen}
    failures: dict[str, str] = {}
    for number in range(plan.runs):
        for row in figures.rotated(chosen, number):
            name = row.command.name
            report.say(f"cpu, round {number + 1} of {plan.runs}: {name}")
            with report.attempt(name, failures):
                found[name][number] = quiet.quietest(functools.partial(_one, row, plan), plan.retries)
    data = {name: {n: dataclasses.asdict(one) for n, one in loads.items()} for name, loads in found.items()}
    return report.Report(_text(found, plan), data, failures)


def _one(row: Row, plan: report.Plan) -> Sample:
    """Start one server, ask it, and end it."""
    with servers.Server(row.command) as server, quiet.watched(server.pid) as usage:
        asked = load.run("echo", server.port, seconds=plan.seconds, core=None, options=_LOAD)
    sample = Sample(asked, usage.others(asked.busy))
    report.say(f"  {asked.per_second:,.0f} a second; others used {sample.others:.0%} of a core")
    return sample


def _text(found: dict[str, dict[int, Sample]], plan: report.Plan) -> str:
    rates = {name: {n: one.load.per_second for n, one in loads.items()} for name, loads in found.items()}
    first = rates.get(_ONE, {})
    lines = [
        [
            name,
            table.show(figures.median(list(mine.values())), 1),
            table.show(figures.median([one.load.p50_us / 1000 for one in found[name].values()]), 1),
            table.times(figures.paired_ratio(mine, first)),
        ]
        for name, mine in rates.items()
    ]
    title = (
        f"CPU-bound handler, 64 connections, one core per worker; medians of {plan.runs} rounds of {plan.seconds:g} s"
    )
    crowd = max((one.others for samples in found.values() for one in samples.values()), default=0.0)
    shown = table.render(title, ["<server", "requests/s", "p50 ms", "beside 1 worker"], lines)
    return "\n".join([shown, *quiet.notes(crowd)])
