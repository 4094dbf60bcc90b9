"""A worker that has drained becomes a process that workers are forked from: what it gives up, what speaks against it.

Its loop is closed. What it shares with its forks is what its requests have warmed up. What requests have started, and
what no fork survives, is looked for as after an import (`audit`).
"""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
import time
from typing import Any

from hybrid.workers import main as entry
from hybrid.workers import preload
from hybrid.workers.boot import audit
from hybrid.workers.boot.application import Application
from hybrid.workers.common import forks
from hybrid.workers.common.heartbeat import Heartbeat
from hybrid.workers.contract.channel import ChannelClosed
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import Unfit
from hybrid.workers.contract.promoted import Promoted
from hybrid.workers.contract.scoreboard import Activity
from hybrid.workers.contract.worker_spec import WorkerSpec

_THREADS_END = 1.0  # seconds


def census() -> audit.Census | None:
    """Count what is in this process before it serves; None where it cannot be looked at."""
    try:
        return audit.census()
    except OSError:
        return None


def become(
    spec: WorkerSpec, application: Application, loaded: entry.Loaded, before: audit.Census | None, promoted: Promoted
) -> int | Promoted:
    """Give up what is a worker's; return `promoted`, or an exit code where this process must not be forked.

    The supervisor has been told of the latter. Blocks for a moment.
    """
    forks.disarm()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Heartbeat(spec.record).tells(Activity.NOTHING)
    _end_threads_of_gevent()
    gc.unfreeze()  # what has become garbage of it is to go, and what has started is to be seen
    gc.collect()
    found = _findings(before)
    if found:
        with contextlib.suppress(ChannelClosed):
            spec.channel.send_nowait(Unfit(", ".join(found)))
        return Exit.OK
    preload.keep(application, loaded)
    return promoted


def _findings(before: audit.Census | None) -> list[str]:
    try:
        return ["what nobody can look at"] if before is None else audit.findings(before)
    except OSError as error:
        return [f"what nobody can look at: {error}"]


def _end_threads_of_gevent() -> None:
    """End the threads in which gevent resolves names and runs what blocks, as far as they are idle; others are made."""
    hub: Any = audit.idle_hub()
    pool = None if hub is None else getattr(hub, "_threadpool", None)
    if pool is None:
        return
    hub._resolver = hub._threadpool = None  # made when somebody asks for them; a resolver keeps the pool
    pool.kill()
    until = time.monotonic() + _THREADS_END
    while pool.size and time.monotonic() < until:
        sys.modules["gevent"].sleep(0.005)
