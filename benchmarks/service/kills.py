"""The SIGKILL of a worker every second: which requests fail, and when there are as many workers as before.

What the killed worker had accepted may fail. What fails beyond that was lost by the way the server handles the death:
requests that waited in a queue and were reset, or came later and were refused. A worker is stopped for the moment it
takes to count what it has accepted; a connection that is answered and not yet closed counts too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time

from benchmarks import figures, servers, table
from benchmarks.servers import Command, Server
from benchmarks.service import httpload, processes, rows
from benchmarks.service.httpload import Clients, Outcome, Running
from benchmarks.service.processes import Kill
from benchmarks.service.scenario import Scenario

_EVERY_SECONDS = 1.0
_FIRST_SECONDS = 0.5
_AFTER_SECONDS = 2.5  # for the last successor
_PROBES = Clients(connections=2, anew=True, pause=0.005)  # kept connections may all stay with the survivor


@dataclasses.dataclass(frozen=True)
class Sample:
    """What one round found of one server."""

    loads: list[Outcome]
    """Of the clients, and of those who only look for new workers."""
    kills: list[Kill]
    back: list[float]
    """Seconds from a SIGKILL to the first answer of a new process: first kill, first new process, and so on."""
    ended: bool
    """Whether the whole server ended."""

    @property
    def accepted(self) -> int:
        """Connections that killed workers had accepted."""
        return sum(one.accepted for one in self.kills)

    @property
    def failed(self) -> int:
        """Requests that failed."""
        return sum(one.losses for one in self.loads)

    @property
    def late(self) -> int:
        """Requests that failed and no killed worker can have had: they began when it was gone, or ended before."""
        failures = [failure for one in self.loads for failure in one.failures]
        return sum(not any(f.began <= k.gone and f.ended >= k.at for k in self.kills) for f in failures)


def scenario() -> Scenario:
    """Return what `lifecycle` measures; granian replaces a dead worker only if it is told so."""
    respawning = rows.granian("--respawn-failed-workers")
    commands = [*rows.hybrid(), rows.uvicorn(), *respawning, rows.gunicorn_gevent(), rows.gunicorn_asgi()]
    columns = ["kills", "accepted then", "failed", "beyond", "late", "back ms", "slowest", "never back", "requests/s",
               "<failures"]  # fmt: skip
    return Scenario("kill", "SIGKILL of a worker every second", commands, measure, columns, cells)


def measure(command: Command, clients: Clients, seconds: float) -> Sample:
    """Start a server, kill a worker every second, and end it. Blocks for `seconds` and some more."""
    with servers.Server(command) as server, contextlib.ExitStack() as stack:
        first = processes.workers_of(server, rows.WORKERS)
        idle = processes.sockets_when_idle(first)
        everybody = [clients] if clients.anew else [clients, _PROBES]
        asking = [stack.enter_context(Running(one, server.port)) for one in everybody]
        kills = _kill(server, asking, idle, seconds)
        _listen(asking, time.monotonic() + _AFTER_SECONDS)
        ended = server.ended_within(0.0)
        loads = [one.finish(early=True) for one in asking]
    heard = _heard(asking)
    newcomers = sorted(moment for pid, moment in heard.items() if pid not in first)
    return Sample(loads, kills, [new - one.at for one, new in zip(kills, newcomers, strict=False)], ended)


def _kill(server: Server, asking: list[Running], idle_sockets: int, seconds: float) -> list[Kill]:
    """Kill every second the worker that has answered first, if there is one, until the server has ended."""
    started = time.monotonic()
    kills: list[Kill] = []
    for number in range(max(1, int(seconds / _EVERY_SECONDS))):
        _listen(asking, started + _FIRST_SECONDS + number * _EVERY_SECONDS)
        heard = _heard(asking)
        serving = sorted(processes.living(list(heard)), key=lambda pid: heard[pid])
        if server.ended_within(0.0):
            break
        if serving:
            kills.append(processes.kill(server, serving[0], idle_sockets))
    return kills


def _listen(asking: list[Running], moment: float) -> None:
    for one in asking:
        one.listen_until(moment)


def _heard(asking: list[Running]) -> dict[int, float]:
    """Every process that has answered, and when it did first."""
    pids = {pid for one in asking for pid in one.workers}
    return {pid: min(one.workers[pid] for one in asking if pid in one.workers) for pid in pids}


def cells(samples: list[Sample]) -> list[str]:
    """Return what stands in the columns."""
    back = [1000 * seconds for one in samples for seconds in one.back]
    kills = sum(len(one.kills) for one in samples)
    failed = httpload.summed([load for one in samples for load in one.loads])
    ended = sum(one.ended for one in samples)
    return [
        str(kills),
        str(sum(one.accepted for one in samples)),
        str(sum(one.failed for one in samples)),
        str(sum(max(0, one.failed - one.accepted) for one in samples)),
        str(sum(one.late for one in samples)),
        table.show(figures.median(back)),
        table.show(max(back, default=None)),
        str(kills - len(back)),
        table.show(figures.median([one.loads[0].per_second for one in samples])),
        httpload.kinds(failed) + (f"; the server ended in {ended} of {len(samples)} rounds" if ended else ""),
    ]
