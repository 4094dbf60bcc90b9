"""Companions of a running service: functions of the application in processes beside the workers."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from support import processes
from support.clients import ask
from support.loops import LOOPS
from support.operated import Line, Operated, operated
from support.process import DEADLINE, HybridProcess
from support.service import APPLICATIONS, eventually

from hybrid import Companion, Exit, Service, Supervisor
from hybrid.supervisor.children.titles import ZYGOTE


def text_of(*companions: str, workers: int = 1, loop: str = "epoll", more: str = "") -> str:
    """Return a file of one service; a companion is `NAME=FUNCTION`."""
    head = f'[service.web]\ntarget = "accompanied:app"\nbind = "127.0.0.1:0"\nworkers = {workers}\nloop = "{loop}"\n'
    tables = ""
    for companion in companions:
        name, _, function = companion.partition("=")
        tables += f'[service.web.companion.{name}]\ntarget = "accompanied:{function}"\n'
    return f"{head}{more}\n{tables}"


@contextmanager
def accompanied(
    *companions: str, tmp_path: Path, env: dict[str, str] | None = None, ends: bool = True, **options: Any
) -> Iterator[Operated]:
    with operated(text_of(*companions, **options), tmp_path, env=env, ends=ends) as run:
        yield run


def rows(run: Operated) -> list[dict[str, Any]]:
    """Return the rows of the companions in the status."""
    line = Line(str(run.control))
    try:
        found: list[dict[str, Any]] = line.result("status")["services"][0]["companions"]
    finally:
        line.close()
    return found


def running(run: Operated, count: int = 1, generation: int = 1) -> list[int]:
    """Wait until the companions of a generation are ready and no other is left; return their pids."""

    def found() -> list[int] | None:
        every = rows(run)
        good = [row["pid"] for row in every if row["state"] == "ready" and row["generation"] == generation]
        return good if len(good) == count == len(every) else None

    return list(eventually(found, f"{count} companions of generation {generation} run") or ())


def wait_output(run: Operated, pattern: str) -> re.Match[str]:
    """Wait for a line of the companions' own output."""
    compiled = re.compile(pattern, re.MULTILINE)
    found = eventually(lambda: compiled.search(run.process.stdout), f"a line like {pattern!r}")
    assert found is not None
    return found


# --- the function runs


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", ["coroutine", "function"])
def test_a_function_runs_in_a_fork_of_the_zygote_and_ends_when_it_is_told(tmp_path: Path, kind: str, loop: str) -> None:
    with accompanied(f"mailer={kind}", tmp_path=tmp_path, loop=loop) as run:
        (pid,) = running(run)
        begun = wait_output(run, rf"begun {kind} web.mailer 0 gen=1 (\d+) (\d+) main")
        assert int(begun[1]) == pid
        zygotes = [one.pid for one in psutil.Process(run.process.pid).children() if one.name() == ZYGOTE]
        assert [int(begun[2])] == zygotes, "the zygote has loaded it"
        assert run.process.stop() == Exit.OK
        assert f"ended {kind} {pid}" in run.process.stdout
        assert ("cancelled" if kind == "coroutine" else "exit 0") in run.process.stdout
        assert "died" not in run.process.stderr


@pytest.mark.parametrize("kind", ["coroutine", "function"])
def test_without_a_zygote_it_loads_the_application_itself(tmp_path: Path, kind: str) -> None:
    with accompanied(f"mailer={kind}", tmp_path=tmp_path, more='preload = "off"') as run:
        (pid,) = running(run)
        wait_output(run, rf"begun {kind} web.mailer 0 gen=1 {pid} {pid} main")


@pytest.mark.parametrize("preload", ["on", "off"])
def test_a_companion_has_no_listening_socket(tmp_path: Path, preload: str) -> None:
    with accompanied("a=coroutine", "b=function", tmp_path=tmp_path, more=f'preload = "{preload}"') as run:
        for pid in running(run, 2):
            assert psutil.Process(pid).net_connections("inet") == []


@pytest.mark.parametrize("preload", ["on", "off"])
def test_the_hook_after_a_fork_is_called_in_it(tmp_path: Path, preload: str) -> None:
    hook = "def after_fork(worker):\n    print('forked', worker.service, worker.slot, worker.pid, flush=True)\n"
    (tmp_path / "forks.py").write_text(hook)
    more = f'hooks = "forks"\npreload = "{preload}"'
    with accompanied("mailer=function", tmp_path=tmp_path, more=more) as run:
        (pid,) = running(run)
        wait_output(run, rf"forked web.mailer 0 {pid}")


def test_a_hook_that_fails_in_it_leaves_the_workers_alone(tmp_path: Path) -> None:
    (tmp_path / "forks.py").write_text("def after_fork(worker):\n    assert worker.service == 'web', 'not here'\n")
    with accompanied("mailer=function", tmp_path=tmp_path, more='hooks = "forks"\nbackoff = "5s"') as run:
        run.process.wait_for_log(r"web\.mailer/0 .* companion cannot start.*(?:after_fork|not here)")


def test_it_is_named_in_the_log_and_in_the_process_table(tmp_path: Path) -> None:
    with accompanied("c=function", tmp_path=tmp_path) as run:
        (pid,) = running(run)
        run.process.wait_for_log(rf" web\.c/0 gen=1 pid={pid} running function")
        assert Path(f"/proc/{pid}/comm").read_text() == "hybrid: web.c/0\n"


# --- deaths


@pytest.mark.parametrize("kind", ["coroutine", "function"])
def test_a_killed_companion_is_started_again(tmp_path: Path, kind: str) -> None:
    with accompanied(f"mailer={kind}", tmp_path=tmp_path) as run:
        (pid,) = running(run)
        os.kill(pid, signal.SIGKILL)
        line = rf" web\.mailer/0 gen=1 pid={pid} companion died: killed by SIGKILL after .* restarting now"
        run.process.wait_for_log(line)
        (anew,) = running(run)
        assert anew != pid
        assert [row["restarts"] for row in rows(run)] == [1]


@pytest.mark.parametrize("kind", ["coroutine", "function"])
def test_a_sigterm_of_another_process_replaces_it_and_is_no_death(tmp_path: Path, kind: str) -> None:
    with accompanied(f"mailer={kind}", tmp_path=tmp_path) as run:
        (pid,) = running(run)
        os.kill(pid, signal.SIGTERM)
        run.process.wait_for_log(r"companion was told to drain by another process; starting its successor")
        eventually(lambda: running(run) != [pid], "it has a successor")
        assert [row["restarts"] for row in rows(run)] == [0]


def test_an_error_of_the_function_is_in_the_log_and_the_workers_go_on(tmp_path: Path) -> None:
    with accompanied("mailer=fails", tmp_path=tmp_path, more='backoff = "5s"') as run:
        run.process.wait_for_log(r"RuntimeError: the queue is gone")
        run.process.wait_for_log(r"web\.mailer/0 .* companion died: exited with code 1 after .* restarting in 5.0 s")
        assert [row["state"] for row in rows(run)] == ["waiting"]
        assert run.connects().result("status")["services"][0]["ready"] == 1


def test_a_function_that_returns_is_done_in_a_transient_service(tmp_path: Path) -> None:
    with accompanied("mailer=returns", tmp_path=tmp_path, more='restart = "transient"') as run:
        run.process.wait_for_log(r"web\.mailer/0 .* companion ended: exited with code 0 .* \(restart = transient\)")
        assert [(row["state"], row["pid"]) for row in rows(run)] == [("done", None)]


def test_sys_exit_in_a_coroutine_ends_it_with_that_code(tmp_path: Path) -> None:
    with accompanied("mailer=exits", tmp_path=tmp_path) as run:
        run.process.wait_for_log(r"web\.mailer/0 .* companion died: exited with code 5")


def test_a_coroutine_that_blocks_its_loop_is_named_and_ended(tmp_path: Path) -> None:
    more = 'stall_report = "200ms"\nstall_timeout = "600ms"'
    with accompanied("mailer=blocks", tmp_path=tmp_path, more=more) as run:
        (pid,) = running(run)
        (tmp_path / "block").touch()
        run.process.wait_for_log(rf"web\.mailer/0 gen=1 pid={pid} .*accompanied.py")
        (tmp_path / "block").unlink()
        run.process.wait_for_log(rf"web\.mailer/0 gen=1 pid={pid} companion died: its loop stood still for")
        assert running(run) != [pid]


def test_a_sync_function_that_sleeps_is_no_stall(tmp_path: Path) -> None:
    more = 'stall_report = "100ms"\nstall_timeout = "200ms"'
    with accompanied("mailer=function", "other=blocks", tmp_path=tmp_path, more=more) as run:
        running(run, 2)
        (tmp_path / "block").touch()
        run.process.wait_for_log(r"web\.other/0 .* its loop stood still")  # so the detector has looked often enough
        (tmp_path / "block").unlink()
        assert "web.mailer/0" not in "\n".join(line for line in run.process.lines if "stood still" in line)
        running(run, 2)


def test_companions_die_with_their_supervisor(tmp_path: Path) -> None:
    with accompanied("a=coroutine", "b=function", tmp_path=tmp_path, ends=False) as run:
        pids = running(run, 2)
        os.kill(run.process.pid, signal.SIGKILL)
        eventually(lambda: not any(map(processes.is_alive, pids)), "both have ended")


# --- changes


def test_a_reload_replaces_companions_and_the_file_decides_which_there_are(tmp_path: Path) -> None:
    with accompanied("mailer=coroutine", tmp_path=tmp_path) as run:
        (pid,) = running(run)
        run.writes(text_of("mailer=coroutine", "clock=function"))
        os.kill(run.process.pid, signal.SIGHUP)
        pids = running(run, 2, generation=2)
        assert pid not in pids
        assert [(row["companion"], row["slot"]) for row in rows(run)] == [("mailer", 0), ("clock", 0)]
        run.writes(text_of("clock=function"))
        os.kill(run.process.pid, signal.SIGHUP)
        running(run, 1, generation=3)
        assert [(row["companion"], row["slot"]) for row in rows(run)] == [("clock", 0)]


def asks(run: Operated, path: Path) -> socket.socket:
    """Send a request that is answered once a file exists; return when it has begun."""
    client = socket.create_connection(run.process.address, DEADLINE)
    client.sendall(f"GET /?{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    received = b""
    while b"begun" not in received:
        received += client.recv(4096)
    return client


def test_the_old_companion_outlives_the_workers_of_its_generation(tmp_path: Path) -> None:
    with accompanied("mailer=function", tmp_path=tmp_path) as run:
        (pid,) = running(run)
        with asks(run, tmp_path / "go"):
            os.kill(run.process.pid, signal.SIGHUP)
            eventually(lambda: [row["generation"] for row in rows(run)] == [1, 2], "both run beside each other")
            assert psutil.pid_exists(pid)
            (tmp_path / "go").touch()
            assert running(run, generation=2) != [pid]


def test_companions_end_after_the_workers(tmp_path: Path) -> None:
    with accompanied("mailer=function", tmp_path=tmp_path) as run:
        running(run)
        wait_output(run, "begun function")
        with asks(run, tmp_path / "go"):
            run.process.signal(signal.SIGTERM)
            run.process.wait_for_log(r"draining 1 connections")
            assert "ended function" not in run.process.stdout
            (tmp_path / "go").touch()
            assert run.process.wait() == Exit.OK
        assert "ended function" in run.process.stdout


def test_one_that_refuses_to_end_is_killed_after_the_grace_period(tmp_path: Path) -> None:
    with accompanied("mailer=deaf", tmp_path=tmp_path, more='graceful_timeout = "300ms"') as run:
        running(run)
        wait_output(run, "begun deaf")
        assert run.process.stop() == Exit.KILLED
        assert "companion still not drained after 0.3 s: killing it" in run.process.stderr
        assert "refused" in run.process.stdout


def test_a_restart_replaces_one_companion(tmp_path: Path) -> None:
    with accompanied("mailer=coroutine", "clock=function", tmp_path=tmp_path) as run:
        before = running(run, 2)
        result = run.connects().result("restart", service="web.mailer", slot=0)
        assert (result["service"], result["slot"]) == ("web.mailer", 0)
        after = running(run, 2)
        assert after == [result["pid"], before[1]]
        assert before[0] not in after


def test_an_upgrade_starts_companions_anew(tmp_path: Path) -> None:
    with accompanied("mailer=coroutine", tmp_path=tmp_path, ends=False) as run:
        (pid,) = running(run)
        os.kill(run.process.pid, signal.SIGUSR2)
        successor = int(run.process.wait_for_log(r"upgrading: supervisor (\d+) is starting")[1])
        run.process.wait_for_log(rf" web\.mailer/0 gen=1 pid={pid} ending")
        begun = r"begun coroutine web.mailer 0 gen=1 (\d+)"
        eventually(lambda: len(re.findall(begun, run.process.stdout)) == 2, "the successor has one of its own")
        os.kill(successor, signal.SIGTERM)
        eventually(lambda: not processes.is_alive(successor), "the successor has ended")


# --- operators


def test_requests_name_companions_as_the_status_does(tmp_path: Path) -> None:
    with accompanied("mailer=coroutine", "clock=function", tmp_path=tmp_path) as run:
        running(run, 2)
        line = run.connects()
        code, reason = line.error("scale", service="web.mailer", workers=3)
        assert (code, reason.partition(":")[0]) == ("bad_request", "web.mailer is a companion of web")
        code, reason = line.error("restart", service="web.mailer", slot=1)
        assert (code, reason) == ("unknown_slot", "web.mailer has only the slot 0, and no 1")
        assert line.error("restart", service="web.nobody", slot=0)[0] == "unknown_service"
        assert line.error("stop", service="web.clock")[0] == "bad_request"


def told_by(line: Line, source: str, **which: object) -> dict[str, Any]:
    """Return the stacks of a companion that it has told itself. Ask again while it waits for a core for too long."""

    def look() -> dict[str, Any]:
        (row,) = line.result("stacks", **which)["workers"]
        return dict(row) if row["source"] == source else {}

    return eventually(look, f"the {source} tells")


def test_stacks_of_companions(tmp_path: Path) -> None:
    with accompanied("mailer=coroutine", "clock=function", tmp_path=tmp_path) as run:
        running(run, 2)
        wait_output(run, "begun coroutine")
        wait_output(run, "begun function")
        line = run.connects()
        mailer = told_by(line, "loop", service="web.mailer")
        assert (mailer["service"], mailer["slot"]) == ("web.mailer", 0)
        assert "mailer" in [task["name"] for task in mailer["tasks"]]
        clock = told_by(line, "function", service="web.clock", slot=0)
        assert clock["error"] is None
        assert clock["threads"][0]["frames"][0]["function"] == "function"
        everyone = line.result("stacks")["workers"]
        assert {row["service"] for row in everyone} == {"web", "web.mailer", "web.clock"}


@pytest.mark.parametrize("loop", ["epoll", "gevent"])
def test_a_log_level_reaches_a_function_that_is_not_async(tmp_path: Path, loop: str) -> None:
    with accompanied("mailer=chatty", tmp_path=tmp_path, loop=loop) as run:
        (pid,) = running(run)
        run.process.wait_for_log(rf"pid={pid} a tick")
        assert "a detail" not in "\n".join(run.process.lines)
        run.connects().result("loglevel", level="debug")
        run.process.wait_for_log(rf"DEBUG .*pid={pid} a detail")


@pytest.mark.parametrize("loop", ["epoll", "gevent"])
def test_reopened_log_files_reach_a_function_that_is_not_async(tmp_path: Path, loop: str) -> None:
    log = tmp_path / "log"
    text = text_of("mailer=chatty", loop=loop, more=f'log_file = "{log}"')
    (tmp_path / "hybrid.toml").write_text(text)
    process = HybridProcess("run", cwd=tmp_path, env={"PYTHONPATH": str(APPLICATIONS)})
    try:
        eventually(lambda: log.exists() and "a tick" in log.read_text(), "it logs")
        log.rename(tmp_path / "old")
        os.kill(process.pid, signal.SIGUSR1)
        eventually(lambda: log.exists() and "a tick" in log.read_text(), "it logs to the new file")
        assert process.stop() == 0
    finally:
        assert not process.close()


@pytest.mark.parametrize("loop", ["epoll", "gevent"])
def test_the_stacks_of_a_function_that_is_not_async_leave_out_the_thread_that_tells(tmp_path: Path, loop: str) -> None:
    with accompanied("clock=function", tmp_path=tmp_path, loop=loop) as run:
        running(run)
        wait_output(run, "begun function")
        clock = told_by(run.connects(), "function", service="web.clock", slot=0)
        assert clock["error"] is None
        assert not any("ordering_thread" in str(thread) for thread in clock["threads"])
        assert "function" in str([*clock["threads"], *clock["greenlets"]])


def test_the_status_for_people_shows_them_below_the_workers(tmp_path: Path) -> None:
    with accompanied("mailer=function", tmp_path=tmp_path) as run:
        (pid,) = running(run)
        shown = HybridProcess("status", "--control", str(run.control), cwd=tmp_path)
        assert shown.wait() == 0
        assert re.search(rf"^web/0 .*\nweb\.mailer/0 +{pid} +ready", shown.stdout, re.MULTILINE)
        shown.close()


# --- mistakes


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("nothing", "'accompanied' has no attribute 'nothing'"),
        ("NUMBER", "companion mailer: accompanied:NUMBER is an int, which is not callable: give a function"),
        ("takes", r"companion mailer: accompanied:takes\(one\) cannot be called without arguments"),
    ],
)
def test_a_bad_function_ends_the_start(tmp_path: Path, function: str, reason: str) -> None:
    (tmp_path / "hybrid.toml").write_text(text_of(f"mailer={function}"))
    process = HybridProcess("run", cwd=tmp_path, env={"PYTHONPATH": str(APPLICATIONS)})
    assert process.wait() == Exit.TARGET
    assert re.search(reason, process.stderr)
    assert process.close() == []


def test_a_bad_function_fails_a_reload_and_the_old_generation_goes_on(tmp_path: Path) -> None:
    with accompanied("mailer=coroutine", tmp_path=tmp_path) as run:
        (pid,) = running(run)
        run.writes(text_of("mailer=nothing"))
        os.kill(run.process.pid, signal.SIGHUP)
        run.process.wait_for_log(r"reload failed, generation 1 goes on: .*has no attribute 'nothing'")
        assert running(run) == [pid]


def test_a_check_loads_the_functions_too(tmp_path: Path) -> None:
    (tmp_path / "hybrid.toml").write_text(text_of("mailer=nothing"))
    process = HybridProcess("check", cwd=tmp_path, env={"PYTHONPATH": str(APPLICATIONS)})
    assert process.wait() != Exit.OK
    process.close()
    assert "'accompanied' has no attribute 'nothing'" in process.stdout + process.stderr


def test_a_refork_replaces_companions_as_a_reload_does(tmp_path: Path) -> None:
    with accompanied("mailer=function", tmp_path=tmp_path, more="refork_after = 3") as run:
        (pid,) = running(run)
        for _ in range(5):
            ask(run.process.address, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        run.process.wait_for_log(r"refork complete")
        assert running(run, generation=2) != [pid]


def test_the_flag_names_them_too(tmp_path: Path) -> None:
    words = ("accompanied:app", "--bind", "127.0.0.1:0", "--companion", "mailer=accompanied:function*2")
    process = HybridProcess("run", *words, cwd=tmp_path, env={"PYTHONPATH": str(APPLICATIONS)})
    process.wait_for_log(r"web\.mailer/[01] .* running function", count=2)
    assert process.stop() == Exit.OK
    assert process.close() == []


# --- embedding


def test_an_embedding_program_may_give_a_function(tmp_path: Path) -> None:
    path = tmp_path / "note"

    async def handle(reader: Any, writer: Any) -> None:
        writer.close()

    async def note() -> None:
        import asyncio

        path.write_text("ran")
        await asyncio.sleep(60)

    service = Service(handle, bind="127.0.0.1:0", workers=1, companions=[Companion("noter", note)])
    with Supervisor(service):
        eventually(path.exists, "the companion has run")
