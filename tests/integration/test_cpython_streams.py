"""CPython's own tests of asyncio's streams pass on ours, but for the differences that the manual lists."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import cpython_streams
from support.loops import LOOPS

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 100.0  # seconds; it takes one


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    """How each of CPython's tests ended. They change the process they run in, so they get one of their own."""
    if "epoll" not in LOOPS:
        pytest.skip("runs on the hub over epoll only")
    ran = subprocess.run(
        [sys.executable, "-P", cpython_streams.__file__],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    found: dict[str, str] = json.loads(ran.stdout)
    if not found:
        pytest.skip(f"this distribution of Python has no {cpython_streams.SUITE}")
    return found


def test_ours_do_the_same_as_asyncios_streams(outcomes: dict[str, str]) -> None:
    failed = {name: outcome for name, outcome in outcomes.items() if not outcome.startswith(("ok", "skipped"))}
    assert {name: text for name, text in failed.items() if name not in cpython_streams.EXPECTED} == {}
    assert len(outcomes) > 60


def test_the_documented_differences_are_real(outcomes: dict[str, str]) -> None:
    assert [name for name in cpython_streams.EXPECTED if outcomes.get(name) == "ok"] == []


def test_each_expected_difference_is_a_row_of_the_manual() -> None:
    manual = (ROOT / "docs" / "handlers.md").read_text()
    table = manual.partition("#### Differences from asyncio's streams")[2].partition("\n\n")[2].partition("\n\n")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines()]
    for reason in cpython_streams.EXPECTED.values():
        assert any(row.startswith(reason) for row in rows), f"no row begins with {reason!r}"
