"""The scoreboard: the activity of each worker, in memory shared with the supervisor, which outlives the worker.

    cache line 0              a flag: the supervisor watches for stalls
    then 512 bytes per place  the record of one process: 4 cache lines written by it alone, 1 by the supervisor

A process gets a place when it is forked, and the place is freed when it is reaped. No locks: each number has one
writer, and is 8 bytes at an address divisible by 8, which x86-64 and AArch64 read and write whole. Different numbers of
a record may be of different moments.

Times are seconds of CLOCK_MONOTONIC, the same in all processes of a machine (clock_gettime(2)).
"""

from __future__ import annotations

import enum
import mmap

from hybrid.workers.contract.records import record

CACHE_LINE = 64
RECORD = 512
"""Bytes."""

# indices of 8 bytes within a record, for `Record.numbers` and `Record.times`
STATE, GENERATION, PID, PULSE, BUSY_SINCE, ACCEPTED, ACTIVE, REQUESTS = range(8)
TURNS, LAG_MAX, ANSWERED, MEMORY = range(8, 12)
LAGS = 16
"""The first of the counts of turns longer than each of `LAG_BOUNDS`, and not longer than the next bound."""
LAG_BOUNDS = (0.001, 0.005, 0.010, 0.025, 0.050, 0.100, 1.0, 10.0)
"""Seconds."""
ASKED = 32
"""The cache line that the supervisor writes."""


class Activity(enum.IntEnum):
    """The phase of a process's life, by its own report (`STATE`)."""

    NOTHING = 0
    BOOTING = 1
    READY = 2
    DRAINING = 3


class Pulse(enum.IntEnum):
    """How a loop shows that it turns (`PULSE`)."""

    TURNS = 0
    """`BUSY_SINCE` is set when the loop wakes and 0 while it waits."""
    PINGS = 1
    """The loop cannot be observed: only unanswered `Ping`s show a stall."""


@record(frozen=True, slots=True)
class Snapshot:
    """A record at one moment."""

    busy_since: float
    """When the current turn of the loop began; 0: the loop waits for events."""
    accepted: int
    """Connections accepted in total."""
    active: int
    """Open connections."""
    requests: int
    """Requests begun in total; datagrams and connections for handlers without requests."""
    turns: int
    """Turns of the loop in total; 0 if they cannot be observed."""
    lag_max: float
    """The longest turn, seconds."""
    lags: tuple[int, ...]
    """Turns longer than each of `LAG_BOUNDS`, and not longer than the next bound."""
    memory: int
    """Resident bytes, at the last measurement."""


class Record:
    """The record of one process. Reading and writing never blocks."""

    __slots__ = ("board", "numbers", "place", "times")

    def __init__(self, board: Scoreboard, place: int) -> None:
        begin = CACHE_LINE + place * RECORD
        view = memoryview(board.memory)[begin : begin + RECORD]
        self.board = board
        self.place = place
        self.numbers = view.cast("Q")
        """The record as counts."""
        self.times = view.cast("d")
        """The same memory as seconds."""

    @property
    def watched(self) -> bool:
        """True if the supervisor watches for stalls, or a worker has asked it to."""
        return self.board.watched

    @watched.setter
    def watched(self, value: bool) -> None:
        self.board.watched = value

    def clear(self) -> None:
        """Clear the record for the next process."""
        for index in range(RECORD // 8):
            self.numbers[index] = 0

    def snapshot(self) -> Snapshot:
        """Return the current numbers."""
        numbers, times = self.numbers, self.times
        return Snapshot(
            busy_since=times[BUSY_SINCE],
            accepted=numbers[ACCEPTED],
            active=numbers[ACTIVE],
            requests=numbers[REQUESTS],
            turns=numbers[TURNS],
            lag_max=times[LAG_MAX],
            lags=tuple(numbers[LAGS : LAGS + len(LAG_BOUNDS)]),
            memory=numbers[MEMORY],
        )


class Scoreboard:
    """The shared memory, created by the supervisor before its first fork. Unused pages take no memory."""

    def __init__(self, places: int) -> None:
        """Raises `OSError` (ENOMEM)."""
        self.places = places
        self.memory = mmap.mmap(-1, CACHE_LINE + places * RECORD, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)

    @property
    def watched(self) -> bool:
        """See `Record.watched`."""
        return self.memory[0] != 0

    @watched.setter
    def watched(self, value: bool) -> None:
        self.memory[0] = 1 if value else 0

    def record(self, place: int) -> Record:
        """Return the record at `place`, 0 to `places` - 1."""
        if not 0 <= place < self.places:
            raise IndexError(f"place {place} of {self.places}")
        return Record(self, place)
