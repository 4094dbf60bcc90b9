"""How offloaded calls have ended, for each pool of a service: the sum over all its children, living and dead.

Pools are known by their names: the number of a pool in a record may change with the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from hybrid.workers.contract.scoreboard import CallCounts

_NOTHING = CallCounts()
Calls = Mapping[str, CallCounts]
"""Pool -> how its calls have ended."""


class CallBook:
    """The pools of one service. No method blocks."""

    def __init__(self, before: Callable[[], Calls] = dict) -> None:
        """`before` returns what the children of a predecessor have counted."""
        self._past: dict[str, CallCounts] = {}  # pool -> counts of dead children
        self.before = before

    def keep(self, calls: Calls) -> None:
        """Add the counts of a child that is gone."""
        self._past = summed((self._past, calls))

    def own(self, living: Iterable[Calls]) -> dict[str, CallCounts]:
        """Return the counts of this supervisor's children: the dead ones, and the `living` as given."""
        return summed((self._past, *living))


def summed(several: Iterable[Calls]) -> dict[str, CallCounts]:
    """Return the sums for each pool."""
    total: dict[str, CallCounts] = {}
    for calls in several:
        for pool, counts in calls.items():
            total[pool] = total.get(pool, _NOTHING).plus(counts)
    return total
