"""Echo of 64 connections x 64 bytes: one process on one core, the load on another one.

Every server is started anew in every round (so that no figure hangs on the luck of one process's memory layout), gets
two waves of connections, and is ended; who comes first changes from round to round.

Why two waves: asyncio's selector loop reads into a new 256 KiB object each time. While the heap of a fresh process
has no free piece of that size at its end, malloc takes and returns pages for every message (measured: two page faults
each); as soon as one wave of connections has come and gone, it has one, and the same server is 2.5 to 4 times as
fast. Both are true, so both are shown. "First wave" is a process that has served nobody before; all else is the
second wave.
"""

from __future__ import annotations

import dataclasses
import functools

from benchmarks import figures, load, machine, quiet, report, servers, table

_SYNC = "benchmarks.handlers:sync_echo"
_ASYNC = "benchmarks.handlers:async_echo"
_PROTOCOL = "benchmarks.protocols:EchoProtocol"
_LIMIT = "C epoll server"
_SATURATED = 0.95  # of the load generator's core


@dataclasses.dataclass(frozen=True)
class Row:
    """A server, and the names of the servers it is compared with."""

    command: servers.Command
    against: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Sample:
    """What one round found of one server."""

    first: load.Load
    """The first wave."""
    load: load.Load
    """The second wave."""
    per_cpu_second: float
    """Round trips (of the second wave) for each second of processor time of the server."""
    others: float
    """Cores that others used during the second wave."""


@dataclasses.dataclass
class _Found:
    """What is known of one server: round -> sample."""

    samples: dict[int, Sample] = dataclasses.field(default_factory=dict)

    @property
    def rates(self) -> dict[int, float]:
        return {number: one.load.per_second for number, one in self.samples.items()}

    @property
    def first_rates(self) -> dict[int, float]:
        return {number: one.first.per_second for number, one in self.samples.items()}

    def median(self, name: str) -> float | None:
        return figures.median([getattr(one.load, name) for one in self.samples.values()])

    @property
    def others(self) -> float:
        return max((one.others for one in self.samples.values()), default=0.0)


def rows() -> list[Row]:
    """Return everything that is measured: the limit, the peers, and hybrid on all loops with all kinds of handlers."""
    peers = [
        Row(servers.c_server(_LIMIT)),
        Row(servers.peer("gevent StreamServer", "gevent-stream")),
        Row(servers.peer("asyncio streams", "asyncio-streams")),
        Row(servers.peer("asyncio protocol", "asyncio-protocol")),
        Row(servers.peer("uvloop streams", "uvloop-streams")),
        Row(servers.peer("uvloop protocol", "uvloop-protocol")),
    ]
    return peers + [row for loop in ("epoll", "poll", "select", "gevent", "asyncio", "uvloop") for row in _ours(loop)]


def _ours(loop: str) -> list[Row]:
    """The three kinds of handlers on one loop, each beside what its author would use today, or the same loop bare."""
    bare = loop if loop in {"asyncio", "uvloop"} else None
    streams = (f"{bare} streams",) if bare else ("uvloop streams", "asyncio streams")
    protocols = (f"{bare} protocol",) if bare else ("uvloop protocol", "asyncio protocol")
    return [
        Row(servers.hybrid(f"hybrid {loop} sync", _SYNC, loop=loop), ("gevent StreamServer",)),
        Row(servers.hybrid(f"hybrid {loop} async", _ASYNC, loop=loop), streams),
        Row(servers.hybrid(f"hybrid {loop} protocol", _PROTOCOL, loop=loop), protocols),
    ]


def measure(plan: report.Plan) -> report.Report:
    """Measure all rows the plan wants. Blocks for about rows x runs x (seconds + 1)."""
    chosen = report.wanted(rows(), plan)
    found = {row.command.name: _Found() for row in chosen}
    failures: dict[str, str] = {}
    for number in range(plan.runs):
        for row in figures.rotated(chosen, number * 7):
            name = row.command.name
            report.say(f"echo, round {number + 1} of {plan.runs}: {name}")
            with report.attempt(name, failures):
                found[name].samples[number] = quiet.quietest(functools.partial(_one, row, plan), plan.retries)
    return report.Report(_text(chosen, found, plan), _data(found), failures)


def _one(row: Row, plan: report.Plan) -> Sample:
    """Start one server, send it two waves, and end it."""
    core = machine.load_core()
    with servers.Server(row.command, machine.server_core()) as server:
        first = load.run("echo", server.port, seconds=min(1.0, plan.seconds), core=core)
        with quiet.watched(server.pid) as usage:
            second = load.run("echo", server.port, seconds=plan.seconds, core=core)
    sample = Sample(first, second, second.rounds / usage.server_seconds, usage.others(second.busy))
    rates = f"{second.per_second:,.0f} a second, first wave {first.per_second:,.0f}"
    report.say(f"  {rates}; others used {sample.others:.0%} of a core")
    return sample


def _text(chosen: list[Row], found: dict[str, _Found], plan: report.Plan) -> str:
    title = (
        f"Echo, 64 connections x 64 bytes, one process on one core; medians of {plan.runs} rounds of {plan.seconds:g} s"
    )
    columns = [
        "<server",
        "first wave/s",
        "round trips/s",
        "per CPU second",
        "spread",
        "p50 us",
        "p99 us",
        "of C",
        "<beside (in the first wave)",
    ]
    lines = [_line(row, found) for row in chosen]
    return "\n".join([table.render(title, columns, lines), *_notes(found)])


def _line(row: Row, found: dict[str, _Found]) -> list[str]:
    mine = found[row.command.name]
    spread = figures.spread(list(mine.rates.values()))
    return [
        row.command.name,
        table.show(figures.median(list(mine.first_rates.values()))),
        table.show(mine.median("per_second")),
        table.show(figures.median([one.per_cpu_second for one in mine.samples.values()])),
        table.show(spread and spread * 100, unit=" %"),
        table.show(mine.median("p50_us")),
        table.show(mine.median("p99_us")),
        table.times(_ratio(row.command.name, _LIMIT, found)),
        ", ".join(_beside(row.command.name, other, found) for other in row.against if other in found),
    ]


def _ratio(name: str, other: str, found: dict[str, _Found]) -> float | None:
    return figures.paired_ratio(found[name].rates, found[other].rates) if other in found else None


def _beside(name: str, other: str, found: dict[str, _Found]) -> str:
    first = figures.paired_ratio(found[name].first_rates, found[other].first_rates)
    return f"{table.times(_ratio(name, other, found))} ({table.times(first)}) {other}"


def _notes(found: dict[str, _Found]) -> list[str]:
    """What makes the figures doubtful, if anything does."""
    notes = quiet.notes(max((one.others for one in found.values()), default=0.0))
    full = [name for name, one in found.items() if (one.median("busy") or 0) > _SATURATED]
    if full:
        notes.append(f"! the load generator's core was full too: {', '.join(full)} may be faster than shown")
    if machine.server_core() is None:
        notes.append("! there is one core only: server and load shared it")
    return notes


def _data(found: dict[str, _Found]) -> dict[str, object]:
    return {
        name: {"rounds": {number: dataclasses.asdict(sample) for number, sample in one.samples.items()}}
        for name, one in found.items()
    }
