"""Greenlets for requests: one runs many of them, one after another, until one of them has to wait.

A new greenlet for each request would cost ten times as much as a switch (8 us, measured, for the memory of its Python
frames), and a switch for each request twice what a small application costs. So one greenlet, the carrier, is given all
requests of a turn. The one that waits takes its carrier with it, and another carrier goes on with the rest. Each
request begins with an empty context (PEP 567), as in a greenlet of its own. Benchmark: `python -m benchmarks wsgi`.

The loop's greenlet and these share a thread, and asyncio keeps the running loop per thread. Here it is hidden: to the
code of a request there is none, else asgiref's `async_to_sync`, `asyncio.run` and Django's models would refuse to work
"in an async context". Whatever goes home from here shows it again: `_work`, `Parking.wait`, `HubRuntime.go_home`.
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

MOST_IDLE = 64  # parked carriers that are kept for later
_DONE = object()  # what a carrier goes home with when nothing is left for it to do
_log = logging.getLogger("hybrid")


class Job(Protocol):
    """What is run."""

    def run(self) -> None:
        """Do the work; what it raises is logged. It may park."""
        ...

    def parked(self, carrier: Any) -> None:
        """It waits for the first time: `carrier` is the greenlet that does, and serves others when `run` has returned.

        Called in the loop, never for work that does not wait.
        """
        ...


class Pool:
    """The carriers of one loop. `carry` belongs to the greenlet that runs the loop, `home`."""

    def __init__(self, home: greenlet.greenlet, loop: asyncio.AbstractEventLoop | None) -> None:
        self._home = home
        self._loop = loop  # what `home` runs; None where others see to it that it is hidden
        self._idle: list[greenlet.greenlet] = []
        self._job: Job | None = None  # the one that is being run
        self._rest: Iterator[Job] = iter(())  # those that `carry` has still to run

    def carry(self, jobs: Iterable[Job]) -> None:
        """Run jobs now, in their order, each until it ends or first parks. Raises nothing."""
        idle = self._idle
        self._rest = rest = iter(jobs)
        while True:
            carrier = idle.pop() if idle else greenlet.greenlet(self._work, self._home)
            if carrier.dead:  # killed while it was idle, by somebody who has kept it
                continue
            if carrier.switch(rest) is _DONE:
                return
            job, self._job = self._job, None
            if job is not None:
                job.parked(carrier)

    def abandon(self) -> None:
        """Begin no further job: this is a process that the job under way has forked, and they are the worker's."""
        collections.deque(self._rest, maxlen=0)

    def close(self) -> None:
        """End the carriers that are idle, once the loop has ended: a greenlet that is parked is never garbage."""
        while self._idle:
            carrier = self._idle.pop()
            if not carrier.dead:
                carrier.parent = greenlet.getcurrent()  # where it goes when it ends; gevent's hub would not come back
                carrier.throw(greenlet.GreenletExit)

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
                del job  # it would live until the next one comes, and so would its context
            self._job = me.gr_context = None
            if loop is not None and loop.is_running():  # not when a parked carrier is thrown away after the loop's end
                set_running_loop(loop)
            if killed:  # whoever holds a reference may believe that it has ended; another one goes on with the rest
                return None
            if len(idle) >= MOST_IDLE:
                return _DONE
            idle.append(me)
            rest = go_home(_DONE)
