"""The stall detector: finds stalled and recovered loops from the records that workers write on the scoreboard.

It looks every few milliseconds while connections come in, and a few times a second when none have come for a while.
Then a worker that accepts one finds the board's flag cleared, sets it and sends `Awake`: no cost per connection.

A stalled loop shows in two ways: its turn began too long ago, or it is in no turn and a ping has gone unanswered for
too long. The second way also covers loops that cannot report their turns (uvloop), and stopped or frozen processes.

An offload worker has no loop, and a thread that answers pings. A call may keep that from running for as long as it is
in C, so only one that runs no call must answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from hybrid.supervisor.core import events as ev
from hybrid.workers.contract.records import record
from hybrid.workers.contract.scoreboard import (
    ACCEPTED,
    ADOPTED,
    ANSWERED,
    ASKED,
    BUSY_SINCE,
    CALL,
    PULSE,
    STATE,
    Activity,
    Pulse,
    Record,
    Scoreboard,
)

CALM = 0.3
"""Seconds between looks when no connections come in: stalls are still found, and an idle process rarely wakes."""
_LINGER = 0.1  # seconds without a new connection until it looks rarely
_SILENT: Final = 1.0  # seconds without an answer in which an offload worker without a call is taken for stopped
_NONE: Mapping[int, Record] = {}
_FASTEST = 0.002  # seconds between looks, whatever the threshold


@record(frozen=True, slots=True)
class Sight:
    """The result of a look."""

    news: tuple[ev.Stalled | ev.Recovered, ...] = ()
    ping: tuple[int, ...] = ()
    """Pids of the workers to ping now; the records note the ping already."""


class StallDetector:
    """Finds stalled loops. No method blocks; times are monotonic seconds."""

    def __init__(self, board: Scoreboard, threshold: float, slowest: float) -> None:
        """`threshold`: seconds of a turn after which its worker gets no new connections; 0: no limit.

        `slowest`: seconds after which a turn is reported; 0: never. Used if there is no threshold.
        """
        self._board = board
        self._watches = threshold > 0
        self._threshold = threshold or slowest
        self._interval = min(max(threshold / 2, _FASTEST), CALM)  # pings also drive statistics, recycling, rebalancing
        self._stalled: dict[int, float] = {}  # pid -> when its loop stalled
        self._silent: dict[
            int, float
        ] = {}  # pid of an offload worker -> since when it has no call, and does not answer
        self._accepted = 0  # connections of all workers at the last look
        self._calm_at = 0.0  # when to look rarely, unless a connection comes in before
        self._next = 0.0
        self._floor = 0.0  # no stall counts from before this time
        self._asks_all_at = 0.0  # when to ping all workers again
        board.watched = True  # until the first look

    def refit(self, slowest: float) -> None:
        """Report turns after another time from now on."""
        if not self._watches:
            self._threshold = slowest

    @property
    def next_look(self) -> float:
        """When to look next; a little later is fine."""
        return self._next

    def wake(self, now: float) -> None:
        """Look often: connections come in."""
        if self._watches:
            self._calm_at = now + _LINGER
            self._next = min(self._next, now + self._interval)

    def forgive(self, now: float) -> None:
        """Count no stall from before now: no process has run for a while, as in a stopped container."""
        self._floor = now

    def look(
        self,
        now: float,
        records: Mapping[int, Record],
        others: Mapping[int, Record] = _NONE,
        callees: Mapping[int, Record] = _NONE,
    ) -> Sight:
        """Look at the records of the serving workers: pid -> record.

        `others`: those of processes that accept no connections. If they stall, that is no reason to look often.
        `callees`: those of offload workers.
        """
        every = {**records, **others, **callees} if others or callees else records
        for known in (self._stalled, self._silent):
            for pid in [pid for pid in known if pid not in every]:
                del known[pid]
        news: list[ev.Stalled | ev.Recovered] = []
        for pid, entry in every.items():
            since = self._silent_since(pid, entry, now) if pid in callees else _stalled_since(entry, now)
            self._judge(pid, since, now, news)
        watching = self._decide(now, records)
        self._next = now + (self._interval if watching else CALM)
        return Sight(tuple(news), self._asked(now, every, watching=watching))

    def _silent_since(self, pid: int, entry: Record, now: float) -> float | None:
        """Return since when an offload worker has been silent for too long; None: it has a call, or answers."""
        if entry.numbers[CALL] or entry.times[ASKED] <= entry.times[ANSWERED]:
            self._silent.pop(pid, None)
            return None
        since = max(self._silent.setdefault(pid, now), self._floor)
        return since if now - since >= _SILENT else None

    def _decide(self, now: float, records: Mapping[int, Record]) -> bool:
        """Return True to look often, and set the flag for the workers."""
        if not self._watches or len(records) < 2:  # no other worker could take connections
            self._board.watched = True  # no worker needs to wake us
            return False
        watching = self._is_watching(now, records)
        self._board.watched = watching
        if not watching and self._is_watching(now, records):  # a worker accepted one just before the flag was cleared
            self._board.watched = watching = True
        return watching

    def _is_watching(self, now: float, records: Mapping[int, Record]) -> bool:
        accepted = sum(record.numbers[ACCEPTED] + record.numbers[ADOPTED] for record in records.values())
        if accepted != self._accepted:
            self._accepted = accepted
            self._calm_at = now + _LINGER
        return now < self._calm_at or any(pid in records for pid in self._stalled)

    def _asked(self, now: float, records: Mapping[int, Record], *, watching: bool) -> tuple[int, ...]:
        """Choose the workers to ping now, note it in their records, and return their pids.

        All of them a few times a second, even while looking often: a process stopped while its loop waits has no turn.
        """
        asks_all = not watching or now >= self._asks_all_at
        if asks_all:
            self._asks_all_at = now + CALM
        asked = []
        for pid, entry in records.items():
            times = entry.times
            if times[ASKED] <= times[ANSWERED] and (asks_all or entry.numbers[PULSE] == Pulse.PINGS):
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
    """Return True if a serving worker has ended the turn that stalled at `since`."""
    if record.numbers[STATE] != Activity.READY:  # the times are valid in this state only
        return False
    current = _stalled_since(record, now)
    return current is None or current > since


def _stalled_since(record: Record, now: float) -> float | None:
    """Return when the current turn began or the unanswered ping was sent; None: the loop waits.

    A ping that is older than the current turn does not count: the loop turns, and answers it within this turn. It was
    sent during the turn before, whose stall would be found a second time. Ignores times that are not in the past:
    applications can write to the memory too, by mistake.
    """
    times = record.times
    asked = times[ASKED] if times[ASKED] > times[ANSWERED] else 0.0
    turn = times[BUSY_SINCE]
    if 0.0 < turn <= now:
        return turn
    return asked if 0.0 < asked <= now else None
