"""``python -m benchmarks.offload.peers NAME PROCESSES``: a caller that uses another pool, until it is killed.

Each pool is made with its defaults, but for the number of its processes, and used as its documentation shows. Those for
coroutines run on uvloop.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import importlib
import multiprocessing
import multiprocessing.pool
import socket
from collections.abc import Callable
from typing import Any

from benchmarks.offload import blocking, waiting
from benchmarks.offload.task import MOST_BYTES, line, task_of
from benchmarks.peers import BACKLOG, HOST, announce
from benchmarks.peers.life import end_with_parent


class _Got:
    """A call of a pool whose word for `result` is `get`."""

    def __init__(self, call: Any) -> None:
        self.result = call.get


def _executor(processes: int) -> None:
    with concurrent.futures.ProcessPoolExecutor(processes) as pool:
        _serve(pool.submit)


def _executor_of_a_loop(processes: int) -> None:
    import asyncio

    with concurrent.futures.ProcessPoolExecutor(processes) as pool:

        async def call(function: Callable[..., Any], *arguments: Any) -> Any:
            return await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)

        _serve_coroutines(call)


def _pool(processes: int) -> None:
    with multiprocessing.Pool(processes) as pool:
        _serve(lambda function, *arguments: _Got(pool.apply_async(function, arguments)))


def _loky(processes: int) -> None:
    with importlib.import_module("loky").ProcessPoolExecutor(processes) as pool:
        _serve(pool.submit)


def _anyio(processes: int) -> None:
    anyio = importlib.import_module("anyio")
    run_sync = importlib.import_module("anyio.to_process").run_sync
    limiters: list[Any] = []  # made on the loop

    async def call(function: Callable[..., Any], *arguments: Any) -> Any:
        if not limiters:
            limiters.append(anyio.CapacityLimiter(processes))
        return await run_sync(function, *arguments, limiter=limiters[0])

    _serve_coroutines(call)


def _dask(processes: int) -> None:
    distributed = importlib.import_module("distributed")
    options = {"n_workers": processes, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        _serve(lambda function, *arguments: client.submit(function, *arguments, pure=False))


def _gevent_threads(threads: int) -> None:
    pool = importlib.import_module("gevent.threadpool").ThreadPool(threads)
    _serve(lambda function, *arguments: _Got(pool.spawn(function, *arguments)))


def _serve(submit: blocking.Submit) -> None:
    """Measure one task after another, in the main thread."""
    with socket.create_server((HOST, 0), backlog=BACKLOG) as listener:
        announce(listener.getsockname()[1])
        while True:
            sock, _ = listener.accept()
            with sock:
                sock.sendall(line(blocking.measure(task_of(sock.recv(MOST_BYTES)), submit)))


def _serve_coroutines(call: waiting.Call) -> None:
    """Measure one task after another, on uvloop."""
    import asyncio

    import uvloop

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(line(await waiting.measure(task_of(await reader.readline()), call)))
        await writer.drain()
        writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(answer, HOST, 0, backlog=BACKLOG)
        announce(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


PEERS: dict[str, Callable[[int], None]] = {  # name on the command line -> what never returns
    "executor": _executor,
    "executor-of-a-loop": _executor_of_a_loop,
    "pool": _pool,
    "loky": _loky,
    "anyio": _anyio,
    "dask": _dask,
    "gevent-threads": _gevent_threads,
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.offload.peers", description=__doc__)
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("processes", type=int)
    given = parser.parse_args()
    end_with_parent()
    PEERS[given.name](given.processes)
