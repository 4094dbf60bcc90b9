"""The clock of a worker: deadlines in the time in which its loop turned."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from hybrid.workers.http.clock import MOST_ASIDE, Clock
from hybrid.workers.http.h1.deadlines import BODY_GRACE
from hybrid.workers.http.websocket.session import CLOSE_TIMEOUT

STEP = 1.0
SHORT = 0.05  # seconds between a look that was late and the next one


class FakeLoop:
    """A loop with a simulated clock."""

    def __init__(self) -> None:
        self.at = 1000.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.at

    def call_at(self, when: float, callback: Callable[[], None]) -> Any:
        self.timers.append((when, callback))
        return self

    def turn(self, until: float) -> None:
        """Let time pass in small turns, each timer at its time, if that is not over."""
        while self.timers and self.timers[0][0] <= until:
            when, callback = self.timers.pop()
            self.at = max(self.at, when)
            callback()
        self.at = until

    def stall(self, seconds: float) -> None:
        """Let time pass in one turn; timers that are due ring at its end."""
        self.at += seconds
        due, self.timers = self.timers, []
        for when, callback in due:
            if when <= self.at:
                callback()
            else:
                self.timers.append((when, callback))


class Item:
    """What has a deadline."""

    def __init__(self, loop: FakeLoop) -> None:
        self.deadline = 0.0
        self.ended_at: float | None = None
        self._loop = loop

    def expired(self) -> None:
        self.deadline = float("inf")
        self.ended_at = self._loop.time() - 1000.0


@pytest.fixture
def loop() -> FakeLoop:
    return FakeLoop()


def watching(loop: FakeLoop, patience: float) -> tuple[Clock, Item]:
    fake: Any = loop
    clock = Clock(fake, 4 * STEP)
    item = Item(loop)
    clock.watch(item)
    item.deadline = clock.now + patience
    return clock, item


def test_a_deadline_ends_at_the_second_check_after_it(loop: FakeLoop) -> None:
    _, item = watching(loop, 4.5)
    loop.turn(1005.0)
    assert item.ended_at is None
    loop.turn(1006.0)
    assert item.ended_at == pytest.approx(5.0 + SHORT)


def test_of_a_stall_only_two_steps_count(loop: FakeLoop) -> None:
    clock, item = watching(loop, 4.5)
    loop.turn(1002.0)
    loop.stall(60.0)
    assert clock.now == 1004.0
    loop.turn(1062.0 + STEP)
    assert item.ended_at is None
    loop.turn(1062.0 + STEP + SHORT)
    assert item.ended_at == pytest.approx(62.0 + STEP + SHORT)


def test_a_deadline_set_after_a_stall_and_before_the_check_is_early_by_two_steps_at_most(loop: FakeLoop) -> None:
    """The clock is not aware of the stall yet, and its time is old."""
    clock, item = watching(loop, float("inf"))
    loop.turn(1002.0)
    loop.at += 60.0
    item.deadline = clock.now + 4.5
    loop.turn(1062.0)
    loop.turn(1062.0 + 4.5 - 2 * STEP)
    assert item.ended_at is None
    loop.turn(1062.0 + 4.5 + STEP)
    assert item.ended_at is not None


@pytest.mark.parametrize("seconds", [0.01, 0.2, STEP, 60.0])
def test_after_a_stall_the_loop_reads_once_more_before_a_connection_ends(loop: FakeLoop, seconds: float) -> None:
    _, item = watching(loop, 2.5)
    loop.turn(1002.9)
    loop.stall(seconds)
    loop.turn(max(loop.at, 1003.0))
    assert item.ended_at is None
    item.deadline = float("inf")  # data has arrived
    loop.turn(1100.0)
    assert item.ended_at is None


def test_turns_that_are_shorter_than_a_step_all_count(loop: FakeLoop) -> None:
    clock, _ = watching(loop, float("inf"))
    for _ in range(100):
        loop.stall(0.3)
    assert clock.now >= 1000.0 + 100 * 0.3 - STEP - 0.3


def test_a_loop_that_is_always_late_has_limits_too(loop: FakeLoop) -> None:
    _, item = watching(loop, 5.0)
    for _ in range(20):
        loop.stall(STEP + 0.1)
    assert item.ended_at is not None


def test_an_item_that_was_put_aside_ends_in_time_whatever_deadline_it_gets(loop: FakeLoop) -> None:
    clock, item = watching(loop, float("inf"))
    for tenth in range(25, 66):  # of a second after the start
        loop.turn(1000.0 + tenth / 10)
        if tenth == 42:
            item.deadline = clock.now + 4 * STEP  # the shortest time
            ends = item.deadline
    loop.turn(ends + STEP + SHORT)
    assert item.ended_at is not None
    assert item.ended_at + 1000.0 >= ends


def test_after_a_hurry_an_item_that_was_put_aside_ends_earlier(loop: FakeLoop) -> None:
    clock, item = watching(loop, float("inf"))
    loop.turn(1002.5)
    item.deadline = clock.now + STEP
    clock.hurry(item)
    loop.turn(1003.0 + STEP + SHORT)
    assert item.ended_at is not None


def test_a_hurry_watches_nothing_that_was_forgotten(loop: FakeLoop) -> None:
    clock, item = watching(loop, float("inf"))
    loop.turn(1002.5)
    clock.forget(item)
    clock.hurry(item)
    assert not clock.watched


def test_what_was_put_aside_and_forgotten_does_not_end(loop: FakeLoop) -> None:
    clock, item = watching(loop, 20.0)
    loop.turn(1002.5)
    clock.forget(item)
    assert not clock.watched
    loop.turn(1100.0)
    assert item.ended_at is None
    assert not loop.timers


def test_each_deadline_ends_at_its_check(loop: FakeLoop) -> None:
    clock, _ = watching(loop, float("inf"))
    items = [Item(loop) for _ in range(200)]
    for number, item in enumerate(items):
        clock.watch(item)
        item.deadline = clock.now + number / 10
    loop.turn(1030.0)
    for number, item in enumerate(items):
        assert item.ended_at is not None
        assert number / 10 <= item.ended_at <= number / 10 + STEP + 2 * SHORT


def test_a_check_looks_at_few_of_many_items(loop: FakeLoop) -> None:
    """At each once within the shortest time."""

    class Counted(Item):
        looks = 0

        def __getattribute__(self, name: str) -> Any:
            if name == "deadline":
                Counted.looks += 1
            return super().__getattribute__(name)

    clock, _ = watching(loop, float("inf"))
    items = [Counted(loop) for _ in range(100)]
    for item in items:
        clock.watch(item)
        item.deadline = float("inf")
    loop.turn(1010.0)
    Counted.looks = 0
    loop.turn(1050.0)
    assert Counted.looks <= 2 * 100 * (40 / 4 + 1)


def test_no_limit_of_ours_is_shorter_than_items_are_put_aside() -> None:
    assert min(BODY_GRACE, CLOSE_TIMEOUT) >= MOST_ASIDE


class LooksAtAll(Clock):
    """A clock that puts nothing aside."""

    def _put_aside(self, now: float) -> None:
        pass


def life(kind: type[Clock], seed: int) -> list[tuple[int, list[float]]]:
    """Let items come, get deadlines, be forgotten and end, by chance; return when each has ended."""
    chance, loop = random.Random(seed), FakeLoop()
    shortest = chance.choice([0.2, 1.0, 4.0, 5.0, 75.0, float("inf")])
    least = min(shortest, MOST_ASIDE)
    fake: Any = loop
    clock = kind(fake, shortest)
    watched: list[Mortal] = []
    every: list[Mortal] = []
    for _ in range(300):
        what = chance.random()
        if what < 0.2 or not watched:
            watched.append(Mortal(loop))
            every.append(watched[-1])
            clock.watch(watched[-1])
            watched[-1].deadline = clock.now + least + chance.choice([0, 0.3, 2, 30, float("inf")])
        elif what < 0.5:
            chance.choice(watched).deadline = clock.now + least + chance.choice([0, 0.01, 0.3, 7, 30, float("inf")])
        elif what < 0.55:
            item = chance.choice(watched)
            item.deadline = clock.now + least * chance.random()
            clock.hurry(item)
        elif what < 0.6:
            clock.forget(watched.pop(chance.randrange(len(watched))))
        if chance.random() < 0.05:
            loop.stall(chance.choice([0.02, 0.3, 2, 40]))
        else:
            loop.turn(loop.at + chance.choice([0.001, 0.02, 0.1, 0.5, 1.3, least]))
    loop.turn(loop.at + 200)
    return [(number, item.ends) for number, item in enumerate(every)]


class Mortal:
    """An item that remembers each of its ends."""

    def __init__(self, loop: FakeLoop) -> None:
        self.deadline = 0.0
        self.ends: list[float] = []
        self._loop = loop

    def expired(self) -> None:
        self.deadline = float("inf")
        self.ends.append(self._loop.time())


def test_all_items_end_when_they_would_if_each_check_looked_at_each() -> None:
    for seed in range(25):
        assert life(Clock, seed) == life(LooksAtAll, seed), f"seed {seed}"
