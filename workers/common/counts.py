"""Counts of a worker's requests: how they ended, after how long, and the bytes of their connections.

One place for all loops, interfaces and wires. Most requests are *quick*: they end in the turn of the loop that found
their first bytes. The hot path only adds them to `Counts.quick`, an ordinary integer; the end of the turn folds it into
the worker's record. So SIGKILL loses the counts of one turn at most. Bytes are added up by each connection, and counted
at its end and at each ping: SIGKILL loses those since the last one.

The clock is read for no quick request: the heartbeat reads it at the end of the turn. A quick request took at most the
turn. So in a turn within the shortest bound, as nearly all are, the duration of each is counted right. A longer turn is
shared out among its quick requests, whatever else it was spent on: evenly, unless it was much too long for so many.
Then one of them took most of it, and the others as long as in the turns before. The end of a request that began in an
earlier turn reads the clock: its duration is exact, and the quick ones before it are shared out up to there.

Benchmarks: `python -m benchmarks wsgi asgi`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from time import monotonic

from hybrid.workers.contract.scoreboard import (
    BYTES_IN,
    BYTES_OUT,
    DURATION_BOUNDS,
    DURATION_SUM,
    DURATIONS,
    IN_FLIGHT,
    REFUSED,
    RESPONSES,
    WEBSOCKETS,
    Record,
)

_SHORTEST = DURATION_BOUNDS[0]
_SUCCESSFUL = RESPONSES + 1  # 2xx
_KEPT = 0.9  # of the mean, with each turn: it is that of the last ten turns or so
_OUTLIER = 2  # times as long as its requests usually take: then a turn has a request that took most of it
_UNREPORTED = 2**6 - 1  # of a record: read by nobody


class Counts:
    """The counts of one worker. Belongs to the loop's thread; no method blocks."""

    __slots__ = (
        "_clock",
        "_counted_as",
        "_last",
        "_mean",
        "_numbers",
        "_others",
        "_short_turns",
        "_times",
        "is_idle",
        "is_observed",
        "quick",
        "since",
        "soon",
    )

    def __init__(self, record: Record, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self.quick = 0
        """Requests answered in the turn in which they began; the wire adds those with status 200 without a call."""
        self._others = 0  # quick requests whose responses are counted already: another status
        self._last = 0.0  # up to when the current turn is folded
        self._mean = 0.0  # seconds for each quick request, in recent turns; matters only above `_SHORTEST`
        self._short_turns = 0  # since the last long one; their requests count as 0 seconds in the mean
        self._counted_as = _SUCCESSFUL  # index of the count of quick requests
        self.since = clock()
        """When the current turn began, monotonic seconds. The `began` of requests that begin in it: this very object.

        Floats are compared by identity to find a request that ends in the turn in which it has begun.
        """
        self.is_observed = False
        """True if the loop's turns are observed, and `fold` is called at the end of each."""
        self.is_idle = True
        """True if a turn must be begun by `begin_turn` before anything is counted: the loop's are not observed."""
        self.soon: Callable[[Callable[[], None]], object] = lambda fold: None
        """Calls a function in the next turn of the loop, as `call_soon` does; set by the owner of the loop."""
        self.writes_to(record)

    def writes_to(self, record: Record) -> None:
        """Write to this record from now on."""
        self._numbers = record.numbers
        self._times = record.times

    def has_no_responses(self) -> None:
        """Requests have no status: they are connections or datagrams of a handler."""
        self._counted_as = _UNREPORTED

    # -- turns -------------------------------------------------------------------------------------------------------

    def begin_turn(self) -> None:
        """Begin a turn of a loop that is not observed; it ends when the loop has served the events at hand."""
        self.is_idle = False
        self.since = self._clock()
        self.soon(self._end_turn)

    def _end_turn(self) -> None:
        self.fold()
        if not self.is_observed:
            self.is_idle = True
            self.since += 0.0  # another object: a request that is still in progress ends in another turn

    def observes_turns(self) -> None:
        """The loop's turns are observed from now on."""
        self.is_observed = True
        self.is_idle = False

    def fold(self, now: float | None = None) -> None:
        """Write the quick requests up to `now` into the record; None: read the clock.

        Call it at the end of a turn if `quick` is not 0; also harmless in between.
        """
        count = self.quick
        if count:
            if now is None:
                now = self._clock()
            began = self.since if self.since > self._last else self._last
            self._last = now
            took = now - began
            numbers = self._numbers
            self._times[DURATION_SUM] += took
            if took <= _SHORTEST:  # then each of them was as short
                numbers[DURATIONS] += count
                self._short_turns += 1
            else:
                self._share(took, count)
            numbers[self._counted_as] += count - self._others
            self.quick = self._others = 0

    def _share(self, took: float, count: int) -> None:
        """Count the durations of `count` requests that took `took` seconds in all."""
        usual = self._mean * _KEPT**self._short_turns
        self._short_turns = 0
        each = took / count
        self._mean = usual + (each - usual) * (1 - _KEPT)
        if count > 1 and each > _OUTLIER * max(usual, _SHORTEST):
            self._lasted(took - usual * (count - 1), 1)
            self._lasted(usual, count - 1)
        else:
            self._lasted(each, count)

    def _lasted(self, seconds: float, count: int) -> None:
        """Count requests that took this long."""
        self._numbers[DURATIONS + bisect_left(DURATION_BOUNDS, seconds)] += count

    # -- requests ----------------------------------------------------------------------------------------------------

    def ended(self, status: int, began: float) -> None:
        """Count a complete response. `began`: `since` at the start of its request, or monotonic seconds.

        The session of an upgraded connection is no response: `upgraded` has counted it.
        """
        if status == 101:
            return
        if began is self.since:
            self.quick += 1
            if status == 200:
                return  # counted with the turn
            self._others += 1
        else:
            self.timed(began)
        self._numbers[RESPONSES + min(max(status // 100, 1), 5) - 1] += 1

    def timed(self, began: float) -> None:
        """Count the duration of a request that ends now."""
        now = self._clock()
        if self.quick:
            self.fold(now)
        self._last = now
        self._lasted(now - began, 1)
        self._times[DURATION_SUM] += now - began

    def handled(self, began: float) -> None:
        """Count a request without a status that ends now: of a handler."""
        if began is self.since:
            self.quick += 1
        else:
            self.timed(began)

    def refused(self, status: int) -> None:
        """Count a response of the wire's own, to something that may not even be a request; it has no duration."""
        self._numbers[RESPONSES + status // 100 - 1] += 1
        self._numbers[REFUSED] += 1

    def upgraded(self) -> None:
        """Count a response that turns the connection over to another protocol."""
        self._numbers[RESPONSES] += 1

    def sent(self, size: int) -> None:
        """Count bytes sent; callable at any time."""
        self._numbers[BYTES_OUT] += size

    def received(self, size: int) -> None:
        """Count bytes received; callable at any time."""
        self._numbers[BYTES_IN] += size

    def shows(self, in_flight: int, websockets: int) -> None:
        """Store the requests in progress and the open WebSockets."""
        self._numbers[IN_FLIGHT] = in_flight
        self._numbers[WEBSOCKETS] = websockets
