"""The memory that a worker writes its stacks to."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from hybrid.supervisor.watch.evidence import OURS, Condition, Evidence, Inquiry
from hybrid.workers.boot import stall
from hybrid.workers.contract.signals import DUMP_STACK, MOST_EVIDENCE, TELL_STACKS


@pytest.fixture
def evidence() -> Iterator[Evidence]:
    made = Evidence()
    yield made
    made.close()


def write(evidence: Evidence, data: bytes) -> int:
    return os.write(evidence.fileno(), data)


def test_what_was_written_is_taken_once(evidence: Evidence) -> None:
    write(evidence, b"one")
    write(evidence, b" two")
    assert [evidence.take(), evidence.take()] == ["one two", ""]


def test_room_is_free_again_once_nothing_more_comes(evidence: Evidence) -> None:
    for _ in range(3):
        assert write(evidence, b"x" * MOST_EVIDENCE) == MOST_EVIDENCE
        assert len(evidence.take()) == MOST_EVIDENCE
        assert evidence.take() == ""


def test_what_comes_while_a_dump_is_being_taken_is_not_lost(evidence: Evidence) -> None:
    write(evidence, b"one ")
    first = evidence.take()
    write(evidence, b"two")
    assert first + evidence.take() == "one two"


def test_no_more_is_kept_than_there_is_room_for(evidence: Evidence) -> None:
    assert write(evidence, b"x" * 2 * MOST_EVIDENCE) == MOST_EVIDENCE
    with pytest.raises(PermissionError):
        write(evidence, b"x")
    with pytest.raises(PermissionError):
        os.ftruncate(evidence.fileno(), 2 * MOST_EVIDENCE)


def test_a_worker_that_moves_the_place_to_write_at_does_no_harm(evidence: Evidence) -> None:
    for place in (2**40, 10, 0):
        os.lseek(evidence.fileno(), place, os.SEEK_SET)
        assert len(evidence.take()) <= MOST_EVIDENCE


def test_bytes_that_are_no_text_are_taken(evidence: Evidence) -> None:
    write(evidence, b"\xff\x00")
    assert evidence.take() == "\\xff\x00"


def test_a_process_shares_it_by_the_fork(evidence: Evidence) -> None:
    pid = os.fork()
    if pid == 0:
        write(evidence, b"from a child")
        os._exit(0)
    os.waitpid(pid, 0)
    assert evidence.take() == "from a child"


def test_programs_that_a_worker_executes_do_not_get_it(evidence: Evidence) -> None:
    assert not os.get_inheritable(evidence.fileno())


def test_it_may_be_closed_twice_and_says_nothing_then(evidence: Evidence) -> None:
    evidence.close()
    evidence.close()
    assert (evidence.fileno(), evidence.take()) == (-1, "")


def test_our_folders_are_known() -> None:
    assert {folder.rsplit("/", 1)[1] for folder in OURS} == {"hybrid", "supervisor", "workers"}
    assert any(stall.__file__.startswith(f"{folder}/") for folder in OURS)


def test_a_condition_names_what_hinders_a_process() -> None:
    condition = Condition("D", caught=1 << (TELL_STACKS - 1), blocked=1 << (DUMP_STACK - 1), pending=0)
    assert "uninterruptible" in condition.hindrance
    assert (condition.hears(TELL_STACKS), condition.hears(DUMP_STACK)) == (True, False)
    assert (condition.blocks(TELL_STACKS), condition.blocks(DUMP_STACK)) == (False, True)
    assert not condition.waits(TELL_STACKS)


def test_an_inquiry_ends_once(evidence: Evidence) -> None:
    inquiry = Inquiry(evidence, 2**22 + 1, lambda pid, number: None)
    assert inquiry.advance(0.0) is not None
    with pytest.raises(RuntimeError):
        inquiry.advance(0.0)
