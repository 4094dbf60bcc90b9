"""The worker's side of the scoreboard: the heartbeat, which writes the worker's state into shared memory.

A loop's record holds the time when its current turn began, and 0 while it waits. So a reader of the record sees a turn
that does not end, no matter where the loop is stuck. This needs no message and no answer.
"""

from __future__ import annotations

import itertools
import operator
import os
from collections.abc import Callable
from time import monotonic, process_time, thread_time
from typing import TypeVar

from hybrid.workers.common.counts import Counts
from hybrid.workers.contract import scoreboard
from hybrid.workers.contract.lines import LOSSES
from hybrid.workers.contract.scoreboard import (
    ACCEPTED,
    ACTIVE,
    ADOPTED,
    ANSWERED,
    ASKED,
    BUSY,
    BUSY_SINCE,
    CPU,
    GENERATION,
    LAG_BOUNDS,
    LAG_MAX,
    LAGS,
    LOG_DROPPED,
    MEMORY,
    PID,
    PULSE,
    REQUESTS,
    STATE,
    TURNS,
    WATCHED,
    Activity,
    Pulse,
    Record,
)

T = TypeVar("T")
_NEVER = 2**62  # more requests than a worker ever gets
_LONG = LAG_BOUNDS[0]
_PAGE = os.sysconf("SC_PAGE_SIZE")
_nowhere = scoreboard.Scoreboard(1).record(0)  # a record that is never read


def _nothing() -> None:
    """No-op callback."""


class Heartbeat:
    """The writer of one record. Belongs to the loop's thread; no method blocks.

    Turns, memory, bytes, HTTP requests begun and those in progress are as of the supervisor's last ping. The busy
    seconds are a millisecond behind at most.
    """

    __slots__ = (
        "_accepted",
        "_before",
        "_board",
        "_busy",
        "_clock",
        "_count_turns",
        "_due",
        "_forget",
        "_given",
        "_is_observed",
        "_on_last_request",
        "_record",
        "_since",
        "_turns",
        "counts",
        "gauges",
        "numbers",
        "on_awake",
        "tally",
        "times",
    )

    def __init__(self, record: Record | None = None, clock: Callable[[], float] = monotonic) -> None:
        """Without a record, as outside of a worker, nothing is reported. `clock` is CLOCK_MONOTONIC, in seconds."""
        self._clock = clock
        self.counts = Counts(_nowhere, clock)
        """Counts what becomes of requests, and bytes."""
        self.gauges: Callable[[], tuple[int, int]] = lambda: (self.numbers[ACTIVE], 0)
        """Returns the requests in progress and the open WebSockets; asked at a ping. Web applications replace it."""
        self._keep(_nowhere if record is None else record)
        self._is_observed = False  # the loop's turns are in the record
        self._since = clock()  # when the current turn began
        self._busy = 0.0  # seconds of all turns
        self._due = 0.0  # when a turn may have been long, and the busy seconds are stored: see `_store`
        self._turns = 0
        self._count_turns: Callable[[], int] = lambda: self._turns
        self._forget: Callable[[], object] = _nothing
        self._accepted = 0
        self._before = 0  # requests counted before this tally
        self._given = _NEVER  # requests that this tally can count
        self.tally = itertools.repeat(None, _NEVER)
        """Each `next` counts a request; `StopIteration` marks the last one, see `counts_last_request`.

        This costs a third of a sum, a comparison with a limit and a store into the record (350 and 930 instructions,
        measured).
        """
        self._on_last_request: Callable[[], object] = _nothing
        self.on_awake: Callable[[], object] = _nothing
        """Called when a connection is accepted while the supervisor does not watch."""

    def _keep(self, record: Record) -> None:
        self._record = record
        self._board = record.board.memory
        self.numbers = record.numbers
        """For counts that other modules store. Look it up each time: it is replaced in a forked child."""
        self.times = record.times
        self.counts.writes_to(record)

    def takes_place(self, generation: int) -> None:
        """A worker takes this record, and boots."""
        self.numbers[GENERATION] = generation
        self.numbers[PID] = os.getpid()
        self.numbers[PULSE] = Pulse.PINGS  # until its loop turns out to be observable
        self.numbers[STATE] = Activity.BOOTING
        LOSSES.lines = 0  # of the process that has forked this one

    def tells(self, activity: Activity) -> None:
        """Store the worker's new state."""
        self.numbers[STATE] = activity

    # -- turns of the loop: the hot path; benchmarks: python -m benchmarks wsgi asgi ---------------------------------

    def watching(self, poll: Callable[[float | None], T]) -> Callable[[float | None], T]:
        """Wrap `poll`, in which a loop waits at most `timeout` seconds, to record when its turns begin and end.

        Call it within a turn, which begins now. Each call of the wrapper ends one turn and begins another, even if
        nested or if the poll does not wait.
        """
        self.observes_turns()
        clock, counts, store = self._clock, self.counts, self._store
        times = self.times
        since = self._since
        due = 0.0
        turns = 0
        busy = times[BUSY]

        def observed(timeout: float | None = None) -> T:
            nonlocal busy, due, since, turns
            turns += 1
            busy += (now := clock()) - since
            if now > due:
                due = store(now, now - since, busy)
            if counts.quick:
                counts.fold(now)
            times[BUSY_SINCE] = 0.0
            try:
                return poll(timeout)
            finally:  # also when a signal's handler raises
                times[BUSY_SINCE] = counts.since = since = clock()

        def forget() -> None:
            nonlocal times
            times = self.times

        self._count_turns = lambda: turns
        self._forget = forget
        return observed

    def rests(self) -> None:
        """The loop is about to wait for events."""
        self._turns += 1
        self._busy += (lag := (now := self._clock()) - self._since)
        if now > self._due:
            self._due = self._store(now, lag, self._busy)
        if self.counts.quick:
            self.counts.fold(now)
        self.times[BUSY_SINCE] = 0.0

    def wakes(self) -> None:
        """The loop has waited; a turn begins."""
        self.times[BUSY_SINCE] = self.counts.since = self._since = self._clock()

    # -- less often ----------------------------------------------------------------------------------------------------

    def _store(self, now: float, lag: float, busy: float) -> float:
        """Store the busy seconds at the end of a turn, and count the turn if it was long; return when to do so again.

        That is a millisecond later, the length of the shortest long turn: no long turn is missed, and the record is a
        millisecond of busy time behind at most, even in a stall. A store in each turn took 8 of the 300 instructions of
        Python for an echoed message, counted by `sys.monitoring`.
        """
        self.times[BUSY] = busy
        if lag > _LONG:
            self.numbers[LAGS + sum(bound < lag for bound in LAG_BOUNDS) - 1] += 1
            self.times[LAG_MAX] = max(self.times[LAG_MAX], lag)
        return now + _LONG

    def observes_turns(self) -> None:
        """From now on the record holds the loop's turns. Call it within a turn."""
        self.wakes()
        self._is_observed = True
        self.counts.observes_turns()
        self.numbers[PULSE] = Pulse.TURNS

    # -- counts --------------------------------------------------------------------------------------------------------

    def accepts(self) -> None:
        """A connection was accepted from an own or a shared socket."""
        self._accepted += 1
        self.numbers[ACCEPTED] = self._accepted
        if not self._board[WATCHED]:
            self._record.watched = True  # so that the supervisor is told once, not for each connection
            self.on_awake()

    def adopts(self) -> None:
        """A connection was accepted that was queued at another slot."""
        self.numbers[ADOPTED] += 1
        if not self._board[WATCHED]:
            self._record.watched = True
            self.on_awake()

    def counts_request(self) -> None:
        """Count a datagram or a connection as a request.

        `http.connection` counts its requests itself, without a store.
        """
        try:
            next(self.tally)
        except StopIteration:
            self.counts_last_request()
        self.numbers[REQUESTS] = self.requests

    def expects_last_request(self, number: int, called: Callable[[], object]) -> None:
        """Call `called` at the request with this number, counted from 1.

        Call it before the first request, or within `called`; it counts from there.
        """
        self._given = number - 1
        self.tally = itertools.repeat(None, self._given)
        self._on_last_request = called

    def counts_last_request(self) -> None:
        """The tally is used up: the expected request begins."""
        self._before += self._given + 1
        self._given = _NEVER
        self.tally = itertools.repeat(None, _NEVER)
        self._on_last_request()

    @property
    def requests(self) -> int:
        """Number of requests begun."""
        return self._before + self._given - operator.length_hint(self.tally)

    # -- the supervisor ------------------------------------------------------------------------------------------------

    def answers(self) -> None:
        """Answer a `Ping` of the supervisor: the loop turns. Also store the values that take time to measure."""
        self.numbers[TURNS] = self._count_turns()
        self.counts.fold()
        self.numbers[REQUESTS] = self.requests
        self.counts.shows(*self.gauges())
        if not self._is_observed:
            self.times[BUSY] = thread_time()  # too little if the loop's thread blocks, but that cannot be seen
        self.times[CPU] = process_time()
        self.numbers[LOG_DROPPED] = LOSSES.lines
        self.measure_memory()
        self.times[ANSWERED] = self.times[ASKED]

    def measure_memory(self) -> int:
        """Measure, store and return the resident memory in bytes."""
        self.numbers[MEMORY] = memory = resident() or self.numbers[MEMORY]
        return memory

    @property
    def memory(self) -> int:
        """Resident bytes, as last measured."""
        return self.numbers[MEMORY]

    def abandon(self) -> None:
        """Stop reporting in a process that a handler forked: the record belongs to the worker."""
        self._keep(_nowhere)
        self._forget()
        self._on_last_request = self.on_awake = _nothing


def resident() -> int:
    """Return the resident memory of this process in bytes (proc(5), `statm`); 0 if it is unknown."""
    try:
        fd = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # EMFILE, ENFILE; no /proc
        return 0
    try:
        return int(os.read(fd, 200).split()[1]) * _PAGE
    finally:
        os.close(fd)
