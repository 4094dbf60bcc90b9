"""Fairness within a worker: a task or greenlet that never has to wait still yields to the others.

A socket whose peer reads fast always has room, so a handler that sends in a loop would block the event loop forever.
Every operation that does not wait counts itself with `is_due`, and one in `LOOK` of them checks the clock. Once the
turn of the loop has lasted for `LONGEST`, that operation lets the loop continue before it returns.
"""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections.abc import Callable
from time import monotonic

LONGEST = 0.005  # seconds
LOOK = 16  # operations of all connections of a loop; a check costs 0.1 us


class Turn:
    """The current turn of a loop. One per loop; belongs to its thread."""

    __slots__ = ("__weakref__", "_began", "_is_watched", "_soon", "is_due")

    def __init__(self, soon: Callable[[Callable[[], None]], object]) -> None:
        """`soon(function)` calls a function in the next turn of the loop, as `call_soon` does."""
        self._soon = soon
        self._began = 0.0  # when the last watched turn was first checked
        self._is_watched = False  # that turn is not over
        self.is_due: Callable[[], bool] = itertools.cycle((False,) * (LOOK - 1) + (True,)).__next__
        """Count an operation; return True if this one must call `is_long`. 30 ns (measured)."""

    def is_long(self) -> bool:
        """Return True if the turn has lasted long enough: the caller then lets the loop continue. Does not block.

        One turn in `LONGEST` is watched, by a callback in the next turn. Watching every turn would keep the loop from
        waiting and cost an echo server on uvloop 5 %. So under load a turn lasts at most twice as long.
        """
        now = monotonic()
        if now - self._began <= LONGEST:
            return False
        if self._is_watched:
            return True
        self._began = now
        self._is_watched = True
        self._soon(self._is_over)
        return False

    def _is_over(self) -> None:
        self._is_watched = False


_turns: weakref.WeakValueDictionary[int, Turn] = weakref.WeakValueDictionary()  # id of a loop -> its turn


def turn_of(loop: asyncio.AbstractEventLoop) -> Turn:
    """Return the turn of `loop`; the caller must keep a reference."""
    found = _turns.get(id(loop))
    if found is None:
        found = _turns[id(loop)] = Turn(loop.call_soon)
    return found


async def give_way(turn: Turn) -> None:
    """Let the loop continue if its turn has lasted long enough; for coroutines, when an operation is due."""
    if turn.is_long():
        await asyncio.sleep(0)
