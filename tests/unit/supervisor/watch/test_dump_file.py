"""The memory that a worker writes its stacks to."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from hybrid.supervisor.watch.dump_file import OURS, Condition, DumpFile, StackDump
from hybrid.supervisor.watch.stacks import threads_of
from hybrid.workers.boot import stall
from hybrid.workers.contract.signals import DUMP_STACK, MAX_DUMP, TELL_STACKS


@pytest.fixture
def dump_file() -> Iterator[DumpFile]:
    made = DumpFile()
    yield made
    made.close()


def write(dump_file: DumpFile, data: bytes) -> int:
    return os.write(dump_file.fileno(), data)


def test_written_text_is_taken_once(dump_file: DumpFile) -> None:
    write(dump_file, b"one")
    write(dump_file, b" two")
    assert [dump_file.take(), dump_file.take()] == ["one two", ""]


def test_room_is_free_again_once_nothing_more_comes(dump_file: DumpFile) -> None:
    for _ in range(3):
        assert write(dump_file, b"x" * MAX_DUMP) == MAX_DUMP
        assert len(dump_file.take()) == MAX_DUMP
        assert dump_file.take() == ""


def test_text_written_while_a_dump_is_taken_is_not_lost(dump_file: DumpFile) -> None:
    write(dump_file, b"one ")
    first = dump_file.take()
    write(dump_file, b"two")
    assert first + dump_file.take() == "one two"


def test_text_beyond_the_size_is_dropped(dump_file: DumpFile) -> None:
    assert write(dump_file, b"x" * 2 * MAX_DUMP) == MAX_DUMP
    with pytest.raises(PermissionError):
        write(dump_file, b"x")
    with pytest.raises(PermissionError):
        os.ftruncate(dump_file.fileno(), 2 * MAX_DUMP)


def test_a_worker_that_moves_the_place_to_write_at_does_no_harm(dump_file: DumpFile) -> None:
    for place in (2**40, 10, 0):
        os.lseek(dump_file.fileno(), place, os.SEEK_SET)
        assert len(dump_file.take()) <= MAX_DUMP


def test_bytes_that_are_no_text_are_taken(dump_file: DumpFile) -> None:
    write(dump_file, b"\xff\x00")
    assert dump_file.take() == "\\xff\x00"


def test_a_process_shares_it_by_the_fork(dump_file: DumpFile) -> None:
    pid = os.fork()
    if pid == 0:
        write(dump_file, b"from a child")
        os._exit(0)
    os.waitpid(pid, 0)
    assert dump_file.take() == "from a child"


def test_a_process_that_is_asked_writes_the_names_of_its_threads(dump_file: DumpFile) -> None:
    pid = os.fork()
    if pid == 0:
        threading.Thread(target=threading.Event().wait, name="wsgi-0\n [x]", daemon=True).start()
        stall.dump_on_request(dump_file.fileno())
        signal.raise_signal(TELL_STACKS)
        os._exit(0)
    os.waitpid(pid, 0)
    names = [thread.name for thread in threads_of(dump_file.take())]
    assert names == ["MainThread", "wsgi-0\\n [x]"]


def test_programs_that_a_worker_executes_do_not_get_it(dump_file: DumpFile) -> None:
    assert not os.get_inheritable(dump_file.fileno())


def test_it_may_be_closed_twice_and_is_empty_then(dump_file: DumpFile) -> None:
    dump_file.close()
    dump_file.close()
    assert (dump_file.fileno(), dump_file.take()) == (-1, "")


def test_our_folders_are_known() -> None:
    assert {folder.rsplit("/", 1)[1] for folder in OURS} == {"hybrid", "supervisor", "workers"}
    assert any(stall.__file__.startswith(f"{folder}/") for folder in OURS)


def test_a_condition_names_the_hindrance_of_a_process() -> None:
    condition = Condition("D", caught=1 << (TELL_STACKS - 1), blocked=1 << (DUMP_STACK - 1), pending=0)
    assert "uninterruptible" in condition.hindrance
    assert (condition.hears(TELL_STACKS), condition.hears(DUMP_STACK)) == (True, False)
    assert (condition.blocks(TELL_STACKS), condition.blocks(DUMP_STACK)) == (False, True)
    assert not condition.waits(TELL_STACKS)


def test_a_stack_dump_ends_once(dump_file: DumpFile) -> None:
    dump = StackDump(dump_file, 2**22 + 1, lambda pid, number: None)
    assert dump.advance(0.0) is not None
    with pytest.raises(RuntimeError):
        dump.advance(0.0)
