"""The part `service`: 16 clients of a light endpoint beside 8 of one that computes 100 ms, on one worker.

The worker is on the first core, its pool process on the second. The clients have the third, and share the first with
the worker where there is none: so computing in the pool takes no time from them, whichever pool it is.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from benchmarks import machine, quiet, report, servers, table
from benchmarks.applications import mixed
from benchmarks.load import LoadFailed
from benchmarks.offload import measuring
from benchmarks.offload.applications import PIN_PATH
from benchmarks.servers import Command
from benchmarks.service import httpload
from benchmarks.service.httpload import Clients, Outcome, Running
from benchmarks.web.exchange import Exchange

IN_THE_LOOP = "in the loop"
_APPLICATIONS = {  # name -> where it computes
    IN_THE_LOOP: "in_the_loop",
    "hybrid.offload": "offloaded",
    "threads": "in_threads",
    "ProcessPoolExecutor": "in_a_pool",
}
_LIGHT = Clients(connections=16, anew=False, timeout=30.0)
_HEAVY = Clients(connections=8, anew=False, path=mixed.BUSY_PATH, answer=mixed.BUSY_BODY, timeout=60.0)
_WARM_UP = 0.5  # seconds


@dataclasses.dataclass(frozen=True)
class Sample:
    """What one round found of one application."""

    light: Outcome
    heavy: Outcome
    cores: float
    """Cores that the server kept busy, all its processes together."""
    others: float
    """Cores that neither the server nor the clients used."""


_Found = dict[str, dict[int, Sample]]  # application -> round -> sample


def commands() -> list[Command]:
    """Return the same service with four applications."""
    options = ("--interface", "asgi", "--offload-workers", "1")
    return [
        servers.hybrid(name, f"benchmarks.offload.applications:{application}", options=options)
        for name, application in _APPLICATIONS.items()
    ]


def measure(rows: list[Command], plan: report.Plan, failures: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """Measure the applications; return the table and the raw figures. Blocks for about rows x runs x (seconds + 3)."""
    found = measuring.rounds("service", rows, lambda row: _one(row, plan), plan, failures)
    return _text(found, plan), measuring.plain("service", found)


def _one(row: Command, plan: report.Plan) -> Sample:
    core = _clients_core()
    with servers.Server(row) as server:
        Exchange(PIN_PATH, mixed.BODY).check(server.port, secure=False)
        with Running(_HEAVY, server.port, warm_up=_WARM_UP, core=core) as computing:
            httpload.run(_LIGHT, server.port, _WARM_UP, core=core)
            with quiet.watched(server.pid) as usage:
                light = httpload.run(_LIGHT, server.port, plan.seconds, core=core)
            heavy = computing.finish(early=True)
    if not light.answers and not heavy.answers:
        raise LoadFailed("no request was answered")
    sample = Sample(light, heavy, usage.server_cores, usage.others(light.busy + heavy.busy))
    words = f"{light.per_second:,.0f} light a second, p99 {light.p99_us / 1e3:.1f} ms; {heavy.per_second:.1f} heavy"
    report.say(f"  {words}; others used {sample.others:.0%} of a core")
    return sample


def _clients_core() -> int | None:
    """Return the core for the clients: never that of the pool."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[2] if len(cores) > 2 else machine.server_core()


def _text(found: _Found, plan: report.Plan) -> str:
    title = (
        f"Offload, service: {_LIGHT.connections} clients of a light endpoint beside {_HEAVY.connections} of one that "
        f"computes {mixed.BUSY_SECONDS * 1e3:g} ms, one worker, one pool process;\nthe pool has a core of its own; "
        f"medians of {plan.runs} rounds of {plan.seconds:g} s"
    )
    columns = ["<computes", "light/s", "p50 ms", "p99 ms", "max ms", "heavy/s", "heavy p50 ms", "cores", "failed",
               f"light/s of {IN_THE_LOOP}", "heavy/s of it", "<failures"]  # fmt: skip
    lines = [_line(name, mine, found.get(IN_THE_LOOP, {})) for name, mine in found.items()]
    return "\n".join([table.render(title, columns, lines), *measuring.notes(found)])


def _line(name: str, mine: dict[int, Sample], first: dict[int, Sample]) -> list[str]:
    if not mine:
        return [name, *["-"] * 11]
    failed = httpload.summed([outcome for one in mine.values() for outcome in (one.light, one.heavy)])
    return [
        name,
        table.show(measuring.median_of(mine, lambda one: one.light.per_second)),
        table.show(measuring.median_of(mine, lambda one: one.light.p50_us / 1e3), 1),
        table.show(measuring.median_of(mine, lambda one: one.light.p99_us / 1e3), 1),
        table.show(max(one.light.max_us for one in mine.values()) / 1e3, 1),
        table.show(measuring.median_of(mine, lambda one: one.heavy.per_second), 1),
        table.show(measuring.median_of(mine, lambda one: one.heavy.p50_us / 1e3)),
        table.show(measuring.median_of(mine, lambda one: one.cores), 2),
        str(sum(failed.values())),
        table.times(measuring.ratio(mine, first, lambda one: one.light.per_second)),
        table.times(measuring.ratio(mine, first, lambda one: one.heavy.per_second)),
        httpload.kinds(failed),
    ]
