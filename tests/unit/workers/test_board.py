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
    ASKED,
    BUSY_SINCE,
    CACHE_LINE,
    LAG_BOUNDS,
    LAG_MAX,
    LAGS,
    MEMORY,
    RECORD,
    REQUESTS,
    TURNS,
    Record,
    Scoreboard,
    Snapshot,
)

# CPython 3.12 warns of a fork beside threads, which test runners have
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
INDICES = {
    name: value
    for name, value in vars(scoreboard).items()
    if name.isupper() and isinstance(value, int) and name not in ("CACHE_LINE", "RECORD")
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
    taken = [*(value for name, value in INDICES.items() if name != "LAGS"), *range(LAGS, LAGS + len(LAG_BOUNDS))]
    assert len(set(taken)) == len(taken)
    assert max(taken) < RECORD // 8


def test_the_supervisor_writes_a_cache_line_of_its_own() -> None:
    workers = [*(value for name, value in INDICES.items() if name != "ASKED"), LAGS + len(LAG_BOUNDS) - 1]
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
    record.times[BUSY_SINCE], record.times[LAG_MAX] = 12.5, 0.25
    for index, value in ((ACCEPTED, 1), (ACTIVE, 2), (REQUESTS, 3), (TURNS, 4), (MEMORY, 5)):
        record.numbers[index] = value
    for bucket in range(len(LAG_BOUNDS)):
        record.numbers[LAGS + bucket] = bucket + 10
    expected = Snapshot(12.5, 1, 2, 3, 4, 0.25, (10, 11, 12, 13, 14, 15, 16, 17), 5)
    seen = record.snapshot()
    record.clear()
    assert seen == expected


def test_a_board_for_as_many_processes_as_there_can_be_is_small() -> None:
    places = 2 * 1024 + 64
    board = Scoreboard(places)
    board.record(places - 1).numbers[0] = 1
    assert len(board.memory) == CACHE_LINE + places * RECORD < 2 * 1024 * 1024
