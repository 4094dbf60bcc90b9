"""TTIN and TTOU while clients keep asking: nobody is lost, on any loop."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support.clients import ask
from support.load import loaded
from support.loops import LOOPS
from support.service import eventually, serving


@pytest.mark.parametrize("target", ["blocking:handle", "coroutines:handle"])
@pytest.mark.parametrize("loop", LOOPS)
def test_scaling_up_and_down_loses_no_connection(target: str, loop: str, tmp_path: Path) -> None:
    with serving(target, "--workers", "1", "--loop", loop, cwd=tmp_path, growth=2) as process:
        with loaded(lambda: int(ask(process.address, b"pid\n"))) as load:
            for number, workers in ((signal.SIGTTIN, 2), (signal.SIGTTIN, 3), (signal.SIGTTOU, 2), (signal.SIGTTOU, 1)):
                load.wait_answers(50)
                process.signal(number)
                eventually(lambda: len(process.worker_pids()) == workers, f"{workers} workers")  # noqa: B023
                if number == signal.SIGTTIN:
                    process.wait_for_log(" ready on ", count=workers)
            load.wait_answers(50)
        assert load.failures == []
        assert process.stderr.count("worker retired") == 2
        assert "died" not in process.stderr
