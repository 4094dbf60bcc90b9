"""The stack dump of a crash, in a separate process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BURST = """
import os, signal
from hybrid.workers.boot import crash
crash.dump_on_crash(2)
some = [n for n in signal.valid_signals() if n not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV)]
for number in some:
    signal.signal(number, lambda *_: None)
signal.pthread_sigmask(signal.SIG_BLOCK, some)
for number in some:
    os.kill(os.getpid(), number)
signal.pthread_sigmask(signal.SIG_UNBLOCK, some)
"""
CRASH = """
import ctypes
from hybrid.workers.boot import crash
crash.dump_on_crash(2)
def at_fault():
    ctypes.string_at(0)
at_fault()
"""


def run(code: str, where: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` elsewhere: in the repository's root, its folder `hybrid` hides the package that is installed."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=where)


def test_many_simultaneous_signals_are_harmless(tmp_path: Path) -> None:
    """Each handler runs on top of the one before; with the stack that faulthandler makes, eight are too many."""
    finished = run(BURST, tmp_path)
    assert (finished.returncode, finished.stderr) == (0, "")


def test_a_crash_in_c_code_names_the_function_at_fault(tmp_path: Path) -> None:
    finished = run(CRASH, tmp_path)
    assert finished.returncode < 0
    assert "in at_fault" in finished.stderr
