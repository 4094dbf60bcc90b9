"""Signals that come when the service has ended and Python is about to go: they do not change the exit code."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.process import DEADLINE

from hybrid.workers.contract.exits import Exit

SCRIPT = """
import atexit, os, sys
from hybrid.cli import commands as cli
atexit.register(os.kill, os.getpid(), int(sys.argv[1]))
cli.main(["run", "--bind", "127.0.0.1:0", "--workers", "1", "app:handle"])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_at_the_exit_does_not_change_the_code(number: int, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def handle(sock, address): pass\n")
    command = [sys.executable, "-c", SCRIPT, str(int(number))]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            next(line for line in process.stderr if "serving with" in line)
            process.terminate()
            _, said = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
    assert process.returncode == Exit.OK
    assert "Traceback" not in said
