"""Lines that clients can cause at will: one a minute, and a count of the others."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from support.records import logged

from hybrid.workers.common.incidents import INTERVAL, Incidents


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines() -> Iterator[list[str]]:
    with logged(logging.DEBUG) as log:
        yield log


def told(lines: list[str], level: str) -> list[str]:
    return [line.removeprefix(f"{level} ") for line in lines if line.startswith(level)]


def test_the_first_line_is_logged_immediately(clock: Clock, lines: list[str]) -> None:
    Incidents(clock).log("lost %s", "192.0.2.7")
    assert told(lines, "INFO") == ["lost 192.0.2.7"]


def test_those_of_the_next_minute_go_to_level_debug(clock: Clock, lines: list[str]) -> None:
    incidents = Incidents(clock)
    for number in range(1000):
        incidents.log("lost %d", number)
    assert told(lines, "INFO") == ["lost 0"]
    assert told(lines, "DEBUG") == [f"lost {number}" for number in range(1, 1000)]


def test_the_line_after_a_minute_says_how_many_were_left_out(clock: Clock, lines: list[str]) -> None:
    incidents = Incidents(clock)
    for number in range(4):
        incidents.log("lost %d", number)
    clock.now += INTERVAL
    for number in range(4, 6):
        incidents.log("lost %d", number)
    last = "lost 4 (3 more connections ended early since the last such line; logged at level debug)"
    assert told(lines, "INFO") == ["lost 0", last]


def test_a_quiet_minute_leaves_nothing_to_tell(clock: Clock, lines: list[str]) -> None:
    incidents = Incidents(clock)
    for number in range(2):
        incidents.log("lost %d", number)
        clock.now += INTERVAL
    assert told(lines, "INFO") == ["lost 0", "lost 1"]
