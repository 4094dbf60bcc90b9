"""Env files: what their lines mean, and how mistakes are reported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.rows import for_each

from hybrid.config.env_file import MAX_SIZE, parse, read, read_all
from hybrid.config.file import FileError


def values(text: str) -> dict[str, str]:
    return {name: one.value for name, one in parse(text, ".env").items()}


@for_each(
    ("line", "value"),
    [
        ("A=1", "1"),
        ("  A = 1  ", "1"),
        ("export A=1", "1"),
        ("export\tA=1", "1"),
        ("A=", ""),
        ("A= # nothing", ""),
        ("A=#fff", "#fff"),
        ("A=a#b", "a#b"),
        ("A=two words # and a comment", "two words"),
        ("A=x=y", "x=y"),
        ("A=$HOME/${B}", "$HOME/${B}"),
        ("A=it's", "it's"),
        ("A='one # two'", "one # two"),
        ("A='it\\'s'", "it's"),
        ("A='a\\nb\\\\c'", "a\\nb\\c"),
        ('A="a\\nb\\t\\"c\\" \\$d \\\\"', 'a\nb\t"c" $d \\'),
        ('A="\\d"', "\\d"),
        ('A="1" # a comment', "1"),
        ('A="first\nsecond"', "first\nsecond"),
        ("A=1\r\n", "1"),
        ("A=ä", "ä"),
    ],
)
def test_a_line_sets_a_variable(line: str, value: str) -> None:
    assert values(line) == {"A": value}


@for_each("text", ["", "\n\n", "# a comment", "   # another\n\n#", "\t"])
def test_blank_lines_and_comments_set_nothing(text: str) -> None:
    assert values(text) == {}


def test_the_later_of_two_lines_with_one_name_counts() -> None:
    assert values("A=1\nB=2\nA=3") == {"A": "3", "B": "2"}


def test_a_variable_knows_its_line_behind_a_value_of_several_lines() -> None:
    found = parse('A="1\n2"\n\n  export B=3', ".env")
    assert [str(one.place) for one in found.values()] == [".env:1:1", ".env:4:10"]


@for_each(
    ("text", "reason"),
    [
        ("A=1\nnonsense\n", ".env:2:9: there is no = behind nonsense: write nonsense=VALUE"),
        ("A B=1", ".env:1:2: there is no = behind A"),
        ("  =1", ".env:1:3: no name of a variable: write KEY=VALUE"),
        ("1A=2", ".env:1:1: no name of a variable"),
        ("A=1\n\n B='open\nC=2", ".env:3:4: this quote is not closed: put ' at the end of the value"),
        ('A="open\\"', ".env:1:3: this quote is not closed"),
        ("A='x' y", ".env:1:7: there is text behind the closing quote"),
        ("A=\0", ".env:1:3: the value of A has a NUL"),
    ],
)
def test_a_mistake_is_reported_with_line_and_column(text: str, reason: str) -> None:
    with pytest.raises(FileError) as failed:
        parse(text, ".env")
    assert str(failed.value).startswith(reason)


def test_a_byte_order_mark_belongs_to_no_name(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfA=1\n")
    assert list(read(tmp_path / ".env")) == ["A"]


def test_a_later_file_overrides_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("A=1\nB=2\n")
    (tmp_path / "b").write_text("B=3\n")
    assert {name: one.value for name, one in read_all([tmp_path / "a", tmp_path / "b"]).items()} == {"A": "1", "B": "3"}


def test_a_missing_file_is_reported_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=f"^{tmp_path}/.env: this env file cannot be read: No such file"):
        read(tmp_path / ".env")


def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="is no regular file"):
        read(tmp_path / "pipe")


@pytest.mark.parametrize(("content", "reason"), [(b"A=\xff", "no UTF-8 text"), (b"#" * (MAX_SIZE + 1), "larger than")])
def test_a_file_that_is_no_env_file_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(FileError, match=reason):
        read(tmp_path / ".env")


def test_the_null_device_is_an_empty_file() -> None:
    assert read(Path("/dev/null")) == {}
