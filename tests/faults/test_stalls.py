"""Loops that do not turn, in real processes: nobody else waits for them, the log names them, some are ended."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from support.changes import FRESH, ONE_EACH, assert_nothing_lost, complaints, who_answers, write_application
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import APPLICATIONS, eventually, serving
from support.storm import Storm

CHOSEN = [loop for loop in ("epoll", "gevent", "uvloop") if loop in LOOPS]
SHORT = 8  # clients with short requests
MEASURED = 1.5  # seconds
PROMISED = 1.5  # seconds from a request that stalls a loop to the line in the log
BOUND = 3.0  # seconds; what is asserted, for this machine may have other things to do
WAYS = {"computes": ("/busy?ms=3000", "while time.monotonic"), "sleeps-in-C": ("/asleep?ms=3000", "_usleep(")}
"""How a handler keeps its loop: the target, and what is in the line where it stands."""
IN_THE_LOOP = {"asyncio": ("--threads", "0"), "uvloop": ("--threads", "0")}
"""Options by which WSGI runs in the loop where by default it runs in threads, which stall nothing."""


def line_of(words: str) -> int:
    """The number of the line of `echoing.py` that holds `words`."""
    lines = (APPLICATIONS / "echoing.py").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if words in line)


@contextmanager
def asking(process: HybridProcess, target: str) -> Iterator[list[int]]:
    """Ask for `target` while the block runs; the list then holds the pid of who answered, unless it was killed."""
    answers: list[int] = []

    def ask() -> None:
        with suppress(OSError):
            answers.append(who_answers(process.address, target).pid)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        thread.join()


def said_at(process: HybridProcess, pattern: str) -> float:
    """Wait for a line of the log; return its time, in seconds since the epoch."""
    line = process.wait_for_log(pattern).string
    stamp = re.match(r"\S+ \S+", line)
    assert stamp is not None
    return datetime.fromisoformat(stamp[0]).timestamp()


def tally_beside_a_busy_worker(loop: str, interface: str, directory: Path, *arguments: str) -> Any:
    """Serve short requests on new connections while one client keeps a worker computing; return their tally."""
    options = ("--workers", "2", "--loop", loop, *(IN_THE_LOOP.get(loop, ()) if interface == "wsgi" else ()))
    with serving(f"echoing:{interface}", *options, *arguments, cwd=directory) as process:
        with Storm(process.address, clients=1, target="/busy?ms=100", timeout=30) as busy:
            busy.wait_answers(1)
            with Storm(process.address, clients=SHORT, close=True) as short:
                busy.wait_answers(int(MEASURED / 0.1))
                tally = assert_nothing_lost(short)
        assert_nothing_lost(busy)
    return tally


# --- those who wait


@pytest.mark.parametrize(("loop", "interface"), ONE_EACH)
def test_short_requests_do_not_wait_for_a_busy_worker(loop: str, interface: str, tmp_path: Path) -> None:
    """If nobody looks for stalls they do; that is measured beside it. Two of three, for the machine is shared."""
    kept = []
    while len(kept) < 3 and kept.count(True) < 2:
        watched = tally_beside_a_busy_worker(loop, interface, tmp_path)
        unwatched = tally_beside_a_busy_worker(loop, interface, tmp_path, "--stall-threshold", "0")
        for name, one in (("watched", watched), ("unwatched", unwatched)):
            middle, late = one.percentile(50) * 1000, one.percentile(99) * 1000
            print(f"{loop} {interface} {name}: {one.per_second:.0f}/s, p50 {middle:.1f} ms, p99 {late:.1f} ms")  # noqa: T201 - read with `pytest -s`
        kept.append(watched.percentile(50) < 0.030 and watched.per_second > 5 * unwatched.per_second)
    assert kept.count(True) == 2, (watched, unwatched)


# --- evidence


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("loop", "interface"), ONE_EACH)
def test_where_a_loop_stands_is_logged_while_siblings_serve(
    loop: str, interface: str, way: str, tmp_path: Path
) -> None:
    target, words = WAYS[way]
    arguments = ("--workers", "2", "--loop", loop, *(IN_THE_LOOP.get(loop, ()) if interface == "wsgi" else ()))
    with serving(f"echoing:{interface}", *arguments, cwd=tmp_path) as process:
        began = time.time()
        with asking(process, target) as answers:
            reported = said_at(process, r"WARNING .* worker stalled for [12]\.\d s: its loop stands in \S*echoing\.py")
            with Storm(process.address, clients=4, close=True) as storm:
                storm.wait_answers(100)
            others = assert_nothing_lost(storm)
            assert answers == [], "it is still at it"
        took = f"in the log after {reported - began:.2f} s (promised: {PROMISED} s)"
        print(f"{loop} {interface} {way}: {took}")  # noqa: T201 - read with `pytest -s`
        assert reported - began < BOUND
        found = process.wait_for_log(r"pid=(\d+) .*its loop stands in \S*echoing\.py:(\d+) in ")
        assert abs(int(found[2]) - line_of(words)) <= 2, "the line of the application"
        assert str(answers[0]) == found[1]
        assert found[1] not in others.by_pid
        process.wait_for_log(rf"pid={answers[0]} worker turns again after \d\.\d s")
        eventually(lambda: who_answers(process.address).pid == answers[0], "it serves again")


@pytest.mark.parametrize("loop", CHOSEN)
def test_a_worker_that_stalls_for_too_long_is_ended_and_replaced(loop: str, tmp_path: Path) -> None:
    """With SIGABRT, so that there may be a core dump; the log names where it stood before."""
    arguments = ("--workers", "2", "--loop", loop, "--stall-timeout", "1s", "--stall-report", "500ms")
    with serving("echoing:asgi", *arguments, cwd=tmp_path) as process:
        workers = process.worker_pids()
        with asking(process, "/asleep?ms=60000") as answers:
            died = process.wait_for_log(r"pid=(\d+) worker died: its loop stood still for [12]\.\d s, so it was killed")
            ended = int(died[1])
            process.wait_for_log(" ready on ", count=3)
        assert answers == []
        assert ended in workers
        assert re.search(rf"pid={ended} worker stalled for .*echoing\.py:\d+ in _sleep", process.stderr)
        process.wait_for_log("Fatal Python error: Aborted")
        with Storm(process.address, clients=4, close=True) as storm:
            storm.wait_answers(100)
        assert_nothing_lost(storm)
        assert complaints(process) == []


def test_a_start_that_hangs_in_an_import_is_named_before_its_deadline_ends_it(tmp_path: Path) -> None:
    write_application(tmp_path, "wsgi", "import os", "os.read(os.pipe()[0], 1)")
    arguments = ("--workers", "1", "--boot-timeout", "1s", "--preload", "off", "--backoff", "10ms")
    with serving("app:app", *arguments, cwd=tmp_path, ready=False, env=FRESH) as process:
        named = said_at(process, r"worker stalled for 1\.\d s: its loop stands in app\.py:3 in <module>")
        killed = said_at(process, "worker died: not ready after 1 s and killed")
        assert abs(killed - named) < BOUND
        process.signal(signal.SIGQUIT)
        process.wait()
