"""The lines of a program: over chunks, too long, without an end, with bytes that are no text."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.supervisor.children import command
from hybrid.supervisor.children.command import Output


@pytest.fixture
def output() -> Iterator[Output]:
    made = Output()
    yield made
    made.close()


def wrote(output: Output, *chunks: bytes) -> list[str] | None:
    """Write chunks, and return the lines of the last read."""
    for chunk in chunks[:-1]:
        os.write(output.theirs, chunk)
        output.read()
    os.write(output.theirs, chunks[-1])
    return output.read()


def test_a_line_is_complete_with_its_end(output: Output) -> None:
    assert wrote(output, b"one\ntwo\nthr") == ["one", "two"]
    assert wrote(output, b"ee\n") == ["three"]


def test_nothing_written_is_no_line(output: Output) -> None:
    assert output.read() == []


def test_the_end_is_none(output: Output) -> None:
    output.close_theirs()
    assert output.read() is None


def test_what_is_written_last_needs_no_end_of_line(output: Output) -> None:
    assert wrote(output, b"one\nlast words") == ["one"]
    assert output.rest() == ["last words"]
    assert output.rest() == []


def test_an_empty_line_is_a_line(output: Output) -> None:
    assert wrote(output, b"\n\na\n") == ["", "", "a"]


def test_a_carriage_return_before_the_end_is_dropped(output: Output) -> None:
    assert wrote(output, b"one\r\ntwo\r\n") == ["one", "two"]


def test_a_line_that_is_too_long_becomes_several(output: Output) -> None:
    longest = command._LONGEST
    lines: list[str] = []
    for _ in range(3):
        lines += wrote(output, b"x" * longest) or []
    lines += wrote(output, b"y\n") or []
    assert "".join(lines) == "x" * 3 * longest + "y"
    assert max(map(len, lines)) == longest
    assert len(lines) <= 4


def test_a_line_without_an_end_takes_no_more_memory_than_one_line(output: Output) -> None:
    for _ in range(100):
        wrote(output, b"x" * 4096)
    assert len("".join(output.rest())) <= command._LONGEST


def test_a_character_may_lie_on_the_border_of_two_chunks(output: Output) -> None:
    first, second = "ä\n".encode()[:1], "ä\n".encode()[1:]
    assert wrote(output, first, second) == ["ä"]


def test_bytes_that_are_no_text_are_shown_as_numbers(output: Output) -> None:
    assert wrote(output, b"a\xff\xc3(\n") == ["a\\xff\\xc3("]


def test_both_ends_are_closed_and_once_more_is_fine(output: Output) -> None:
    ends = (output.fileno(), output.theirs)
    output.close()
    output.close()
    for fd in ends:
        with pytest.raises(OSError):
            os.fstat(fd)
    assert output.fileno() == -1


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_however_it_is_cut_no_byte_is_lost(chunks: list[bytes]) -> None:
    output = Output()
    lines: list[str] = []
    try:
        for chunk in filter(None, chunks):
            lines += wrote(output, chunk) or []
        rest = output.rest()
    finally:
        output.close()
    whole = b"".join(chunks).split(b"\n")
    assert [*lines, *rest] == [command._text(line) for line in whole[:-1]] + [
        command._text(line) for line in whole[-1:] if line
    ]


def test_writing_fails_once_the_supervisor_is_gone(output: Output) -> None:
    """A child that keeps the reading end would write into a pipe that nobody reads."""
    output.close_ours()
    with pytest.raises(BrokenPipeError):
        os.write(output.theirs, b"line\n")
