"""Which connections a worker passes to which sibling, and the queue that they go through."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from hybrid.supervisor.listeners.passing import PassingQueues
from hybrid.workers.accepting.passing import PATIENCE, PassedQueue, Passing, taken
from hybrid.workers.contract.scoreboard import (
    ACCEPTED,
    ACTIVE,
    ANSWERED,
    ASKED,
    BUSY_SINCE,
    STATE,
    Activity,
    Record,
    Scoreboard,
)
from hybrid.workers.runtime import Accepted

AT, PEER = "127.0.0.1:8000", ("127.0.0.1", 4711)


class Service:
    """The workers of a service, by slot, and the queue of each. The test is the worker of slot 0."""

    def __init__(self, *counts: int, capacity: int = 0) -> None:
        self.now = 100.0
        self.board = Scoreboard(len(counts))
        self.records: list[Record] = [self.board.record(place) for place in range(len(counts))]
        self.board.receivers = [slot << 32 | slot for slot in range(len(counts))]
        for record, count in zip(self.records, counts, strict=True):
            record.numbers[STATE], record.numbers[ACTIVE], record.numbers[ACCEPTED] = Activity.READY, count, count
        self.queues = PassingQueues()
        self.queues.grow(len(counts))
        queue_of: Any = {slot: listener.sock for slot, listener in enumerate(self.queues.listeners) if slot}.get
        self.passing = Passing(self.records[0], queue_of, range(counts[0]), capacity, clock=lambda: self.now)

    def accepts(self) -> bool:
        """Accept a connection; return True if it was passed on."""
        fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        if self.passing.passes(fd, PEER, AT):
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)
            return True
        os.close(fd)
        return False

    def is_busy(self, slot: int, seconds: float, how: str = "a long turn") -> None:
        """Have a sibling been busy for so long."""
        times = self.records[slot].times
        times[ANSWERED] = 50.0
        times[BUSY_SINCE if how == "a long turn" else ASKED] = self.now - seconds

    def ends(self, count: int) -> None:
        """Have connections of this worker ended, and as many others come."""
        self.records[0].numbers[ACCEPTED] += count

    def empties(self, slot: int) -> None:
        """Let a sibling take and end all that was passed to it."""
        self.taken_at(slot)
        self.records[slot].numbers[ACTIVE] = 0

    def taken_at(self, slot: int) -> int:
        """Take all connections from the queue of a slot; return their number."""
        queue, count = PassedQueue(self.queues.listeners[slot].sock), 0
        while True:
            try:
                fd, said = queue._accept()
            except BlockingIOError:
                return count
            assert said == (AT, PEER)
            os.close(fd)
            count += 1

    def close(self) -> None:
        self.queues.close()


@pytest.fixture
def made() -> Iterator[list[Service]]:
    services: list[Service] = []
    yield services
    for service in services:
        service.close()


def service(made: list[Service], *counts: int, capacity: int = 0) -> Service:
    made.append(Service(*counts, capacity=capacity))
    return made[-1]


def test_a_worker_passes_a_connection_to_the_sibling_with_the_fewest(made: list[Service]) -> None:
    one = service(made, 3, 2, 1, 2)
    assert one.accepts()
    assert [one.taken_at(slot) for slot in range(4)] == [0, 0, 1, 0]


@pytest.mark.parametrize("counts", [(0, 0), (1, 1), (1, 2), (0, 5)])
def test_it_keeps_what_no_sibling_has_fewer_of(counts: tuple[int, ...], made: list[Service]) -> None:
    assert not service(made, *counts).accepts()


def test_connections_on_their_way_count(made: list[Service]) -> None:
    one = service(made, 2, 0, 0)
    assert [one.accepts() for _ in range(5)] == [True, True, True, True, False]
    assert [one.taken_at(slot) for slot in (1, 2)] == [2, 2]


def test_only_receivers_get_connections(made: list[Service]) -> None:
    one = service(made, 3, 0, 1)
    one.board.receivers = [0, 2 << 32 | 2]
    assert one.accepts()
    assert one.taken_at(2) == 1


def test_a_sibling_that_drains_gets_none(made: list[Service]) -> None:
    one = service(made, 3, 0)
    one.records[1].numbers[STATE] = Activity.DRAINING
    assert not one.accepts()


def test_a_full_sibling_gets_none(made: list[Service]) -> None:
    assert not service(made, 5, 3, capacity=3).accepts()


@pytest.mark.parametrize("how", ["a long turn", "an unanswered ping"])
def test_a_free_sibling_comes_before_a_busy_one(how: str, made: list[Service]) -> None:
    one = service(made, 3, 1, 2)
    one.is_busy(1, 0.1, how)
    assert one.accepts()
    assert one.taken_at(2) == 1
    assert one.accepts()
    assert one.taken_at(1) == 1


def test_of_many_connections_few_wait_for_a_busy_sibling_with_one_fewer(made: list[Service]) -> None:
    one = service(made, 1, 0)
    one.is_busy(1, 0.1)
    passed = [one.accepts() for _ in range(50) if not one.empties(1)]
    assert passed == [True] * 20 + [False] * 30
    one.now += 0.11
    one.is_busy(1, 0.1)
    assert [one.accepts() for _ in range(2) if not one.empties(1)] == [True, False]


def test_a_busy_sibling_with_far_fewer_gets_all(made: list[Service]) -> None:
    one = service(made, 2, 0)
    one.is_busy(1, 0.1)
    assert all(one.accepts() for _ in range(50) if not one.empties(1))


def test_a_busy_sibling_gets_none_while_connections_end_as_fast_as_they_come(made: list[Service]) -> None:
    one = service(made, 9, 0, 8)
    one.is_busy(1, 0.1)
    assert one.accepts()
    assert (one.taken_at(1), one.taken_at(2)) == (0, 1), "a free one gets it anyway"
    for _ in range(4):  # windows
        one.now += 0.25
        one.is_busy(1, 0.1)
        one.ends(2)
        assert not one.accepts()

    assert not one.accepts()
    one.now += 0.25
    one.ends(1)  # of nine
    one.is_busy(1, 0.1)
    assert one.accepts()


def test_a_free_sibling_is_found_behind_many_busy_ones(made: list[Service]) -> None:
    one = service(made, 9, *[0] * 8, 7)
    for slot in range(1, 9):
        one.is_busy(slot, PATIENCE)
    assert one.accepts()
    assert one.taken_at(9) == 1


@pytest.mark.parametrize("how", ["a long turn", "an unanswered ping"])
def test_a_sibling_that_has_been_busy_for_long_gets_none(how: str, made: list[Service]) -> None:
    one = service(made, 9, 0)
    one.is_busy(1, PATIENCE, how)
    assert not one.accepts()


def test_what_was_passed_to_a_busy_sibling_is_left_to_it_for_a_moment(made: list[Service]) -> None:
    one = service(made, 1, 0)
    assert one.passing.holds(1) == PATIENCE
    one.is_busy(1, PATIENCE / 2)
    assert one.passing.holds(1) == pytest.approx(PATIENCE / 2)
    one.is_busy(1, PATIENCE + 0.01)
    assert one.passing.holds(1) == 0


def test_what_was_passed_is_adopted_at_once_while_connections_end_as_fast_as_they_come(made: list[Service]) -> None:
    one = service(made, 1, 0)
    assert one.passing.holds(1) == PATIENCE
    one.ends(1)
    assert one.passing.holds(1) == 0


@pytest.mark.parametrize("how", ["dead", "draining"])
def test_what_was_passed_to_a_sibling_that_ends_is_adopted_at_once(how: str, made: list[Service]) -> None:
    one = service(made, 1, 0)
    if how == "dead":
        one.board.receivers = [0]
    else:
        one.records[1].numbers[STATE] = Activity.DRAINING
    assert one.passing.holds(1) == 0


def test_a_worker_passes_on_a_bounded_number_per_second(made: list[Service]) -> None:
    one = service(made, 1000, 0)
    assert sum(one.accepts() for _ in range(150)) == 100
    one.now += 0.25
    assert sum(one.accepts() for _ in range(150)) == 50


def test_a_full_queue_leaves_the_connection_where_it_is(made: list[Service]) -> None:
    one = service(made, 1000, 0)
    one.queues.listeners[1].sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    passed = sum(one.accepts() for _ in range(50))
    assert 0 < passed < 50
    assert one.taken_at(1) == passed


def test_a_slot_whose_queue_is_unknown_gets_none(made: list[Service]) -> None:
    one = service(made, 3, 0)
    one.passing = Passing(one.records[0], lambda slot: None, range(3), clock=lambda: one.now)
    assert not one.accepts()


def test_with_many_siblings_some_are_compared_each_time(made: list[Service]) -> None:
    one = service(made, *[5] * 39, 0)
    assert 0 < sum(one.accepts() for _ in range(200)) <= 5


def test_a_process_without_free_descriptors_loses_no_connection(made: list[Service]) -> None:
    one = service(made, 3, 0)
    assert one.accepts()
    queue = PassedQueue(one.queues.listeners[1].sock)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        queue._accept()
    except OSError as error:
        caught = error
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert caught.errno == errno.EMFILE
    assert one.taken_at(1) == 1


def test_a_queue_that_was_shut_down_is_broken(made: list[Service]) -> None:
    one = service(made, 3, 0)
    one.queues.listeners[1].sock.shutdown(socket.SHUT_RDWR)
    assert not one.accepts()
    with pytest.raises(OSError, match="shut down"):
        PassedQueue(one.queues.listeners[1].sock)._accept()


def test_other_sockets_cannot_write_to_a_queue(made: list[Service]) -> None:
    one = service(made, 1)
    name = one.queues.listeners[0].sock.getsockname()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        with pytest.raises(PermissionError):
            stranger.sendto(b"hello", name)
        with pytest.raises(PermissionError):
            stranger.connect(name)


def test_a_passed_connection_is_as_accepted_from_the_listener_that_it_names() -> None:
    seen: list[Accepted] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken(seen.append, {AT: listener})(Accepted(7, (AT, PEER), listener))
        assert seen == [Accepted(7, PEER, listener)]


def test_a_connection_to_an_address_that_is_not_served_is_closed() -> None:
    fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    taken(lambda accepted: pytest.fail("it was served"), {})(Accepted(fd, (AT, PEER), None))  # type: ignore[arg-type]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
