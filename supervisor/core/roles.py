"""The roles of slots: workers, companions, zygotes; and how slots are numbered. No other module knows the numbers.

    -1              the zygotes
    0 to 1023       the workers
    from 1024 on    the companions: a block of `MOST_COMPANIONS` numbers for each name

A companion runs a function of the application beside the workers, or the calls that these offload to a pool. Outside of
the supervisor nobody sees its number: it is `web.mailer/0`, the first companion of the name `mailer` of the service
`web`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final

from hybrid.workers.contract.records import record

MAX_WORKERS: Final = 1024
"""A steering program has two instructions per slot, and 4096 are allowed (linux/bpf_common.h)."""
ZYGOTE: Final = -1
"""The slot of zygotes."""
MOST_COMPANIONS: Final = 64
"""The maximum of companions of one name."""
GATEWAY: Final = "dask"
"""The name of the companion that passes offloaded calls on to a Dask cluster."""


class Role(enum.Enum):
    """What a child is for; the values are the words of the log."""

    WORKER = "worker"
    """It serves connections."""
    COMPANION = "companion"
    """It runs a function of the application, and has no listening socket."""
    ZYGOTE = "zygote"
    """It has imported the application, and forks the others."""


class Duty(enum.Enum):
    """What a companion does."""

    FUNCTION = "function"
    """It runs a function of the application."""
    CALLS = "calls"
    """It runs offloaded calls, one at a time."""
    GATEWAY = "gateway"
    """It passes offloaded calls on to a cluster."""


@record(frozen=True, slots=True)
class _Block:
    """The companions of one name."""

    name: str
    duty: Duty = Duty.FUNCTION
    pool: str = ""
    """The pool whose calls they run or pass on; empty: none."""


def role_of(slot: int) -> Role:
    """Return the role of the children in a slot."""
    if slot >= MAX_WORKERS:
        return Role.COMPANION
    return Role.ZYGOTE if slot == ZYGOTE else Role.WORKER


def companion_slot(number: int) -> int:
    """Return the slot of the companion with this number, counted from 0 over all names."""
    return MAX_WORKERS + number


class Roster:
    """The names of the companions of one service. Pure; a name keeps its slots, also while it is not configured.

    A name that becomes that of a pool, in a file that was read again, gets other slots: those of the older generations
    still run a function.
    """

    def __init__(self) -> None:
        self._blocks: list[_Block] = []  # in the order of their slots
        self._newest: dict[str, int] = {}  # name -> the number of the block that was asked for last

    def slots_of(self, companions: Iterable[tuple[str, int]]) -> tuple[int, ...]:
        """Return the slots of companions that run functions, given as names with numbers of processes."""
        return tuple(slot for name, processes in companions for slot in self._slots(_Block(name), processes))

    def slots_of_pool(self, pool: str, processes: int) -> tuple[int, ...]:
        """Return the slots of the offload workers of a pool; they have its name."""
        return self._slots(_Block(pool, Duty.CALLS, pool), processes)

    def slots_of_gateway(self, pool: str) -> tuple[int, ...]:
        """Return the slot of the companion that passes the calls of a pool on to a cluster."""
        return self._slots(_Block(GATEWAY, Duty.GATEWAY, pool), 1)

    def slot(self, name: str, number: int) -> int | None:
        """Return the slot of a companion; None if there was never one of this name, or no such number."""
        if name not in self._newest or not 0 <= number < MOST_COMPANIONS:
            return None
        return _slot(self._newest[name], number)

    def companion(self, slot: int) -> tuple[str, int]:
        """Return the name of the companion in a slot, and its number among those; an empty name for other slots."""
        block, number = self._at(slot)
        return block.name, number

    def is_offload(self, slot: int) -> bool:
        """Return True if the child of a slot runs offloaded calls."""
        return self._at(slot)[0].duty is Duty.CALLS

    def is_gateway(self, slot: int) -> bool:
        """Return True if the child of a slot passes offloaded calls on to a cluster."""
        return self._at(slot)[0].duty is Duty.GATEWAY

    def pool_of(self, slot: int) -> str:
        """Return the pool whose calls the child of a slot runs or passes on; empty: it does neither."""
        return self._at(slot)[0].pool

    def spoken(self, slot: int) -> str:
        """Return a worker or a companion as a word of a sentence about its service: `slot 0`, `mailer/0`."""
        name, number = self.companion(slot)
        return f"{name}/{number}" if name else f"slot {slot}"

    def place(self, service: str, slot: int) -> tuple[str, int | str]:
        """Return what people read in place of a slot: `web` and 0, `web.mailer` and 0, or `web` and `zygote`.

        All messages, rows and log lines name a child by these two parts.
        """
        name, number = self.companion(slot)
        if name:
            return f"{service}.{name}", number
        return service, Role.ZYGOTE.value if slot == ZYGOTE else slot

    def _slots(self, block: _Block, processes: int) -> tuple[int, ...]:
        if block not in self._blocks:
            self._blocks.append(block)
        self._newest[block.name] = place = self._blocks.index(block)
        return tuple(_slot(place, number) for number in range(min(processes, MOST_COMPANIONS)))

    def _at(self, slot: int) -> tuple[_Block, int]:
        """Return the block of a slot, and the number of the slot in it; one without a name for other slots."""
        if role_of(slot) is not Role.COMPANION:
            return _NO_BLOCK, 0
        place, number = divmod(slot - MAX_WORKERS, MOST_COMPANIONS)
        return self._blocks[place], number


_NO_BLOCK: Final = _Block("")


def _slot(block: int, number: int) -> int:
    return companion_slot(block * MOST_COMPANIONS + number)
