"""A drained worker becomes a zygote, from which workers are forked, unless an audit finds a reason against it.

Its loop is closed. Its forks share the memory that its requests have warmed up. The audit looks for things that
requests have started and that do not survive a fork, as after an import (`audit`).
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
    """Take a census of this process before it serves; None if it cannot be inspected."""
    try:
        return audit.census()
    except OSError:
        return None


def become(
    spec: WorkerSpec, application: Application, loaded: entry.Loaded, before: audit.Census | None, promoted: Promoted
) -> int | Promoted:
    """Stop being a worker; return `promoted`, or an exit code if this process must not be forked.

    In the latter case the supervisor has been told why. Blocks briefly.
    """
    forks.disarm()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Heartbeat(spec.record).tells(Activity.NOTHING)
    _end_threads_of_gevent()
    gc.unfreeze()  # so that garbage goes, and the audit sees everything that has started
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
        return ["state that cannot be inspected"] if before is None else audit.findings(before)
    except OSError as error:
        return [f"state that cannot be inspected: {error}"]


def _end_threads_of_gevent() -> None:
    """End gevent's idle worker threads, which resolve names and run blocking calls; it starts new ones when needed."""
    hub: Any = audit.idle_hub()
    pool = None if hub is None else getattr(hub, "_threadpool", None)
    if pool is None:
        return
    hub._resolver = hub._threadpool = None  # made again on first use; a resolver keeps the pool
    pool.kill()
    until = time.monotonic() + _THREADS_END
    while pool.size and time.monotonic() < until:
        sys.modules["gevent"].sleep(0.005)
