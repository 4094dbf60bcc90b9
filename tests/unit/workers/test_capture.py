"""The stream that logs each line written to it."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterator

import pytest

from hybrid.workers.boot import capture
from hybrid.workers.boot.capture import CONTINUES, LONGEST, Lines


@pytest.fixture
def logged() -> Iterator[list[tuple[str, str]]]:
    """Stream and text of the records, at any level of the log."""
    found: list[tuple[str, str]] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append((record.stream, record.getMessage()))  # type: ignore[attr-defined]

    logger = logging.getLogger("hybrid")
    collector, level = Collector(), logger.level
    logger.addHandler(collector)
    logger.setLevel(logging.ERROR)
    yield found
    logger.removeHandler(collector)
    logger.setLevel(level)


@pytest.fixture
def stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(
        Lines("stdout", 1), encoding="utf-8", errors="backslashreplace", newline="\n", write_through=True
    )


def test_each_line_is_a_record_at_once(logged: list[tuple[str, str]], stream: io.TextIOWrapper) -> None:
    print("one", 2, file=stream)
    assert logged == [("stdout", "one 2")]
    stream.write("a\nb\r\n\nrest")
    assert [text for _, text in logged] == ["one 2", "a", "b", ""]
    print(" of it", file=stream)
    assert logged[-1] == ("stdout", "rest of it")


def test_bytes_that_are_no_text_and_texts_that_are_no_unicode_are_escaped(
    logged: list[tuple[str, str]], stream: io.TextIOWrapper
) -> None:
    stream.buffer.write(b"\xff %s\n")
    stream.write("\udcff\n")
    assert [text for _, text in logged] == ["\\xff %s", "\\udcff"]


def test_a_long_line_is_logged_in_pieces_with_a_mark(logged: list[tuple[str, str]], stream: io.TextIOWrapper) -> None:
    stream.write("x" * (LONGEST + 10))
    assert logged == [("stdout", "x" * LONGEST + CONTINUES)]
    stream.write("y" * LONGEST + "\n")
    assert [text for _, text in logged[1:]] == ["x" * 10 + "y" * (LONGEST - 10) + CONTINUES, "y" * 10]


def test_the_end_logs_what_is_unfinished(logged: list[tuple[str, str]]) -> None:
    lines = Lines("stderr", 2)
    lines.write(b"unfinished")
    lines.finish()
    lines.finish()
    assert logged == [("stderr", "unfinished")]


def test_threads_do_not_mix_their_lines(logged: list[tuple[str, str]], stream: io.TextIOWrapper) -> None:
    stream.write("mine ")
    thread = threading.Thread(target=lambda: print("theirs", file=stream))
    thread.start()
    thread.join()
    stream.write("too\n")
    assert [text for _, text in logged] == ["theirs", "mine too"]


def test_unfinished_lines_of_many_threads_are_bounded(
    logged: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Lines("stdout", 1)
    for number in range(200):
        monkeypatch.setattr(capture, "get_ident", lambda number=number: number)
        lines.write(b"%d" % number)
        assert len(lines._rests) <= 64
    lines.finish()
    assert [text for _, text in logged] == [str(number) for number in range(200)]


def test_programs_inherit_the_descriptor(stream: io.TextIOWrapper) -> None:
    assert stream.fileno() == 1
    assert not stream.isatty()
    assert stream.writable()
