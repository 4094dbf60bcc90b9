"""The heartbeat: the record while a loop waits, runs and takes too long, and its counts."""

from __future__ import annotations

import os

import pytest

from hybrid.workers.common.connections import Connections
from hybrid.workers.common.heartbeat import Heartbeat, resident
from hybrid.workers.contract.lines import LOSSES
from hybrid.workers.contract.scoreboard import (
    ANSWERED,
    ASKED,
    BUSY_SINCE,
    LAGS,
    MEMORY,
    PULSE,
    REQUESTS,
    STATE,
    TURNS,
    Activity,
    Pulse,
    Record,
    Scoreboard,
)
from hybrid.workers.hub.selector import HubSelector


class Time:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Loop:
    """An observed loop: each poll takes ten seconds, and the record at that time is kept."""

    def __init__(self, heartbeat: Heartbeat, record: Record, time: Time) -> None:
        self._record = record
        self._time = time
        self.meanwhile: list[float] = []
        self.poll = heartbeat.watching(self._poll)

    def _poll(self, timeout: float | None) -> str:
        self.meanwhile.append(self._record.times[BUSY_SINCE])
        self._time.now += 10
        return "events"


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def record() -> Record:
    return Scoreboard(1).record(0)


@pytest.fixture
def heartbeat(record: Record, time: Time) -> Heartbeat:
    return Heartbeat(record, time)


@pytest.fixture
def loop(heartbeat: Heartbeat, record: Record, time: Time) -> Loop:
    return Loop(heartbeat, record, time)


def test_a_booting_worker_takes_the_record(heartbeat: Heartbeat, record: Record) -> None:
    heartbeat.takes_place(4)
    assert list(record.numbers[:4]) == [Activity.BOOTING, 4, os.getpid(), Pulse.PINGS]
    heartbeat.tells(Activity.READY)
    assert record.numbers[STATE] == Activity.READY


def test_lines_of_the_log_that_it_loses_are_told_at_a_ping(
    heartbeat: Heartbeat, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LOSSES, "lines", 9)  # of the supervisor that has forked it
    heartbeat.takes_place(1)
    LOSSES.lines += 2
    heartbeat.answers()
    assert record.totals().log_dropped == 2


def test_it_is_busy_from_its_observation_on_but_while_it_waits(loop: Loop, record: Record) -> None:
    assert record.numbers[PULSE] == Pulse.TURNS
    assert record.times[BUSY_SINCE] == 1000
    assert loop.poll(None) == "events"
    assert (loop.meanwhile, record.times[BUSY_SINCE]) == ([0], 1010)
    loop.poll(5)
    assert (loop.meanwhile, record.times[BUSY_SINCE]) == ([0, 0], 1020)


def test_a_loop_that_never_waits_begins_new_turns(loop: Loop, record: Record) -> None:
    loop.poll(0)
    assert record.times[BUSY_SINCE] == 1010


def test_a_loop_that_waits_within_a_turn_is_not_busy_until_it_wakes(
    heartbeat: Heartbeat, record: Record, time: Time, loop: Loop
) -> None:
    def turn(timeout: float | None) -> None:
        loop.poll(timeout)
        time.now += 1
        assert record.times[BUSY_SINCE] == 1010

    heartbeat.watching(turn)(None)
    assert loop.meanwhile == [0]
    assert record.times[BUSY_SINCE] == 1011


def test_an_exit_during_the_wait_begins_a_turn_and_one_during_a_turn_changes_nothing(
    heartbeat: Heartbeat, record: Record, time: Time, loop: Loop
) -> None:
    def interrupted(timeout: float | None) -> None:
        time.now += 10
        raise SystemExit

    with pytest.raises(SystemExit):
        heartbeat.watching(interrupted)(None)
    assert record.times[BUSY_SINCE] == 1010
    loop.poll(None)
    assert record.times[BUSY_SINCE] == 1020


@pytest.mark.parametrize(
    ("lag", "bucket"),
    [
        *[(0.0009, None), (0.0011, 0), (0.0051, 1), (0.0101, 2), (0.0251, 3)],
        *[(0.0501, 4), (0.101, 5), (1.01, 6), (10.1, 7), (1000, 7)],
    ],
)
@pytest.mark.parametrize("is_told", [True, False])
def test_long_turns_are_counted_by_their_length(
    lag: float, bucket: int | None, is_told: bool, heartbeat: Heartbeat, time: Time, record: Record
) -> None:
    """True if the loop's poll is observed, False if the loop itself reports."""

    def turn(timeout: float | None) -> None:
        heartbeat.rests()
        heartbeat.wakes()

    if is_told:
        heartbeat.observes_turns()
    else:
        turn = heartbeat.watching(lambda timeout: None)
    time.now += lag
    turn(None)
    seen = record.snapshot()
    assert seen.lags == tuple(int(index == bucket) for index in range(8))
    assert seen.lag_max == pytest.approx(0 if bucket is None else lag)
    time.now += 0.002
    turn(None)
    assert record.numbers[LAGS] == 1 + (bucket == 0)
    assert record.snapshot().lag_max == pytest.approx(max(lag if bucket is not None else 0, 0.002))


def test_turns_and_memory_are_told_when_the_supervisor_asks(heartbeat: Heartbeat, record: Record, loop: Loop) -> None:
    for _ in range(3):
        loop.poll(None)
    assert (record.numbers[TURNS], record.numbers[MEMORY]) == (0, 0)
    record.times[ASKED] = 7.5
    heartbeat.answers()
    assert (record.numbers[TURNS], record.times[ANSWERED]) == (3, 7.5)
    assert heartbeat.memory == record.numbers[MEMORY] > 1_000_000


def test_memory_that_is_used_is_resident() -> None:
    before = resident()
    block = b"x" * 64_000_000
    assert 60_000_000 < resident() - before < 70_000_000
    del block


def test_a_supervisor_that_does_not_watch_is_told_of_connections_once(heartbeat: Heartbeat, record: Record) -> None:
    told: list[str] = []
    heartbeat.on_awake = lambda: told.append("awake")
    for _ in range(3):
        heartbeat.accepts()
    assert (told, record.watched, record.snapshot().accepted) == (["awake"], True, 3)
    record.watched = False
    heartbeat.accepts()
    assert told == ["awake", "awake"]


def test_adopted_connections_are_accepted_ones_and_counted_apart(heartbeat: Heartbeat, record: Record) -> None:
    told: list[str] = []
    heartbeat.on_awake = lambda: told.append("awake")
    heartbeat.adopts()
    heartbeat.accepts()
    heartbeat.adopts()
    totals = record.totals()
    assert (totals.accepted, totals.adopted, told) == (3, 2, ["awake"])


def test_the_last_request_is_reported_once(heartbeat: Heartbeat, record: Record) -> None:
    told: list[int] = []
    heartbeat.expects_last_request(2, lambda: told.append(heartbeat.requests))
    for count in range(1, 5):
        heartbeat.counts_request()
        assert heartbeat.requests == count
        assert record.numbers[REQUESTS] == count
    assert told == [2]


def test_the_first_request_can_be_the_last(heartbeat: Heartbeat) -> None:
    told: list[int] = []
    heartbeat.expects_last_request(1, lambda: told.append(heartbeat.requests))
    heartbeat.counts_request()
    heartbeat.counts_request()
    assert (told, heartbeat.requests) == ([1], 2)


def test_a_forked_child_writes_nothing(heartbeat: Heartbeat, record: Record, loop: Loop) -> None:
    heartbeat.takes_place(1)
    heartbeat.expects_last_request(1, pytest.fail)
    heartbeat.on_awake = pytest.fail
    before = list(record.numbers)
    heartbeat.abandon()
    loop.poll(None)
    heartbeat.rests()
    heartbeat.wakes()
    heartbeat.tells(Activity.DRAINING)
    heartbeat.accepts()
    heartbeat.adopts()
    Connections(heartbeat).add("somebody").closed()
    heartbeat.counts_request()
    heartbeat.answers()
    assert (list(record.numbers), record.watched) == (before, False)


def test_nothing_is_reported_outside_of_a_worker(record: Record) -> None:
    heartbeat = Heartbeat()
    heartbeat.accepts()
    heartbeat.counts_request()
    assert heartbeat.requests == 1
    assert not any(record.numbers)


def test_the_hub_is_busy_while_it_serves_events(record: Record, time: Time, heartbeat: Heartbeat) -> None:
    class Poller:
        """One descriptor that is always readable."""

        def add(self, fd: int, mask: int) -> None:
            """Nothing to do."""

        modify = add

        def remove(self, fd: int) -> None:
            """Nothing to do."""

        def wait(self, timeout: float | None = None) -> list[tuple[int, int]]:
            seen.append(record.times[BUSY_SINCE])
            time.now += 10
            return [(7, 1)]

        def close(self) -> None:
            """Nothing to do."""

    seen: list[float] = []
    selector = HubSelector(Poller())
    watch = selector.open(7)
    selector.arm(watch, 1)
    selector.observe(heartbeat)
    watch.on_readable = lambda: seen.append(record.times[BUSY_SINCE])
    selector.select(None)
    assert seen == [0, 1010]
    watch.on_readable = lambda: selector.select(0)
    selector.select(None)
    assert seen == [0, 1010, 0, 0]
    assert record.times[BUSY_SINCE] == 1030
