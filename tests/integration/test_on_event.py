"""`--on-event` under `hybrid run`: what the program gets, and that no program delays the supervisor."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from support.process import HybridProcess
from support.referee import get
from support.service import eventually, serving

from hybrid.workers.contract.exits import Exit


def delivered(cwd: Path) -> list[dict[str, Any]]:
    path = cwd / "events"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def names(cwd: Path) -> list[str]:
    return [event["event"] for event in delivered(cwd)]


def worker_of(process: HybridProcess) -> int:
    """Return the pid of the first worker. The program for events may be another child."""
    return int(process.wait_for_log(r"web/0 gen=1 pid=(\d+) ready on")[1])


def test_a_program_gets_the_events_of_a_life(tmp_path: Path) -> None:
    options = ("--workers", "1", "--on-event", "sh -c 'cat >> events'")
    with serving("hooked:wsgi", *options, cwd=tmp_path, growth=4) as process:
        worker = worker_of(process)
        process.signal(signal.SIGHUP)
        process.wait_for_log("reload complete")
        process.signal(signal.SIGTTIN)
        eventually(lambda: "scale" in names(tmp_path), "the events arrive")
        eventually(lambda: worker not in process.worker_pids(), "the old worker has ended")
    events = delivered(tmp_path)
    assert [one["outcome"] for one in events if one["event"] == "reload"] == ["started", "complete"]
    ready = next(one for one in events if one["event"] == "ready")
    who = {"service": "web", "slot": 0, "pid": worker, "generation": 1}
    assert ready == {"event": "ready", "at": ready["at"], **who, "reason": "start"}
    assert "stop" in names(tmp_path), "events of the stop itself are delivered"


def test_a_death_is_told(tmp_path: Path) -> None:
    options = ("--workers", "1", "--on-event", "sh -c 'cat >> events'")
    with serving("hooked:wsgi", *options, cwd=tmp_path) as process:
        worker = worker_of(process)
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: "death" in names(tmp_path), "the event arrives")
        process.wait_for_log(r" ready on ", count=2)
    death = next(one for one in delivered(tmp_path) if one["event"] == "death")
    assert (death["how"], death["pid"]) == ("SIGKILL", worker)


def test_a_slow_program_delays_neither_the_service_nor_the_stop(tmp_path: Path) -> None:
    options = ("--workers", "1", "--on-event", "sleep 3600")
    with serving("hooked:wsgi", *options, cwd=tmp_path, growth=2) as process:
        process.signal(signal.SIGHUP)
        process.wait_for_log("reload complete")
        assert get(process, "/").body == b"ok"
        began = time.monotonic()
        assert process.stop() == Exit.OK
        assert time.monotonic() - began < 10, "2 s for the events, and a busy machine"
    assert "events were not delivered" in process.stderr


def test_a_failing_program_is_logged(tmp_path: Path) -> None:
    options = ("--workers", "1", "--on-event", "sh -c 'echo no mail >&2; exit 3'")
    with serving("hooked:wsgi", *options, cwd=tmp_path) as process:
        process.wait_for_log(r"on-event pid=\d+ no mail")
        process.wait_for_log("--on-event: it ended with exit code 3")
        assert get(process, "/").body == b"ok"


def test_a_missing_program_is_logged(tmp_path: Path) -> None:
    with serving("hooked:wsgi", "--workers", "1", "--on-event", "no-such-program", cwd=tmp_path) as process:
        process.wait_for_log("--on-event: cannot execute no-such-program: no such file or directory")
        assert get(process, "/").body == b"ok"
