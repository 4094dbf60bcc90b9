"""The counts of a worker: durations and responses of requests that end in their turn, and of those that do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hybrid.workers.common.connections import Connections
from hybrid.workers.common.counts import Counts
from hybrid.workers.common.heartbeat import Heartbeat
from hybrid.workers.contract.scoreboard import BUSY, DURATION_BOUNDS, IN_FLIGHT, WEBSOCKETS, Record, Scoreboard


class Time:
    """A clock that the test moves. Like the real one, it returns another object each time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now + 0.0


class Turns:
    """A loop that is not observed: what it was asked to call runs in its next turn."""

    def __init__(self) -> None:
        self._soon: list[Callable[[], None]] = []

    def call_soon(self, function: Callable[[], None]) -> None:
        self._soon.append(function)

    def turns(self) -> None:
        soon, self._soon = self._soon, []
        for function in soon:
            function()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def record() -> Record:
    return Scoreboard(1).record(0)


@pytest.fixture
def loop() -> Turns:
    return Turns()


@pytest.fixture
def counts(record: Record, time: Time, loop: Turns) -> Counts:
    counts = Counts(record, time)
    counts.soon = loop.call_soon
    return counts


def durations(record: Record) -> dict[float, int]:
    """Return the counts that are not 0, by their bound in seconds."""
    bounds = (*DURATION_BOUNDS, float("inf"))
    return {bound: count for bound, count in zip(bounds, record.totals().durations, strict=True) if count}


def test_quick_requests_of_a_turn_are_told_at_its_end(counts: Counts, record: Record, time: Time, loop: Turns) -> None:
    counts.begin_turn()
    for _ in range(3):
        time.now += 0.0002
        counts.quick += 1
    assert not any(record.totals().durations)
    loop.turns()
    assert durations(record) == {0.001: 3}
    assert record.totals().responses == (0, 3, 0, 0, 0)
    assert record.totals().duration_sum == pytest.approx(0.0006)
    loop.turns()
    assert record.totals().requests == 3


Turn = Callable[[float, int], dict[float, int]]


@pytest.fixture
def turn(counts: Counts, record: Record, time: Time, loop: Turns) -> Turn:
    """Let a turn of so many seconds answer so many requests; returns the durations that it adds."""

    def take(seconds: float, requests: int) -> dict[float, int]:
        before = durations(record)
        counts.begin_turn()
        time.now += seconds
        counts.quick += requests
        loop.turns()
        after = durations(record)
        assert sum(after.values()) - sum(before.values()) == requests
        return {bound: more for bound in after if (more := after[bound] - before.get(bound, 0))}

    return take


def test_the_only_request_of_a_turn_took_all_of_it(turn: Turn) -> None:
    assert turn(0.3, 1) == {0.5: 1}


def test_a_turn_a_little_too_long_is_shared_out(turn: Turn) -> None:
    assert turn(0.0045, 3) == {0.0025: 3}


def test_a_turn_much_too_long_has_one_request_that_took_most_of_it(turn: Turn, record: Record) -> None:
    for _ in range(5):
        turn(0.0009, 3)
    assert turn(0.3, 3) == {0.001: 2, 0.5: 1}
    assert record.totals().duration_sum == pytest.approx(0.3045)


def test_turns_that_are_always_long_are_shared_out(turn: Turn) -> None:
    for _ in range(20):
        turn(0.024, 3)
    assert turn(0.024, 3) == {0.01: 3}
    assert turn(0.2, 3) == {0.01: 2, 0.25: 1}  # still an outlier


def test_how_long_requests_took_is_forgotten_in_short_turns(turn: Turn) -> None:
    for _ in range(20):
        turn(0.024, 3)
    for _ in range(100):
        turn(0.0005, 1)
    assert turn(0.024, 3) == {0.001: 2, 0.025: 1}


def test_a_request_that_ends_between_quick_ones_parts_the_turn(
    counts: Counts, record: Record, time: Time, loop: Turns
) -> None:
    counts.begin_turn()
    time.now += 0.0005
    counts.quick += 1
    counts.ended(200, time.now - 4)
    time.now += 0.04
    counts.quick += 1
    loop.turns()
    assert durations(record) == {0.001: 1, 0.05: 1, 5.0: 1}
    assert record.totals().duration_sum == pytest.approx(4.0405)


def test_requests_of_a_turn_have_different_statuses(counts: Counts, record: Record, time: Time, loop: Turns) -> None:
    counts.begin_turn()
    time.now += 0.0005
    counts.quick += 2
    for status in (200, 204, 404, 500):
        counts.ended(status, counts.since)
    loop.turns()
    assert record.totals().responses == (0, 4, 0, 1, 1)
    assert durations(record) == {0.001: 6}
    assert record.totals().duration_sum == pytest.approx(0.0005)


def test_a_request_that_ends_in_a_later_turn_has_begun_with_its_own(
    counts: Counts, record: Record, time: Time, loop: Turns
) -> None:
    counts.begin_turn()
    began = counts.since
    loop.turns()
    assert counts.since is not began
    time.now += 7
    counts.begin_turn()
    counts.quick += 1
    time.now += 0.25
    counts.ended(404, began)
    loop.turns()
    assert durations(record) == {0.25: 1, 10.0: 1}  # the quick one: no longer than that
    assert record.totals().responses == (0, 1, 0, 1, 0)


@pytest.mark.parametrize("bound", DURATION_BOUNDS)
def test_a_bound_belongs_to_its_own_count(bound: float, counts: Counts, record: Record, time: Time) -> None:
    time.now = bound
    counts.ended(200, 0.0)
    assert durations(record) == {bound: 1}


def test_a_request_longer_than_all_bounds_is_counted(counts: Counts, record: Record, time: Time) -> None:
    counts.ended(200, time.now - 61)
    assert durations(record) == {float("inf"): 1}


@pytest.mark.parametrize(("status", "place"), [(200, 1), (204, 1), (304, 2), (404, 3), (500, 4), (599, 4), (999, 4)])
def test_responses_are_counted_by_class(status: int, place: int, counts: Counts, record: Record) -> None:
    counts.ended(status, counts.since)
    counts.fold()
    assert [count for count in record.totals().responses if count] == [1]
    assert record.totals().responses[place] == 1


def test_a_session_is_counted_as_a_response_when_it_begins_and_has_no_duration(counts: Counts, record: Record) -> None:
    counts.upgraded()
    assert record.totals().responses == (1, 0, 0, 0, 0)
    counts.ended(101, counts.since)
    assert record.totals().responses == (1, 0, 0, 0, 0)
    assert not durations(record)


def test_a_refusal_is_a_response_and_no_request(counts: Counts, record: Record) -> None:
    counts.refused(431)
    counts.ended(200, counts.since)
    counts.fold()
    assert record.totals().responses == (0, 1, 0, 1, 0)
    assert record.totals().requests == 1


def test_bytes_are_told_at_once(counts: Counts, record: Record) -> None:
    counts.sent(1)
    counts.received(2)
    assert (record.totals().bytes_in, record.totals().bytes_out) == (2, 1)


def test_an_observed_loop_folds_the_counts_of_each_turn(record: Record, time: Time) -> None:
    heartbeat = Heartbeat(record, time)
    turn = heartbeat.watching(lambda timeout: None)
    counts = heartbeat.counts
    assert not counts.is_idle
    turn(None)
    time.now += 0.5
    counts.quick += 1
    turn(None)
    assert durations(record) == {0.5: 1}
    assert record.times[BUSY] == pytest.approx(0.5)
    time.now += 0.25
    turn(None)
    assert record.times[BUSY] == pytest.approx(0.75)


def test_connections_of_a_handler_are_measured_by_the_turns_of_the_loop(record: Record, time: Time) -> None:
    heartbeat = Heartbeat(record, time)
    turn = heartbeat.watching(lambda timeout: None)
    counts = heartbeat.counts
    counts.has_no_responses()
    quick, slow = counts.since, counts.since
    time.now += 0.002
    counts.handled(quick)
    turn(None)
    time.now += 0.5
    turn(None)
    counts.handled(slow)
    assert durations(record) == {0.0025: 1, 1.0: 1}
    assert record.times[BUSY] == pytest.approx(0.502)


@pytest.mark.parametrize("tells", [False, True], ids=["observed", "tells"])
def test_the_busy_seconds_in_the_record_are_a_millisecond_behind_at_most(
    record: Record, time: Time, tells: bool
) -> None:
    """So many short turns cost a store each millisecond, and a stall after them hides none of them."""
    heartbeat = Heartbeat(record, time)

    def wait(timeout: float | None = None) -> None:
        time.now += 0.00005

    def rest(timeout: float | None = None) -> None:
        heartbeat.rests()
        wait()
        heartbeat.wakes()

    if tells:
        heartbeat.observes_turns()
        poll = rest
    else:
        poll = heartbeat.watching(wait)
    busy, stored = 0.0, set()
    for _ in range(1000):
        time.now += 0.00015
        busy += 0.00015
        poll(None)
        stored.add(record.times[BUSY])
        assert busy - 0.001 <= record.times[BUSY] <= busy + 1e-9
    assert 100 < len(stored) < 250
    time.now += 30
    assert busy - 0.001 <= record.times[BUSY] <= busy + 1e-9


def test_a_loop_that_tells_when_it_waits_folds_too(record: Record, time: Time) -> None:
    heartbeat = Heartbeat(record, time)
    heartbeat.observes_turns()
    time.now += 0.01
    heartbeat.counts.quick += 1
    heartbeat.rests()
    time.now += 100
    heartbeat.wakes()
    assert durations(record) == {0.01: 1}
    assert record.times[BUSY] == pytest.approx(0.01)


def test_a_loop_that_cannot_be_observed_tells_its_cpu_seconds_at_a_ping(record: Record) -> None:
    Heartbeat(record).answers()
    assert record.times[BUSY] > 0


def test_requests_in_progress_are_told_at_a_ping(record: Record) -> None:
    heartbeat = Heartbeat(record)
    heartbeat.gauges = lambda: (3, 2)
    heartbeat.answers()
    assert (record.numbers[IN_FLIGHT], record.numbers[WEBSOCKETS]) == (3, 2)


def test_connections_of_handlers_are_requests_without_a_status(record: Record, time: Time) -> None:
    heartbeat = Heartbeat(record, time)
    heartbeat.counts.has_no_responses()
    heartbeat.observes_turns()
    connections = Connections(heartbeat)
    connections.are_requests = True
    short, long = connections.add("a"), connections.add("b")
    heartbeat.answers()
    assert record.numbers[IN_FLIGHT] == 2
    short.closed()
    heartbeat.rests()
    heartbeat.wakes()
    time.now += 3
    long.closed()
    assert durations(record) == {0.001: 1, 5.0: 1}
    assert not any(record.totals().responses)


def test_a_forked_child_counts_nothing(record: Record, time: Time) -> None:
    heartbeat = Heartbeat(record, time)
    heartbeat.observes_turns()
    heartbeat.counts.quick += 1
    heartbeat.abandon()
    heartbeat.counts.received(3)
    heartbeat.counts.ended(500, time.now - 1)
    heartbeat.counts.fold()
    heartbeat.rests()
    assert not any(record.totals().responses)
    assert record.totals().bytes_in == 0
