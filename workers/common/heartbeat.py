"""The worker's side of the scoreboard: the heartbeat, which writes the worker's state into shared memory.

A loop's record holds the time when its current turn began, and 0 while it waits. So a reader of the record sees a turn
that does not end, no matter where the loop is stuck. This needs no message and no answer.
"""

from __future__ import annotations

import itertools
import operator
import os
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

from hybrid.workers.contract import scoreboard
from hybrid.workers.contract.scoreboard import (
    ACCEPTED,
    ANSWERED,
    ASKED,
    BUSY_SINCE,
    GENERATION,
    LAG_BOUNDS,
    LAG_MAX,
    LAGS,
    MEMORY,
    PID,
    PULSE,
    REQUESTS,
    STATE,
    TURNS,
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

    Turns, memory and HTTP requests are as of the supervisor's last ping.
    """

    __slots__ = (
        "_accepted",
        "_before",
        "_clock",
        "_count_turns",
        "_forget",
        "_given",
        "_on_last_request",
        "_record",
        "_since",
        "_turns",
        "numbers",
        "on_awake",
        "tally",
        "times",
    )

    def __init__(self, record: Record | None = None, clock: Callable[[], float] = monotonic) -> None:
        """Without a record, as outside of a worker, nothing is reported. `clock` is CLOCK_MONOTONIC, in seconds."""
        self._clock = clock
        self._keep(_nowhere if record is None else record)
        self._since = clock()  # when the current turn began
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
        self.numbers = record.numbers
        """For counts that other modules store. Look it up each time: it is replaced in a forked child."""
        self.times = record.times

    def takes_place(self, generation: int) -> None:
        """A worker takes this record, and boots."""
        self.numbers[GENERATION] = generation
        self.numbers[PID] = os.getpid()
        self.numbers[PULSE] = Pulse.PINGS  # until its loop turns out to be observable
        self.numbers[STATE] = Activity.BOOTING

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
        clock = self._clock
        times = self.times
        since = self._since
        turns = 0

        def observed(timeout: float | None = None) -> T:
            nonlocal since, turns
            if (lag := clock() - since) > _LONG:
                self._note_long_turn(lag)
            turns += 1
            times[BUSY_SINCE] = 0.0
            try:
                return poll(timeout)
            finally:  # also when a signal's handler raises
                times[BUSY_SINCE] = since = clock()

        def forget() -> None:
            nonlocal times
            times = self.times

        self._count_turns = lambda: turns
        self._forget = forget
        return observed

    def rests(self) -> None:
        """The loop is about to wait for events."""
        if (lag := self._clock() - self._since) > _LONG:
            self._note_long_turn(lag)
        self._turns += 1
        self.times[BUSY_SINCE] = 0.0

    def wakes(self) -> None:
        """The loop has waited; a turn begins."""
        self.times[BUSY_SINCE] = self._since = self._clock()

    def observes_turns(self) -> None:
        """From now on the record holds the loop's turns. Call it within a turn."""
        self.wakes()
        self.numbers[PULSE] = Pulse.TURNS

    def _note_long_turn(self, lag: float) -> None:
        self.numbers[LAGS + sum(bound < lag for bound in LAG_BOUNDS) - 1] += 1
        self.times[LAG_MAX] = max(self.times[LAG_MAX], lag)

    # -- counts --------------------------------------------------------------------------------------------------------

    def accepts(self) -> None:
        """A connection was accepted."""
        self._accepted += 1
        self.numbers[ACCEPTED] = self._accepted
        if not self._record.watched:
            self._record.watched = True  # so that the supervisor is told once, not for each connection
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
        self.numbers[REQUESTS] = self.requests
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
