"""`Drained`: what `writer.drain()` returns when there is nothing to wait for.

Awaiting it costs half of what an empty coroutine does. One serves all connections of a loop.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

from hybrid.workers.common.fairness import Turn, turn_of


class Drained(asyncio.Future[None]):
    """A future that is done, and passes for a coroutine, so that `asyncio.create_task(writer.drain())` works too.

    Awaiting it costs half of what an empty coroutine does. One serves all connections of a loop.
    """

    turn: Turn
    """The turn of the loop, for those that would be done without ever waiting."""

    def send(self, value: object) -> None:
        """End, as the coroutine of a task; raise the exception that the future was given."""
        try:
            self.result()
        finally:
            del self  # it may keep an error, whose traceback holds this frame
        raise StopIteration

    def throw(self, *error: Any) -> None:
        """Raise what is thrown, as a coroutine that has no handler for it."""
        try:
            raise error[0]
        finally:
            del error  # its traceback holds this frame

    def close(self) -> None:
        """Nothing to end."""


# id of a loop -> its own, as long as a connection holds it: it holds the loop, so no other can have that id meanwhile
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
    """Return a future of `loop` that raises `error` wherever it is awaited."""
    found = Drained(loop=loop)
    found.turn = turn_of(loop)
    found.set_exception(error)
    found.exception()  # mark it as seen, so that it is not reported if nothing awaits it
    return found
