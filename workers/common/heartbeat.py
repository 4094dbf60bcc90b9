"""The worker's side of the scoreboard: the heartbeat, which tells in shared memory what the worker is doing.

A loop tells in its record when the turn that is under way began, and 0 while it waits. So whoever looks at the record
sees a turn that does not end, whatever the loop is stuck in. Nothing is sent, and nobody answers.
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
_NEVER = 2**62  # more requests than there are
_LONG = LAG_BOUNDS[0]
_PAGE = os.sysconf("SC_PAGE_SIZE")
_nowhere = scoreboard.Scoreboard(1).record(0)  # what is noted there, nobody reads


def _nothing() -> None:
    """Nobody wants to know."""


class Heartbeat:
    """The writer of one record. Belongs to the loop's thread; no method blocks.

    Turns, memory and requests of HTTP are as they were when the supervisor asked last.
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
        """Without a record, as outside of a worker, nothing is told. `clock` is CLOCK_MONOTONIC, in seconds."""
        self._clock = clock
        self._keep(_nowhere if record is None else record)
        self._since = clock()  # when the turn under way began
        self._turns = 0
        self._count_turns: Callable[[], int] = lambda: self._turns
        self._forget: Callable[[], object] = _nothing
        self._accepted = 0
        self._before = 0  # requests that were counted before this tally
        self._given = _NEVER  # how many it had room for
        self.tally = itertools.repeat(None, _NEVER)
        """Each `next` counts a request; `StopIteration` is the last one, see `counts_last_request`.

        This is a third of what a sum, its limit and a store into the record cost (350 and 930 instructions, measured).
        """
        self._on_last_request: Callable[[], object] = _nothing
        self.on_awake: Callable[[], object] = _nothing
        """Called when a connection is taken while the supervisor does not watch."""

    def _keep(self, record: Record) -> None:
        self._record = record
        self.numbers = record.numbers
        """For counts that are noted elsewhere; to be looked up each time, because a forked child has others."""
        self.times = record.times

    def takes_place(self, generation: int) -> None:
        """A worker begins its life here: it boots."""
        self.numbers[GENERATION] = generation
        self.numbers[PID] = os.getpid()
        self.numbers[PULSE] = Pulse.PINGS  # until its loop is found to be one that can be observed
        self.numbers[STATE] = Activity.BOOTING

    def tells(self, activity: Activity) -> None:
        """The worker has come to another part of its life."""
        self.numbers[STATE] = activity

    # -- turns of the loop: the hot path; benchmarks: python -m benchmarks wsgi asgi ---------------------------------

    def watching(self, poll: Callable[[float | None], T]) -> Callable[[float | None], T]:
        """Return `poll`, in which a loop waits for at most so many seconds, with notes of when its turns begin and end.

        To be called within a turn, which begins now. Nested calls are as good: each is the end of a turn and the begin
        of another. A poll that does not wait is too.
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
        """The loop has waited, and a turn begins."""
        self.times[BUSY_SINCE] = self._since = self._clock()

    def observes_turns(self) -> None:
        """From now on, within a turn, the record tells of the loop's turns."""
        self.wakes()
        self.numbers[PULSE] = Pulse.TURNS

    def _note_long_turn(self, lag: float) -> None:
        self.numbers[LAGS + sum(bound < lag for bound in LAG_BOUNDS) - 1] += 1
        self.times[LAG_MAX] = max(self.times[LAG_MAX], lag)

    # -- counts --------------------------------------------------------------------------------------------------------

    def accepts(self) -> None:
        """A connection was taken from a listener."""
        self._accepted += 1
        self.numbers[ACCEPTED] = self._accepted
        if not self._record.watched:
            self._record.watched = True  # so that the supervisor is told once, and not by each connection
            self.on_awake()

    def counts_request(self) -> None:
        """A datagram or a connection begins that counts as a request.

        `http.connection` does it in lines of its own, without a store.
        """
        try:
            next(self.tally)
        except StopIteration:
            self.counts_last_request()
        self.numbers[REQUESTS] = self.requests

    def expects_last_request(self, number: int, called: Callable[[], object]) -> None:
        """Have `called` at the request of that number, from 1 on.

        To be said before any has come, or in `called`, and counts from there.
        """
        self._given = number - 1
        self.tally = itertools.repeat(None, self._given)
        self._on_last_request = called

    def counts_last_request(self) -> None:
        """The tally has come to its end: the request that was to be told of begins."""
        self._before += self._given + 1
        self._given = _NEVER
        self.tally = itertools.repeat(None, _NEVER)
        self._on_last_request()

    @property
    def requests(self) -> int:
        """Requests begun."""
        return self._before + self._given - operator.length_hint(self.tally)

    # -- the supervisor ------------------------------------------------------------------------------------------------

    def answers(self) -> None:
        """The supervisor has sent a `Ping`: tell that the loop turns, and what it takes time to look at."""
        self.numbers[TURNS] = self._count_turns()
        self.numbers[REQUESTS] = self.requests
        self.measure_memory()
        self.times[ANSWERED] = self.times[ASKED]

    def measure_memory(self) -> int:
        """Tell how much memory is resident now, bytes, and return it."""
        self.numbers[MEMORY] = memory = resident() or self.numbers[MEMORY]
        return memory

    @property
    def memory(self) -> int:
        """Resident bytes, as last looked at."""
        return self.numbers[MEMORY]

    def abandon(self) -> None:
        """In a process that a handler forked: the record is the worker's. Nothing is told any more."""
        self._keep(_nowhere)
        self._forget()
        self._on_last_request = self.on_awake = _nothing


def resident() -> int:
    """Return the bytes of memory this process has in use (proc(5), `statm`); 0 where they cannot be known now."""
    try:
        fd = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # EMFILE, ENFILE; no /proc
        return 0
    try:
        return int(os.read(fd, 200).split()[1]) * _PAGE
    finally:
        os.close(fd)
