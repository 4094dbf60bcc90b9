"""Bytes to lines, and values to lines."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from support.rows import for_each

from hybrid.supervisor.control.lines import LONGEST_LINE, Lines, LineTooLong, UnencodableError, encode


def taken_from(lines: Lines) -> list[bytes]:
    found = []
    while (line := lines.take()) is not None:
        found.append(line)
    return found


@for_each("seed", range(20))
def test_lines_are_the_same_however_they_are_cut(seed: int) -> None:
    numbers = random.Random(seed)
    expected = [bytes(numbers.choices(b"ab\r\0\xff", k=numbers.randrange(50))) for _ in range(200)]
    data, lines, found = b"\n".join(expected) + b"\n", Lines(), []
    while data:
        size = numbers.choice((1, 2, 3, 100, 5000))
        lines.feed(data[:size])
        data = data[size:]
        found += taken_from(lines)
    assert found == expected
    assert not lines.has_part
    assert lines.size == 0


def test_a_line_without_its_end_is_a_part_and_not_a_line() -> None:
    lines = Lines()
    lines.feed(b"one\ntw")
    assert lines.has_line
    assert lines.has_part
    assert taken_from(lines) == [b"one"]
    assert not lines.has_line
    assert lines.has_part
    lines.feed(b"o\n")
    assert not lines.has_part
    assert taken_from(lines) == [b"two"]


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_of_the_longest_length_is_one(end: bytes) -> None:
    lines = Lines()
    lines.feed(b"x" * LONGEST_LINE + end)
    assert taken_from(lines) == ([b"x" * LONGEST_LINE] if end else [])


@pytest.mark.parametrize("end", [b"", b"\n", b"\nmore\n"])
def test_a_longer_line_is_an_error_with_and_without_its_end(end: bytes) -> None:
    lines = Lines()
    lines.feed(b"first\n" + b"x" * (LONGEST_LINE + 1) + end)
    assert lines.take() == b"first"
    for _ in range(2):
        assert lines.has_line
        with pytest.raises(LineTooLong, match="65536 bytes"):
            lines.take()


def test_a_part_is_cut_off_and_whole_lines_stay() -> None:
    lines = Lines()
    lines.feed(b"one\ntwo\nthr")
    lines.cut()
    assert not lines.has_part
    assert taken_from(lines) == [b"one", b"two"]


def test_a_part_alone_is_cut_off() -> None:
    lines = Lines()
    lines.feed(b"thr")
    lines.cut()
    assert lines.size == 0
    assert not lines.has_line


@pytest.mark.parametrize(
    "value",
    [{}, {"a": 1.5, "b": [None, True, "\n\0\u2028"], "\N{PILE OF POO}": "ä"}, {"big": 10**400, "text": "x" * 100_000}],
)
def test_what_is_encoded_is_one_line_of_json(value: dict[str, Any]) -> None:
    line = encode(value)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == value


def test_lone_surrogates_are_replaced_and_pairs_are_not() -> None:
    value = {"file": "caf\udce9.py", "\ud800": "\N{PILE OF POO}"}
    assert json.loads(encode(value)) == {"file": "caf\ufffd.py", "\ufffd": "\N{PILE OF POO}"}


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"": value}
    return value


def cyclic() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


@for_each(
    "value",
    [{"a": float("nan")}, {"a": float("inf")}, {"a": {1}}, {"a": b"bytes"}, {(1,): 1}, nested(100_000), cyclic()],
)
def test_what_json_cannot_express_is_an_error_of_its_own(value: dict[str, Any]) -> None:
    with pytest.raises(UnencodableError):
        encode(value)
