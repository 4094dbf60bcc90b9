"""What the requests of each label have cost: the sum over all workers of a service, living and dead.

The first `MOST_LABELS` labels of a service have their own counts, and the others one together. A label never changes
sides, so nothing goes backwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from hybrid.workers.contract.label_counts import MOST_LABELS, OTHER, SHARED, LabelCounts

MOST_OF_A_WORKER: Final = MOST_LABELS + len(SHARED)
"""Labels that are accepted of one worker: none has more, unless the application has forged its messages."""
_NOTHING: Final = LabelCounts()


class LabelBook:
    """The labels of one service. No method blocks."""

    def __init__(self, before: Callable[[], Mapping[str, LabelCounts]] = dict) -> None:
        """`before` returns what the workers of a predecessor have counted: label -> counts."""
        self._named: set[str] = set()  # labels with their own counts
        self._workers: dict[int, dict[str, LabelCounts]] = {}  # place of a living worker -> label -> its counts
        self._past: dict[str, LabelCounts] = {}  # label -> counts of dead workers
        self.before = before

    def hear(self, place: int, counts: Mapping[str, LabelCounts]) -> None:
        """Take the counts of a worker since its start; labels that are not there are as before.

        `place`: that of its record on the scoreboard.
        """
        known = self._workers.setdefault(place, {})
        for label, one in counts.items():
            if label in known or len(known) < MOST_OF_A_WORKER:
                known[label] = one

    def forget(self, place: int) -> None:
        """Keep the counts of a worker that is gone."""
        _add(self._past, self._workers.pop(place, {}), self._name)

    def own(self) -> dict[str, LabelCounts]:
        """Return the counts by label of this supervisor's workers."""
        return self._sum(self._past, *self._workers.values())

    def totals(self) -> dict[str, LabelCounts]:
        """Return the counts by label, with those of a predecessor's workers."""
        return self._sum(self.before(), self._past, *self._workers.values())

    def _sum(self, *several: Mapping[str, LabelCounts]) -> dict[str, LabelCounts]:
        totals: dict[str, LabelCounts] = {}
        for counts in several:
            _add(totals, counts, self._name)
        return totals

    def _name(self, label: str) -> str:
        """Return the label under which one is counted."""
        if label in self._named or label in SHARED:
            return label
        for known in self.before():  # has its name already, and keeps it
            if known not in SHARED and len(self._named) < MOST_LABELS:
                self._named.add(known)
        if label in self._named:
            return label
        if len(self._named) >= MOST_LABELS:
            return OTHER
        self._named.add(label)
        return label


def _add(totals: dict[str, LabelCounts], counts: Mapping[str, LabelCounts], named: Callable[[str], str]) -> None:
    for label, one in counts.items():
        name = named(label)
        totals[name] = totals.get(name, _NOTHING).plus(one)
