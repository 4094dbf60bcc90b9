"""Fairness within a worker: a task or greenlet that never has to wait gives the others their turn all the same.

A socket whose peer reads fast always has room, so a handler that sends in a loop would keep the loop forever. Every
operation that need not wait counts itself with `is_due`, and one in `LOOK` of them looks at the clock. Once the loop
has not been let go on for `LONGEST`, that operation lets it go on before it returns.
"""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections.abc import Callable
from time import monotonic

LONGEST = 0.005  # seconds
LOOK = 16  # operations of all connections of a loop; a look costs 0.1 us


class Turn:
    """The current turn of a loop. One per loop; belongs to its thread."""

    __slots__ = ("__weakref__", "_began", "_is_long", "_soon", "is_due")

    def __init__(self, soon: Callable[[Callable[[], None]], object]) -> None:
        """`soon(function)` calls a function in the next turn of the loop, as `call_soon` does."""
        self._soon = soon
        self._began = monotonic()  # when the last long turn was over: this one, or one between, began no earlier
        self._is_long = False
        self.is_due: Callable[[], bool] = itertools.cycle((False,) * (LOOK - 1) + (True,)).__next__
        """Count an operation; return True if it is the one that asks `is_long`. 30 ns (measured)."""

    def is_long(self) -> bool:
        """Return True if the turn may have lasted long enough: the caller lets the loop go on. Does not block.

        The loop is not asked when its turns begin: that would cost a callback, and a look at the poller, in each turn
        with an operation that is due (5 % of an echo on uvloop). So the time since the last long turn counts, waiting
        included, and a turn is called long once in `LONGEST` that is not. It costs one turn more.
        """
        if not self._is_long and monotonic() - self._began > LONGEST:
            self._is_long = True
            self._soon(self._is_over)
        return self._is_long

    def _is_over(self) -> None:
        self._is_long = False
        self._began = monotonic()


_turns: weakref.WeakValueDictionary[int, Turn] = weakref.WeakValueDictionary()  # id of a loop, which its turn holds


def turn_of(loop: asyncio.AbstractEventLoop) -> Turn:
    """Return the turn of `loop`, to be kept by the caller."""
    found = _turns.get(id(loop))
    if found is None:
        found = _turns[id(loop)] = Turn(loop.call_soon)
    return found


async def give_way(turn: Turn) -> None:
    """Let the loop go on if its turn has lasted long enough; for coroutines, when an operation is due."""
    if turn.is_long():
        await asyncio.sleep(0)
