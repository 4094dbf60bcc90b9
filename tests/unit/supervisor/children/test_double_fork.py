"""How a zygote treats the process between itself and its worker, however that process ends."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile

import pytest

from hybrid.supervisor.children import double_fork


def intermediate(script: str) -> str | None:
    """Run a shell script as the intermediate, with the pipe as standard output; return the outcome."""
    news, life = os.pipe()
    try:
        actions = [(os.POSIX_SPAWN_DUP2, life, 1)]
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", script], os.environ, file_actions=actions)
        os.close(life)
        return double_fork.await_worker(pid, news)
    finally:
        os.close(news)


def test_a_forked_worker_is_no_error() -> None:
    assert intermediate("printf 4711") is None


def test_a_failed_fork_is_reported_in_words() -> None:
    assert intermediate(f"printf -- -{errno.EAGAIN}") == "Resource temporarily unavailable"


def test_a_killed_intermediate_is_reported() -> None:
    assert intermediate("kill -KILL $$") == "the process between zygote and worker was killed"


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(double_fork, "_PATIENCE", 0.2)


@pytest.mark.usefixtures("_impatient")
def test_an_intermediate_that_is_stuck_is_killed() -> None:
    assert intermediate("exec sleep 1000") == "the new process was not ready within 0.2 s"


@pytest.mark.usefixtures("_impatient")
def test_a_worker_that_is_stuck_before_its_first_message_is_killed() -> None:
    worker = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with worker:
        assert intermediate(f"printf {worker.pid}; exec sleep 1000") == "the new process was not ready within 0.2 s"
    assert worker.returncode < 0


def test_a_child_that_the_kernel_reaps_is_no_error() -> None:
    """Where the application ignores SIGCHLD."""
    program = """
import os, signal
from hybrid.supervisor.children import double_fork
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
news, life = os.pipe()
pid = os.fork()
if pid == 0:
    os.write(life, b"4711")
    os._exit(0)
os.close(life)
assert double_fork.await_worker(pid, news) is None
"""
    with tempfile.TemporaryDirectory() as cwd:
        subprocess.run([sys.executable, "-P", "-c", program], check=True, timeout=30, cwd=cwd)


def test_a_worker_whose_supervisor_died_meanwhile_ends_silently() -> None:
    program = """
import os
from hybrid.supervisor.settings import Settings
from hybrid.supervisor.children.spawn import be_forked_worker
from hybrid.workers.contract.channel import Channel
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.worker_spec import WorkerSpec
ours, theirs = Channel.pair()
def body(spec):
    raise AssertionError("it must not serve")
spec = WorkerSpec("web", 0, 1, os.getpid(), (), theirs, 1.0)
assert be_forked_worker(spec, Settings(binds=(), workers=1), body) == Exit.ORPHANED
assert ours.receive_nowait() is None
ours.close()
spec = WorkerSpec("web", 0, 1, os.getppid(), (), theirs, 1.0)
assert be_forked_worker(spec, Settings(binds=(), workers=1, pin=True), body) == Exit.ORPHANED
"""
    with tempfile.TemporaryDirectory() as cwd:
        subprocess.run([sys.executable, "-P", "-c", program], check=True, timeout=30, cwd=cwd)
