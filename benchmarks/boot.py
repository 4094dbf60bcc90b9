"""How long from the command to serving, and from the SIGKILL of a worker to its successor.

Two figures for the successor: until it says that it is ready, and until a client that connected right after the kill
has its answer. A server without a supervisor has no successor.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import time

from benchmarks import figures, load, peers, report, servers, table

_SYNC = "benchmarks.handlers:sync_echo"
_ASYNC = "benchmarks.handlers:async_echo"
_WORKER = r"pid=(\d+) ready on"
_DEADLINE = 10.0  # seconds for a successor


@dataclasses.dataclass(frozen=True)
class Row:
    """A server; `supervised` says that a killed worker of it is replaced."""

    command: servers.Command
    supervised: bool = False


@dataclasses.dataclass(frozen=True)
class Sample:
    """What was found in one round, in seconds; None: does not apply."""

    boot: float
    ready_again: float | None = None
    answered_again: float | None = None


def rows() -> list[Row]:
    """Return hybrid on every loop that differs in what it imports, and the peers."""
    ours = [("epoll", _SYNC), ("gevent", _SYNC), ("asyncio", _ASYNC), ("uvloop", _ASYNC)]
    commands = [servers.hybrid(f"hybrid {loop}", target, loop=loop) for loop, target in ours]
    return [
        Row(servers.peer("gevent StreamServer", "gevent-stream")),
        Row(servers.peer("asyncio streams", "asyncio-streams")),
        Row(servers.peer("uvloop streams", "uvloop-streams")),
        *[Row(dataclasses.replace(command, serving=_WORKER), supervised=True) for command in commands],
    ]


def measure(plan: report.Plan) -> report.Report:
    """Start every server `runs` times, after one start that fills the caches. Blocks about a second for each."""
    chosen = report.wanted(rows(), plan)
    found: dict[str, list[Sample]] = {row.command.name: [] for row in chosen}
    failures: dict[str, str] = {}
    for number in range(-1, plan.runs):
        for row in figures.rotated(chosen, number):
            name = row.command.name
            report.say(f"boot, round {number + 1} of {plan.runs} (round 0 warms up): {name}")
            kept = found[name] if number >= 0 else []
            with report.attempt(name, failures):
                kept.append(_sample(row))
    data = {name: [dataclasses.asdict(sample) for sample in samples] for name, samples in found.items()}
    return report.Report(_text(found, plan), data, failures)


def _sample(row: Row) -> Sample:
    with servers.Server(row.command) as server:
        if not row.supervised:
            return Sample(server.boot_seconds)
        return _kill_and_wait(server)


def _kill_and_wait(server: servers.Server) -> Sample:
    """Kill the worker, connect at once, and see when its successor is ready and when the client has its answer."""
    killed = time.perf_counter()
    os.kill(int(server.matched.group(1)), signal.SIGKILL)
    try:
        with socket.create_connection((peers.HOST, server.port), timeout=_DEADLINE) as sock:
            sock.sendall(b"who is there?")
            server.wait_for(_WORKER, _DEADLINE)
            ready = time.perf_counter() - killed
            if not sock.recv(64):
                raise load.LoadFailed("a client that connected after the kill was turned away")
            answered = time.perf_counter() - killed
    except OSError as error:
        raise load.LoadFailed(f"a client that connected after the kill was not served: {error}") from error
    return Sample(server.boot_seconds, ready, answered)


def _text(found: dict[str, list[Sample]], plan: report.Plan) -> str:
    title = f"Boot and replacement, one worker; medians of {plan.runs} rounds, milliseconds"
    columns = ["<server", "command to serving", "SIGKILL to ready again", "SIGKILL to answer"]
    return table.render(title, columns, [_line(name, samples) for name, samples in found.items()])


def _line(name: str, samples: list[Sample]) -> list[str]:
    columns = [[getattr(one, field.name) for one in samples] for field in dataclasses.fields(Sample)]
    known = [[value * 1000 for value in values if value is not None] for values in columns]
    return [name, *[table.show(figures.median(values)) for values in known]]
