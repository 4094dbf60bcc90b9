"""The suite `fairness`: 16 clients with short requests, beside one that keeps a worker computing.

Two workers on two cores, which the clients share: nothing is pinned, as nothing is on a machine in service. In the
table "stays" the client that computes keeps its connection, and so its worker; in the table "moves" it connects anew
for each request, and another worker may be the busy one each time. A third table is `uniform`'s.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any

from benchmarks import figures, quiet, report, servers, table
from benchmarks.applications import mixed
from benchmarks.servers import Command
from benchmarks.service import httpload, processes, rows, uniform
from benchmarks.service.httpload import Clients, Outcome, Running

_WATCHING = "--stall-threshold"
_AGAINST = ("gunicorn gevent", "uvicorn")
_SHORT = Clients(connections=16, anew=True, timeout=10.0)
_BUSY = Clients(connections=1, anew=False, path=mixed.BUSY_PATH, answer=mixed.BUSY_BODY, timeout=30.0)
_PARTS = {"stays": _BUSY, "moves": dataclasses.replace(_BUSY, anew=True)}  # name -> the client that computes
_WARM_UP = 0.5  # seconds


@dataclasses.dataclass(frozen=True)
class Sample:
    """What one round found of one server."""

    short: Outcome
    busy: Outcome
    others: float
    """Cores that neither the server nor the clients used."""


_Found = dict[str, dict[int, Sample]]  # server -> round -> sample


def commands() -> list[Command]:
    """Return hybrid with and without a look-out for busy workers, and the peers."""
    blind = rows.hybrid(_WATCHING, "0", suffix=" unwatched")
    return [*rows.hybrid(), *blind, rows.gunicorn_gevent(), rows.uvicorn(), *rows.granian()]


def measure(plan: report.Plan) -> report.Report:
    """Measure both parts, and `uniform`. Blocks for about 24 x runs x (seconds + 4), and for the latter."""
    chosen = {part: rows.wanted(plan, part, commands()) for part in _PARTS}
    beside = uniform.wanted(plan)
    rows.some(plan, [*itertools.chain(*chosen.values()), *beside])
    failures: dict[str, str] = {}
    texts: list[str] = []
    data: dict[str, Any] = {}
    for part, busy in _PARTS.items():
        if chosen[part]:
            found = _measured(part, chosen[part], busy, plan, failures)
            texts.append(_text(part, found, plan))
            data |= {f"{part} {name}": {"rounds": _plain(samples)} for name, samples in found.items()}
    if beside:
        text, more = uniform.measure(beside, plan, failures)
        texts.append(text)
        data |= more
    return report.Report("\n\n".join(texts), data, failures)


def _measured(part: str, chosen: list[Command], busy: Clients, plan: report.Plan, failures: dict[str, str]) -> _Found:
    found: _Found = {command.name: {} for command in chosen}
    for number in range(plan.runs):
        for command in figures.rotated(chosen, number * 5):
            report.say(f"fairness, round {number + 1} of {plan.runs}: {part} {command.name}")
            with report.attempt(f"{part} {command.name}", failures):
                one = functools.partial(_one, command, busy, plan)
                found[command.name][number] = quiet.quietest(one, plan.retries)
    return found


def _one(command: Command, busy: Clients, plan: report.Plan) -> Sample:
    """Start one server, let both kinds of clients ask, and end it."""
    with servers.Server(command) as server:
        processes.workers_of(server, rows.WORKERS)
        with Running(busy, server.port, warm_up=_WARM_UP) as computing:
            httpload.run(_SHORT, server.port, min(_WARM_UP, plan.seconds))
            with quiet.watched(server.pid) as usage:
                short = httpload.run(_SHORT, server.port, plan.seconds)
            computed = computing.finish(early=True)
    sample = Sample(short, computed, usage.others(short.busy + computed.busy))
    words = f"{short.per_second:,.0f} a second, p50 {short.p50_us / 1e3:.1f} ms, p99 {short.p99_us / 1e3:.1f} ms"
    report.say(f"  {words}; busy {computed.per_second:.1f} a second; others used {sample.others:.0%} of a core")
    return sample


def _text(part: str, found: _Found, plan: report.Plan) -> str:
    keeps = "keeps its connection" if part == "stays" else "connects anew each time"
    title = (
        f"Fairness, {part}: {_SHORT.connections} clients with short requests on new connections, beside one that "
        f"computes 100 ms each time and {keeps};\n{rows.WORKERS} workers, nothing pinned; medians of {plan.runs} "
        f"rounds of {plan.seconds:g} s"
    )
    columns = ["<server", "short/s", "p50 ms", "p99 ms", "max ms", "busy/s", "busy p50 ms", "failed",
               *[f"of {name}" for name in _AGAINST], "<failures"]  # fmt: skip
    lines = [_line(name, found) for name in found]
    others = max((one.others for samples in found.values() for one in samples.values()), default=0.0)
    return "\n".join([table.render(title, columns, lines), *quiet.notes(others)])


def _line(name: str, found: _Found) -> list[str]:
    mine = list(found[name].values())
    if not mine:
        return [name, *["-"] * (8 + len(_AGAINST))]
    failed = httpload.summed([outcome for one in mine for outcome in (one.short, one.busy)])
    return [
        name,
        table.show(figures.median([one.short.per_second for one in mine])),
        *[table.show(figures.median([getattr(one.short, f) / 1e3 for one in mine]), 1) for f in ("p50_us", "p99_us")],
        table.show(max(one.short.max_us for one in mine) / 1e3, 1),
        table.show(figures.median([one.busy.per_second for one in mine]), 1),
        table.show(figures.median([one.busy.p50_us / 1e3 for one in mine])),
        str(sum(failed.values())),
        *[table.times(_ratio(name, other, found)) for other in _AGAINST],
        httpload.kinds(failed),
    ]


def _ratio(name: str, other: str, found: _Found) -> float | None:
    return figures.paired_ratio(_rates(found[name]), _rates(found.get(other, {})))


def _rates(samples: dict[int, Sample]) -> dict[int, float]:
    return {number: one.short.per_second for number, one in samples.items()}


def _plain(samples: dict[int, Sample]) -> dict[int, object]:
    return {number: dataclasses.asdict(one) for number, one in samples.items()}
