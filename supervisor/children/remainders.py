"""What the dead workers of each slot had counted: the counts of a slot go on when its worker is replaced or dies."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hybrid.workers.contract.scoreboard import Totals

NOTHING = Totals()


class Remainders:
    """The remainders of a service's slots, until the service ends."""

    def __init__(self, before: Callable[[], Mapping[int, Totals]] = dict) -> None:
        """`before` returns what the workers of a predecessor have counted: slot -> counts."""
        self._slots: dict[int, Totals] = {}  # slot -> counts of its dead workers
        self.before = before

    def __getitem__(self, slot: int) -> Totals:
        return self._slots.get(slot, NOTHING).plus(self.before().get(slot, NOTHING))

    def keep(self, slot: int, totals: Totals) -> None:
        """Add the counts of a worker that is gone."""
        self._slots[slot] = self._slots.get(slot, NOTHING).plus(totals)

    @property
    def own(self) -> Mapping[int, Totals]:
        """Those of this supervisor's workers only."""
        return self._slots

    @property
    def slots(self) -> tuple[int, ...]:
        """The slots that have one."""
        return tuple({**self._slots, **self.before()})
