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

from benchmarks import figures, load, machine, report, servers, table

_SYNC = "benchmarks.handlers:sync_echo"
_ASYNC = "benchmarks.handlers:async_echo"
_PROTOCOL = "benchmarks.protocols:EchoProtocol"
_LIMIT = "C epoll server"
_CROWDED = 0.1  # of one core used by others: more than that and the figures are worth little
_SATURATED = 0.95  # of the load generator's core


@dataclasses.dataclass(frozen=True)
class Row:
    """A server, and the names of the servers it is compared with."""

    command: servers.Command
    against: tuple[str, ...] = ()


@dataclasses.dataclass
class _Found:
    """What is known of one server: round -> figures."""

    loads: dict[int, load.Load] = dataclasses.field(default_factory=dict)
    first_waves: dict[int, load.Load] = dataclasses.field(default_factory=dict)
    others: float = 0.0  # cores that other processes used in the worst round

    @property
    def rates(self) -> dict[int, float]:
        return {number: one.per_second for number, one in self.loads.items()}

    @property
    def first_rates(self) -> dict[int, float]:
        return {number: one.per_second for number, one in self.first_waves.items()}

    def median(self, name: str) -> float | None:
        return figures.median([getattr(one, name) for one in self.loads.values()])


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
                _one(row, number, found[name], plan)
    return report.Report(_text(chosen, found, plan), _data(found), failures)


def _one(row: Row, number: int, found: _Found, plan: report.Plan) -> None:
    """Start one server, send it two waves, and end it."""
    core = machine.load_core()
    with servers.Server(row.command, machine.server_core()) as server:
        first = load.run("echo", server.port, seconds=min(1.0, plan.seconds), core=core)
        before = machine.busy_seconds() - machine.group_seconds(server.pid)
        one = load.run("echo", server.port, seconds=plan.seconds, core=core)
        after = machine.busy_seconds() - machine.group_seconds(server.pid)
    others = (after - before) / (plan.seconds + load.WARM_UP) - one.busy
    found.loads[number], found.first_waves[number] = one, first
    found.others = max(found.others, others)
    rates = f"{one.per_second:,.0f} a second, first wave {first.per_second:,.0f}"
    report.say(f"  {rates}; others used {max(others, 0):.0%} of a core")


def _text(chosen: list[Row], found: dict[str, _Found], plan: report.Plan) -> str:
    title = (
        f"Echo, 64 connections x 64 bytes, one process on one core; medians of {plan.runs} rounds of {plan.seconds:g} s"
    )
    columns = [
        "<server",
        "first wave/s",
        "round trips/s",
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
    notes = []
    crowd = max((one.others for one in found.values()), default=0.0)
    if crowd > _CROWDED:
        notes.append(f"! other processes used up to {crowd:.0%} of a core meanwhile: measure again on a quiet machine")
    full = [name for name, one in found.items() if (one.median("busy") or 0) > _SATURATED]
    if full:
        notes.append(f"! the load generator's core was full too: {', '.join(full)} may be faster than shown")
    if machine.server_core() is None:
        notes.append("! there is one core only: server and load shared it")
    return notes


def _data(found: dict[str, _Found]) -> dict[str, object]:
    return {
        name: {
            "rounds": {n: dataclasses.asdict(x) for n, x in one.loads.items()},
            "first_waves": {n: dataclasses.asdict(x) for n, x in one.first_waves.items()},
            "others": one.others,
        }
        for name, one in found.items()
    }
