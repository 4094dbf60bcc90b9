"""The buffer for lines of a chunked body, and their limit in proportion to the data."""

from __future__ import annotations

import math

import pytest
from support.echo import pieces
from support.rows import for_each

from hybrid.workers.http.h1.chunks import MOST_LINE, MOST_WRAPPING, Chunks

MOST = 32_768


def follow(chunks: Chunks, data: bytes, size: int) -> int:
    """Follow `data` in pieces; return the status of the fault, 0 for none."""
    for piece in pieces(data, size):
        chunks.follow(piece, 0)
        if chunks.fault is not None:
            return chunks.fault.status
    return 0


@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
@pytest.mark.parametrize(("length", "status"), [(MOST_LINE, 0), (MOST_LINE + 1, 431)])
@pytest.mark.parametrize("data", [b"", b"fffff\r\n" + b"x" * 0xFFFFF + b"\r\n"], ids=["first", "behind data"])
def test_a_line_is_limited_whatever_the_amount_of_data_before(data: bytes, length: int, status: int, size: int) -> None:
    chunks = Chunks(MOST)
    assert follow(chunks, data, 1 << 20) == 0
    assert follow(chunks, b"1;" + b"a" * (length - 4) + b"\r\n", size) == status


def test_a_smaller_limit_for_heads_applies_to_lines_too() -> None:
    assert follow(Chunks(100), b"fff\r\n" + b"x" * 0xFFF + b"\r\n1;" + b"a" * 100, 1 << 20) == 431


def test_only_one_line_is_buffered() -> None:
    chunks = Chunks(math.inf)
    assert follow(chunks, b"1;" + b"a" * 100_000, 10) == 431
    assert len(chunks._line) <= MOST_LINE


def test_the_total_of_all_lines_is_limited_by_the_data() -> None:
    """Many small lines do not evade the limit."""
    line = b"1;" + b"a" * 996 + b"\r\nx\r\n"
    chunks = Chunks(MOST)
    passed = 0
    while not follow(chunks, line, 1 << 20):
        passed += 1
    assert MOST // 1000 <= passed <= MOST // (1000 - MOST_WRAPPING) + 1


@for_each("size", [1, 2, 3, 1000, 1 << 20])
def test_a_trailer_may_be_longer_and_is_not_buffered(size: int) -> None:
    chunks = Chunks(MOST)
    assert follow(chunks, b"0\r\n" + b"a: " + b"b" * 30_000, size) == 0
    assert len(chunks._line) <= 3
    assert follow(chunks, b"\r\n\r\n", size) == 400  # the body ends here: the bytes after it are not consumed
    assert follow(Chunks(MOST), b"0\r\n" + b"a: " + b"b" * MOST, size) == 431


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("trailer", [b"\n", b"\r", b"a\r\n", b"ab\r\n"])
def test_only_an_empty_line_ends_the_trailers(trailer: bytes, size: int) -> None:
    chunks = Chunks(MOST)
    follow(chunks, b"0\r\n" + trailer, size)
    assert chunks.fault is None
