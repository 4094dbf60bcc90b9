"""Decides how many clients a worker sends away, because it has far more connections than its siblings.

New connections go to the worker with the fewest (`workers.accepting.passing`), but kept-alive ones stay where they are:
after a reload, or when workers were added, new workers would stay idle. So a worker that has had far
more than the mean for a while ends some with their next response, and their clients connect again.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

from hybrid.workers.accepting.passing import PATIENCE, busy_seconds
from hybrid.workers.contract.scoreboard import ACTIVE, STATE, Activity, Record, at

_FAR: Final = 1.25  # times the mean,
_MORE: Final = 2.0  # and so many connections more: then it begins. It ends at one more than the mean
_PATIENCE: Final = 1.0  # seconds for which it must last: a worker that has just started gets new clients anyway
_PAUSE: Final = 1.0  # seconds between two choices of clients: each looks at all of them,
_LONGEST_PAUSE: Final = 30.0  # and between two in which no client could leave
_FEWEST: Final = 2.0  # connections per second at least,
_PART: Final = 1 / 8  # or this part of the worker's, if that is more: all have moved after 10 to 20 s
_PLACE: Final = 2**32 - 1


class Rebalancing:
    """The decision of one worker. Belongs to the loop's thread; no method blocks."""

    def __init__(self, record: Record, clock: Callable[[], float] = monotonic) -> None:
        self._board = record.board
        self._place = record.place
        self._clock = clock
        self._since: float | None = None  # when it was first found to have far more; None: it has not
        self._looked_at = 0.0
        self._budget = 0.0
        self._pause = _PAUSE

    def look(self) -> float:
        """Return by how many connections this worker is above the mean, if it must lose some now; else 0."""
        now = self._clock()
        numbers = self._board.numbers
        places = [entry & _PLACE for entry in self._board.receivers]
        counts = [numbers[at(place, ACTIVE)] for place in places if place == self._place or self._takes(place, now)]
        mine = numbers[at(self._place, ACTIVE)]
        mean = sum(counts) / len(counts) if counts else 0.0
        is_far = self._place in places and mine > (mean * _FAR + _MORE if self._since is None else mean + 1)
        if not is_far:
            self._since = None
            return 0.0
        if self._since is None:
            self._since = self._looked_at = now
            self._budget = 0.0
            self._pause = _PAUSE
        if now - self._since < _PATIENCE or now - self._looked_at < self._pause:
            return 0.0
        rate = max(_FEWEST, mine * _PART)
        self._budget = min(rate, self._budget + (now - self._looked_at) * rate)
        self._looked_at = now
        return mine - mean

    def _takes(self, place: int, now: float) -> bool:
        """Return True if a sibling gets connections. Clients would come back forever from one that stands still."""
        record = self._board.record(place)
        return record.numbers[STATE] == Activity.READY and busy_seconds(record, now) < PATIENCE

    def allowed(self, excess: float, leaving: int) -> int:
        """Return how many more connections to end, of which so many are about to end."""
        return max(0, int(min(self._budget, excess - leaving)))

    def have_left(self, number: int) -> None:
        """Charge connections that leave to the budget. Where none may leave, look again later and later."""
        self._budget -= number
        self._pause = _PAUSE if number else min(2 * self._pause, _LONGEST_PAUSE)
