"""`Drained`: returned by `writer.drain()` when there is nothing to wait for.

Awaiting it costs half as much as awaiting an empty coroutine. One instance serves all connections of a loop.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

from hybrid.workers.common.fairness import Turn, turn_of


class Drained(asyncio.Future[None]):
    """A done future that is also a coroutine, so that `asyncio.create_task(writer.drain())` works too."""

    turn: Turn
    """The turn of the loop, for operations that do not wait."""

    def send(self, value: object) -> None:
        """Return, as the coroutine of a task; raise the exception of the future, if it has one."""
        try:
            self.result()
        finally:
            del self  # it may hold an error, and the traceback holds this frame
        raise StopIteration

    def throw(self, *error: Any) -> None:
        """Raise the error, as a coroutine without a handler for it."""
        try:
            raise error[0]
        finally:
            del error  # its traceback holds this frame

    def close(self) -> None:
        """Do nothing."""


# id of a loop -> its `Drained`, while a connection holds it. It holds the loop, so the id is not reused meanwhile
_drained: weakref.WeakValueDictionary[int, Drained] = weakref.WeakValueDictionary()


def drained(loop: asyncio.AbstractEventLoop) -> Drained:
    """Return the done future of `loop`."""
    found = _drained.get(id(loop))
    if found is None:
        found = _drained[id(loop)] = Drained(loop=loop)
        found.turn = turn_of(loop)
        found.set_result(None)
    return found


def failing(loop: asyncio.AbstractEventLoop, error: BaseException) -> Drained:
    """Return a future of `loop` that raises `error` whenever it is awaited."""
    found = Drained(loop=loop)
    found.turn = turn_of(loop)
    found.set_exception(error)
    found.exception()  # mark it as retrieved: not reported if it is never awaited
    return found
