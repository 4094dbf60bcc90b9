"""The child that becomes a gateway to a Dask cluster: a fresh interpreter.

A gateway runs asyncio and Dask. A fork of the zygote cannot: the application may have patched sockets and threads there
(gevent), or started what Dask starts again. So the supervisor forks it itself, and it executes Python. The kernel sends
it SIGTERM when the supervisor dies, as before (PR_SET_PDEATHSIG outlives execve(2)).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import Final

from hybrid.supervisor.children import titles
from hybrid.supervisor.children.kernel import CAUGHT
from hybrid.supervisor.settings import Pool, Settings
from hybrid.workers.contract.channel import ChannelClosed
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.gateway_spec import GatewaySpec
from hybrid.workers.contract.messages import BootFailed
from hybrid.workers.contract.signals import DUMP_STACK, TELL_STACKS
from hybrid.workers.contract.version import VERSION
from hybrid.workers.contract.worker_spec import WorkerSpec

_BEGINS: Final = (
    "import json, os, sys; fd = int(sys.argv[1]); "
    "sys.path[:] = json.loads(os.pread(fd, os.fstat(fd).st_size, 0))['path']; "
    "from hybrid.workers.offload.gateway import main; main(fd)"
)
"""The program: it looks for modules where the supervisor does."""
_IGNORED: Final = frozenset({*CAUGHT, DUMP_STACK, TELL_STACKS}) - {signal.SIGCHLD, signal.SIGTERM}
"""Signals that may come before the new program has handlers for them."""


def execute_gateway(spec: WorkerSpec, settings: Settings, pool: Pool, max_result: int) -> int:
    """Become the gateway of a pool; return an exit code only if that fails: the supervisor has been told why."""
    assert spec.queue is not None, "a gateway gets the queue"
    told = GatewaySpec(
        version=VERSION,
        path=tuple(sys.path),
        title=spec.title,
        slot=spec.slot,
        name=titles.short_name(spec.title, spec.slot).decode(),
        generation=spec.generation,
        supervisor_pid=spec.supervisor_pid,
        graceful_timeout=spec.graceful_timeout,
        channel_fd=spec.channel.fileno(),
        queue_fd=spec.queue.fileno(),
        dump_fd=spec.dump_fd,
        log_fd=spec.log_fd,
        log_format=settings.log_format,
        log_level=settings.log_level,
        scheduler=pool.to,
        falls_back=pool.falls_back,
        max_result=max_result,
    )
    try:
        if not sys.executable:
            raise FileNotFoundError(2, "this program does not know its Python interpreter (sys.executable)")
        for fd in (told.channel_fd, told.queue_fd, told.dump_fd, told.log_fd):
            os.set_inheritable(fd, True)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        os.execv(sys.executable, [sys.executable, "-P", "-c", _BEGINS, str(told.to_fd())])
    except OSError as error:
        reason = f"cannot start the gateway to {pool.to}: {error.strerror}"
        with contextlib.suppress(ChannelClosed):
            spec.channel.send_nowait(BootFailed(Exit.ERROR, reason))
    return Exit.ERROR
