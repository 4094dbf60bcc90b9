"""Workers that die, hang or are stopped on their way to Ready, step by step."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.clients import ask
from support.process import HybridProcess
from support.service import eventually, serving

from hybrid.workers.contract.exits import Exit

QUICK = ("--preload", "off", "--backoff", "10ms", "--backoff-max", "50ms")


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


@contextmanager
def opened(gate: Path) -> Iterator[None]:
    """Open the gate for every process that arrives."""
    fd = os.open(gate, os.O_RDWR)  # does not wait for a reader (fifo(7))
    try:
        yield
    finally:
        os.close(fd)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def assert_serving(process: HybridProcess, workers: int) -> None:
    process.wait_for_log(f"serving with {workers} worker")
    assert int(ask(process.address, b"")) in process.worker_pids()


def test_a_worker_killed_right_after_its_fork_is_replaced(tmp_path: Path, gate: Path) -> None:
    """Nothing tells when it is forked, so it is killed as soon as it can be seen."""
    env = {"GATE": str(gate)}
    with opened(gate):
        arguments = ("--workers", "1", *QUICK)
        with serving("gated:handle", *arguments, cwd=tmp_path, ready=False, env=env) as process:
            kill(eventually(process.worker_pids, "it is forked")[0])
            process.wait_for_log("worker died: killed by SIGKILL .* restarting now")
            assert_serving(process, 1)


@pytest.mark.parametrize("target", ["gated_import:handle", "gated:handle"], ids=["in-its-import", "before-ready"])
def test_a_worker_killed_at_a_step_of_its_boot_is_replaced(target: str, tmp_path: Path, gate: Path) -> None:
    with serving(target, "--workers", "2", *QUICK, cwd=tmp_path, ready=False, env={"GATE": str(gate)}) as process:
        process.wait_for_log("at the gate", count=2)
        kill(int(process.wait_for_log(r"at the gate: (\d+)")[1]))
        process.wait_for_log("worker died: killed by SIGKILL")
        process.wait_for_log("at the gate", count=3)
        with opened(gate):
            assert_serving(process, 2)


def test_a_worker_killed_at_its_import_does_not_disturb_one_that_serves(tmp_path: Path, gate: Path) -> None:
    env = {"GATE": str(gate)}
    with serving("gated_import:handle", "--workers", "1", *QUICK, cwd=tmp_path, ready=False, env=env) as process:
        with opened(gate):
            assert_serving(process, 1)
        first = process.worker_pids()[0]
        process.signal(signal.SIGTTIN)
        for attempt in range(2, 5):
            kill(int(process.wait_for_log(r"at the gate: (\d+)", count=attempt)[1]))
            assert int(ask(process.address, b"")) == first
        with opened(gate):
            process.wait_for_log(r" ready on ", count=2)


def test_a_start_in_which_no_worker_gets_ready_ends(tmp_path: Path, gate: Path) -> None:
    arguments = ("--workers", "2", "--boot-timeout", "100ms", *QUICK)
    with serving("gated:handle", *arguments, cwd=tmp_path, ready=False, env={"GATE": str(gate)}) as process:
        assert process.wait() == Exit.BOOT
        assert "no worker became ready in 5 attempts; the last one: not ready after 0.1 s and killed" in process.stderr
        assert not process.survivors()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_during_the_boot_is_obeyed_at_once(number: int, tmp_path: Path, gate: Path) -> None:
    with serving(
        "gated_import:handle", "--workers", "2", *QUICK, cwd=tmp_path, ready=False, env={"GATE": str(gate)}
    ) as process:
        process.wait_for_log("at the gate", count=2)
        process.signal(number)
        assert process.wait() == Exit.OK
        assert "died" not in process.stderr


@pytest.mark.parametrize("what", ["some", "full"])
def test_bad_messages_on_the_channel_are_logged_once_and_do_no_harm(what: str, tmp_path: Path, gate: Path) -> None:
    env = {"GATE": str(gate), "BAD_MESSAGES": what}
    with (
        opened(gate),
        serving(
            "bad_messages:handle", "--workers", "2", "--preload", "off", cwd=tmp_path, ready=False, env=env
        ) as process,
    ):
        assert_serving(process, 2)
        process.wait_for_log("ignored: not a control message", count=2)
        assert process.stderr.count("ignored: ") == 2  # one line for each worker
        assert process.stop() == Exit.OK
