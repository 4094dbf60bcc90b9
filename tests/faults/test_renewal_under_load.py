"""Workers that are worn are replaced under load: no request is lost, and there are never too few of them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.changes import ONE_EACH, assert_nothing_lost
from support.loops import LOOPS
from support.manager import Manager, managing
from support.service import eventually, serving
from support.storm import PACE, Storm

CHOSEN = [loop for loop in ("epoll", "gevent", "uvloop") if loop in LOOPS]
CLIENTS = 8


@pytest.fixture
def manager() -> Iterator[Manager]:
    """Who is told of every change of the number of workers that are ready; the path has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="hybrid") as name, managing(f"{name}/notify") as manager:
        yield manager


def fewest_ready(told: list[str], workers: int) -> int:
    """The lowest number of ready workers that the service has told of: it says each change, from `workers` on."""
    return min((int(match[1]) for text in told if (match := re.match(r"STATUS=(\d+) of", text))), default=workers)


@pytest.mark.parametrize(("loop", "interface"), ONE_EACH)
def test_workers_that_have_served_their_requests_are_replaced_without_a_loss(
    loop: str, interface: str, manager: Manager, tmp_path: Path
) -> None:
    arguments = ("--workers", "4", "--loop", loop, "--max-requests", "50")
    env = {"NOTIFY_SOCKET": manager.address}
    with serving(f"echoing:{interface}", *arguments, cwd=tmp_path, env=env) as process:
        manager.wait("READY=1")
        with (
            manager.recorded() as told,
            Storm(process.address, clients=CLIENTS, close=interface == "wsgi", rest=PACE) as storm,
        ):
            process.wait_for_log("worker retired", count=12)
            storm.wait_answers(50)
        tally = assert_nothing_lost(storm)
        assert len(tally.by_pid) >= 12
        assert fewest_ready(told, 4) >= 3
        assert "died" not in process.stderr


@pytest.mark.parametrize("loop", CHOSEN)
def test_workers_that_are_old_are_replaced_without_a_loss(loop: str, manager: Manager, tmp_path: Path) -> None:
    arguments = ("--workers", "2", "--loop", loop, "--max-lifetime", "500ms")
    with serving("echoing:asgi", *arguments, cwd=tmp_path, env={"NOTIFY_SOCKET": manager.address}) as process:
        manager.wait("READY=1")
        with manager.recorded() as told, Storm(process.address, clients=CLIENTS, close=True, rest=0.01) as storm:
            process.wait_for_log("worker lived for .* starting its successor", count=4)
            process.wait_for_log("worker retired", count=4)
            storm.wait_answers(50)
        assert_nothing_lost(storm)
        assert fewest_ready(told, 2) == 2, "a successor is ready before the old worker leaves"


@pytest.mark.parametrize("loop", CHOSEN)
def test_workers_that_grow_are_replaced_without_a_loss(loop: str, tmp_path: Path) -> None:
    with serving("echoing:wsgi", "--workers", "2", "--loop", loop, "--max-memory", "100M", cwd=tmp_path) as process:
        with Storm(process.address, clients=2, target="/growing?kib=200", rest=0.001) as storm:
            process.wait_for_log(r"worker holds \d+ MiB of memory: starting its successor", count=2)
            process.wait_for_log("worker retired", count=2)
            storm.wait_answers(10)
        assert_nothing_lost(storm)


def test_what_is_worn_and_cannot_be_replaced_serves_on(tmp_path: Path) -> None:
    """Its successor dies at its import, again and again."""
    (tmp_path / "app.py").write_text(
        "import os\n"
        "if os.path.exists('broken'):\n"
        "    open('tries', 'a').write('x')\n"
        "    raise LookupError\n"
        "from echoing import wsgi as app\n"
    )
    (tmp_path / "tries").touch()
    arguments = ("--workers", "2", "--preload", "off", "--max-requests", "50", "--backoff", "100ms")
    with serving("app:app", *arguments, cwd=tmp_path) as process:
        (tmp_path / "broken").touch()
        with Storm(process.address, clients=CLIENTS, close=True, rest=0.01) as storm:
            process.wait_for_log("worker cannot start, .*LookupError")
            eventually(lambda: len((tmp_path / "tries").read_bytes()) >= 4, "it is tried again and again")
            storm.wait_answers(100)
            (tmp_path / "broken").unlink()
            process.wait_for_log("worker retired", count=2)
            storm.wait_answers(50)
        assert_nothing_lost(storm)
        eventually(lambda: len(process.worker_pids()) == 2, "nobody drains any more")
