"""A graceful stop by SIGTERM: whether every request is answered that the server has let connect.

Once it listens no more, clients are refused, as they have to be; that is no failure here. A connection that is reset or
closed without an answer is one, also if the server had not accepted it yet.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import time

from benchmarks import figures, servers, table
from benchmarks.servers import Command, ServerFailed
from benchmarks.service import httpload, processes, rows
from benchmarks.service.httpload import Clients, Outcome, Running
from benchmarks.service.scenario import Scenario

_BEFORE_SHARE = 0.2  # of the time, until the signal
_STOP_SECONDS = 20.0
_AFTER_SECONDS = 0.2
_EXPECTED = "refused"


@dataclasses.dataclass(frozen=True)
class Sample:
    """What one round found of one server."""

    load: Outcome
    seconds: float
    """From SIGTERM to the end of the process that was started."""

    @property
    def failed(self) -> dict[str, int]:
        """Kind of failure -> how many, without the refused."""
        return {kind: count for kind, count in self.load.failed.items() if kind != _EXPECTED}


def scenario() -> Scenario:
    """Return what `lifecycle` measures."""
    commands = [*rows.hybrid(), rows.uvicorn(), *rows.granian(), rows.gunicorn_gevent(), rows.gunicorn_asgi()]
    columns = ["stops", "failed", "most", "ended after ms", "slowest", "<failures"]
    return Scenario("stop", "a stop by SIGTERM (refused connections do not count)", commands, measure, columns, cells)


def measure(command: Command, clients: Clients, seconds: float) -> Sample:
    """Start a server, and stop it while it is asked. Blocks for a part of `seconds`; raises `ServerFailed`."""
    with servers.Server(command) as server:
        processes.workers_of(server, rows.WORKERS)
        with Running(clients, server.port) as running:
            running.listen_until(time.monotonic() + _BEFORE_SHARE * seconds)
            asked = time.monotonic()
            os.kill(server.pid, signal.SIGTERM)
            if not server.ended_within(_STOP_SECONDS):
                raise ServerFailed(f"it had not stopped {_STOP_SECONDS:g} s after SIGTERM")
            took = time.monotonic() - asked
            running.listen_until(time.monotonic() + _AFTER_SECONDS)
            return Sample(running.finish(early=True), took)


def cells(samples: list[Sample]) -> list[str]:
    """Return what stands in the columns."""
    kinds = dict.fromkeys(kind for one in samples for kind in one.failed)
    failed = {kind: sum(one.failed.get(kind, 0) for one in samples) for kind in kinds}
    return [
        str(len(samples)),
        str(sum(failed.values())),
        str(max(sum(one.failed.values()) for one in samples)),
        table.show(figures.median([1000 * one.seconds for one in samples])),
        table.show(1000 * max(one.seconds for one in samples)),
        httpload.kinds(failed),
    ]
