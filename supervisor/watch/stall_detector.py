"""The look-out: reads what the workers write on the scoreboard, and tells whose loop stands still, whose turns again.

While connections come in it looks every few milliseconds; when none have come for a while, a few times a second. Then a
worker that accepts one finds the board's flag down, raises it and says `Awake`: that costs nothing per connection.

A loop that stands still is seen in two ways: its turn began too long ago, or a ping has not been answered for too
long. The latter also finds what cannot tell its turns (uvloop), and processes that are stopped or frozen.
"""

from __future__ import annotations

from collections.abc import Mapping

from hybrid.supervisor.core import events as ev
from hybrid.workers.contract.records import record
from hybrid.workers.contract.scoreboard import (
    ACCEPTED,
    ANSWERED,
    ASKED,
    BUSY_SINCE,
    PULSE,
    STATE,
    Activity,
    Pulse,
    Record,
    Scoreboard,
)

CALM = 0.3
"""Seconds between looks when no connections come in: a stall is seen by then, and a quiet process rarely wakes."""
_LINGER = 0.1  # seconds without a new connection after which it is calm
_FASTEST = 0.002  # seconds between looks, whatever the threshold


@record(frozen=True, slots=True)
class Sight:
    """What a look has shown."""

    news: tuple[ev.Stalled | ev.Recovered, ...] = ()
    ping: tuple[int, ...] = ()
    """Pids of the workers that are to be sent a ping now: that they were is noted already."""


class StallDetector:
    """See above. No method blocks; times are monotonic seconds."""

    def __init__(self, board: Scoreboard, threshold: float, slowest: float) -> None:
        """`threshold`: how long a turn may take before its worker gets no new connections, 0: as long as it likes.

        `slowest`: how long it may take before anybody wants to know, 0: never; counts where it is the only limit.
        """
        self._board = board
        self._threshold = threshold or slowest
        self._watches = threshold > 0
        self._interval = max(threshold / 2, _FASTEST)
        self._stalled: dict[int, float] = {}  # pid -> since when its loop stands still
        self._accepted = 0  # connections of all workers, at the last look
        self._calm_at = 0.0  # when it is calm, unless a connection comes in before
        self._next = 0.0
        self._floor = 0.0  # stalls are counted from then on at the earliest
        self._asks_all_at = 0.0  # when all are to be sent a ping again
        board.watched = True  # until the first look

    @property
    def next_look(self) -> float:
        """When to look next, or a little later."""
        return self._next

    def wake(self, now: float) -> None:
        """Connections come in: look often."""
        if self._watches:
            self._calm_at = now + _LINGER
            self._next = min(self._next, now + self._interval)

    def forgive(self, now: float) -> None:
        """No process has run for a while, as in a container that was stopped: no stall began before now."""
        self._floor = now

    def look(self, now: float, records: Mapping[int, Record]) -> Sight:
        """Look at the records of those that serve: pid -> record."""
        for pid in [pid for pid in self._stalled if pid not in records]:
            del self._stalled[pid]
        news: list[ev.Stalled | ev.Recovered] = []
        for pid, entry in records.items():
            self._judge(pid, _stands_since(entry, now), now, news)
        watching = self._decide(now, records)
        self._next = now + (self._interval if watching else CALM)
        return Sight(tuple(news), self._asked(now, records, watching=watching))

    def _decide(self, now: float, records: Mapping[int, Record]) -> bool:
        """Return whether to look often, and tell the workers so."""
        if not self._watches or len(records) < 2:  # there is no other worker
            self._board.watched = True  # no worker is to wake us
            return False
        watching = self._is_watching(now, records)
        self._board.watched = watching
        if not watching and self._is_watching(now, records):  # a worker has accepted one just before the flag fell
            self._board.watched = watching = True
        return watching

    def _is_watching(self, now: float, records: Mapping[int, Record]) -> bool:
        accepted = sum(record.numbers[ACCEPTED] for record in records.values())
        if accepted != self._accepted:
            self._accepted = accepted
            self._calm_at = now + _LINGER
        return now < self._calm_at or bool(self._stalled)

    def _asked(self, now: float, records: Mapping[int, Record], *, watching: bool) -> tuple[int, ...]:
        """Note which workers are asked now, and return their pids.

        All of them a few times a second, also while we watch: one that was stopped while it waited is not in a turn.
        """
        everybody = not watching or now >= self._asks_all_at
        if everybody:
            self._asks_all_at = now + CALM
        asked = []
        for pid, entry in records.items():
            times = entry.times
            if times[ASKED] <= times[ANSWERED] and (everybody or entry.numbers[PULSE] == Pulse.PINGS):
                times[ASKED] = now
                asked.append(pid)
        return tuple(asked)

    def _judge(self, pid: int, since: float | None, now: float, news: list[ev.Stalled | ev.Recovered]) -> None:
        since = None if since is None else max(since, self._floor)
        before = self._stalled.get(pid)
        if before is not None and (since is None or since > before):  # another turn
            del self._stalled[pid]
            news.append(ev.Recovered(pid))
            before = None
        if before is None and since is not None and self._threshold and now - since >= self._threshold:
            self._stalled[pid] = since
            news.append(ev.Stalled(pid, since))


def turns_again(record: Record, since: float, now: float) -> bool:
    """Tell whether the loop of a worker that serves has ended the turn in which it has stood since a time."""
    if record.numbers[STATE] != Activity.READY:  # only then do the times tell of turns
        return False
    current = _stands_since(record, now)
    return current is None or current > since


def _stands_since(record: Record, now: float) -> float | None:
    """Return when the turn that is under way began, or a ping was sent that is not answered; None: the loop waits.

    What is no time of the past is passed over: applications can write there too, by mistake.
    """
    times = record.times
    asked = times[ASKED] if times[ASKED] > times[ANSWERED] else 0.0
    return min((since for since in (times[BUSY_SINCE], asked) if 0.0 < since <= now), default=None)
