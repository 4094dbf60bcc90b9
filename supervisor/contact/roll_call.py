"""The roll call: before a status is read, every serving worker brings its record up to date.

A worker writes some numbers of its record when it answers a `Ping`, normally three times a second. A worker whose loop
stalls answers late; then its record is used as it is.
"""

from __future__ import annotations

from collections.abc import Iterable

from hybrid.supervisor.children.handles import Children
from hybrid.workers.contract.scoreboard import ANSWERED, ASKED

PATIENCE = 0.1  # seconds a roll call may take
_LOOK = 0.005  # seconds between looks for the answers


class RollCall:
    """One roll call at a time. No method blocks; times are monotonic seconds."""

    def __init__(self, patience: float = PATIENCE) -> None:
        """`patience`: seconds that it may take."""
        self._patience = patience
        self._asked: dict[int, tuple[Children, float]] = {}  # pid of a worker that has not answered -> when pinged
        self._ends = 0.0

    def begin(self, workers: Iterable[tuple[Children, int]], now: float) -> None:
        """Ping these workers (each with the children of its service), except those with an unanswered ping."""
        self._ends = now + self._patience
        for children, pid in workers:
            if pid not in children:
                continue
            times = children[pid].record.times
            if times[ASKED] <= times[ANSWERED]:
                times[ASKED] = now
                children.ping(pid)
            self._asked[pid] = children, times[ASKED]

    def is_over(self, now: float) -> bool:
        """Return True if all have answered or time is up."""
        for pid, (children, asked) in list(self._asked.items()):
            if pid not in children or children[pid].record.times[ANSWERED] >= asked:
                del self._asked[pid]
        if now >= self._ends:
            self._asked.clear()
        return not self._asked

    def due(self, now: float) -> float:
        """Return when to look again."""
        return min(now + _LOOK, self._ends)
