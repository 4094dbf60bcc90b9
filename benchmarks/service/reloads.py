"""Three reloads by SIGHUP: whether each worker gives way to another one, and what the clients see of it."""

from __future__ import annotations

import dataclasses
import os
import signal
import time

from benchmarks import figures, servers, table
from benchmarks.servers import Command
from benchmarks.service import httpload, processes, rows
from benchmarks.service.httpload import Clients, Outcome, Running
from benchmarks.service.scenario import Scenario

_SHARES = (0.1, 0.4, 0.7)  # of the time, when the signals are sent
_PATIENCE = 10.0  # seconds for the last of the old workers, after the load


@dataclasses.dataclass(frozen=True)
class Sample:
    """What one round found of one server."""

    undisturbed: Outcome
    """As long a load, without a reload."""
    reloading: Outcome
    done: int
    """Reloads after which each worker had been replaced before the next one."""


def scenario() -> Scenario:
    """Return what `lifecycle` measures."""
    commands = [*rows.hybrid(), rows.uvicorn(), *rows.granian(), rows.gunicorn_gevent(), rows.gunicorn_asgi()]
    title = f"{len(_SHARES)} reloads by SIGHUP, and the same load without"
    columns = ["reloads", "failed", "requests/s", "without", "ratio", "p99 ms", "without", "max ms", "<failures"]
    return Scenario("reload", title, commands, measure, columns, cells)


def measure(command: Command, clients: Clients, seconds: float) -> Sample:
    """Start a server, ask it, ask it again while it reloads, and end it. Blocks for twice the time and some seconds."""
    with servers.Server(command) as server:
        processes.workers_of(server, rows.WORKERS)
        undisturbed = httpload.run(clients, server.port, seconds)
        with Running(clients, server.port, seconds=seconds) as running:
            old = _reload(server, running, seconds)
            reloading = running.finish()
        done = sum(processes.wait_until_gone(pids, 0.0) for pids in old[:-1])
        done += processes.wait_until_gone(old[-1], _PATIENCE)
    return Sample(undisturbed, reloading, done)


def _reload(server: servers.Server, running: Running, seconds: float) -> list[list[int]]:
    """Send the signals; return for each the workers that lived and had answered before it."""
    started = time.monotonic()
    old: list[list[int]] = []
    for share in _SHARES:
        running.listen_until(started + share * seconds)
        old.append(processes.living(list(running.workers)))
        os.kill(server.pid, signal.SIGHUP)
    return old


def cells(samples: list[Sample]) -> list[str]:
    """Return what stands in the columns."""
    failed = httpload.summed([one.reloading for one in samples])
    ratios = [one.reloading.per_second / one.undisturbed.per_second for one in samples if one.undisturbed.per_second]
    return [
        f"{sum(one.done for one in samples)} of {len(_SHARES) * len(samples)}",
        str(sum(failed.values())),
        *[table.show(figures.median(values)) for values in _both(samples, "per_second")],
        table.times(figures.median(ratios)),
        *[table.show(_milliseconds(values), 1) for values in _both(samples, "p99_us")],
        table.show(max(one.reloading.max_us for one in samples) / 1e3),
        httpload.kinds(failed),
    ]


def _both(samples: list[Sample], name: str) -> list[list[float]]:
    return [[getattr(getattr(one, load), name) for one in samples] for load in ("reloading", "undisturbed")]


def _milliseconds(values: list[float]) -> float | None:
    middle = figures.median(values)
    return None if middle is None else middle / 1e3
