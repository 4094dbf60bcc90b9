"""`--max-restarts N/SECONDS`: a service with more deaths ends, and logs their reasons."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support.changes import INTERFACES, complaints, reload, who_answers
from support.process import HybridProcess
from support.service import eventually, serving

from hybrid.workers.contract.exits import Exit

GIVEN_UP = "more than 3 worker deaths within 1000 s: giving up; the last ones: "


def kill_in_turn(process: HybridProcess, times: int) -> None:
    """SIGKILL a worker so often, each time when all serve."""
    for number in range(times):
        process.wait_for_log(" ready on ", count=2 + number)
        os.kill(eventually(process.worker_pids, "there is a worker")[0], signal.SIGKILL)
        process.wait_for_log("worker died: killed by SIGKILL", count=1 + number)


@pytest.mark.parametrize("interface", INTERFACES)
def test_one_death_too_many_ends_the_service(interface: str, tmp_path: Path) -> None:
    with serving(f"echoing:{interface}", "--workers", "2", "--max-restarts", "3/1000", cwd=tmp_path) as process:
        kill_in_turn(process, 3)
        process.wait_for_log(" ready on ", count=5)
        assert who_answers(process.address).pid in process.worker_pids()
        os.kill(process.worker_pids()[0], signal.SIGKILL)
        assert process.wait() == Exit.RESTARTS
        (said,) = complaints(process)
        assert GIVEN_UP in said
        assert "killed by SIGKILL" in said
        assert "slot 0" in said


def test_deaths_that_lie_further_apart_do_not(tmp_path: Path) -> None:
    with serving("echoing:wsgi", "--workers", "2", "--max-restarts", "1/1ms", cwd=tmp_path) as process:
        for number in range(3):
            process.wait_for_log(" ready on ", count=2 + number)
            os.kill(process.worker_pids()[0], signal.SIGKILL)
        process.wait_for_log(" ready on ", count=5)
        assert who_answers(process.address).pid in process.worker_pids()


def test_workers_that_are_replaced_as_asked_are_no_deaths(tmp_path: Path) -> None:
    arguments = ("--workers", "2", "--max-restarts", "1/60")
    with serving("echoing:wsgi", *arguments, cwd=tmp_path) as process:
        for generation in (2, 3):
            reload(process, generation)
        assert who_answers(process.address).generation == 3
