"""Greenlets that are used again: starting a new one for every request costs ten times as much as the switch.

(A new greenlet takes memory for its Python frames from the system and gives it back at its end: 8 us, measured, against
0.6 us for a switch to a parked one and back.) Every function begins with an empty context (PEP 567), as in a new one.

The loop's greenlet and these share a thread, and asyncio keeps the running loop per thread. Here it is hidden: to the
code of a request there is none, else asgiref's `async_to_sync`, `asyncio.run` and Django's models would refuse to work
"in an async context". Whatever goes home from here shows it again: `_work`, `Parking.wait`, `HubRuntime.go_home`.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import _set_running_loop
from collections.abc import Callable

import greenlet

MOST_IDLE = 64  # parked greenlets that are kept for later
_log = logging.getLogger("hybrid")


class Pool:
    """The greenlets of one loop. `start` belongs to the greenlet that runs the loop, `home`."""

    def __init__(self, home: greenlet.greenlet, loop: asyncio.AbstractEventLoop | None) -> None:
        self._home = home
        self._loop = loop  # what `home` runs; None where others see to it that it is hidden
        self._idle: list[greenlet.greenlet] = []

    def start(self, function: Callable[[], object]) -> greenlet.greenlet:
        """Call `function` in a greenlet, now, until it first parks; return the greenlet. What it raises is logged."""
        idle = self._idle
        if idle:
            found = idle.pop()
            found.gr_context = None
            found.switch(function)
        else:
            found = greenlet.greenlet(self._work, self._home)
            found.switch(function)
        return found

    def _work(self, function: Callable[[], object] | None) -> None:
        me = greenlet.getcurrent()
        idle = self._idle
        loop = self._loop
        go_home = self._home.switch
        while function is not None:
            if loop is not None:
                _set_running_loop(None)
            killed = False
            try:
                function()
            except greenlet.GreenletExit:
                killed = True
            except BaseException:  # noqa: BLE001 - it must not reach the parent, which is the loop
                _log.exception("a greenlet failed")
            if loop is not None and loop.is_running():  # not when a parked greenlet is thrown away after the loop's end
                _set_running_loop(loop)
            if killed:
                return  # whoever holds a reference may believe that it has ended
            function = None
            if len(idle) >= MOST_IDLE:
                return
            idle.append(me)
            function = go_home()
