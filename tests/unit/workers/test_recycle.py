"""When a worker is due for recycling: each limit, its jitter, and a single report."""

from __future__ import annotations

import pytest

from hybrid.workers.accepting.recycle import RecycleCheck
from hybrid.workers.boot.application import RecycleLimits
from hybrid.workers.common.heartbeat import Heartbeat
from hybrid.workers.contract.scoreboard import MEMORY, Record, Scoreboard


class Life:
    """A worker with a recycle check, and its reports."""

    def __init__(self, limits: RecycleLimits, draw: float = 0.0) -> None:
        self.record: Record = Scoreboard(1).record(0)
        self.heartbeat = Heartbeat(self.record)
        self.said: list[str] = []
        self.now = 50.0
        self.recycle_check = RecycleCheck(
            limits,
            self.heartbeat,
            self.said.append,
            lambda: self.now,
            lambda: draw,
            lambda: self.said.append("refork ready"),
        )

    def serves(self, count: int) -> None:
        for _ in range(count):
            self.heartbeat.counts_request()

    def holds(self, memory: int) -> None:
        self.record.numbers[MEMORY] = memory
        self.recycle_check.look()

    def lives(self, seconds: float) -> None:
        self.now += seconds
        self.recycle_check.look()


def test_without_limits_it_is_never_due() -> None:
    life = Life(RecycleLimits())
    life.serves(1000)
    life.lives(1e9)
    life.holds(2**50)
    assert life.said == []


def test_requests_are_counted_exactly() -> None:
    life = Life(RecycleLimits(max_requests=500))
    life.serves(499)
    assert life.said == []
    life.serves(1)
    assert life.said == ["served 500 requests"]
    life.serves(1000)
    assert len(life.said) == 1


@pytest.mark.parametrize(
    ("limit", "why"), [(90, "lived for 90 s"), (4500, "lived for 75 min"), (26 * 3600, "lived for 26 h")]
)
def test_it_is_due_at_its_lifetime_limit(limit: float, why: str) -> None:
    life = Life(RecycleLimits(max_lifetime=limit))
    life.lives(limit - 1)
    assert life.said == []
    life.lives(1)
    life.lives(1)
    assert life.said == [why]


def test_it_may_hold_so_much_memory() -> None:
    life = Life(RecycleLimits(max_memory=512 * 2**20))
    life.holds(512 * 2**20 - 1)
    assert life.said == []
    life.holds(512 * 2**20)
    life.holds(600 * 2**20)
    assert life.said == ["holds 512 MiB of memory"]


def test_it_is_due_once_whatever_limits_it_reaches() -> None:
    life = Life(RecycleLimits(max_requests=1, max_lifetime=1, max_memory=1))
    life.holds(1)
    life.serves(1)
    life.lives(1)
    assert len(life.said) == 1


def test_jitter_is_added_to_each_limit() -> None:
    limits = RecycleLimits(max_requests=100, max_lifetime=100, max_memory=1000, jitter=0.5)
    life = Life(limits, draw=1.0)
    life.serves(149)
    life.lives(149)
    life.holds(1499)
    assert life.said == []
    life.serves(1)
    assert life.said == ["served 150 requests"]
    for reach in (lambda life: life.lives(150), lambda life: life.holds(1500)):
        life = Life(limits, draw=1.0)
        reach(life)
        assert len(life.said) == 1


def test_workers_draw_limits_of_their_own() -> None:
    said: list[str] = []
    for _ in range(5):
        heartbeat = Heartbeat()
        RecycleCheck(RecycleLimits(max_requests=10_000), heartbeat, said.append)
        for _ in range(11_000):
            heartbeat.counts_request()
    assert len(said) == 5
    assert len(set(said)) > 1


def test_it_is_refork_ready_once_at_exactly_the_set_number_of_requests() -> None:
    life = Life(RecycleLimits(refork_after=10, jitter=1.0), draw=1.0)
    life.serves(9)
    assert life.said == []
    life.serves(1)
    assert life.said == ["refork ready"]
    life.serves(100)
    assert life.said == ["refork ready"]
    assert life.heartbeat.requests == 110


@pytest.mark.parametrize(
    ("refork_after", "max_requests", "said"),
    [
        (3, 5, {3: ["refork ready"], 4: ["refork ready"], 5: ["refork ready", "served 5 requests"]}),
        (5, 3, {3: ["served 3 requests"], 4: ["served 3 requests"], 5: ["served 3 requests", "refork ready"]}),
        (4, 4, {3: [], 4: ["served 4 requests", "refork ready"]}),
    ],
)
def test_both_counts_are_exact(refork_after: int, max_requests: int, said: dict[int, list[str]]) -> None:
    life = Life(RecycleLimits(refork_after=refork_after, max_requests=max_requests, jitter=0))
    for served in range(1, 10):
        life.serves(1)
        assert life.heartbeat.requests == served
        assert life.said == said.get(served, life.said)


def test_a_worker_above_its_memory_limit_at_the_start_warns_and_is_not_recycled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its successor would be no smaller."""
    life = Life(RecycleLimits(max_memory=1024, max_lifetime=60))
    life.recycle_check.begin()
    life.holds(2**50)
    assert life.said == []
    assert "MiB of memory before its first request" in caplog.text
    life.lives(60)
    assert life.said == ["lived for 60 s"]


def test_the_limit_that_a_worker_begins_above_is_the_one_that_was_set_not_the_one_it_drew() -> None:
    """Else some workers would go on being replaced for their start."""
    life = Life(RecycleLimits(max_memory=1024, jitter=2.0**50), draw=1.0)
    life.recycle_check.begin()
    life.holds(2**62)
    assert life.said == []


def test_a_worker_below_its_memory_limit_at_the_start_is_due_when_it_has_grown() -> None:
    life = Life(RecycleLimits(max_memory=2**49))
    life.recycle_check.begin()
    life.holds(2**50)
    assert len(life.said) == 1
