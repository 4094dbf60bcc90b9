"""Stalled loops in real processes: other requests do not wait for them, the log names them, some are ended."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import pytest
from support.changes import FRESH, ONE_EACH, assert_nothing_lost, complaints, who_answers, write_application
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import APPLICATIONS, eventually, limit_for_starts, serving, time_to_start
from support.storm import Storm

CHOSEN = [loop for loop in ("epoll", "gevent", "uvloop") if loop in LOOPS]
SHORT = 8  # clients with short requests
FREE = 400  # of their answers, while no worker is busy
BUSY = 15  # requests of 100 ms, one after another, beside which they ask
FAIR = 0.2  # of the rate with two free workers; a third and more is left, and a twentieth if they wait (measured)
PROMISED = 1.5  # seconds from a request that stalls a loop to the line in the log
BOUND = 3.0  # seconds; asserted, or as many starts of the service, because this machine may be busy
STARTS = 5
WAYS = {"computes": ("/computing", "while not os.access"), "sleeps-in-C": ("/sleeping", "_usleep(100_000)")}
"""Ways to stall a loop: the target, and the text in the log line of its position."""
IN_THE_LOOP = {"asyncio": ("--threads", "0"), "uvloop": ("--threads", "0")}
"""Options by which WSGI runs in the loop where by default it runs in threads, which stall nothing."""


def line_of(words: str) -> int:
    """The number of the line of `echoing.py` that holds `words`."""
    lines = (APPLICATIONS / "echoing.py").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if words in line)


@contextmanager
def asking(process: HybridProcess, target: str) -> Iterator[list[int]]:
    """Request `target` while the block runs; the list then holds the pid of the responding worker, unless killed."""
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


def rate_of_short_requests(process: HybridProcess, *, is_busy: bool) -> float:
    """Ask on new connections, beside a client that keeps one worker computing if `is_busy`; return answers a second."""
    if not is_busy:
        with Storm(process.address, clients=SHORT, close=True) as short:
            short.wait_answers(FREE)
            return float(assert_nothing_lost(short).per_second)
    with Storm(process.address, clients=1, target="/busy?ms=100", timeout=30) as busy:
        busy.wait_answers(1)
        with Storm(process.address, clients=SHORT, close=True) as short:
            busy.wait_answers(BUSY)
            tally = assert_nothing_lost(short)
    assert_nothing_lost(busy)
    return float(tally.per_second)


# --- waiting requests


@pytest.mark.parametrize(("loop", "interface"), ONE_EACH)
def test_short_requests_do_not_wait_for_a_busy_worker(loop: str, interface: str, tmp_path: Path) -> None:
    """They keep a fair part of their rate with two free workers. The best of three: the cores are shared."""
    options = ("--workers", "2", "--loop", loop, *(IN_THE_LOOP.get(loop, ()) if interface == "wsgi" else ()))
    with serving(f"echoing:{interface}", *options, cwd=tmp_path) as process:
        parts: list[float] = []
        while len(parts) < 3 and max(parts, default=0.0) < FAIR:
            free = rate_of_short_requests(process, is_busy=False)
            parts.append(rate_of_short_requests(process, is_busy=True) / free)
            print(f"{loop} {interface}: {free:.0f}/s, of which {parts[-1]:.0%} beside a busy worker")  # noqa: T201 - read with `pytest -s`
    assert max(parts) >= FAIR, parts


# --- stack dumps


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("loop", "interface"), ONE_EACH)
def test_where_a_loop_stands_is_logged_while_siblings_serve(
    loop: str, interface: str, way: str, tmp_path: Path
) -> None:
    target, words = WAYS[way]
    end = tmp_path / "end"
    arguments = ("--workers", "2", "--loop", loop, *(IN_THE_LOOP.get(loop, ()) if interface == "wsgi" else ()))
    starts = time.time()
    with serving(f"echoing:{interface}", *arguments, cwd=tmp_path) as process:
        began = time.time()
        with asking(process, f"{target}?until={end}") as answers:
            try:
                reported = said_at(
                    process, r"WARNING .* worker stalled for \d\.\d s: its loop stands in \S*echoing\.py"
                )
                with Storm(process.address, clients=4, close=True) as storm:
                    storm.wait_answers(100)
                others = assert_nothing_lost(storm)
            finally:
                end.touch()
        took = f"in the log after {reported - began:.2f} s (promised: {PROMISED} s)"
        print(f"{loop} {interface} {way}: {took}")  # noqa: T201 - read with `pytest -s`
        assert reported - began < max(BOUND, STARTS * (began - starts))
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
            died = process.wait_for_log(r"pid=(\d+) worker died: its loop stood still for \d\.\d s, so it was killed")
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


def test_a_start_that_hangs_in_an_import_is_named_when_its_deadline_ends_it(tmp_path: Path) -> None:
    arguments = ("--workers", "1", "--preload", "off", "--backoff", "10ms")
    write_application(tmp_path, "wsgi")
    limit = limit_for_starts(1, time_to_start("app:app", *arguments, cwd=tmp_path, env=FRESH))
    write_application(tmp_path, "wsgi", "import os", "os.read(os.pipe()[0], 1)")
    arguments = (*arguments, "--boot-timeout", f"{limit}")
    with serving("app:app", *arguments, cwd=tmp_path, ready=False, env=FRESH) as process:
        named = process.wait_for_log(r"pid=(\d+) worker stalled for .* s: its loop stands in app\.py:3 in <module>")
        process.wait_for_log(rf"pid={named[1]} worker died: not ready after .* s and killed")
        process.signal(signal.SIGQUIT)
        process.wait()
