"""HUP with code that cannot start, under load: the old code serves on, the log says why once, mended code is taken."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from support.changes import FRESH, INTERFACES, assert_nothing_lost, complaints, reload, who_answers, write_application
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import eventually, limit_for_starts, serving
from support.storm import PACE, Storm

CHOSEN = [loop for loop in ("epoll", "gevent", "uvloop") if loop in LOOPS]
BOOT = 3  # seconds that code which hangs gets; no other start has to be as fast, as this machine may be busy
CLIENTS = 8
REST = 0.02  # seconds: the old workers serve on, whatever the load, and what fails may take three seconds for that
FAILED = "reload failed, generation 1 goes on: generation 2 cannot start: "
LIFESPAN = """
serves = app
async def app(scope, receive, send):
    if scope["type"] != "lifespan":
        return await serves(scope, receive, send)
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "the database is not there"})
"""
HANGING = "import os\nos.read(os.pipe()[0], 1)  # forever"
SUICIDE = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
BROKEN = {
    "syntax-error": ("def app(:", "SyntaxError"),
    "hanging-import": (HANGING, "not ready after 3 s and killed"),
    "deadly-import": (SUICIDE, "killed by SIGKILL"),
    "failed-lifespan": (LIFESPAN, "the database is not there"),
}
HARDER = ("hanging-import", "failed-lifespan")  # where the loop plays a part
PLACES = [
    *((loop, "auto", fault) for loop in CHOSEN for fault in BROKEN if loop == "epoll" or fault in HARDER),
    *(("epoll", "off", fault) for fault in BROKEN if "epoll" in CHOSEN),
]


def write_limit(directory: Path, seconds: float | None = None) -> None:
    """Write the file of the service `web`, with a time limit for starts that the next reload applies."""
    limit = "" if seconds is None else f"boot_timeout = {seconds}\n"
    (directory / "hybrid.toml").write_text(f'[service.web]\ntarget = "app:app"\n{limit}')


def refuse(process: HybridProcess, reason: str) -> None:
    """Send HUP, and check that the service goes on as it was, with one line about the reason."""
    before = process.worker_pids()
    process.signal(signal.SIGHUP)
    process.wait_for_log(FAILED)
    process.wait_for_log(reason)
    eventually(lambda: len(process.worker_pids()) == len(before), "the worker that failed has gone")
    assert process.worker_pids() == before
    assert who_answers(process.address).generation == 1


@pytest.mark.parametrize(("loop", "preload", "fault"), PLACES)
def test_code_that_cannot_start_is_given_up_and_mended_code_is_taken(
    loop: str, preload: str, fault: str, tmp_path: Path
) -> None:
    code, reason = BROKEN[fault]
    write_application(tmp_path, "asgi")
    write_limit(tmp_path)
    arguments = ("--workers", "2", "--loop", loop, "--preload", preload)
    with serving("web", *arguments, cwd=tmp_path, env=FRESH) as process:
        with Storm(process.address, clients=CLIENTS, close=preload == "auto", rest=REST) as storm:
            storm.wait_answers(100)
            write_application(tmp_path, "asgi", code)
            write_limit(tmp_path, BOOT if fault == "hanging-import" else None)
            refuse(process, reason)
            write_limit(tmp_path)
            assert len(complaints(process)) == 1, process.stderr
        assert set(assert_nothing_lost(storm).by_generation) == {"1"}
        write_application(tmp_path, "asgi")
        with Storm(process.address, clients=CLIENTS, close=preload == "auto", rest=PACE) as storm:
            storm.wait_answers(100)
            reload(process, 3)
            storm.wait_answers(100)
        assert set(assert_nothing_lost(storm).by_generation) == {"1", "3"}
        assert complaints(process)[0].count(FAILED) == len(complaints(process)) == 1


def test_an_import_that_hangs_is_named_before_it_is_killed(tmp_path: Path) -> None:
    write_application(tmp_path, "wsgi")
    write_limit(tmp_path)
    began = time.monotonic()
    with serving("web", "--workers", "1", cwd=tmp_path, env=FRESH) as process:
        write_application(tmp_path, "wsgi", *HANGING.split("\n"))
        write_limit(tmp_path, limit_for_starts(BOOT, time.monotonic() - began))
        process.signal(signal.SIGHUP)
        process.wait_for_log(
            r"WARNING .*/zygote gen=2 .* zygote stalled for \d+\.\d s: its import stands in app\.py:3 "
        )
        process.wait_for_log(FAILED)


def test_broken_code_is_complained_of_again_at_each_reload(tmp_path: Path) -> None:
    write_application(tmp_path, "wsgi")
    with serving("app:app", "--workers", "1", cwd=tmp_path, env=FRESH) as process:
        write_application(tmp_path, "wsgi", "def app(:")
        for count in (1, 2, 3):
            process.signal(signal.SIGHUP)
            process.wait_for_log("reload failed, generation 1 goes on", count=count)
            assert len(complaints(process)) == count
        assert who_answers(process.address).generation == 1


@pytest.mark.parametrize("interface", INTERFACES)
def test_a_service_with_failing_workers_loads_fixed_code_at_once(interface: str, tmp_path: Path) -> None:
    """Its one slot waits for a minute by then; nothing is refused meanwhile."""
    write_application(tmp_path, interface)
    arguments = ("--workers", "1", "--preload", "off", "--backoff", "60s", "--backoff-max", "60s")
    with serving("app:app", *arguments, cwd=tmp_path, env=FRESH) as process:
        write_application(tmp_path, interface, "import no_such_module")
        (worker,) = process.worker_pids()
        os.kill(worker, signal.SIGKILL)
        process.wait_for_log("worker cannot start, restarting in 60.0 s")
        with Storm(process.address, clients=CLIENTS, close=True, rest=PACE) as storm:
            eventually(lambda: storm.in_flight().sent == CLIENTS, "all requests wait in the queue")
            write_application(tmp_path, interface)
            process.signal(signal.SIGHUP)
            process.wait_for_log("reload complete: 1 worker of generation 2")
            storm.wait_answers(100)
        assert set(assert_nothing_lost(storm).by_generation) == {"2"}
        assert len(complaints(process)) == 1


def test_a_crash_loop_after_the_fork_is_fixed_by_a_reload_at_once(tmp_path: Path) -> None:
    """Here the zygote can import the application, but no worker of it lives to be ready."""
    failing = (
        "import os",
        "serves = app",
        "async def app(scope, receive, send):",
        "    if os.path.exists('broken') and scope['type'] == 'lifespan':",
        "        os._exit(42)",
        "    await serves(scope, receive, send)",
    )
    write_application(tmp_path, "asgi", *failing)
    arguments = ("--workers", "2", "--backoff", "60s", "--backoff-max", "60s")
    with serving("app:app", *arguments, cwd=tmp_path, env=FRESH) as process:
        (tmp_path / "broken").touch()
        for worker in process.worker_pids():
            os.kill(worker, signal.SIGKILL)
        process.wait_for_log("worker died: exited with code 42 .* restarting in 60.0 s", count=2)
        write_application(tmp_path, "asgi")
        with Storm(process.address, clients=CLIENTS, close=True, rest=PACE) as storm:
            process.signal(signal.SIGHUP)
            process.wait_for_log("reload complete: 2 workers of generation 2")
            storm.wait_answers(100)
        assert_nothing_lost(storm)
