"""Rates of the last seconds, from samples at looks whose times the test chooses."""

from __future__ import annotations

import pytest

from hybrid.supervisor.watch.rates import UNKNOWN, Samples
from hybrid.workers.contract.scoreboard import BUSY, BUSY_SINCE, REQUESTS, Record, Scoreboard

PID = 42


class Watched:
    """A worker that serves from second 100 on, and a look three times a second."""

    def __init__(self) -> None:
        self.record: Record = Scoreboard(1).record(0)
        self.samples = Samples()
        self.now = 100.0
        self.look()

    def look(self) -> None:
        self.samples.note(self.now, {PID: self.record})

    def serves(self, seconds: float, busy: float, per_second: int) -> None:
        for _ in range(int(seconds * 4)):
            self.now += 0.25
            self.record.times[BUSY] += busy / 4
            self.record.numbers[REQUESTS] += per_second // 4
            self.look()

    def rates(self) -> tuple[float | None, float | None]:
        found = self.samples.rates(PID, self.now, self.record)
        return found.busy, found.requests_per_second


@pytest.fixture
def worker() -> Watched:
    return Watched()


def test_a_worker_that_has_just_begun_has_no_rates(worker: Watched) -> None:
    assert worker.samples.rates(PID, 100.1, worker.record) is UNKNOWN


def test_a_young_worker_is_measured_from_its_begin(worker: Watched) -> None:
    worker.serves(2, busy=0.25, per_second=100)
    assert worker.rates() == (pytest.approx(0.25), pytest.approx(100))


def test_what_was_more_than_ten_seconds_ago_does_not_count(worker: Watched) -> None:
    worker.serves(60, busy=0.0, per_second=0)
    worker.serves(11, busy=0.5, per_second=40)
    assert worker.rates() == (pytest.approx(0.5), pytest.approx(40))


def test_a_stall_is_busy(worker: Watched) -> None:
    worker.serves(8, busy=0.0, per_second=0)
    worker.record.times[BUSY_SINCE] = worker.now
    for _ in range(44):
        worker.now += 0.25
        worker.look()
    assert worker.rates()[0] == pytest.approx(1)


def test_a_share_is_at_most_1(worker: Watched) -> None:
    worker.serves(8, busy=2.0, per_second=0)
    assert worker.rates()[0] == 1.0


def test_a_worker_that_no_longer_serves_has_no_rates(worker: Watched) -> None:
    worker.serves(3, busy=0.5, per_second=4)
    worker.samples.note(worker.now + 1, {})
    assert worker.rates() == (None, None)
