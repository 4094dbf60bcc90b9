"""The clock of a worker: deadlines in the time in which its loop turned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hybrid.workers.http.clock import Clock

STEP = 1.0
SHORT = 0.05  # seconds between a look that was late and the next one


class FakeLoop:
    """A loop whose time passes when it is told so."""

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


def test_a_deadline_ends_at_the_look_after_it(loop: FakeLoop) -> None:
    _, item = watching(loop, 4.5)
    loop.turn(1004.9)
    assert item.ended_at is None
    loop.turn(1006.0)
    assert item.ended_at == 5.0


def test_time_in_which_the_loop_stood_does_not_count(loop: FakeLoop) -> None:
    clock, item = watching(loop, 4.5)
    loop.turn(1002.0)
    loop.stall(60.0)
    assert clock.now == 1003.0  # a step, in which the loop was due to turn
    loop.turn(1062.0 + 1.4)
    assert item.ended_at is None
    loop.turn(1062.0 + 2.2)
    assert item.ended_at == pytest.approx(62.0 + SHORT + 2 * STEP, abs=SHORT)


def test_a_deadline_set_after_a_stall_and_before_the_look_is_no_earlier(loop: FakeLoop) -> None:
    """The clock does not know yet, and what it says is old."""
    clock, item = watching(loop, float("inf"))
    loop.turn(1002.0)
    loop.at += 60.0
    item.deadline = clock.now + 4.5
    loop.turn(1062.0)
    loop.turn(1062.0 + 4.5 - STEP - 0.1)
    assert item.ended_at is None
    loop.turn(1062.0 + 4.5 + STEP)
    assert item.ended_at is not None


def test_a_look_that_comes_late_leaves_time_to_read_what_has_come(loop: FakeLoop) -> None:
    _, item = watching(loop, 2.5)
    loop.turn(1002.0)
    loop.stall(60.0)
    assert item.ended_at is None
    loop.turn(1062.0 + SHORT)
    assert item.ended_at == pytest.approx(62.0 + SHORT)


def test_a_loop_that_is_always_late_has_limits_too(loop: FakeLoop) -> None:
    _, item = watching(loop, 5.0)
    for _ in range(20):
        loop.stall(STEP + 0.1)
    assert item.ended_at is not None
