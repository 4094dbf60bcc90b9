"""The suite `footprint`: the memory of all processes of one FastAPI application at four workers, after requests.

PSS counts a page that n processes share as one n-th for each; the sum over a server's processes is what it takes from
the machine (proc(5), smaps_rollup). What it shares with processes that are not its own, such as the pages of Python
and of libraries, counts less the more of those there are: on a quiet machine there are none.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time

from benchmarks import figures, machine, report, servers, table
from benchmarks.load import LoadFailed
from benchmarks.servers import Command
from benchmarks.service import httpload, processes, rows
from benchmarks.service.httpload import Clients
from benchmarks.web import peers

WORKERS = 4
_APPLICATIONS = {  # part of the suite -> its application
    "small": "benchmarks.applications.footprint_small:app",
    "large": "benchmarks.applications.footprint_large:app",
}
_TITLES = {"small": "a FastAPI application of one endpoint", "large": "a FastAPI application of 300 routes"}
_PRELOAD = "--preload"
_AGAINST = ("uvicorn", "gunicorn asgi")
_ORDER = {"product": "teapot", "quantity": 3, "unit_price": 12.5, "tags": ["kitchen", "blue"]}
_ASKING = Clients(connections=32, anew=True, path="/customers/7/orders", answer=b"", body=json.dumps(_ORDER).encode())
_SETTLED_SECONDS = 1.0  # after the last request


@dataclasses.dataclass(frozen=True)
class Sample:
    """What one round found of one server; bytes."""

    processes: int
    pss: int
    """Of all processes together."""
    private: int
    """Of that, what no other process has."""
    largest: int
    """PSS of the largest process."""


_Found = dict[str, dict[int, Sample]]  # server -> round -> sample


def commands(target: str) -> list[Command]:
    """Return hybrid with and without preloading, and the peers as they come: each worker imports for itself."""
    ours = [
        servers.hybrid(f"hybrid {loop}{suffix}", target, loop=loop, workers=WORKERS, options=(_PRELOAD, choice))
        for loop in ("epoll", "uvloop")
        for choice, suffix in (("auto", ""), ("off", " no preload"))
    ]
    return [
        *ours,
        peers.uvicorn("uvicorn", target, "--workers", str(WORKERS)),
        peers.gunicorn("gunicorn asgi", target, "asgi", workers=WORKERS),
        peers.granian("granian", target, "asgi", workers=WORKERS),
    ]


def measure(plan: report.Plan) -> report.Report:
    """Measure both applications. Blocks for about 14 x runs x (seconds + 4)."""
    chosen = {part: rows.wanted(plan, part, commands(target)) for part, target in _APPLICATIONS.items()}
    rows.some(plan, itertools.chain(*chosen.values()))
    failures: dict[str, str] = {}
    found = {part: _measured(part, wanted, plan, failures) for part, wanted in chosen.items() if wanted}
    data = {
        f"{part} {name}": {"rounds": {number: dataclasses.asdict(one) for number, one in samples.items()}}
        for part, servers_found in found.items()
        for name, samples in servers_found.items()
    }
    texts = [_text(part, servers_found, plan) for part, servers_found in found.items()]
    return report.Report("\n\n".join(texts), data, failures)


def _measured(part: str, chosen: list[Command], plan: report.Plan, failures: dict[str, str]) -> _Found:
    found: _Found = {command.name: {} for command in chosen}
    for number in range(plan.runs):
        for command in figures.rotated(chosen, number * 3):
            report.say(f"footprint, round {number + 1} of {plan.runs}: {part} {command.name}")
            with report.attempt(f"{part} {command.name}", failures):
                found[command.name][number] = _one(command, plan)
    return found


def _one(command: Command, plan: report.Plan) -> Sample:
    """Start one server, ask it on ever new connections until every worker must have answered, look, and end it."""
    with servers.Server(command) as server:
        processes.workers_of(server, WORKERS, _ASKING)
        asked = httpload.run(_ASKING, server.port, plan.seconds)
        if asked.losses:
            raise LoadFailed(f"requests failed: {httpload.kinds(asked.failed)}")
        time.sleep(_SETTLED_SECONDS)
        every = [machine.memory_of(pid) for pid in machine.group_members(server.pid)]
    pss = [one["Pss"] for one in every]
    private = sum(one["Private_Clean"] + one["Private_Dirty"] for one in every)
    sample = Sample(len(every), sum(pss), private, max(pss))
    report.say(f"  {sample.pss / 2**20:,.1f} MiB in {sample.processes} processes after {asked.answers:,} answers")
    return sample


def _text(part: str, found: _Found, plan: report.Plan) -> str:
    title = f"Footprint, {part}: {_TITLES[part]}, {WORKERS} workers, all processes; medians of {plan.runs} rounds"
    columns = ["<server", "processes", "PSS MiB", "private MiB", "largest MiB", *[f"of {name}" for name in _AGAINST]]
    return table.render(title, columns, [_line(name, found) for name in found])


def _line(name: str, found: _Found) -> list[str]:
    mine = list(found[name].values())
    return [
        name,
        table.show(figures.median([one.processes for one in mine])),
        *[
            table.show(figures.median([getattr(one, field) / 2**20 for one in mine]), 1)
            for field in ("pss", "private", "largest")
        ],
        *[table.times(figures.paired_ratio(_sizes(found[name]), _sizes(found.get(other, {})))) for other in _AGAINST],
    ]


def _sizes(samples: dict[int, Sample]) -> dict[int, float]:
    return {number: one.pss for number, one in samples.items()}
