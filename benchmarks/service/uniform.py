"""What the look-out for busy workers costs where none is: short requests only, with it and without.

Both servers run at once, and only one of them is asked at a time: with, without, without, with. So neither a drift of
the machine nor an order favours one of them. The servers share the first core, and the client has the second.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from benchmarks import figures, machine, quiet, report, servers, table
from benchmarks.load import LoadFailed
from benchmarks.servers import Command, Server
from benchmarks.service import httpload, processes, rows
from benchmarks.service.httpload import Clients

_WATCHING = "--stall-threshold"
_CLIENTS = {
    "anew": Clients(connections=16, anew=True),
    "kept": Clients(connections=64, anew=False),
}
_WARM_UP = 0.5  # seconds


@dataclasses.dataclass(frozen=True)
class Row:
    """A server with the look-out, the same without, and who asks them."""

    name: str
    watched: Command
    blind: Command
    clients: Clients


@dataclasses.dataclass(frozen=True)
class Speed:
    """Requests a second, and microseconds of processor time for each, of all the server's processes."""

    per_second: float
    cpu_us: float
    others: float


@dataclasses.dataclass(frozen=True)
class Sample:
    """What one round found: twice with, twice without."""

    watched: list[Speed]
    blind: list[Speed]

    @property
    def others(self) -> float:
        """Cores that others used meanwhile, at most."""
        return max(one.others for one in [*self.watched, *self.blind])

    def ratio(self, name: str) -> float:
        """Return a figure with the look-out / without."""
        with_it, without = (sum(getattr(one, name) for one in speeds) for speeds in (self.watched, self.blind))
        return float(with_it / without)


def wanted(plan: report.Plan) -> list[Row]:
    """Return the rows that the plan wants; their names begin with `uniform`, or are those of the servers."""
    pairs = zip(rows.hybrid(), rows.hybrid(_WATCHING, "0"), strict=True)
    every = [
        Row(f"{watched.name} {kind}", watched, blind, clients)
        for watched, blind in pairs
        for kind, clients in _CLIENTS.items()
    ]
    return [row for row in every if plan.wants(row.watched.name) or plan.wants(f"uniform {row.name}")]


def measure(chosen: list[Row], plan: report.Plan, failures: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """Measure the rows; return the table and the raw figures. Blocks for about rows x runs x (4 x seconds + 5)."""
    found: dict[str, list[Sample]] = {row.name: [] for row in chosen}
    for number in range(plan.runs):
        for row in figures.rotated(chosen, number * 3):
            report.say(f"fairness, round {number + 1} of {plan.runs}: uniform {row.name}")
            with report.attempt(f"uniform {row.name}", failures):
                found[row.name].append(quiet.quietest(functools.partial(_one, row, plan, number), plan.retries))
    data = {f"uniform {name}": {"rounds": [dataclasses.asdict(s) for s in samples]} for name, samples in found.items()}
    return _text(found, plan), data


def _one(row: Row, plan: report.Plan, number: int) -> Sample:
    core = machine.server_core()
    with Server(row.watched, core) as watched, Server(row.blind, core) as blind:
        for server in (watched, blind):
            processes.workers_of(server, rows.WORKERS)
            httpload.run(row.clients, server.port, min(_WARM_UP, plan.seconds), core=machine.load_core())
        first, second = (watched, blind) if number % 2 == 0 else (blind, watched)
        speeds = [(server, _speed(server, row.clients, plan)) for server in (first, second, second, first)]
    sample = Sample([s for server, s in speeds if server is watched], [s for server, s in speeds if server is blind])
    report.say(f"  {sample.ratio('per_second'):.3f} of the rate without; others used {sample.others:.0%} of a core")
    return sample


def _speed(server: servers.Server, clients: Clients, plan: report.Plan) -> Speed:
    with quiet.watched(server.pid) as usage:
        found = httpload.run(clients, server.port, plan.seconds, core=machine.load_core())
    if found.losses or not found.answers:
        raise LoadFailed(f"requests failed: {httpload.kinds(found.failed)}; {found.answers} were answered")
    return Speed(found.per_second, usage.server_seconds / found.answers * 1e6, usage.others(found.busy))


def _text(found: dict[str, list[Sample]], plan: report.Plan) -> str:
    title = (
        f"Uniform load, {rows.WORKERS} workers on one core: short requests, with a look-out for busy workers and "
        f"without; medians of {plan.runs} rounds of 4 x {plan.seconds:g} s"
    )
    columns = ["<server, connections", "requests/s", "without", "ratio", "lowest", "CPU us/request", "without", "ratio"]
    lines = [[name, *_cells(samples)] for name, samples in found.items()]
    others = max((one.others for samples in found.values() for one in samples), default=0.0)
    return "\n".join([table.render(title, columns, lines), *quiet.notes(others)])


def _cells(samples: list[Sample]) -> list[str]:
    cells: list[str] = []
    for name, digits in (("per_second", 0), ("cpu_us", 1)):
        for kind in ("watched", "blind"):
            every = [getattr(speed, name) for one in samples for speed in getattr(one, kind)]
            cells.append(table.show(figures.median(every), digits))
        ratios = [one.ratio(name) for one in samples]
        cells.append(table.show(figures.median(ratios), 3))
        if name == "per_second":
            cells.append(table.show(min(ratios, default=None), 3))
    return cells
