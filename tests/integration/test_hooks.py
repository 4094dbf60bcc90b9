"""Hooks of the application under `hybrid run`, on every loop: their order, their failures, their deadlines."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest
from support.loops import LOOPS
from support.operator import operating
from support.referee import get
from support.service import eventually, limit_for_starts, serving, time_to_start

from hybrid.workers.contract.exits import Exit


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def notes(cwd: Path) -> list[str]:
    path = cwd / "notes"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("preload", ["on", "off"])
@pytest.mark.parametrize("style", ["sync", "async"])
def test_each_hook_is_called_at_its_moment(loop: str, tmp_path: Path, style: str, preload: str) -> None:
    options = ("--loop", loop, "--workers", "1", "--hooks", f"hooks_{style}", "--preload", preload)
    started = ["after_fork 0 True", f"worker_start 0 {loop}", "lifespan starts"]
    before = ["hooks", "imported", *(["zygote_warm"] if preload == "on" else []), *started]
    with serving("hooked:asgi", *options, cwd=tmp_path) as process:
        assert notes(tmp_path) == before, "before it is ready"
        assert get(process, "/").body == b"ok"
    assert notes(tmp_path) == [*before, "worker_drain", "lifespan ends", "worker_stop"]


@pytest.mark.parametrize("target", ["hooked:wsgi", "hooked:handle"])
def test_hooks_of_other_kinds_of_applications_are_called(loop: str, tmp_path: Path, target: str) -> None:
    with serving(target, "--loop", loop, "--workers", "2", "--hooks", "hooks_sync", cwd=tmp_path):
        assert sorted(notes(tmp_path)[-4:]) == sorted(
            [f"worker_start {slot} {loop}" for slot in (0, 1)] + [f"after_fork {slot} True" for slot in (0, 1)]
        )
    assert sorted(notes(tmp_path)[-4:]) == ["worker_drain"] * 2 + ["worker_stop"] * 2


@pytest.mark.parametrize("loop", [one for one in LOOPS if one != "gevent"])
def test_hooks_with_threads_run_in_the_main_thread(loop: str, tmp_path: Path) -> None:
    """Greenlets can wait there only."""
    options = ("--loop", loop, "--workers", "1", "--hooks", "hooks_sync", "--threads", "2")
    with serving("hooked:wsgi", *options, cwd=tmp_path) as process:
        assert get(process, "/").body == b"ok"
    assert notes(tmp_path)[-3:] == [f"worker_start 0 {loop}", "worker_drain", "worker_stop"]


@pytest.mark.parametrize("kind", ["fail", "fail_async", "leave"])
def test_a_start_hook_that_fails_fails_the_start_with_text_and_line(loop: str, tmp_path: Path, kind: str) -> None:
    options = ("--loop", loop, "--workers", "1", "--hooks", "hooks_failing")
    env = {"FAILS": f"{kind} worker_start"}
    with serving("hooked:wsgi", *options, cwd=tmp_path, ready=False, env=env) as process:
        assert process.wait() == Exit.TARGET
    error = "SystemExit: 5" if kind == "leave" else "LookupError: no such table"
    assert f"the hook worker_start failed: hooks_failing.{kind}: {error}" in process.stderr
    assert f"in {kind}" in process.stderr, "the line"
    assert "serving with" not in process.stderr


@pytest.mark.parametrize("name", ["zygote_warm", "after_fork"])
def test_an_early_hook_that_fails_fails_the_start(loop: str, tmp_path: Path, name: str) -> None:
    options = ("--loop", loop, "--workers", "1", "--hooks", "hooks_failing", "--preload", "on")
    with serving("hooked:wsgi", *options, cwd=tmp_path, ready=False, env={"FAILS": f"fail {name}"}) as process:
        assert process.wait() == Exit.TARGET
    assert f"the hook {name} failed: hooks_failing.fail: LookupError: no such table" in process.stderr


@pytest.mark.parametrize("kind", ["hang", "hang_async"])
def test_a_start_hook_that_hangs_is_ended_at_a_stop(loop: str, tmp_path: Path, kind: str) -> None:
    options = ("--loop", loop, "--workers", "1", "--hooks", "hooks_failing", "--preload", "off")
    env = {"FAILS": f"{kind} worker_start"}
    with serving("hooked:wsgi", *options, cwd=tmp_path, ready=False, env=env) as process:
        eventually(lambda: "imported" in notes(tmp_path), "the worker imports")
        process.signal(signal.SIGTERM)
        assert process.wait() == Exit.OK


@pytest.mark.parametrize("kind", ["hang", "hang_async", "block"])
def test_a_start_hook_has_the_boot_deadline(loop: str, tmp_path: Path, kind: str) -> None:
    options = ("--loop", loop, "--workers", "1", "--hooks", "hooks_failing", "--backoff", "0.01")
    took = time_to_start("hooked:wsgi", *options, cwd=tmp_path, env={"FAILS": "fail worker_stop"})
    options = (*options, "--boot-timeout", f"{limit_for_starts(1, took)}")
    env = {"FAILS": f"{kind} worker_start"}
    with serving("hooked:wsgi", *options, cwd=tmp_path, ready=False, env=env) as process:
        process.wait_for_log("worker died: not ready after .* s and killed")
        if kind == "block":
            process.wait_for_log(r"worker stalled for .*hooks_failing\.py:\d+ in block")
        process.signal(signal.SIGTERM)
        process.wait()


@pytest.mark.parametrize("name", ["worker_stop", "worker_drain"])
@pytest.mark.parametrize("kind", ["hang", "hang_async"])
def test_a_hook_that_hangs_at_the_end_is_cancelled_in_the_grace_period(
    loop: str, tmp_path: Path, name: str, kind: str
) -> None:
    """A worker that took longer would be killed, with another exit code."""
    options = ("--loop", loop, "--workers", "1", "--hooks", "hooks_failing", "--graceful-timeout", "4")
    env = {"FAILS": f"{kind} {name}"}
    with serving("hooked:wsgi", *options, cwd=tmp_path, env=env) as process:
        assert process.stop() == Exit.OK
    assert notes(tmp_path)[-1] == "cancelled"
    text = f"the hook {name} failed: hooks_failing.{kind}: TimeoutError: it did not end before its deadline"
    assert text in process.stderr


@pytest.mark.parametrize("name", ["worker_stop", "worker_drain"])
def test_a_hook_that_fails_at_the_end_is_logged_with_its_line(loop: str, tmp_path: Path, name: str) -> None:
    options = ("--loop", loop, "--workers", "1", "--hooks", "hooks_failing")
    with serving("hooked:wsgi", *options, cwd=tmp_path, env={"FAILS": f"fail_async {name}"}) as process:
        assert process.stop() == Exit.OK
    assert f"the hook {name} failed: hooks_failing.fail_async: LookupError: no such table" in process.stderr
    assert "in fail_async" in process.stderr


def test_a_missing_module_of_hooks_fails_the_start(tmp_path: Path) -> None:
    with serving("hooked:wsgi", "--hooks", "no_such_hooks", cwd=tmp_path, ready=False) as process:
        assert process.wait() == Exit.TARGET
    assert "cannot import the hooks 'no_such_hooks': there is no module 'no_such_hooks' on the path" in process.stderr


def test_a_worker_without_hooks_imports_nothing_for_them(tmp_path: Path) -> None:
    (tmp_path / "looking.py").write_text(
        "import sys\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [','.join(name for name in sys.modules if 'hybrid.workers.hooks' in name).encode()]\n"
    )
    with serving("looking:app", "--workers", "1", cwd=tmp_path) as process:
        assert get(process, "/").body == b""


def test_a_reload_calls_the_hooks_of_both_generations(tmp_path: Path) -> None:
    with serving("hooked:wsgi", "--workers", "1", "--hooks", "hooks_sync", cwd=tmp_path) as process:
        before = len(notes(tmp_path))
        process.signal(signal.SIGHUP)
        eventually(lambda: "worker_stop" in notes(tmp_path), "the old worker has ended")
        assert notes(tmp_path)[before:] == [
            *("hooks", "imported", "zygote_warm", "after_fork 0 True", "worker_start 0 epoll"),
            *("worker_drain", "worker_stop"),
        ]


def test_a_ready_check_is_told_when_its_result_changes(loop: str, tmp_path: Path) -> None:
    """The worker goes on serving."""
    options = ("--loop", loop, "--workers", "1", "--hooks", "hooks_ready", "--ready-check-interval", "0.1")
    options = (*options, "--on-event", "sh -c 'cat >> events'")
    with serving("hooked:wsgi", *options, cwd=tmp_path, growth=2) as process, operating(process) as operator:

        def not_ready() -> object:
            return operator.asks("status")["result"]["services"][0]["workers"][0]["not_ready"]

        assert not_ready() is None
        (tmp_path / "draft").write_text("the database is gone")
        (tmp_path / "draft").rename(tmp_path / "reason")  # at once: a check may read it at any moment
        eventually(
            lambda: not_ready() == "hooks_ready.ready_check: ConnectionError: the database is gone", "the reason"
        )
        assert get(process, "/").body == b"ok"
        (tmp_path / "reason").unlink()
        eventually(lambda: not_ready() is None, "it is ready")
        process.wait_for_log("ready again")
        (line,) = [line for line in process.lines if "not ready" in line]
        assert re.search(r" WARNING +web/0 gen=1 pid=\d+ not ready: hooks_ready.ready_check: Connect", line)
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert [one["outcome"] for one in events if one["event"] == "readiness"] == ["not ready", "ready"]


def test_a_worker_that_becomes_a_zygote_stops_first_and_its_forks_start(tmp_path: Path) -> None:
    options = ("--workers", "1", "--hooks", "hooks_sync", "--refork-after", "3")
    with serving("hooked:wsgi", *options, cwd=tmp_path) as process:
        for _ in range(5):
            get(process, "/")
        process.wait_for_log("refork complete")
        eventually(lambda: notes(tmp_path).count("worker_stop") == 2, "the workers of generation 1 have ended")
        found = notes(tmp_path)
    starts = [line for line in found if line.startswith("worker_start")]
    assert len(starts) == 3, "the first one, its successor, and the one of generation 2"
    assert found.count("zygote_warm") == 1, "the new zygote has imported nothing"
    assert found.index("worker_stop") < max(index for index, line in enumerate(found) if line in starts)


def test_a_thread_of_a_hook_keeps_a_worker_from_becoming_a_zygote(tmp_path: Path) -> None:
    """Its forks would lack the thread."""
    options = ("--workers", "1", "--hooks", "hooks_exporting", "--refork-after", "3")
    with serving("hooked:wsgi", *options, cwd=tmp_path) as process:
        for _ in range(5):
            get(process, "/")
        process.wait_for_log(r"1 live thread \(exporter\)")
        assert get(process, "/").body == b"ok"


def test_a_thread_of_a_warm_zygote_ends_preloading(tmp_path: Path) -> None:
    (tmp_path / "warm.py").write_text(
        "import threading\n"
        "def zygote_warm():\n"
        "    threading.Thread(target=threading.Event().wait, name='warmer', daemon=True).start()\n"
    )
    with serving("hooked:wsgi", "--workers", "1", "--hooks", "warm", cwd=tmp_path) as process:
        assert get(process, "/").body == b"ok"
        assert "not preloading: the import left 1 live thread (warmer)" in process.stderr
