"""The scoreboard: the activity of each worker, in memory shared with the supervisor, which outlives the worker.

    cache line 0              a flag: the supervisor watches for stalls
    then 1,280 per place      the record of one process: 19 cache lines written by it, 1 by the supervisor
    then 8 bytes per place    the receivers: their number, and the slot and the place of each

The second half of a record counts the calls that the process has offloaded, for each pool of offload workers.

A process gets a place when it is forked, and the place is freed when it is reaped. No locks: each number has one
writer, and is 8 bytes at an address divisible by 8, which x86-64 and AArch64 read and write whole. But siblings raise
`ACTIVE` (`accepting.passing`), and its owner corrects it. Different numbers of a record may be of different moments.

Times are seconds of CLOCK_MONOTONIC, the same in all processes of a machine (clock_gettime(2)).
"""

from __future__ import annotations

import enum
import mmap
import operator
import struct
from typing import Any, Final

from hybrid.workers.contract.records import record

CACHE_LINE = 64
RECORD = 1280
"""Bytes."""

# indices of 8 bytes within a record, for `Record.numbers` and `Record.times`
STATE, GENERATION, PID, PULSE, BUSY_SINCE, ACCEPTED, ACTIVE, REQUESTS = range(8)
TURNS, LAG_MAX, ANSWERED, MEMORY, IN_FLIGHT, WEBSOCKETS, BYTES_IN, BYTES_OUT = range(8, 16)
LAGS = 16
"""The first of the counts of turns longer than each of `LAG_BOUNDS`, and not longer than the next bound."""
LAG_BOUNDS = (0.001, 0.005, 0.010, 0.025, 0.050, 0.100, 1.0, 10.0)
"""Seconds."""
RESPONSES = 24
"""The first of the counts of responses by class: 1xx to 5xx."""
CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
REFUSED, BUSY, DURATION_SUM = range(29, 32)
ASKED = 32
"""The cache line that the supervisor writes."""
DURATIONS = 40
"""The first of the counts of requests that took at most each of `DURATION_BOUNDS`, and longer than the bound before.

The last count, behind those of the bounds, is of the longer ones.
"""
CPU = 56
"""Seconds of processor time of the process, at the last ping."""
CALL = 64
"""In an offload worker: the key of the call that it runs; 0: it waits for one."""
ADOPTED = 57
"""Connections accepted from queues of other slots; those of `ACCEPTED` are of its own and of shared sockets."""
LOG_DROPPED = 58
"""Lines of the log and of the access log that the process could not write, at the last ping."""
DURATION_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds."""

POOLS = 80
"""The first number about the calls that the process has offloaded: `POOL_SIZE` numbers for each pool."""
POOL_SIZE = 10
MOST_POOLS = 8
"""The maximum of pools of offload workers in one service."""

# indices of 8 bytes within the numbers of a pool, for `CallRecord`
OUTCOMES = 0
"""The first of the counts of offloaded calls by outcome, as `OFFLOAD_OUTCOMES`."""
OFFLOAD_OUTCOMES = ("done", "raised", "died", "timed_out", "cancelled", "failed")
UNDERWAY = 6
"""Offloaded calls that wait or run."""
CALL_SECONDS = 7
"""Seconds that the calls in `OUTCOMES` took together, waiting included."""
CALL_RAN = 8
"""Seconds that those of them ran that have been answered."""

_SECONDS: Final = frozenset((BUSY_SINCE, LAG_MAX, ANSWERED, BUSY, DURATION_SUM, ASKED, CPU))
# half a record in one call, which takes a tenth of the time of 40 reads of a memoryview; native: 8 bytes at a time
_LAYOUT: Final = struct.Struct("@" + "".join("d" if index in _SECONDS else "Q" for index in range(POOLS)))


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
class Totals:
    """Counts that only grow, of one process or of several: a slot's go on over the processes in it."""

    accepted: int = 0
    """Connections accepted."""
    requests: int = 0
    """Requests begun; datagrams and connections for handlers without requests."""
    responses: tuple[int, ...] = (0,) * len(CLASSES)
    """Responses by class."""
    bytes_in: int = 0
    """Bytes received by web applications and datagram handlers, without the overhead of TLS, TCP and below."""
    bytes_out: int = 0
    """Bytes sent, likewise."""
    busy: float = 0.0
    """Seconds of the loop's turns that have ended; if turns cannot be observed, CPU seconds of the loop's thread."""
    durations: tuple[int, ...] = (0,) * (len(DURATION_BOUNDS) + 1)
    """Requests that took at most each of `DURATION_BOUNDS`, and longer than the bound before; then all longer ones."""
    duration_sum: float = 0.0
    """Seconds that the requests in `durations` took together."""
    cpu: float = 0.0
    """Seconds of processor time."""
    adopted: int = 0
    """The connections of `accepted` that were queued at other slots."""
    log_dropped: int = 0
    """Lines of the log and of the access log that were lost. The last field: a ledger knows fields by place."""

    def plus(self, other: Totals) -> Totals:
        """Return the sum of two."""
        return Totals(
            accepted=self.accepted + other.accepted,
            requests=self.requests + other.requests,
            responses=tuple(map(operator.add, self.responses, other.responses)),
            bytes_in=self.bytes_in + other.bytes_in,
            bytes_out=self.bytes_out + other.bytes_out,
            busy=self.busy + other.busy,
            durations=tuple(map(operator.add, self.durations, other.durations)),
            duration_sum=self.duration_sum + other.duration_sum,
            cpu=self.cpu + other.cpu,
            adopted=self.adopted + other.adopted,
            log_dropped=self.log_dropped + other.log_dropped,
        )


@record(frozen=True, slots=True)
class CallCounts:
    """The calls that were offloaded to one pool, and have ended; of one process or of several."""

    outcomes: tuple[int, ...] = (0,) * len(OFFLOAD_OUTCOMES)
    """Calls by outcome."""
    seconds: float = 0.0
    """Seconds that these took together, waiting included."""
    ran: float = 0.0
    """Seconds that those of them ran that have been answered."""

    def plus(self, other: CallCounts) -> CallCounts:
        """Return the sum of two."""
        outcomes = tuple(map(operator.add, self.outcomes, other.outcomes))
        return CallCounts(outcomes, self.seconds + other.seconds, self.ran + other.ran)


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
    in_flight: int
    """Requests in progress, without WebSockets; connections or datagrams for handlers without requests."""
    websockets: int
    """Open WebSockets."""
    call: int
    """The key of the offloaded call that it runs; 0: none."""
    totals: Totals
    """The counts that only grow."""


def at(place: int, index: int) -> int:
    """Return where a number of the record at `place` is in `Scoreboard.numbers`."""
    return (CACHE_LINE + place * RECORD) // 8 + index


WATCHED = 0  # place of the byte in the memory of a board that is 1 while the supervisor watches for stalls


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
        values = _LAYOUT.unpack_from(self.numbers)
        totals = _totals_in(values)
        return Snapshot(
            busy_since=values[BUSY_SINCE],
            accepted=totals.accepted,
            active=values[ACTIVE],
            requests=totals.requests,
            turns=values[TURNS],
            lag_max=values[LAG_MAX],
            lags=values[LAGS : LAGS + len(LAG_BOUNDS)],
            memory=values[MEMORY],
            in_flight=values[IN_FLIGHT],
            websockets=values[WEBSOCKETS],
            call=values[CALL],
            totals=totals,
        )

    @property
    def requests(self) -> int:
        """The requests begun, as `totals` counts them."""
        numbers = self.numbers
        return max(numbers[REQUESTS], sum(numbers[RESPONSES : RESPONSES + len(CLASSES)]) - numbers[REFUSED])

    def totals(self) -> Totals:
        """Return the counts that only grow."""
        return _totals_in(_LAYOUT.unpack_from(self.numbers))

    def calls_to(self, pool: int) -> CallRecord:
        """Return the part about the calls that the process has offloaded to a pool, 0 to `MOST_POOLS` - 1."""
        begin = POOLS + pool * POOL_SIZE
        end = begin + POOL_SIZE
        return CallRecord(self.numbers[begin:end], self.times[begin:end])


def _totals_in(values: tuple[Any, ...]) -> Totals:
    """Return the counts that only grow among the values of a record."""
    responses = values[RESPONSES : RESPONSES + len(CLASSES)]
    return Totals(
        accepted=values[ACCEPTED] + values[ADOPTED],
        # the count of a web application is as of the last ping, that of its responses as of the last turn
        requests=max(values[REQUESTS], sum(responses) - values[REFUSED]),
        responses=responses,
        bytes_in=values[BYTES_IN],
        bytes_out=values[BYTES_OUT],
        busy=values[BUSY],
        durations=values[DURATIONS : DURATIONS + len(DURATION_BOUNDS) + 1],
        duration_sum=values[DURATION_SUM],
        cpu=values[CPU],
        adopted=values[ADOPTED],
        log_dropped=values[LOG_DROPPED],
    )


class CallRecord:
    """The part of a record about the calls to one pool. Reading and writing never blocks."""

    __slots__ = ("numbers", "times")

    def __init__(self, numbers: memoryview[int], times: memoryview[float]) -> None:
        self.numbers = numbers
        """It as counts."""
        self.times = times
        """The same memory as seconds."""

    @property
    def underway(self) -> int:
        """Calls that wait or run."""
        return self.numbers[UNDERWAY]

    def counts(self) -> CallCounts:
        """Return the counts of the calls that have ended."""
        outcomes = tuple(self.numbers[OUTCOMES : OUTCOMES + len(OFFLOAD_OUTCOMES)])
        return CallCounts(outcomes, self.times[CALL_SECONDS], self.times[CALL_RAN])


class Scoreboard:
    """The shared memory, created by the supervisor before its first fork. Unused pages take no memory."""

    def __init__(self, places: int) -> None:
        """Raises `OSError` (ENOMEM)."""
        self.places = places
        self._receivers = (CACHE_LINE + places * RECORD) // 8  # index of their number
        size = 8 * (self._receivers + 1 + places)
        self.memory = mmap.mmap(-1, size, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
        self.numbers = memoryview(self.memory).cast("Q")
        """The whole memory as counts; number `index` of the record at `place` is at `at(place, index)`."""

    @property
    def watched(self) -> bool:
        """See `Record.watched`."""
        return self.memory[WATCHED] != 0

    @watched.setter
    def watched(self, value: bool) -> None:
        self.memory[WATCHED] = 1 if value else 0

    @property
    def receivers(self) -> list[int]:
        """The workers that should get new connections: the slot of each times 2**32, plus its place.

        For a moment after a change it may hold some of the receivers before.
        """
        begin = self._receivers + 1
        return self.numbers[begin : begin + self.numbers[begin - 1]].tolist()

    @receivers.setter
    def receivers(self, value: list[int]) -> None:
        begin = self._receivers + 1
        self.numbers[begin - 1] = 0  # a reader finds none meanwhile
        for index, entry in enumerate(value, begin):
            self.numbers[index] = entry
        self.numbers[begin - 1] = len(value)

    def record(self, place: int) -> Record:
        """Return the record at `place`, 0 to `places` - 1."""
        if not 0 <= place < self.places:
            raise IndexError(f"place {place} of {self.places}")
        return Record(self, place)
