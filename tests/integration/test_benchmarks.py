"""The benchmarks run: short ones, for their form only; no figure is judged here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DEADLINE = 100.0  # seconds

needs_compiler = pytest.mark.skipif(not (shutil.which("gcc") or shutil.which("cc")), reason="there is no C compiler")


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m benchmarks` to its end."""
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False)


def test_the_help_names_every_suite() -> None:
    done = benchmarks("--help")
    assert done.returncode == 0
    assert all(f"\n  {suite} " in done.stdout for suite in ("echo", "cpu", "memory", "boot"))


@pytest.mark.parametrize("arguments", [["ehco"], ["--runs", "0"], ["--seconds", "-1"]])
def test_wrong_usage_is_refused(arguments: list[str]) -> None:
    done = benchmarks(*arguments)
    assert done.returncode == 2
    assert "error:" in done.stderr


@needs_compiler
def test_a_pattern_that_matches_no_server_is_refused() -> None:
    done = benchmarks("echo", "--only", "apache*")
    assert done.returncode == 2
    assert "no server matches --only apache*" in done.stderr


@needs_compiler
def test_the_echo_table_holds_every_server_asked_for(tmp_path: Path) -> None:
    raw = tmp_path / "figures.json"
    only = ["--only", "C epoll server", "--only", "uvloop streams", "--only", "hybrid epoll async"]
    done = benchmarks("echo", "--runs", "2", "--seconds", "0.2", "--json", str(raw), *only)
    assert done.returncode == 0, done.stderr
    assert "C epoll server" in done.stdout
    assert "x) uvloop streams" in done.stdout
    assert len(json.loads(raw.read_text())["suites"]["echo"]["servers"]["hybrid epoll async"]["rounds"]) == 2


@needs_compiler
def test_the_cpu_table_compares_two_workers_with_one() -> None:
    done = benchmarks("cpu", "--runs", "1", "--seconds", "0.2")
    assert done.returncode == 0, done.stderr
    assert "hybrid 2 workers" in done.stdout


@needs_compiler
def test_the_boot_table_tells_when_a_successor_answers() -> None:
    done = benchmarks("boot", "--runs", "1", "--only", "hybrid epoll")
    assert done.returncode == 0, done.stderr
    assert "SIGKILL to answer" in done.stdout
