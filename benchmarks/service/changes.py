"""What only hybrid is asked to do under load: upgrade by SIGUSR2, scale by SIGTTIN and SIGTTOU, recycle its workers."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable

from benchmarks import figures, servers, table
from benchmarks.servers import Command, Server
from benchmarks.service import httpload, processes, rows
from benchmarks.service.httpload import Clients, Outcome, Running
from benchmarks.service.scenario import Scenario

_MANY = 6  # workers, at the height of scaling
_RECYCLING = 4  # workers
_RECYCLE = "--max-requests"
_RECYCLE_AFTER = "500"
_PATIENCE = 10.0  # seconds for old workers to go
_STEP_SECONDS = 0.05  # between two signals: those that come at once are one
_COUNTING_SECONDS = 0.5  # in which the workers are counted that answer
_COLUMNS = ["done", "failed", "requests/s", "p99 ms", "max ms", "fewest workers", "most", "new ones", "<failures"]


@dataclasses.dataclass(frozen=True)
class Sample:
    """What one round found of one server."""

    load: Outcome
    done: bool
    """Whether what was asked for has happened."""
    newcomers: int
    """Processes that answered and had not at the beginning."""


_Change = Callable[[Server, Running, float], Callable[[Outcome], bool]]  # do it; then tell from what was seen whether


def scenarios() -> list[Scenario]:
    """Return what `lifecycle` measures."""
    recycling = rows.hybrid(_RECYCLE, _RECYCLE_AFTER, workers=_RECYCLING)
    height = f"{rows.WORKERS} to {_MANY} to 1"
    return [
        _scenario("upgrade", "an upgrade by SIGUSR2", rows.hybrid(), _upgrade),
        _scenario("scale", f"{height} workers by SIGTTIN and SIGTTOU", rows.hybrid(), _scale),
        _scenario("recycle", f"{_RECYCLING} workers, {_RECYCLE} {_RECYCLE_AFTER}", recycling, _recycle, _RECYCLING),
    ]


def _scenario(name: str, title: str, commands: list[Command], change: _Change, workers: int = rows.WORKERS) -> Scenario:
    def measure(command: Command, clients: Clients, seconds: float) -> Sample:
        with servers.Server(command) as server:
            first = processes.workers_of(server, workers)
            with Running(clients, server.port, seconds=seconds) as running:
                happened = change(server, running, time.monotonic() + seconds)
                load = running.finish()
            return Sample(load, happened(load), len([pid for pid in running.workers if pid not in first]))

    return Scenario(name, title, commands, measure, _COLUMNS, cells)


def _upgrade(server: Server, running: Running, end: float) -> Callable[[Outcome], bool]:
    """Every process that answered before is gone in the end, and the one that was started too."""
    running.listen_until(time.monotonic() + (end - time.monotonic()) * 0.3)
    old = [server.pid, *processes.living(list(running.workers))]
    os.kill(server.pid, signal.SIGUSR2)

    def happened(load: Outcome) -> bool:
        server.ended_within(_PATIENCE)  # it is our child: it stays in the table of processes until it is waited for
        gone = processes.wait_until_gone(old, _PATIENCE)
        return gone and bool(processes.living([one.pid for one in load.workers]))

    return happened


def _scale(server: Server, running: Running, end: float) -> Callable[[Outcome], bool]:
    """So many workers answer as were asked for, and in the end only one does; kept connections would not tell."""
    length = end - time.monotonic()
    running.listen_until(end - 0.9 * length)
    _send(server, signal.SIGTTIN, _MANY - rows.WORKERS)
    running.listen_until(end - 0.6 * length)
    height = processes.answering(server, _COUNTING_SECONDS)
    _send(server, signal.SIGTTOU, _MANY - 1)
    return lambda load: len(height) == _MANY and len(processes.answering(server, _COUNTING_SECONDS)) == 1


def _send(server: Server, number: int, times: int) -> None:
    for _ in range(times):
        os.kill(server.pid, number)
        time.sleep(_STEP_SECONDS)


def _recycle(server: Server, running: Running, end: float) -> Callable[[Outcome], bool]:
    """Each of the first workers has been replaced."""
    return lambda load: len(load.workers) >= 2 * _RECYCLING


def cells(samples: list[Sample]) -> list[str]:
    """Return what stands in the columns."""
    loads = [one.load for one in samples]
    failed = httpload.summed(loads)
    p99 = figures.median([one.p99_us / 1e3 for one in loads])
    return [
        f"{sum(one.done for one in samples)} of {len(samples)}",
        str(sum(failed.values())),
        table.show(figures.median([one.per_second for one in loads])),
        table.show(p99, 1),
        table.show(max(one.max_us for one in loads) / 1e3),
        str(min(one.fewest for one in loads)),
        str(max(one.most for one in loads)),
        table.show(figures.median([one.newcomers for one in samples])),
        httpload.kinds(failed),
    ]
