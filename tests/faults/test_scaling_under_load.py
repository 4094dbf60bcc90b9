"""TTIN and TTOU under load: no request is lost, on any loop."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support.changes import ONE_EACH, assert_nothing_lost, who_answers
from support.clients import ask
from support.load import loaded
from support.loops import LOOPS
from support.service import eventually, serving
from support.storm import PACE, Storm


@pytest.mark.parametrize("target", ["blocking:handle", "coroutines:handle"])
@pytest.mark.parametrize("loop", LOOPS)
def test_scaling_up_and_down_loses_no_connection(target: str, loop: str, tmp_path: Path) -> None:
    with serving(target, "--workers", "1", "--loop", loop, cwd=tmp_path, growth=4) as process:
        with loaded(lambda: int(ask(process.address, b"pid\n"))) as load:
            for number, workers in ((signal.SIGTTIN, 2), (signal.SIGTTIN, 3), (signal.SIGTTOU, 2), (signal.SIGTTOU, 1)):
                load.wait_answers(50)
                process.signal(number)
                eventually(lambda: len(process.worker_pids()) == workers, f"{workers} workers")  # noqa: B023
                if number == signal.SIGTTIN:
                    process.wait_for_log(" ready on ", count=workers)
            load.wait_answers(50)
        assert load.failures == []
        process.wait_for_log("worker retired", count=2)
        assert "died" not in process.stderr


@pytest.mark.parametrize(("loop", "interface"), ONE_EACH)
def test_from_two_workers_to_six_to_one_no_request_is_lost(loop: str, interface: str, tmp_path: Path) -> None:
    with serving(f"echoing:{interface}", "--workers", "2", "--loop", loop, cwd=tmp_path, growth=8) as process:
        with Storm(process.address, clients=16, close=interface == "asgi", rest=PACE) as storm:
            for workers in range(3, 7):
                storm.wait_answers(50)
                process.signal(signal.SIGTTIN)
                process.wait_for_log(" ready on ", count=workers)
            answering: set[int] = set()  # the first two have the connections of the load, and are spared
            eventually(lambda: answering.add(who_answers(process.address).pid) or len(answering) >= 4, "four answer")
            for gone in range(1, 6):
                process.signal(signal.SIGTTOU)
                process.wait_for_log(r"draining \d+ connections", count=gone)
                storm.wait_answers(50)
            eventually(lambda: len(process.worker_pids()) == 1, "five workers have gone")
        assert_nothing_lost(storm)
        assert "died" not in process.stderr
