"""The suite `slowloris`: what 500 slow clients, and one that reads nothing, cost the good ones.

In each round a server is started afresh and measured twice with the same good clients: alone, and beside the slow ones;
which comes first changes from round to round. The ratios are of those two, so they are paired as closely as can be.
"""

from __future__ import annotations

import dataclasses
import functools

from benchmarks import figures, load, machine, quiet, report, servers, table
from benchmarks.applications.large import BODY
from benchmarks.web.clients import Requests
from benchmarks.web.exchange import Exchange
from benchmarks.web.slow_clients import SlowClients
from benchmarks.web.suites import LOOPS, Row

CRAWLERS = 500
GOOD = Requests(Exchange("/", BODY), connections=8)
_WARM_UP = 1.0  # seconds, at most
_PATIENCE = ("--header-timeout", "600", "--send-timeout", "600")  # the slow ones have to be there all the time
_INTERFACES = ("wsgi", "asgi")


@dataclasses.dataclass(frozen=True)
class Sample:
    """What one round found of one server."""

    alone: load.Load
    beside: load.Load
    memory: int
    """Bytes that the server's processes held more beside the slow clients."""
    others: float
    """Cores that others used meanwhile."""

    def ratio(self, name: str) -> float:
        """Return a figure beside the slow clients / alone."""
        return float(getattr(self.beside, name) / getattr(self.alone, name))


def measure(plan: report.Plan) -> report.Report:
    """Measure every loop. Blocks for about servers x runs x 2 x (seconds + 2).

    Raises `LookupError` if the plan wants none of the servers, `compiler.ToolMissing` if wrk is missing.
    """
    chosen = report.wanted([_row(loop, interface) for interface in _INTERFACES for loop in LOOPS], plan)
    GOOD.prepare()
    found: dict[str, list[Sample]] = {row.command.name: [] for row in chosen}
    failures: dict[str, str] = {}
    for number in range(plan.runs):
        for row in figures.rotated(chosen, number * 7):
            server = row.command.name
            report.say(f"slowloris, round {number + 1} of {plan.runs}: {server}")
            with report.attempt(server, failures):
                one = functools.partial(_one, row, plan, number % 2 == 0)
                found[server].append(quiet.quietest(one, plan.retries))
    return report.Report(_text(found, plan), _data(found), failures)


def _row(loop: str, interface: str) -> Row:
    options = ("--interface", interface, *_PATIENCE)
    target = f"benchmarks.applications.large:{interface}"
    return Row(servers.hybrid(f"hybrid {loop} {interface}", target, loop=loop, options=options))


def _one(row: Row, plan: report.Plan, first_alone: bool) -> Sample:
    """Start one server, check it, warm it up, measure it both ways, and end it."""
    with servers.Server(row.command, machine.server_core()) as server:
        GOOD.check(server.port)
        GOOD.run(server.port, seconds=min(_WARM_UP, plan.seconds), core=machine.load_core())
        with quiet.watched(server.pid) as usage:
            alone = _good(server, plan) if first_alone else None
            held = machine.group_memory(server.pid)
            with SlowClients(server.port, CRAWLERS):
                beside = _good(server, plan)
                memory = machine.group_memory(server.pid) - held
            alone = alone or _good(server, plan)
    sample = Sample(alone, beside, memory, usage.others((alone.busy + beside.busy) / 2))
    report.say(f"  p99 {alone.p99_us:,.0f} us alone, {beside.p99_us:,.0f} us beside; others used {sample.others:.0%}")
    return sample


def _good(server: servers.Server, plan: report.Plan) -> load.Load:
    return GOOD.run(server.port, seconds=plan.seconds, core=machine.load_core())


def _text(found: dict[str, list[Sample]], plan: report.Plan) -> str:
    title = (
        f"{GOOD.connections} good clients alone, and beside {CRAWLERS} whose heads come byte by byte and one that does "
        f"not read 100 MiB; medians of {plan.runs} rounds of {plan.seconds:g} s"
    )
    columns = ["<server", "p50 us alone", "beside", "ratio", "p99 us alone", "beside", "ratio", "rate", "MiB more"]
    lines = [_line(server, samples) for server, samples in found.items()]
    others = max((one.others for samples in found.values() for one in samples), default=0.0)
    return "\n".join([table.render(title, columns, lines), *quiet.notes(others)])


def _line(server: str, samples: list[Sample]) -> list[str]:
    cells = [server]
    for name in ("p50_us", "p99_us"):
        cells += [table.show(figures.median([getattr(one.alone, name) for one in samples]))]
        cells += [table.show(figures.median([getattr(one.beside, name) for one in samples]))]
        cells += [table.times(figures.median([one.ratio(name) for one in samples]))]
    cells += [table.times(figures.median([one.ratio("per_second") for one in samples]))]
    return [*cells, table.show(figures.median([one.memory / 2**20 for one in samples]), 1)]


def _data(found: dict[str, list[Sample]]) -> dict[str, object]:
    return {server: {"rounds": [dataclasses.asdict(one) for one in samples]} for server, samples in found.items()}
