"""HUP under load: every request is answered, and in the end all by the new code."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support.changes import CLOSING, INTERFACES, ONE_EACH, assert_nothing_lost, reload, who_answers
from support.loops import LOOPS
from support.service import eventually, serving
from support.storm import PACE, Storm

CHOSEN = [loop for loop in ("epoll", "gevent", "uvloop") if loop in LOOPS]
CLIENTS = 16
BETWEEN = 300  # answers


@pytest.mark.parametrize("connections", CLOSING)
@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("loop", CHOSEN)
def test_reloads_under_load_lose_no_request(loop: str, interface: str, connections: str, tmp_path: Path) -> None:
    with serving(f"echoing:{interface}", "--workers", "2", "--loop", loop, cwd=tmp_path) as process:
        with Storm(process.address, clients=CLIENTS, close=CLOSING[connections], rest=PACE) as storm:
            for generation in (2, 3):
                storm.wait_answers(BETWEEN)
                reload(process, generation)
            storm.wait_answers(BETWEEN)
        tally = assert_nothing_lost(storm)
        assert {"1", "3"} <= set(tally.by_generation) <= {"1", "2", "3"}
        assert {who_answers(process.address).generation for _ in range(10)} == {3}
        assert "died" not in process.stderr


@pytest.mark.parametrize(("loop", "interface"), [pair for pair in ONE_EACH if pair[0] in CHOSEN])
def test_workers_that_import_for_themselves_are_reloaded_without_a_loss(
    loop: str, interface: str, tmp_path: Path
) -> None:
    arguments = ("--workers", "2", "--loop", loop, "--preload", "off")
    with serving(f"echoing:{interface}", *arguments, cwd=tmp_path) as process:
        with Storm(process.address, clients=CLIENTS, close=interface == "asgi", rest=PACE) as storm:
            storm.wait_answers(BETWEEN)
            reload(process, 2)
            storm.wait_answers(BETWEEN)
        assert set(assert_nothing_lost(storm).by_generation) == {"1", "2"}
        assert process.zygote_pids() == []


def test_hups_while_a_reload_is_under_way_lose_no_request(tmp_path: Path) -> None:
    """Each gives up the generation that is starting, if there is one still, and begins another one."""
    with serving("echoing:asgi", "--workers", "2", cwd=tmp_path) as process:
        with Storm(process.address, clients=CLIENTS, close=True, rest=PACE) as storm:
            storm.wait_answers(20)
            for generation in range(2, 7):
                process.signal(signal.SIGHUP)
                process.wait_for_log(f"starting generation {generation} beside")
            process.wait_for_log("reload complete: 2 workers of generation 6")
            eventually(lambda: len(process.worker_pids()) == 2, "the old workers have gone")
        assert_nothing_lost(storm)
        assert who_answers(process.address).generation == 6


def test_several_workers_are_replaced_at_a_time_if_told_so(tmp_path: Path) -> None:
    with serving("echoing:wsgi", "--workers", "4", "--surge", "4", cwd=tmp_path) as process:
        with Storm(process.address, clients=CLIENTS, rest=PACE) as storm:
            storm.wait_answers(BETWEEN)
            reload(process, 2, workers=4)
            storm.wait_answers(BETWEEN)
        assert_nothing_lost(storm)
