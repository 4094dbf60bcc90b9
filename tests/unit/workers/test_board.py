"""The memory of the scoreboard: sharing, layout, records of dead processes."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.workers.contract import scoreboard
from hybrid.workers.contract.scoreboard import (
    ACCEPTED,
    ACTIVE,
    ADOPTED,
    ASKED,
    BUSY,
    BUSY_SINCE,
    BYTES_IN,
    BYTES_OUT,
    CACHE_LINE,
    CALL,
    CALL_RAN,
    CALL_SECONDS,
    CLASSES,
    CPU,
    DURATION_BOUNDS,
    DURATION_SUM,
    DURATIONS,
    IN_FLIGHT,
    LAG_BOUNDS,
    LAG_MAX,
    LAGS,
    LOG_DROPPED,
    MEMORY,
    MOST_POOLS,
    OFFLOAD_OUTCOMES,
    OUTCOMES,
    POOL_SIZE,
    POOLS,
    RECORD,
    REQUESTS,
    RESPONSES,
    TURNS,
    UNDERWAY,
    WEBSOCKETS,
    CallCounts,
    Record,
    Scoreboard,
    Snapshot,
    Totals,
)

# CPython 3.12 warns of a fork beside threads, which test runners have
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
_IN_A_POOL = {"OUTCOMES", "UNDERWAY", "CALL_SECONDS", "CALL_RAN"}
_NO_INDICES = {"CACHE_LINE", "RECORD", "WATCHED", "POOLS", "POOL_SIZE", "MOST_POOLS", *_IN_A_POOL}
INDICES = {
    name: value
    for name, value in vars(scoreboard).items()
    if name.isupper() and isinstance(value, int) and name not in _NO_INDICES
}


@pytest.fixture
def board() -> Scoreboard:
    return Scoreboard(4)


def run_child(record: Record, how: int | None) -> None:
    """Have a child write into a record and exit, or be killed by a signal."""
    pid = os.fork()
    if pid == 0:
        record.numbers[REQUESTS] = 41
        record.times[BUSY_SINCE] = 1234.5
        record.watched = True
        if how is not None:
            os.kill(os.getpid(), how)
        os._exit(0)
    os.waitpid(pid, 0)


@pytest.mark.parametrize("how", [None, signal.SIGKILL])
def test_what_a_process_has_written_outlives_it(board: Scoreboard, how: int | None) -> None:
    record = board.record(2)
    run_child(record, how)
    assert (record.snapshot().requests, record.snapshot().busy_since, board.watched) == (41, 1234.5, True)


def test_what_the_supervisor_writes_is_seen_in_a_process_that_lives(board: Scoreboard) -> None:
    read, write = os.pipe()
    record = board.record(0)
    pid = os.fork()
    if pid == 0:
        os.read(read, 1)
        os._exit(int(record.times[ASKED] == 7.5))
    record.times[ASKED] = 7.5
    os.write(write, b"x")
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(read)
    os.close(write)
    assert code == 1


def test_two_objects_of_a_place_are_one_record(board: Scoreboard) -> None:
    board.record(1).numbers[ACCEPTED] = 3
    assert board.record(1).numbers[ACCEPTED] == 3
    assert board.record(1).place == 1


def test_a_new_board_is_empty_and_not_watched(board: Scoreboard) -> None:
    assert not board.watched
    assert all(not any(board.record(place).numbers) for place in range(4))


@pytest.mark.parametrize("place", [-1, 4, 2**40])
def test_a_place_that_is_none_is_refused(board: Scoreboard, place: int) -> None:
    with pytest.raises(IndexError, match="of 4"):
        board.record(place)


def test_no_two_numbers_lie_at_one_place() -> None:
    tables = {"LAGS": len(LAG_BOUNDS), "RESPONSES": len(CLASSES), "DURATIONS": len(DURATION_BOUNDS) + 1}
    taken = [place for name, index in INDICES.items() for place in range(index, index + tables.get(name, 1))]
    assert len(set(taken)) == len(taken)
    assert max(taken) < POOLS


def test_the_supervisor_writes_a_cache_line_of_its_own() -> None:
    workers = [*(value for name, value in INDICES.items() if name != "ASKED"), LAGS + len(LAG_BOUNDS) - 1]
    workers += [RESPONSES + len(CLASSES) - 1, DURATIONS + len(DURATION_BOUNDS)]
    assert ASKED * 8 // CACHE_LINE not in {index * 8 // CACHE_LINE for index in workers}


def test_records_begin_at_a_cache_line(board: Scoreboard) -> None:
    assert RECORD % CACHE_LINE == 0
    board.record(3).numbers[0] = 2**64 - 1
    begin = CACHE_LINE + 3 * RECORD
    assert board.memory[begin : begin + 8] == b"\xff" * 8
    assert board.memory[begin - 8 : begin] == bytes(8)


@given(st.integers(0, 3), st.integers(0, 63), st.integers(1, 2**64 - 1))
def test_a_number_changes_nothing_else(place: int, index: int, value: int) -> None:
    board = Scoreboard(4)
    board.record(place).numbers[index] = value
    others = [
        board.record(one).numbers[other] for one in range(4) for other in range(64) if (one, other) != (place, index)
    ]
    assert not any(others)
    assert not board.watched
    board.record(place).clear()
    assert not any(board.memory[:])


def test_clearing_a_record_leaves_its_neighbours(board: Scoreboard) -> None:
    for place in range(4):
        for index in range(64):
            board.record(place).numbers[index] = 7
    board.watched = True
    board.record(1).clear()
    assert [sum(board.record(place).numbers) for place in range(4)] == [448, 0, 448, 448]
    assert board.watched


def test_the_flag_is_one_for_all(board: Scoreboard) -> None:
    board.record(0).watched = True
    assert board.record(3).watched
    board.watched = False
    assert not board.record(0).watched


def test_a_snapshot_has_what_the_record_says_and_changes_no_more(board: Scoreboard) -> None:
    record = board.record(0)
    for index, seconds in ((BUSY_SINCE, 12.5), (LAG_MAX, 0.25), (BUSY, 7.5), (DURATION_SUM, 8.5)):
        record.times[index] = seconds
    numbers = (ACCEPTED, ACTIVE, REQUESTS, TURNS, MEMORY, IN_FLIGHT, WEBSOCKETS, BYTES_IN, BYTES_OUT)
    for value, index in enumerate(numbers, 1):
        record.numbers[index] = value
    for bucket in range(len(LAG_BOUNDS)):
        record.numbers[LAGS + bucket] = bucket + 10
    for bucket in range(len(DURATION_BOUNDS) + 1):
        record.numbers[DURATIONS + bucket] = bucket + 20
    record.numbers[RESPONSES + 4] = 1
    record.numbers[CALL] = 41
    record.times[CPU] = 10.5
    record.numbers[ADOPTED] = 6
    record.numbers[LOG_DROPPED] = 13
    totals = Totals(7, 3, (0, 0, 0, 0, 1), 8, 9, 7.5, tuple(range(20, 36)), 8.5, 10.5, 6, 13)
    expected = Snapshot(12.5, 7, 2, 3, 4, 0.25, (10, 11, 12, 13, 14, 15, 16, 17), 5, 6, 7, 41, totals)
    seen = record.snapshot()
    record.clear()
    assert seen == expected


def test_requests_are_no_fewer_than_the_responses_told(board: Scoreboard) -> None:
    record = board.record(0)
    record.numbers[REQUESTS] = 5
    record.numbers[RESPONSES + 1] = 7
    assert record.totals().requests == 7


def test_totals_add_up() -> None:
    one = Totals(1, 2, (1, 2, 3, 4, 5), 3, 4, 0.5, tuple(range(16)), 1.5, 2.5, 1, 6)
    assert one.plus(one) == Totals(2, 4, (2, 4, 6, 8, 10), 6, 8, 1.0, tuple(range(0, 32, 2)), 3.0, 5.0, 2, 12)
    assert Totals().plus(one) == one
    calls = CallCounts(tuple(range(6)), 3.5, 4.5)
    assert calls.plus(calls) == CallCounts(tuple(range(0, 12, 2)), 7.0, 9.0)


def test_the_calls_to_each_pool_have_numbers_of_their_own(board: Scoreboard) -> None:
    record = board.record(0)
    for pool in range(MOST_POOLS):
        calls = record.calls_to(pool)
        for number in range(len(OFFLOAD_OUTCOMES)):
            calls.numbers[OUTCOMES + number] = pool * 10 + number
        calls.numbers[UNDERWAY], calls.times[CALL_SECONDS], calls.times[CALL_RAN] = pool, pool + 0.5, pool + 0.25
    for pool in range(MOST_POOLS):
        calls = record.calls_to(pool)
        outcomes = tuple(range(pool * 10, pool * 10 + 6))
        assert (calls.underway, calls.counts()) == (pool, CallCounts(outcomes, pool + 0.5, pool + 0.25))
    assert not any(record.numbers[:POOLS]), "the first half belongs to other numbers"
    record.clear()
    assert not any(record.numbers)


def test_the_pools_end_with_the_record() -> None:
    assert POOLS + MOST_POOLS * POOL_SIZE == RECORD // 8


def test_a_board_for_as_many_processes_as_there_can_be_is_small() -> None:
    places = 2 * 1024 + 64
    board = Scoreboard(places)
    board.record(places - 1).numbers[0] = 1
    assert len(board.memory) == CACHE_LINE + places * (RECORD + 8) + 8 < 3 * 1024 * 1024
