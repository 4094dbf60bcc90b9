"""The callers: hybrid on its loops, and the pools of others."""

from __future__ import annotations

import dataclasses
import sys

from benchmarks import servers
from benchmarks.servers import Command
from benchmarks.web import peers

EXECUTOR = "ProcessPoolExecutor"
_HANDLERS = "benchmarks.offload.handlers"
_OURS = (("epoll", "coroutine"), ("uvloop", "coroutine"), ("gevent", "greenlet"))
_PROCESSES = {
    EXECUTOR: "executor",
    f"{EXECUTOR} asyncio": "executor-of-a-loop",
    "multiprocessing.Pool": "pool",
    "loky": "loky",
    "anyio.to_process": "anyio",
    "Dask LocalCluster": "dask",
}
_DIRTY = "gunicorn dirty"
_MOST = {_DIRTY: (1 << 26) - 1024}  # 64 MiB, its own head included
_THREADS = {"gevent threads": "gevent-threads"}


@dataclasses.dataclass(frozen=True)
class Caller:
    """A process that makes calls, and measures them."""

    name: str
    handler: str = ""
    """A handler of hybrid, on `loop`; empty: a peer."""
    loop: str = ""
    peer: str = ""
    most: int = 1 << 40
    """Bytes of a payload: some have a limit."""

    def command(self, processes: int) -> Command:
        """Return how it is started, with a pool of so many processes."""
        if self.peer == _DIRTY:
            pool = ("--dirty-app", "benchmarks.offload.dirty:Functions", "--dirty-workers", str(processes))
            return dataclasses.replace(
                peers.gunicorn(self.name, "benchmarks.offload.dirty:app", "asgi", *pool),
                listening=servers.LISTENING,
                serving=None,
            )
        if self.peer:
            return Command(self.name, (sys.executable, "-m", "benchmarks.offload.peers", self.peer, str(processes)))
        options = ("--offload-workers", str(processes))
        return servers.hybrid(self.name, f"{_HANDLERS}:{self.handler}", loop=self.loop, options=options)


def callers(*, with_threads: bool) -> list[Caller]:
    """Return all callers; those whose pool consists of threads only if they make sense."""
    ours = [Caller(f"hybrid {loop}", handler, loop) for loop, handler in _OURS]
    theirs = {**_PROCESSES, _DIRTY: _DIRTY, **(_THREADS if with_threads else {})}
    return [*ours, *[Caller(name, peer=peer, most=_MOST.get(name, Caller.most)) for name, peer in theirs.items()]]
