"""The compressed hour runs and finds nothing: a short round of it. Longer ones are run by hand, see CONTRIBUTING.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.loops import LOOPS

PROGRAM = Path(__file__).resolve().parents[1] / "endurance/compressed_hour.py"
SECONDS = 10
PLACES = [(loop, interface) for loop, interface in (("epoll", "wsgi"), ("uvloop", "asgi")) if loop in LOOPS]


@pytest.mark.parametrize(("loop", "interface"), PLACES)
def test_a_short_round_breaks_no_promise(loop: str, interface: str, tmp_path: Path) -> None:
    options = ["--seconds", str(SECONDS), "--loop", loop, "--interface", interface]
    done = subprocess.run(
        [sys.executable, "-P", str(PROGRAM), *options], cwd=tmp_path, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "broken promises: none" in done.stdout
