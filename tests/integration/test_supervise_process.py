"""`supervise` as a real process with real workers, whose body is tiny and knows no event loop."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest
import support.tiny_service
from support.clients import connected, read_all
from support.process import HybridProcess
from support.service import eventually

from hybrid.supervisor.contact.control import ControlClient, StartError, pair
from hybrid.workers.contract.exits import Exit

PROGRAM = [sys.executable, "-P", str(Path(support.tiny_service.__file__))]
DEADLINE = 20.0  # seconds
UNSTEERED = {"stall_threshold": 60.0}  # for tests that count on connections coming to every worker; see `service`


class Start(Protocol):
    def __call__(self, *, serving: bool = True, prefix: tuple[str, ...] = (), **fields: object) -> HybridProcess: ...


@pytest.fixture
def start(hybrid_command: Callable[..., HybridProcess]) -> Start:
    """Start the tiny service, and wait until it serves unless told not to."""

    def begin(
        *, serving: bool = True, prefix: tuple[str, ...] = (), pass_fds: tuple[int, ...] = (), **fields: object
    ) -> HybridProcess:
        command = [*prefix, *PROGRAM]
        process = hybrid_command(json.dumps(fields), executable=command, pass_fds=pass_fds, executed=bool(prefix))
        return process.wait_serving() if serving else process

    return begin


def ask(process: HybridProcess) -> dict[str, Any]:
    """Connect and return the facts that a worker tells."""
    with connected(process.address) as sock:
        return dict(json.loads(read_all(sock)))


def answers(clients: list[socket.socket]) -> list[dict[str, Any]]:
    """Read what each connection is answered, and close them all."""
    with contextlib.ExitStack() as stack:
        for client in clients:
            stack.enter_context(client)
        return [json.loads(read_all(client)) for client in clients]


def wait_gone(pids: list[int]) -> None:
    """Wait until none of these processes runs."""
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=DEADLINE)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


# --- start and stop


def test_a_service_serves_and_ends_when_asked(start: Start) -> None:
    process = start(**UNSTEERED)
    assert {ask(process)["pid"] for _ in range(50)} == set(process.worker_pids())
    assert process.stop() == Exit.OK
    assert "stopping: draining 2 workers (at most 30 s)" in process.stderr
    assert process.lines[-1].endswith("stopped")


def test_output_buffered_before_the_fork_is_written_once(start: Start) -> None:
    process = start(workers=4)
    process.stop()
    assert process.stdout.count("written before the fork") == 1


def test_ctrl_c_reaches_the_whole_group_and_workers_leave_it_to_their_supervisor(start: Start) -> None:
    process = start()
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == Exit.OK
    assert "died" not in process.stderr


@pytest.mark.parametrize("signals", [[signal.SIGQUIT], [signal.SIGINT, signal.SIGINT]])
def test_an_immediate_stop_kills_and_the_exit_code_shows_it(start: Start, signals: list[int]) -> None:
    process = start(body="deaf")
    for number in signals:
        seen = len(process.lines)
        process.signal(number)
        process.wait_for_log("stopping", since=seen)
    assert process.wait() == Exit.KILLED


def test_a_worker_that_ignores_the_order_to_drain_is_killed_at_the_deadline(start: Start) -> None:
    process = start(body="deaf", graceful_timeout=0.2)
    assert process.stop() == Exit.KILLED
    assert process.stderr.count("worker still not drained after 0.2 s: killing it") == 2


def test_a_worker_that_cannot_start_ends_the_start_with_one_line_and_its_code(start: Start) -> None:
    process = start(body="fail", serving=False)
    assert process.wait() == Exit.TARGET
    assert [line for line in process.lines if "listening" not in line] == [process.lines[-1]]
    assert "no module named 'app'" in process.lines[-1]


def test_workers_that_crash_end_the_start(start: Start) -> None:
    process = start(body="crash", serving=False, backoff=0.01, boot_attempts=3)
    assert process.wait() == Exit.BOOT
    assert "no worker became ready in 3 attempts; the last one: exited with code 9" in process.lines[-1]


def test_workers_that_hang_end_the_start(start: Start) -> None:
    process = start(body="hang", serving=False, boot_timeout=0.1, backoff=0.01, boot_attempts=2)
    assert process.wait() == Exit.BOOT
    assert "not ready after 0.1 s and killed" in process.stderr


def test_an_exception_in_a_worker_is_logged_under_its_name(start: Start) -> None:
    process = start(body="throw", serving=False, workers=1, boot_attempts=1)
    assert process.wait() == Exit.BOOT
    assert "CRITICAL web/0 gen=1" in process.stderr
    assert "LookupError: nobody catches this" in process.stderr


@pytest.mark.parametrize(("body", "code"), [("leave", 1), ("leave_silently", 0), ("leave_with_a_code", 42)])
def test_a_worker_that_calls_sys_exit_is_a_worker_that_exits(start: Start, body: str, code: int) -> None:
    process = start(body=body, serving=False, workers=1, boot_attempts=1)
    assert process.wait() == Exit.BOOT
    assert f"exited with code {code} after" in process.lines[-1]
    assert ("enough" in process.stderr) == (body == "leave")


def test_a_port_in_use_is_said_with_the_processes_that_hold_it(start: Start) -> None:
    first = start()
    host, port = first.address
    second = start(serving=False, binds=[f"{host}:{port}"])
    assert second.wait() == Exit.BIND
    assert f"cannot bind {host}:{port}: address already in use by pid {first.pid} (" in second.stderr


def test_a_stop_during_the_boot_does_not_wait_for_it(start: Start) -> None:
    process = start(body="hang", serving=False)
    process.wait_for_log("listening")
    assert process.stop() == Exit.OK


# --- deaths


def test_a_killed_worker_is_replaced_and_its_successor_serves_within_300_ms(start: Start) -> None:
    """The best of some kills: the machine is shared, and a single one may have waited for a core."""
    began = time.monotonic()
    process = start(workers=1, healthy_after=0.0)
    started = time.monotonic() - began  # an interpreter and a worker: a third of a second where nothing else runs
    best = 10.0
    for _ in range(8):
        victim = ask(process)["pid"]
        before = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        assert ask(process)["pid"] != victim
        best = min(best, time.monotonic() - before)
    assert best < max(0.3, started)
    assert process.stderr.count("worker died: killed by SIGKILL after") == 8


def test_connections_queued_at_a_stopped_worker_are_answered_by_its_successor(start: Start) -> None:
    process = start(workers=1)
    victim = ask(process)["pid"]
    os.kill(victim, signal.SIGSTOP)
    _wait_stopped(victim)
    clients = [socket.create_connection(process.address, DEADLINE) for _ in range(40)]
    os.kill(victim, signal.SIGKILL)
    pids = [facts["pid"] for facts in answers(clients)]
    assert len(pids) == 40
    assert victim not in pids


def _wait_stopped(pid: int) -> None:
    until = time.monotonic() + DEADLINE
    while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < until
        os.sched_yield()


def test_ten_kills_in_a_row_leave_a_service(start: Start) -> None:
    process = start(backoff=0.01, backoff_max=0.05)
    for number in range(10):
        os.kill(ask(process)["pid"], signal.SIGKILL)
        process.wait_for_log("worker died: killed by SIGKILL", count=number + 1)
    assert ask(process)["pid"] in process.worker_pids()
    assert process.stop() == Exit.OK


@pytest.mark.parametrize("body", ["answer", "hang"])
def test_workers_end_when_their_supervisor_is_killed(start: Start, body: str) -> None:
    process = start(body=body, serving=body == "answer")
    process.wait_for_log("listening")
    workers = _wait_workers(process, 2)
    process.signal(signal.SIGKILL)
    wait_gone(workers)


def _wait_workers(process: HybridProcess, count: int) -> list[int]:
    until = time.monotonic() + DEADLINE
    while len(process.worker_pids()) != count:
        assert time.monotonic() < until
        os.sched_yield()
    return process.worker_pids()


# --- scale


def test_ttin_and_ttou_scale_by_one_and_lose_no_connection(start: Start) -> None:
    process = start(workers=2, **UNSTEERED)
    process.signal(signal.SIGTTIN)
    process.wait_for_log(r"web/2 .*ready on none")
    assert 2 in {ask(process)["slot"] for _ in range(200)}
    process.signal(signal.SIGTTOU)
    process.wait_for_log("worker retired")
    assert {ask(process)["slot"] for _ in range(100)} == {0, 1}
    process.signal(signal.SIGTTIN)
    process.wait_for_log(r"web/2 .*ready on none", count=2)
    assert 2 in {ask(process)["slot"] for _ in range(200)}


def test_a_retired_worker_serves_its_queue(start: Start) -> None:
    process = start(workers=2, **UNSTEERED)
    victim = next(facts["pid"] for _ in iter(int, 1) if (facts := ask(process))["slot"] == 1)
    os.kill(victim, signal.SIGSTOP)
    _wait_stopped(victim)
    clients = [socket.create_connection(process.address, DEADLINE) for _ in range(40)]
    process.signal(signal.SIGTTOU)
    process.wait_for_log("scaling from 2 to 1 worker")
    os.kill(victim, signal.SIGCONT)
    slots = [facts["slot"] for facts in answers(clients)]
    assert set(slots) == {0, 1}


# --- files


def test_unix_socket_and_pidfile_are_removed_at_the_end(start: Start, tmp_path: Path) -> None:
    process = start(binds=[f"unix:{tmp_path}/a.sock"], pidfile=f"{tmp_path}/pid")
    assert (tmp_path / "pid").read_text() == f"{process.pid}\n"
    with connected(f"{tmp_path}/a.sock") as sock:
        assert json.loads(read_all(sock))["listeners"] == 1
    process.stop()
    assert list(tmp_path.iterdir()) == []


def test_a_second_service_with_the_same_pidfile_is_refused(start: Start, tmp_path: Path) -> None:
    first = start(pidfile=f"{tmp_path}/pid")
    second = start(serving=False, pidfile=f"{tmp_path}/pid")
    assert second.wait() == Exit.ERROR
    assert f"held by the living process {first.pid}" in second.stderr


# --- what a worker inherits


def test_a_worker_holds_only_its_own_channel_and_all_listeners(start: Start) -> None:
    process = start(workers=4)
    facts = [ask(process) for _ in range(40)]
    assert {fact["channels"] for fact in facts} == {1}
    assert {fact["listeners"] for fact in facts} == {4}


def test_a_pinned_worker_keeps_to_one_core(start: Start) -> None:
    process = start(pin=True, **UNSTEERED)
    cores = {fact["slot"]: fact["cpus"] for fact in (ask(process) for _ in range(40))}
    ours = sorted(os.sched_getaffinity(0))
    assert cores == {slot: [ours[slot % len(ours)]] for slot in (0, 1)}
    assert process.stop() == Exit.OK


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")


@needs_root
def test_workers_run_as_the_user_and_group_they_are_told(start: Start) -> None:
    process = start(uid=65534, gid=65533, workers=1)
    facts = ask(process)
    assert facts["ids"] == [65534] * 3 + [65533] * 3
    assert 0 not in facts["groups"]
    assert psutil.Process(process.pid).uids().real == 0


@needs_root
def test_a_user_without_an_account_has_no_groups_but_the_one_given(start: Start) -> None:
    facts = ask(start(uid=54321, gid=54322, workers=1))
    assert (facts["ids"], facts["groups"]) == ([54321] * 3 + [54322] * 3, [54322])


@needs_root
def test_a_user_alone_takes_the_group_of_the_account(start: Start) -> None:
    import pwd

    facts = ask(start(uid=65534, workers=1))
    assert facts["ids"][3:] == [pwd.getpwuid(65534).pw_gid] * 3


@needs_root
def test_a_group_alone_leaves_the_user(start: Start) -> None:
    facts = ask(start(gid=54322, workers=1))
    assert facts["ids"] == [0] * 3 + [54322] * 3


@needs_root
def test_workers_of_another_user_end_with_their_supervisor_too(start: Start) -> None:
    process = start(uid=65534, gid=65534, body="hang", serving=False)
    process.wait_for_log("listening")
    workers = _wait_workers(process, 2)
    process.signal(signal.SIGKILL)
    wait_gone(workers)


@needs_root
def test_an_account_without_the_right_to_change_users_is_refused(start: Start) -> None:
    prefix = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    reads = f"import hybrid.supervisor.loop; open({PROGRAM[-1]!r}).close()"
    if subprocess.run([*prefix, sys.executable, "-P", "-c", reads], check=False, capture_output=True).returncode:
        pytest.skip("an unprivileged account cannot read this interpreter, the package or the tests here")
    process = start(prefix=prefix, uid=1, gid=1, serving=False)
    assert process.wait() == Exit.USAGE
    assert "cannot run workers as user 1 group 1: operation not permitted; start as root" in process.stderr


# --- PID 1


def test_as_pid_one_it_serves_reaps_orphans_and_replaces_workers(start: Start) -> None:
    prefix = ("unshare", "--pid", "--fork", "--kill-child", "--user", "--map-root-user")
    if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no PID namespaces here")
    process = start(prefix=prefix, body="leave_an_orphan")
    (supervisor,) = psutil.Process(process.pid).children()
    workers = supervisor.children()
    workers[0].kill()
    process.wait_for_log("worker died: killed by SIGKILL")
    process.wait_for_log("ready on none", count=3)
    assert process.stderr.count("died") == 1
    eventually(lambda: not _has_zombies(supervisor), "all orphans are reaped")
    supervisor.terminate()
    assert process.wait() == Exit.OK


def _has_zombies(process: psutil.Process) -> bool:
    for child in process.children():
        with contextlib.suppress(psutil.NoSuchProcess):  # reaped between the two looks
            if child.status() == psutil.STATUS_ZOMBIE:
                return True
    return False


# --- embedded


@pytest.fixture
def embedded(start: Start) -> Iterator[Callable[..., tuple[HybridProcess, ControlClient]]]:
    clients: list[ControlClient] = []

    def begin(**fields: object) -> tuple[HybridProcess, ControlClient]:
        control, client = pair()
        clients.append(client)
        fd = control.fileno()
        process = start(serving=False, pass_fds=(fd,), control=fd, **fields)
        control.close()
        return process, client

    yield begin
    for client in clients:
        client.close()


Embedded = Callable[..., tuple[HybridProcess, ControlClient]]


def test_an_embedder_waits_for_the_start_scales_asks_and_stops(embedded: Embedded) -> None:
    process, client = embedded()
    assert client.wait_started(DEADLINE) == tuple(process.addresses)
    client.scale(3, DEADLINE)
    assert [(row.slot, row.state) for row in client.status(DEADLINE).workers] == [(n, "ready") for n in range(3)]
    client.scale(1, DEADLINE)
    (worker,) = client.status(DEADLINE).workers
    assert [worker.pid] == process.worker_pids()
    client.stop()
    assert process.wait() == Exit.OK


def test_an_embedder_learns_why_a_start_failed(embedded: Embedded) -> None:
    process, client = embedded(body="fail")
    with pytest.raises(StartError, match="no module named 'app'") as caught:
        client.wait_started(DEADLINE)
    assert caught.value.code is Exit.TARGET
    assert process.wait() == Exit.TARGET


def test_the_end_of_the_embedder_is_the_end_of_the_service(embedded: Embedded) -> None:
    process, client = embedded()
    client.wait_started(DEADLINE)
    client.close()
    assert process.wait() == Exit.OK


# --- rest


def test_a_service_at_rest_wakes_less_than_five_times_a_second(start: Start) -> None:
    """Supervisor and workers alike give up the processor no more often than looks and pings cost.

    In two of some seconds: on a busy machine a worker may stall for want of a core, and is looked after.
    """
    process = start()
    everybody = [psutil.Process(pid) for pid in (process.pid, *process.worker_pids())]
    most: list[int] = []
    while sum(count < 5 for count in most) < 2 and len(most) < 10:
        before = [one.num_ctx_switches().voluntary for one in everybody]
        select.select([], [], [], 1.0)
        woken = [one.num_ctx_switches().voluntary - count for one, count in zip(everybody, before, strict=True)]
        most.append(max(woken))
    assert sum(count < 5 for count in most) == 2, most
