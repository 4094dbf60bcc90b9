"""The hour of offloaded calls under faults runs and finds nothing: a short round. Longer ones are run by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.loops import LOOPS

PROGRAM = Path(__file__).resolve().parents[1] / "endurance/offload_hour.py"
SECONDS = 10


@pytest.mark.parametrize("loop", [loop for loop in ("epoll", "uvloop") if loop in LOOPS])
def test_a_short_round_breaks_no_promise(loop: str, tmp_path: Path) -> None:
    options = ["--seconds", str(SECONDS), "--loop", loop]
    done = subprocess.run(
        [sys.executable, "-P", str(PROGRAM), *options], cwd=tmp_path, capture_output=True, text=True, timeout=115
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "broken promises: none" in done.stdout
