"""What a worker costs, and what an idle connection costs on top: 10,000 connections held open, each after one exchange.

Resident memory of the process only: the kernel's own memory for sockets is the same for every server and is not in it.
"""

from __future__ import annotations

import dataclasses
import socket
import time

from benchmarks import figures, load, machine, peers, report, servers, table

CONNECTIONS = 10_000
_SPARE_FILES = 200  # descriptors a server needs besides its connections
_SYNC = "benchmarks.handlers:sync_echo"
_ASYNC = "benchmarks.handlers:async_echo"
_WORKER = r"pid=(\d+) ready on"
_ANSWER_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class Row:
    """A server; `forks` says that a worker of it serves, whose pid is in the log."""

    command: servers.Command
    forks: bool = False


@dataclasses.dataclass(frozen=True)
class Sample:
    """What was found in one round. Bytes and seconds."""

    idle_rss: int
    idle_pss: int
    supervisor_pss: int | None
    full_rss: int
    full_pss: int
    per_connection: float
    open_seconds: float
    answer_seconds: float
    dropped: int


def rows() -> list[Row]:
    """Return hybrid on the loops that can hold so many, and the peers."""
    ours = [
        ("epoll sync", _SYNC, "epoll"),
        ("epoll async", _ASYNC, "epoll"),
        ("poll sync", _SYNC, "poll"),
        ("poll async", _ASYNC, "poll"),
        ("gevent sync", _SYNC, "gevent"),
        ("asyncio async", _ASYNC, "asyncio"),
        ("uvloop async", _ASYNC, "uvloop"),
    ]
    return [
        Row(servers.c_server("C epoll server")),
        Row(servers.peer("gevent StreamServer", "gevent-stream")),
        Row(servers.peer("asyncio streams", "asyncio-streams")),
        Row(servers.peer("uvloop streams", "uvloop-streams")),
        *[
            Row(_announcing(servers.hybrid(f"hybrid {name}", target, loop=loop)), forks=True)
            for name, target, loop in ours
        ],
    ]


def _announcing(command: servers.Command) -> servers.Command:
    """The same command, awaited at the worker's own line, which tells its pid; `serving` follows it."""
    return dataclasses.replace(command, serving=_WORKER)


def measure(plan: report.Plan) -> report.Report:
    """Measure every server `runs` times. Blocks a few seconds for each."""
    _check_files()
    chosen = report.wanted(rows(), plan)
    found: dict[str, list[Sample]] = {row.command.name: [] for row in chosen}
    failures: dict[str, str] = {}
    for number in range(plan.runs):
        for row in figures.rotated(chosen, number):
            name = row.command.name
            report.say(f"memory, round {number + 1} of {plan.runs}: {name}")
            with report.attempt(name, failures):
                found[name].append(_sample(row))
    data = {name: [dataclasses.asdict(sample) for sample in samples] for name, samples in found.items()}
    return report.Report(_text(chosen, found, plan), data, failures)


def _check_files() -> None:
    limit = machine.allow_many_files()
    if limit < CONNECTIONS + _SPARE_FILES:
        raise LookupError(
            f"memory needs {CONNECTIONS + _SPARE_FILES} open files, and {limit} are allowed: raise ulimit -Hn"
        )


def _sample(row: Row) -> Sample:
    """Start one server, look at it idle and full, and ask it for an answer while it is full."""
    with servers.Server(row.command, machine.server_core()) as server:
        pid = int(server.matched.group(1)) if row.forks else server.pid
        _answer_seconds(server.port)  # what the first connection alone brings in (imports, buffers) is not counted
        idle = machine.memory_of(pid)
        above = machine.memory_of(server.pid)["Pss"] if row.forks else None
        with load.Held(server.port, CONNECTIONS, machine.load_core()) as held:
            answer = _answer_seconds(server.port)
            full = machine.memory_of(pid)
    return Sample(
        idle_rss=idle["Rss"],
        idle_pss=idle["Pss"],
        supervisor_pss=above,
        full_rss=full["Rss"],
        full_pss=full["Pss"],
        per_connection=(full["Rss"] - idle["Rss"]) / CONNECTIONS,
        open_seconds=held.open_seconds,
        answer_seconds=answer,
        dropped=held.dropped,
    )


def _answer_seconds(port: int) -> float:
    """Return how long a new connection waits for its first answer. Raises `LoadFailed` if none comes."""
    started = time.perf_counter()
    try:
        with socket.create_connection((peers.HOST, port), timeout=_ANSWER_SECONDS) as sock:
            sock.sendall(b"still there?")
            if sock.recv(64) != b"still there?":
                raise load.LoadFailed("a new connection got a wrong answer")
    except OSError as error:
        raise load.LoadFailed(f"a new connection was not answered: {error}") from error
    return time.perf_counter() - started


def _text(chosen: list[Row], found: dict[str, list[Sample]], plan: report.Plan) -> str:
    title = f"Memory at {CONNECTIONS:,} idle connections, one worker; medians of {plan.runs} rounds"
    columns = ["<server", "idle RSS MiB", "idle PSS MiB", "supervisor PSS MiB", "full RSS MiB",
               "KiB/connection", "opened in s", "new one answered in ms", "dropped"]  # fmt: skip
    return table.render(title, columns, [_line(row.command.name, found[row.command.name]) for row in chosen])


def _line(name: str, samples: list[Sample]) -> list[str]:
    def middle(field: str, scale: float, digits: int) -> str:
        known = [value * scale for one in samples if (value := getattr(one, field)) is not None]
        return table.show(figures.median(known), digits)

    return [
        name,
        middle("idle_rss", 2**-20, 1),
        middle("idle_pss", 2**-20, 1),
        middle("supervisor_pss", 2**-20, 1),
        middle("full_rss", 2**-20, 1),
        middle("per_connection", 2**-10, 2),
        middle("open_seconds", 1, 2),
        middle("answer_seconds", 1000, 2),
        str(sum(one.dropped for one in samples)),
    ]
