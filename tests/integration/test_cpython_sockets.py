"""CPython's own tests of sockets, on ours: every difference is one that the manual lists."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import cpython_sockets
from support.cpython_sockets import EXPECTED, LEFT_OUT
from support.greens import OURS
from support.loops import LOOPS

SHARES = 4  # processes that run side by side: most of the suite waits
MANUAL = Path(__file__).parents[2] / "docs" / "handlers.md"


@pytest.mark.parametrize("loop", [loop for loop in LOOPS if loop in OURS])
def test_sockets_pass_cpythons_tests(loop: str) -> None:
    program = [sys.executable, "-P", "-W", "ignore", cpython_sockets.__file__, loop]
    shares = [
        subprocess.Popen([*program, str(first), str(SHARES)], stdout=subprocess.PIPE, text=True)
        for first in range(SHARES)
    ]
    outcomes: dict[str, str] = {}
    for share in shares:
        said, _ = share.communicate(timeout=100)
        assert share.returncode == 0
        outcomes |= json.loads(said)
    if not outcomes:
        pytest.skip("this Python comes without its own tests")
    failed = {name: text for name, text in outcomes.items() if text not in ("ok", "skipped")}
    assert {name: text for name, text in failed.items() if name not in EXPECTED} == {}
    assert {name for name in EXPECTED if outcomes.get(name) in ("ok",)} == set()
    assert sum(text == "ok" for text in outcomes.values()) > 400


def test_the_manual_has_a_row_for_each_reason() -> None:
    rows = [line for line in MANUAL.read_text("utf-8").splitlines() if line.startswith("|")]
    for reason in {*EXPECTED.values(), *filter(None, LEFT_OUT.values())}:
        assert any(reason in row for row in rows), reason
