"""How many clients a worker sends away, when, and how many of them a second."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from hybrid.workers.accepting.passing import PATIENCE
from hybrid.workers.accepting.rebalancing import Rebalancing
from hybrid.workers.apps.web import Web
from hybrid.workers.contract.scoreboard import ACTIVE, BUSY_SINCE, STATE, Activity, Record, Scoreboard


class Siblings:
    """Ready workers with so many connections. The test is the first of them."""

    def __init__(self, *counts: int) -> None:
        self.now = 100.0
        self.board = Scoreboard(len(counts))
        self.records = [self.board.record(place) for place in range(len(counts))]
        self.board.receivers = [slot << 32 | slot for slot in range(len(counts))]
        for record, count in zip(self.records, counts, strict=True):
            record.numbers[STATE], record.numbers[ACTIVE] = Activity.READY, count
        self.rebalancing = Rebalancing(self.records[0], clock=lambda: self.now)

    def after(self, seconds: float, leaving: int = 0) -> int:
        """Look once more; return how many more connections are to leave, besides those that do already."""
        self.now += seconds
        excess = self.rebalancing.look()
        number = self.rebalancing.allowed(excess, leaving) if excess else 0
        if excess:
            self.rebalancing.have_left(number)
        return number

    def within(self, seconds: int) -> int:
        """Look four times a second; return how many connections have gone to the worker with the fewest."""
        gone = 0
        for _ in range(4 * seconds):
            for _ in range(self.after(0.25)):
                self.records[0].numbers[ACTIVE] -= 1
                min(self.records, key=_count).numbers[ACTIVE] += 1
                gone += 1
        return gone


def _count(record: Record) -> int:
    return record.numbers[ACTIVE]


@pytest.mark.parametrize("counts", [(8, 8), (7, 4), (9, 7, 8), (0, 0), (0, 9), (2, 0), (5,)])
def test_a_worker_with_about_as_many_as_the_others_keeps_all(counts: tuple[int, ...]) -> None:
    assert Siblings(*counts).within(20) == 0


def test_it_ends_at_one_more_than_the_mean() -> None:
    them = Siblings(16, 4, 4, 4)
    assert them.within(30) == 8
    assert sorted(map(_count, them.records)) == [6, 7, 7, 8]


def test_a_second_must_pass_before_the_first_one_leaves() -> None:
    them = Siblings(100, 0)
    assert [them.after(seconds) for seconds in (0.0, 0.5, 0.4, 0.1, 0.5, 0.5)] == [0, 0, 0, 12, 0, 12]


def test_the_second_begins_anew_once_it_was_even_between() -> None:
    them = Siblings(100, 0)
    them.after(0.9)
    them.records[1].numbers[ACTIVE] = 100
    them.after(0.1)
    them.records[1].numbers[ACTIVE] = 0
    assert [them.after(0.1), them.after(0.9), them.after(0.2)] == [0, 0, 12]


def test_an_eighth_leaves_each_second() -> None:
    assert 100 <= Siblings(1000, *[0] * 99).within(2) <= 160


def test_those_that_leave_already_count() -> None:
    them = Siblings(13, 3)
    them.after(0.0)
    assert [them.after(2.0, leaving=5), them.after(2.0, leaving=3)] == [0, 2]


def test_workers_that_drain_or_are_no_receivers_do_not_count() -> None:
    them = Siblings(12, 0, 0, 12)
    them.records[1].numbers[STATE] = Activity.DRAINING
    them.board.receivers = [0, 1 << 32 | 1, 3 << 32 | 3]
    assert them.within(20) == 0


@pytest.mark.parametrize("seconds", [PATIENCE, 100.0])
def test_a_worker_that_stands_still_gets_no_clients(seconds: float) -> None:
    them = Siblings(12, 0, 12)
    them.records[1].times[BUSY_SINCE] = them.now - seconds
    assert them.within(20) == 0


def test_where_none_may_leave_it_looks_again_later_and_later() -> None:
    them = Siblings(12, 0)
    looked = []
    for second in range(1, 100):
        them.now += 1.0
        if excess := them.rebalancing.look():
            looked.append(second)
            assert them.rebalancing.allowed(excess, 0)
            them.rebalancing.have_left(0)
    assert looked == [2, 4, 8, 16, 32, 62, 92]


def test_what_was_not_used_of_a_second_is_lost() -> None:
    them = Siblings(100, 0)
    them.after(0.0)
    assert [them.after(30.0, leaving=50), them.after(60.0)] == [0, 12]


def test_a_worker_that_is_no_receiver_itself_keeps_all() -> None:
    them = Siblings(12, 0)
    them.board.receivers = [1 << 32 | 1]
    assert them.within(20) == 0


# --- which clients


@dataclasses.dataclass
class Client:
    """A connection of a web application."""

    deadline: float
    may_leave: bool = True
    is_leaving: bool = False

    def leave(self) -> None:
        self.may_leave, self.is_leaving = False, True


class Served:
    """A web application with these connections."""

    def __init__(self, *clients: Client) -> None:
        self._clients = clients

    def served(self) -> tuple[Client, ...]:
        return self._clients

    def moves(self, number: int) -> list[bool]:
        """Have so many leave; return for each whether it does."""
        adapter: Any = self
        assert Web.move(adapter, lambda leaving: number) == number
        return [client.is_leaving for client in self._clients]


def test_clients_that_asked_last_leave_first() -> None:
    assert Served(Client(1.0), Client(3.0), Client(2.0)).moves(2) == [False, True, True]


def test_clients_that_cannot_leave_now_do_not_keep_others_from_it() -> None:
    """Streams in progress have no deadline, and WebSockets a late one."""
    streams = [Client(math.inf, may_leave=False) for _ in range(20)]
    assert Served(*streams, Client(1.0), Client(2.0)).moves(1) == [False] * 21 + [True]


def test_it_is_told_how_many_leave_already() -> None:
    told: list[int] = []
    adapter: Any = Served(Client(1.0), Client(2.0, may_leave=False, is_leaving=True))
    assert Web.move(adapter, lambda leaving: told.append(leaving) or 0) == 0
    assert told == [1]
