"""A short round of the fuzz target, without atheris. Longer rounds are started by hand, see CONTRIBUTING.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TARGET = Path(__file__).resolve().parents[1] / "fuzz/http_connection.py"


def test_a_short_round_finds_nothing(tmp_path: Path) -> None:
    """Each input is sent cut and whole; the invariants are checked for both."""
    command = [sys.executable, "-P", str(TARGET), "--unguided", "--seconds", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) >= 100
