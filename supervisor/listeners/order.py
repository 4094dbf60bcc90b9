"""The index of each slot's member in its SO_REUSEPORT group.

When a member leaves the group, by shutdown(2) in some process, the last one takes its index. A member that listens
again comes last (`__reuseport_detach_sock`, `reuseport_add_sock`, net/core/sock_reuseport.c). If several members have
left since the last check, their order is unknown, and so are the indexes, unless all members have left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_UNKNOWN = (-1,)


class Order:
    """The order of a group's members, initially by slot."""

    def __init__(self, told: Sequence[int] = ()) -> None:
        """`told`: the attribute `told` of a predecessor's order."""
        # slots by kernel index, without new members; None: unknown
        self._slots: list[int] | None = None if tuple(told) == _UNKNOWN else list(told)

    @property
    def told(self) -> tuple[int, ...]:
        """The order, for a successor: slots by index; empty for the order of slots."""
        if self._slots is None:
            return _UNKNOWN
        return () if self._slots == list(range(len(self._slots))) else tuple(self._slots)

    def of(self, count: int) -> Mapping[int, int] | None:
        """Return slot -> index of `count` members; None if unknown."""
        if self._slots is None:
            return None
        self._slots += range(len(self._slots), count)
        return {slot: index for index, slot in enumerate(self._slots)}

    def lose(self, slots: Sequence[int], count: int, *, is_known: bool = True) -> None:
        """Note that these of `count` members left, and rejoined in this order.

        `is_known`: True if the order of leaving is known.
        """
        if len(slots) == count and is_known:
            self._slots = list(slots)
        elif len(slots) > 1 or not is_known or self._slots is None:
            self._slots = None
        else:
            self.of(count)
            (slot,) = slots
            index, last = self._slots.index(slot), self._slots.pop()
            if last != slot:
                self._slots[index] = last
            self._slots.append(slot)
