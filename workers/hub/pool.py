"""A pool of greenlets for requests. A pool worker runs one request after another until one of them has to wait.

Starting a greenlet costs ten times as much as a switch (8 us, measured, for the memory of its Python frames), and a
switch per request costs twice as much as a small application. So one greenlet, the pool worker, runs all requests of a
turn. A request that waits keeps its pool worker, and another pool worker runs the remaining requests. Each request
starts with an empty context (PEP 567), as it would in its own greenlet. Benchmark: `python -m benchmarks wsgi`.

Pool workers share a thread with the loop's greenlet, and asyncio stores the running loop per thread. Here it is hidden:
the code of a request sees no running loop. Otherwise asgiref's `async_to_sync`, `asyncio.run` and Django's models would
refuse to work "in an async context". Code that switches to the home greenlet from here shows the loop again: `_work`,
`Parking.wait`, `HubRuntime.go_home`.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import logging
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import greenlet

from hybrid.workers.tasks.cpython import set_running_loop

MOST_IDLE = 64  # idle pool workers that are kept for later jobs
_DONE = object()  # passed to the home greenlet by a pool worker that has run all jobs
_log = logging.getLogger("hybrid")


def is_idle(code: object) -> bool:
    """Return True if a greenlet whose innermost frame runs this code is a pool worker without a job."""
    return code is Pool._work.__code__


class Job(Protocol):
    """A unit of work for the pool."""

    def run(self) -> None:
        """Do the work. May park. An exception is logged."""
        ...

    def parked(self, pool_worker: Any) -> None:
        """The job waits for the first time, in the greenlet `pool_worker`, which is reused once `run` has returned.

        Called in the loop's greenlet; never called for a job that does not wait.
        """
        ...


class Pool:
    """The pool workers of one loop. `run` may be called only in `home`, the greenlet that runs the loop."""

    def __init__(self, home: greenlet.greenlet, loop: asyncio.AbstractEventLoop | None) -> None:
        self._home = home
        self._loop = loop  # the loop that `home` runs; None if the caller hides it
        self._idle: list[greenlet.greenlet] = []
        self._job: Job | None = None  # the job that runs now
        self._rest: Iterator[Job] = iter(())  # the jobs that `run` has not started yet

    def run(self, jobs: Iterable[Job]) -> None:
        """Run jobs now, in order, each until it ends or parks for the first time. Raises nothing."""
        idle = self._idle
        self._rest = rest = iter(jobs)
        while True:
            pool_worker = idle.pop() if idle else greenlet.greenlet(self._work, self._home)
            if pool_worker.dead:  # killed while it was idle, by code that has kept a reference
                continue
            if pool_worker.switch(rest) is _DONE:
                return
            job, self._job = self._job, None
            if job is not None:
                job.parked(pool_worker)

    def abandon(self) -> None:
        """Start no further job: the current job has forked this process, and the other jobs belong to the parent."""
        collections.deque(self._rest, maxlen=0)

    def close(self) -> None:
        """End the idle pool workers after the loop has ended: a parked greenlet is never garbage-collected."""
        while self._idle:
            pool_worker = self._idle.pop()
            if not pool_worker.dead:
                pool_worker.parent = greenlet.getcurrent()  # takes over when it ends; gevent's hub would not return
                pool_worker.throw(greenlet.GreenletExit)

    def _work(self, rest: Iterator[Job]) -> object:
        me = greenlet.getcurrent()
        idle = self._idle
        loop = self._loop
        go_home = functools.partial(greenlet.greenlet.switch, self._home)  # gevent's hub has a switch without values
        while True:
            if loop is not None:
                set_running_loop(None)
            killed = False
            for job in rest:
                me.gr_context = None
                self._job = job
                try:
                    job.run()
                except greenlet.GreenletExit:
                    killed = True
                    break
                except BaseException:  # noqa: BLE001 - it must not reach the parent, which is the loop
                    _log.exception("a greenlet failed")
                del job  # otherwise it and its context would live until the next job
            self._job = me.gr_context = None
            if loop is not None and loop.is_running():  # not if it is discarded after the loop's end
                set_running_loop(loop)
            if killed:  # a holder of a reference may assume that it has ended; another one runs the rest
                return None
            if len(idle) >= MOST_IDLE:
                return _DONE
            idle.append(me)
            rest = go_home(_DONE)
