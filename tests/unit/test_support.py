"""The tests' own tools: what counts as left behind, and which loops are tested."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from support import loops
from support.leaks import Census


def test_nothing_new_is_nothing_left() -> None:
    assert Census().newcomers() == []


def test_a_socket_left_open_is_found() -> None:
    census = Census()
    with socket.socket() as sock:
        found = census.newcomers()
        assert len(found) == 1
        assert found[0].startswith(f"fd {sock.fileno()} socket:")


def test_a_pipe_left_open_is_found() -> None:
    census = Census()
    ends = os.pipe()
    assert len(census.newcomers()) == 2
    for end in ends:
        os.close(end)
    assert census.newcomers() == []


@pytest.mark.parametrize("code", ["input()", "pass"], ids=["living", "finished"])
def test_a_child_nobody_waited_for_is_found(code: str) -> None:
    census = Census()
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    assert child.stdin is not None
    assert [line for line in census.newcomers() if f"pid={child.pid}" in line]
    child.communicate()
    assert census.newcomers() == []


def test_the_loop_matrix_can_be_narrowed_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_TEST_LOOP", "poll")
    assert loops._chosen() == ("poll",)


def test_without_a_choice_all_loops_are_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYBRID_TEST_LOOP", raising=False)
    assert loops._chosen() == loops.ALL_LOOPS


def test_a_loop_that_does_not_exist_is_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_TEST_LOOP", "libev")
    with pytest.raises(ValueError, match="use one of"):
        loops._chosen()
