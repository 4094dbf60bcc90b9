"""Figures of offloaded calls under faults, run by hand: `python tests/endurance/offload_figures.py`.

How long until a killed offload worker is replaced, what is left of cancelled calls, what reloads, a stop and the death
of the supervisor do to calls that run. The exit code is 1 if a promise was broken; times are only printed.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import select
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.clients import TIMEOUT, connected, read_all
from support.load import loaded
from support.loops import ALL_LOOPS
from support.offloading import descriptors, get, is_gone, offload_workers, offloading, strength, wait_no_more
from support.process import HybridProcess
from support.service import eventually

_KILLS = 50
_CALLS = 20_000  # of which half are cancelled
_RELOADS = 10
_EVERY = 2.0  # seconds between two reloads
_RUNNING = 10
_RECORD = re.compile(r"^\S+ (\d+):(\d+):(\d+\.\d+) .* web\.cpu/(\d+) gen=\d+ pid=(\d+) (companion died|ready for)")


def say(line: str) -> None:
    """Write a line at once: somebody may be waiting for it."""
    print(line, flush=True)  # noqa: T201 - a program


def kills(directory: Path, loop: str) -> None:
    """Kill offload workers under load: only the calls that run may fail, and successors start at once."""
    with offloading(directory, workers=2, loop=loop) as process:
        died: list[str] = []

        def call() -> None:
            word = str(random.random())
            text = get(process, f"/echo?{word}")
            if text.startswith("OffloadDied: "):
                died.append(text)
            else:
                assert text == word, text

        get(process, "/where")
        strength(process, 2)
        with loaded(call) as load:
            for _ in range(_KILLS):
                load.wait_answers(2)
                victim = random.choice(offload_workers(process))
                os.kill(victim, signal.SIGKILL)
                strength(process, 2, besides=victim)
        assert load.failures == [], load.failures
        assert len(died) <= _KILLS, died
        back = _times_until_ready(process.lines)
        assert len(back) == _KILLS
    say(
        f"{_KILLS} kills under 4 clients: {load.answers:,} answers, 0 wrong, {len(died)} calls died; strength back "
        f"after {statistics.median(back):.0f} ms (median), {max(back):.0f} ms (longest)"
    )


def _times_until_ready(lines: list[str]) -> list[float]:
    """Return the milliseconds from the record of each death to that of its successor, by slot."""
    died: dict[str, float] = {}
    found: list[float] = []
    for match in filter(None, map(_RECORD.match, lines)):
        hours, minutes, seconds, slot, _, what = match.groups()
        at = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        if what == "companion died":
            died[slot] = at
        elif slot in died:
            found.append((at - died.pop(slot)) * 1e3)
    return found


def cancellations(directory: Path, loop: str) -> None:
    """Cancel half of many calls at random moments: nothing is lost, wrong or left."""
    with offloading(directory, workers=2, loop=loop) as process:
        get(process, "/where")
        strength(process, 2)
        get(process, "/many/100")
        before = {pid: descriptors(pid) for pid in [process.pid, *process.worker_pids()]}
        began = time.monotonic()
        found = get(process, f"/many/{_CALLS}", timeout=120)
        passed = time.monotonic() - began
        assert found.startswith("lost 0, wrong 0 []"), found
        wait_no_more(before)
        assert process.worker_pids() == list(before)[1:], "no process was replaced, none is left"
    say(f"{_CALLS:,} calls in {passed:.1f} s, half of them to be cancelled: {found}; no descriptor or process left")


def reloads(directory: Path, loop: str) -> None:
    """Reload a new version every two seconds: no call fails, none runs in another version than its caller's."""
    with offloading(directory, workers=2, loop=loop, env={"PYTHONDONTWRITEBYTECODE": "1"}) as process:
        get(process, "/where")

        def call() -> None:
            ours, theirs = get(process, "/versions").split()
            assert ours == theirs

        with loaded(call) as load:
            for version in range(2, _RELOADS + 2):
                (directory / "version").write_text(str(version))
                process.signal(signal.SIGHUP)
                select.select([], [], [], _EVERY)
        assert load.failures == [], load.failures
        process.wait_for_log(f"reload complete: .* of generation {_RELOADS + 1}")
        strength(process, 2)
    say(f"{_RELOADS} reloads, one every {_EVERY:g} s, under 4 clients: {load.answers:,} calls, 0 failed, 0 elsewhere")


def stop(directory: Path, loop: str) -> None:
    """Stop while calls run."""
    with offloading(directory, workers=_RUNNING, loop=loop) as process, ExitStack() as stack:
        clients = _running(process, directory, stack)
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        process.wait_for_log("draining")
        for number in range(_RUNNING):
            (directory / f"go-{number}").touch()
        answers = [read_all(client).partition(b"\r\n\r\n")[2] for client in clients]
        assert all(answer.isdigit() for answer in answers), answers
        code = process.wait()
        passed = time.monotonic() - began
        assert (code, process.survivors()) == (0, [])
    say(f"SIGTERM with {_RUNNING} calls running: all answered, exit code {code} after {passed:.2f} s, no process left")


def _running(process: HybridProcess, directory: Path, stack: ExitStack) -> list[socket.socket]:
    """Begin as many calls as there are offload workers; return the connections of their requests."""
    clients: list[socket.socket] = []
    for number in range(_RUNNING):
        client = stack.enter_context(connected(process.address, TIMEOUT))
        client.sendall(f"GET /wait?go-{number} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        clients.append(client)
    eventually(lambda: len(list(directory.glob("go-*.runs"))) == _RUNNING, "all calls run")
    return clients


def death(directory: Path, loop: str) -> None:
    """Kill the supervisor while calls run."""
    with (
        offloading(directory, "--graceful-timeout", "1s", workers=_RUNNING, loop=loop) as process,
        ExitStack() as stack,
    ):
        _running(process, directory, stack)
        everyone = [*process.worker_pids(), *process.zygote_pids()]
        began = time.monotonic()
        process.signal(signal.SIGKILL)
        eventually(lambda: all(map(is_gone, everyone)), "all have ended")
        passed = time.monotonic() - began
        process.wait()
    say(f"SIGKILL of the supervisor with {_RUNNING} calls running, grace 1 s: no process left after {passed:.2f} s")


_FIGURES: dict[str, Callable[[Path, str], None]] = {
    function.__name__: function for function in (kills, cancellations, reloads, stop, death)
}


def main() -> int:
    """Run it as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--loop", choices=ALL_LOOPS, default="epoll")
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=", ".join(_FIGURES))
    options = parser.parse_args()
    broken = 0
    for name in options.figures or _FIGURES:
        with tempfile.TemporaryDirectory(prefix="hybrid") as directory:
            try:
                _FIGURES[name](Path(directory), options.loop)
            except AssertionError as error:
                broken += 1
                say(f"BROKEN: {name}: {error}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
