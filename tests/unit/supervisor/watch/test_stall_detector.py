"""The stall detector over a scoreboard: when it looks, which workers it pings, which stalls it finds."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.supervisor.core.events import Recovered, Stalled
from hybrid.supervisor.watch.stall_detector import CALM, StallDetector, turns_again
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

THRESHOLD = 1 / 64  # seconds; sums of halves of it are exact
News = tuple[Stalled | Recovered, ...]


class Watch:
    """A stall detector and workers 1 to `workers`, controlled by the test. Their loops wait unless they are `busy`."""

    def __init__(self, workers: int = 2, *, threshold: float = THRESHOLD, slowest: float = 1.0) -> None:
        self.board = Scoreboard(8)
        self.records: dict[int, Record] = {pid: self.board.record(pid) for pid in range(1, workers + 1)}
        self.now = 1000.0
        self.detector = StallDetector(self.board, threshold, slowest)
        self.pinged: tuple[int, ...] = ()
        self.looks = 0

    def look(self) -> News:
        """Look now; return the news."""
        sight = self.detector.look(self.now, self.records)
        self.looks += 1
        self.pinged = sight.ping
        return sight.news

    def next_look(self) -> News:
        """Let time pass until the next look."""
        self.now = max(self.now, self.detector.next_look)
        return self.look()

    def looks_within(self, seconds: float, *, answering: bool = True) -> News:
        """Look whenever it is due, for some seconds; return all news."""
        end, news = self.now + seconds, self.look()
        while self.detector.next_look <= end:
            if answering:
                self.answer(*self.records)
            news += self.next_look()
        self.now = end
        return news

    def busy(self, pid: int, since: float) -> None:
        """Let a turn of a worker begin."""
        self.records[pid].times[BUSY_SINCE] = since

    def rests(self, pid: int) -> None:
        """Let a worker wait for events."""
        self.busy(pid, 0.0)

    def accept(self, pid: int, place: int = ACCEPTED) -> bool:
        """Let a worker accept a connection, which is counted at `place`; return True if it wakes the supervisor."""
        record = self.records[pid]
        record.numbers[place] += 1
        if record.watched:
            return False
        record.watched = True
        return True

    def answer(self, *pids: int) -> None:
        """Let workers answer their pings."""
        for pid in pids:
            times = self.records[pid].times
            times[ANSWERED] = times[ASKED]

    def tells_no_turns(self, pid: int) -> None:
        """Let the loop of a worker be one that cannot be observed."""
        self.records[pid].numbers[PULSE] = Pulse.PINGS

    def watches(self) -> Watch:
        """Let a connection come in, so that the supervisor watches; forget the first looks."""
        self.accept(1)
        self.look()
        self.answer(*self.records)
        return self


@pytest.fixture
def watch() -> Watch:
    """Two workers that wait; before the first look."""
    return Watch()


# --- when it looks


def test_a_quiet_service_is_looked_at_less_than_five_times_a_second(watch: Watch) -> None:
    assert watch.looks_within(100.0) == ()
    assert watch.looks < 500


@pytest.mark.parametrize("place", [ACCEPTED, ADOPTED])
def test_while_connections_come_in_it_looks_twice_within_the_threshold(watch: Watch, place: int) -> None:
    watch.look()
    watch.accept(1, place)
    watch.next_look()
    assert watch.detector.next_look == pytest.approx(watch.now + THRESHOLD / 2)


def test_a_short_threshold_does_not_make_it_look_without_pause() -> None:
    watch = Watch(threshold=0.001).watches()
    assert watch.detector.next_look - watch.now >= 0.002 - 1e-9


def test_only_the_first_connection_wakes_the_detector(watch: Watch) -> None:
    watch.look()
    assert [watch.accept(1), watch.accept(2), watch.accept(1)] == [True, False, False]


def test_once_woken_it_looks_soon_and_watches(watch: Watch) -> None:
    watch.look()
    watch.now += 0.01
    watch.accept(2)
    watch.detector.wake(watch.now)
    assert watch.detector.next_look == pytest.approx(watch.now + THRESHOLD / 2)
    watch.next_look()
    assert watch.board.watched


def test_it_is_calm_again_a_while_after_the_last_connection(watch: Watch) -> None:
    watch.watches()
    begin = watch.now
    while watch.board.watched:
        watch.next_look()
        watch.answer(1, 2)
    assert 0.05 < watch.now - begin < 0.2
    assert watch.detector.next_look == pytest.approx(watch.now + CALM)
    assert watch.accept(1)


def test_a_wake_up_does_not_put_a_look_off(watch: Watch) -> None:
    watch.watches()
    due = watch.detector.next_look
    watch.detector.wake(watch.now + THRESHOLD / 4)
    assert watch.detector.next_look == due


def test_a_connection_that_is_taken_while_the_flag_falls_is_not_overlooked() -> None:
    class Falling(Scoreboard):
        """A board with a flag that is cleared just after a connection was accepted."""

        @property
        def watched(self) -> bool:
            return super().watched

        @watched.setter
        def watched(self, value: bool) -> None:
            if not value and not taken:
                taken.append(True)
                records[1].numbers[ACCEPTED] += 1
            self.memory[0] = int(value)

    taken: list[bool] = []
    board = Falling(8)
    records = {pid: board.record(pid) for pid in (1, 2)}
    detector = StallDetector(board, THRESHOLD, 1.0)
    detector.look(1000.0, records)
    assert taken
    assert board.watched
    assert detector.next_look == pytest.approx(1000.0 + THRESHOLD / 2)


# --- pings


def test_everybody_is_asked_when_it_is_calm(watch: Watch) -> None:
    watch.look()
    assert watch.pinged == (1, 2)
    assert [watch.records[pid].times[ASKED] for pid in (1, 2)] == [watch.now, watch.now]


def test_no_worker_is_pinged_again_before_its_answer(watch: Watch) -> None:
    watch.look()
    watch.answer(2)
    watch.next_look()
    assert watch.pinged == (2,)


def test_while_it_watches_those_are_asked_at_each_look_that_tell_no_turns(watch: Watch) -> None:
    watch.tells_no_turns(2)
    watch.watches()
    for _ in range(5):
        watch.next_look()
        watch.answer(1, 2)
        assert watch.pinged == (2,)


def test_under_a_load_that_never_ends_everybody_is_asked_now_and_then(watch: Watch) -> None:
    """Or a process that was stopped while its loop waited would not be found, and no memory be looked at."""
    asked = []
    for _ in range(1000):
        watch.accept(1)
        watch.next_look()
        asked += [watch.now] * (2 in watch.pinged)
        watch.answer(1, 2)
    assert watch.board.watched
    assert max(after - before for before, after in itertools.pairwise(asked)) < 2 * CALM


# --- stalled loops


def test_a_turn_that_takes_too_long_is_a_stall_and_its_end_a_recovery(watch: Watch) -> None:
    watch.watches().busy(2, begin := watch.now)
    assert watch.next_look() == ()
    assert watch.next_look() == (Stalled(2, begin),)
    assert watch.next_look() == ()
    watch.rests(2)
    assert watch.next_look() == (Recovered(2),)
    assert watch.next_look() == ()


def test_short_turns_are_none(watch: Watch) -> None:
    watch.watches()
    for _ in range(100):
        watch.busy(1, watch.now - 0.004)
        watch.accept(1)
        assert watch.next_look() == ()
        watch.answer(1, 2)


def test_another_turn_that_is_long_too_is_another_stall(watch: Watch) -> None:
    watch.watches().busy(1, first := watch.now)
    watch.now += 1
    assert watch.look() == (Stalled(1, first),)
    watch.busy(1, second := first + 0.5)
    assert watch.look() == (Recovered(1), Stalled(1, second))


def test_another_turn_that_is_short_so_far_is_a_recovery(watch: Watch) -> None:
    watch.watches().busy(1, watch.now)
    watch.now += 1
    watch.look()
    watch.busy(1, watch.now)
    assert watch.look() == (Recovered(1),)


def test_a_ping_that_is_not_answered_is_a_stall_and_its_answer_a_recovery(watch: Watch) -> None:
    watch.tells_no_turns(1)
    watch.watches()
    watch.next_look()
    asked = watch.now
    watch.answer(2)
    assert watch.next_look() == ()
    assert watch.next_look() == (Stalled(1, asked),)
    watch.answer(1)
    assert watch.next_look() == (Recovered(1),)


def test_a_process_that_was_stopped_while_it_waited_is_found_when_it_is_calm(watch: Watch) -> None:
    watch.look()
    asked = watch.now
    watch.answer(1)
    assert watch.next_look() == (Stalled(2, asked),)


def test_a_process_that_was_stopped_while_it_waited_is_found_under_load(watch: Watch) -> None:
    news: News = ()
    for _ in range(200):
        watch.accept(1)
        watch.answer(1)
        news += watch.next_look()
    assert [type(item) for item in news] == [Stalled]
    assert news[0].pid == 2


def test_a_ping_older_than_the_turn_does_not_count(watch: Watch) -> None:
    watch.look()
    asked = watch.now
    watch.answer(1)
    watch.busy(2, asked + 0.1)
    assert watch.next_look() == (Stalled(2, asked + 0.1),)
    watch.answer(2)
    assert watch.next_look() == ()


def test_a_stall_that_is_found_when_it_is_calm_is_watched_from_then_on(watch: Watch) -> None:
    watch.look()
    watch.answer(1, 2)
    watch.busy(1, watch.now)
    assert watch.next_look() == (Stalled(1, watch.now - CALM),)
    assert watch.detector.next_look == pytest.approx(watch.now + THRESHOLD / 2)


def test_it_watches_for_as_long_as_a_stall_lasts(watch: Watch) -> None:
    watch.watches().busy(1, watch.now)
    watch.looks_within(10.0)
    assert watch.looks > 9 / (THRESHOLD / 2)
    assert watch.board.watched


def test_a_worker_that_vanishes_in_a_stall_is_forgotten(watch: Watch) -> None:
    watch = Watch(3).watches()
    watch.busy(2, watch.now)
    watch.now += 1
    assert watch.look() == (Stalled(2, watch.now - 1),)
    del watch.records[2]
    assert watch.look() == ()
    watch.answer(1, 3)
    watch.now += 1
    watch.look()
    assert not watch.board.watched


def test_a_recycled_pid_starts_without_a_stall(watch: Watch) -> None:
    watch.watches().busy(2, begin := watch.now)
    watch.now += 1
    watch.look()
    record = watch.records.pop(2)
    watch.look()
    watch.records[2] = record
    assert watch.look() == (Stalled(2, begin),)


# --- with other limits


@pytest.mark.parametrize("workers", [0, 1])
def test_with_a_single_worker_the_detector_looks_rarely_and_is_not_woken(workers: int) -> None:
    watch = Watch(workers)
    for _ in range(20):
        watch.next_look()
        watch.answer(*watch.records)
        for pid in watch.records:
            assert not watch.accept(pid)
    assert watch.now > 1000.0 + 18 * CALM


def test_a_stall_of_a_single_worker_is_reported() -> None:
    watch = Watch(1)
    watch.look()
    watch.answer(1)
    watch.busy(1, watch.now)
    assert watch.next_look() == (Stalled(1, watch.now - CALM),)
    assert watch.detector.next_look == pytest.approx(watch.now + CALM)


def test_without_a_threshold_only_stalls_to_report_count() -> None:
    watch = Watch(threshold=0.0, slowest=1.0)
    watch.look()
    watch.answer(1, 2)
    watch.busy(1, begin := watch.now)
    news = watch.looks_within(0.9)
    assert news == ()
    assert watch.looks_within(0.5) == (Stalled(1, begin),)


def test_without_a_threshold_the_detector_looks_rarely_and_is_not_woken() -> None:
    watch = Watch(threshold=0.0)
    for _ in range(20):
        assert not watch.accept(1)
        watch.next_look()
    watch.detector.wake(watch.now)
    assert watch.detector.next_look == pytest.approx(watch.now + CALM)


def test_without_any_limit_nothing_is_a_stall_and_memory_is_still_looked_at() -> None:
    watch = Watch(threshold=0.0, slowest=0.0)
    watch.busy(1, watch.now)
    assert watch.looks_within(100.0, answering=False) == ()
    watch.answer(1, 2)
    watch.next_look()
    assert watch.pinged == (1, 2)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, -1.0, 1e300, 5000.0])
@pytest.mark.parametrize("place", [BUSY_SINCE, ASKED, ANSWERED])
def test_garbage_on_the_scoreboard_is_no_stall(watch: Watch, wrong: float, place: int) -> None:
    watch.watches()
    watch.records[1].times[place] = wrong
    for _ in range(5):
        assert all(math.isfinite(item.since) for item in watch.next_look() if isinstance(item, Stalled))


# --- whatever happens

times = st.one_of(st.just(0.0), st.floats(0.0, 1010.0))
_facts = st.tuples(times, times, times, st.sampled_from([0, 1, 7]), st.integers(0, 2**64 - 1))
_step = st.tuples(st.floats(0.0, 2.0), st.dictionaries(st.integers(1, 4), _facts, max_size=4))


@given(st.lists(_step, max_size=12), st.sampled_from([0.0, 0.01, 0.5]), st.sampled_from([0.0, 0.2]))
def test_the_news_match_the_stalled_loops(
    steps: list[tuple[float, dict[int, tuple[float, float, float, int, int]]]], threshold: float, slowest: float
) -> None:
    """A model without memory: a worker is stalled if its turn, or outside of one a ping, is older than the limit."""
    board, now, limit = Scoreboard(8), 1000.0, threshold or slowest
    detector = StallDetector(board, threshold, slowest)
    told: set[int] = set()
    for seconds, facts in steps:
        now += seconds
        records = {pid: board.record(pid) for pid in facts}
        standing, waiting = set(), set()
        for pid, (busy, asked, answered, pulse, accepted) in facts.items():
            record = records[pid]
            record.times[BUSY_SINCE], record.times[ASKED], record.times[ANSWERED] = busy, asked, answered
            record.numbers[PULSE], record.numbers[ACCEPTED] = pulse, accepted
            began = [busy] if 0 < busy <= now else [asked] * (answered < asked <= now and asked > 0)
            standing |= {pid} if limit and any(now - since >= limit for since in began) else set()
            waiting |= {pid} if asked > answered else set()
        sight = detector.look(now, records)
        told &= facts.keys()
        for item in sight.news:
            assert (item.pid in told) == isinstance(item, Recovered), "news come in turns"
            told ^= {item.pid}
        assert told == standing
        assert not waiting & set(sight.ping)
        assert all(records[pid].times[ASKED] == now for pid in sight.ping)
        assert now + 0.002 <= detector.next_look + 1e-9 <= now + CALM + 1e-6
        assert board.watched or len(facts) >= 2


# --- recovery


@pytest.mark.parametrize(
    ("state", "busy_since", "expected"),
    [
        (Activity.READY, 990.0, False),  # the turn in which it has stalled
        (Activity.READY, 0.0, True),  # it waits
        (Activity.READY, 999.0, True),  # another turn
        (Activity.BOOTING, 0.0, False),  # no loop turns yet
    ],
)
def test_a_worker_turns_again_when_the_turn_of_the_stall_has_ended(
    state: Activity, busy_since: float, expected: bool
) -> None:
    watch = Watch()
    watch.records[1].numbers[STATE] = state
    watch.busy(1, busy_since)
    assert turns_again(watch.records[1], since=990.0, now=1000.0) is expected


def test_a_process_that_accepts_no_connections_is_watched_without_looking_often() -> None:
    watch = Watch(2)
    companion = {7: watch.board.record(7)}
    watch.looks_within(1)  # calm
    watch.answer(*watch.records)
    companion[7].times[BUSY_SINCE] = watch.now - 1
    sight = watch.detector.look(watch.now, watch.records, companion)
    assert sight.news == (Stalled(7, watch.now - 1),)
    assert watch.detector.next_look == watch.now + CALM
    assert 7 in sight.ping
    companion[7].times[BUSY_SINCE] = 0.0
    companion[7].times[ANSWERED] = companion[7].times[ASKED]
    watch.answer(*watch.records)
    assert watch.detector.look(watch.now, watch.records, companion).news == (Recovered(7),)


def test_a_ping_sent_during_a_stall_is_no_second_stall(watch: Watch) -> None:
    """The loop ends its long turn, and is in the next one when it is looked at: it answers the ping in a moment."""
    watch.watches()
    watch.busy(1, watch.now)
    watch.now += 1.0
    assert watch.look() == (Stalled(1, watch.now - 1.0),)
    assert 1 in watch.pinged
    watch.answer(2)
    watch.now += 1.0
    watch.busy(1, watch.now)
    assert watch.look() == (Recovered(1),)
    watch.answer(1)
    watch.rests(1)
    assert watch.looks_within(1.0) == ()


def test_a_ping_that_stays_unanswered_after_a_stall_is_a_stall(watch: Watch) -> None:
    watch.watches()
    watch.busy(1, watch.now)
    watch.now += 1.0
    watch.look()
    asked = watch.now
    watch.answer(2)
    watch.now += 1.0
    watch.busy(1, watch.now)
    assert watch.look() == (Recovered(1),)
    watch.answer(2)
    watch.rests(1)
    watch.now += THRESHOLD
    assert watch.look() == (Stalled(1, asked),)


# --- offload workers


def silent(detector: StallDetector, callee: Record, seconds: float) -> News:
    """Look for some seconds at an offload worker, pid 9, that answers no ping; return all news."""
    now, end, news = 1000.0, 1000.0 + seconds, ()
    while now <= end:
        news += detector.look(now, {}, {}, {9: callee}).news
        now = detector.next_look
    return news


def test_an_offload_worker_without_a_call_must_answer_within_a_second() -> None:
    watch = Watch()
    callee = watch.board.record(7)
    assert silent(watch.detector, callee, 0.9) == ()
    (news,) = silent(StallDetector(watch.board, THRESHOLD, 1.0), callee, 3.0)
    assert isinstance(news, Stalled)
    assert news.pid == 9


def test_an_offload_worker_that_runs_a_call_need_not_answer() -> None:
    watch = Watch()
    callee = watch.board.record(7)
    callee.numbers[CALL], callee.times[BUSY_SINCE] = 5, 990.0
    assert silent(watch.detector, callee, 10.0) == ()


def test_an_offload_worker_that_answers_again_has_recovered() -> None:
    watch = Watch()
    callee = watch.board.record(7)
    assert len(silent(watch.detector, callee, 3.0)) == 1
    callee.times[ANSWERED] = callee.times[ASKED]
    assert watch.detector.look(1010.0, {}, {}, {9: callee}).news == (Recovered(9),)
