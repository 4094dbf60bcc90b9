"""Offloaded calls under injected faults: only the call that is hit fails, and nothing is left behind."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support.clients import TIMEOUT, read_all
from support.descriptors import sockets
from support.load import loaded
from support.loops import LOOPS
from support.offloading import descriptors, get, is_gone, offload_workers, offloading, strength, wait_no_more, wait_runs
from support.process import HybridProcess
from support.service import eventually

from hybrid import Exit

KILLS = 50


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def asking(process: HybridProcess, target: str) -> Iterator[socket.socket]:
    """Send a request; give its connection."""
    with socket.create_connection(process.address, TIMEOUT) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        yield client


def answer(client: socket.socket) -> str:
    """Return the body of the response."""
    return read_all(client).partition(b"\r\n\r\n")[2].decode()


def wait_interrupted(path: Path) -> None:
    eventually(Path(f"{path}.interrupted").exists, f"the call for {path.name} is interrupted")


def let_time_out(process: HybridProcess, call: str, folder: Path) -> Path:
    """Have a call run into its timeout; return the path that it was given.

    A call that waits for a core until its timeout never runs: then another one gets more time.
    """
    for seconds in ("0.6", "3", "9"):
        path = folder / f"go-{seconds}"
        text = get(process, f"/{call}?{path.name}&timeout={seconds}")
        assert text == f"OffloadTimeout: {call} has not ended within {seconds} s"
        get(process, "/where")  # in the queue behind it: now it runs, or never will
        if Path(f"{path}.runs").exists():
            return path
    raise AssertionError("no call has begun before its timeout")


# --- an offload worker dies


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGXCPU], ids=lambda number: number.name)
def test_the_error_of_a_dead_call_names_the_signal(number: signal.Signals, tmp_path: Path) -> None:
    with offloading(tmp_path) as process, asking(process, "/sleep?go") as client:
        os.kill(wait_runs(tmp_path / "go"), number)
        text = f"OffloadDied: the process that ran sleep has died: killed by {number.name}"
        assert answer(client).startswith(text)
        strength(process, 1)


def test_a_death_touches_no_other_call(tmp_path: Path) -> None:
    with (
        offloading(tmp_path, workers=2) as process,
        asking(process, "/wait?one") as one,
        asking(process, "/wait?two") as two,
        asking(process, "/echo?three") as three,
    ):
        victim, survivor = wait_runs(tmp_path / "one"), wait_runs(tmp_path / "two")
        os.kill(victim, signal.SIGKILL)
        assert answer(one).startswith("OffloadDied: ")
        assert answer(three) == "three", "it waited in the queue"
        (tmp_path / "two").touch()
        assert answer(two) == str(survivor)
        assert survivor in strength(process, 2, besides=victim)


def test_kills_under_load_fail_only_the_calls_that_run(tmp_path: Path) -> None:
    """A killed process runs at most one call."""
    with offloading(tmp_path, workers=2) as process:
        died: list[str] = []

        def call() -> None:
            word = str(random.random())
            text = get(process, f"/echo?{word}")
            if text.startswith("OffloadDied: "):
                died.append(text)
            else:
                assert text == word

        get(process, "/where")
        strength(process, 2)
        with loaded(call) as load:
            for _ in range(KILLS):
                load.wait_answers(2)
                victim = random.choice(offload_workers(process))
                os.kill(victim, signal.SIGKILL)
                strength(process, 2, besides=victim)
            load.wait_answers(20)
        assert load.failures == []
        assert len(died) <= KILLS
        assert "restarting in" not in process.stderr, "each successor starts at once"


def test_a_call_with_retries_runs_again(tmp_path: Path) -> None:
    with offloading(tmp_path) as process:
        assert get(process, "/die_once?first&retries=1") == "survived"
        assert get(process, "/die?always&retries=2").startswith("OffloadDied: ")
        process.wait_for_log("companion died: killed by SIGKILL", count=4)
        strength(process, 1)


def test_a_death_is_noticed_although_a_child_of_the_call_holds_its_connection(tmp_path: Path) -> None:
    with offloading(tmp_path) as process, asking(process, "/parent_of?go") as client:
        pid = wait_runs(tmp_path / "go")
        eventually((tmp_path / "go.child").exists, "the child runs")
        os.kill(pid, signal.SIGKILL)
        assert answer(client).startswith("OffloadDied: the process that ran parent_of has died: killed by SIGKILL")
        strength(process, 1)
        (tmp_path / "go").touch()
        child = int((tmp_path / "go.child").read_text())
        eventually(lambda: is_gone(child), "the child has ended")


# --- what a call leaves behind


def test_an_alarm_that_a_call_leaves_behind_never_rings(tmp_path: Path) -> None:
    with offloading(tmp_path) as process:
        pid = get(process, "/leaves_alarm?1")
        began = time.monotonic()
        while time.monotonic() - began < 0.2:  # four times the alarm
            assert get(process, "/pid?") == pid
        assert get(process, "/sleep?go&timeout=0.6") == "OffloadTimeout: sleep has not ended within 0.6 s"
        wait_interrupted(tmp_path / "go")
        assert get(process, "/pid?") == pid
        assert process.stop() == Exit.OK, "it ends by SIGTERM"
        assert "died" not in process.stderr


def test_a_call_that_closes_all_descriptors_fails_alone_and_its_process_is_replaced(tmp_path: Path) -> None:
    with offloading(tmp_path) as process:
        before = int(get(process, "/pid?"))
        text = "OffloadDied: the process that ran closes_all has died: exited with code 1"
        assert get(process, "/closes_all?1") == text
        (after,) = strength(process, 1, besides=before)
        assert get(process, "/pid?") == str(after)
        assert "Traceback" not in process.stderr


# --- time limits


@pytest.mark.parametrize("call", ["sleep", "spin", "wait"])
def test_a_call_beyond_its_timeout_is_interrupted_and_its_process_goes_on(call: str, loop: str, tmp_path: Path) -> None:
    with offloading(tmp_path, loop=loop) as process:
        pid = get(process, "/where").split()[0]
        wait_interrupted(let_time_out(process, call, tmp_path))
        assert get(process, "/where").split()[0] == pid


def test_an_interruption_on_gevent_leaves_no_traceback_in_the_log(tmp_path: Path) -> None:
    """It comes by way of the hub, which prints errors."""
    with offloading(tmp_path, loop="gevent") as process:
        wait_interrupted(let_time_out(process, "sleep", tmp_path))
        assert get(process, "/echo?next") == "next"
        assert "Traceback" not in process.stderr


def test_the_timeout_of_the_service_is_that_of_calls_without_one(tmp_path: Path) -> None:
    with offloading(tmp_path, "--offload-timeout", "800ms", target="wsgi") as process:
        assert get(process, "/where?&timeout=20").split()[3] == "1"
        assert get(process, "/sleep?go") == "OffloadTimeout: sleep has not ended within 0.8 s"
        assert get(process, "/echo?next&timeout=20") == "next"


def test_a_call_that_swallows_its_interruption_is_killed_and_named(tmp_path: Path) -> None:
    with offloading(tmp_path) as process:
        get(process, "/where")
        pid = wait_runs(let_time_out(process, "swallow", tmp_path))
        why = "swallow went on for a second after it was told to end, so it was killed"
        process.wait_for_log(rf"web\.cpu/0 gen=1 pid={pid} .*{why}")
        assert get(process, "/where").split()[0] != str(pid)
        strength(process, 1, besides=pid)


def test_the_time_in_the_queue_counts(tmp_path: Path) -> None:
    with offloading(tmp_path) as process, asking(process, "/wait?go"):
        wait_runs(tmp_path / "go")
        assert get(process, "/wait?second&timeout=0.2") == "OffloadTimeout: wait has not ended within 0.2 s"
        (tmp_path / "go").touch()
        assert get(process, "/echo?next") == "next"
        assert not (tmp_path / "second.runs").exists()


# --- cancelled calls


@pytest.mark.parametrize("call", ["sleep", "spin"])
def test_a_cancelled_call_is_interrupted(call: str, loop: str, tmp_path: Path) -> None:
    with offloading(tmp_path, loop=loop) as process:
        assert get(process, f"/cancelled/{call}?go") == f"OffloadCancelled: {call} was cancelled at once: True"
        wait_interrupted(tmp_path / "go")
        assert get(process, "/where").split()[0] == (tmp_path / "go.interrupted").read_text()


def test_a_call_that_is_cancelled_while_it_waits_never_runs(tmp_path: Path) -> None:
    with offloading(tmp_path) as process:
        assert get(process, "/waiting/go") == "OffloadCancelled: wait was cancelled"
        assert get(process, "/echo?next") == "next"
        assert not (tmp_path / "go-second.runs").exists()


def test_a_cancelled_call_gives_up_its_place_although_a_child_of_it_holds_its_connection(tmp_path: Path) -> None:
    with offloading(tmp_path) as process:
        get(process, "/where")
        (caller,) = set(process.worker_pids()) - set(offload_workers(process))
        before = {caller: descriptors(caller)}
        assert get(process, "/cancelled/parent_of?go").startswith("OffloadCancelled: ")
        child = int((tmp_path / "go.child").read_text())
        wait_no_more(before)
        assert not is_gone(child)
        (tmp_path / "go").touch()
        eventually(lambda: is_gone(child), "the child has ended")


def test_an_asgi_application_that_hears_of_a_disconnect_cancels_its_call(loop: str, tmp_path: Path) -> None:
    with offloading(tmp_path, loop=loop) as process:
        with asking(process, "/abandon?go"):
            wait_runs(tmp_path / "go")
        wait_interrupted(tmp_path / "go")


@pytest.mark.parametrize("target", ["app", "wsgi"])
def test_a_client_that_goes_does_not_end_the_call_of_its_request(target: str, tmp_path: Path) -> None:
    """Nor does it end the request: the application decides."""
    with offloading(tmp_path, target=target) as process:
        with asking(process, "/wait?go"):
            wait_runs(tmp_path / "go")
        with asking(process, "/echo?next"):  # it comes behind, and so does the end of the first client
            (tmp_path / "go").touch()
            eventually((tmp_path / "go.done").exists, "the call has ended")
        assert not (tmp_path / "go.interrupted").exists()


def test_many_calls_of_which_half_are_cancelled_leave_nothing_behind(tmp_path: Path) -> None:
    with offloading(tmp_path, workers=2) as process:
        get(process, "/where")
        everyone = [process.pid, *(pid for pid in process.worker_pids() if pid not in offload_workers(process))]
        everyone += strength(process, 2)
        get(process, "/many/50")
        before = {pid: descriptors(pid) for pid in everyone}
        found = get(process, "/many/3000", timeout=60)
        assert found.startswith("lost 0, wrong 0 [], cancelled "), found
        assert int(found.rpartition(" ")[2]) > 100
        wait_no_more(before)
        assert offload_workers(process) == strength(process, 2) == everyone[-2:]


# --- limits


def test_a_result_above_the_limit_is_refused(tmp_path: Path) -> None:
    with offloading(tmp_path, "--offload-max-result", "100KB") as process:
        assert len(get(process, "/big?90000")) == 90_003
        text = get(process, "/big?110000")
        assert text.startswith("OffloadError: big: the result has 1100")
        assert text.endswith(" bytes, and --offload-max-result allows 102400")


def test_large_results_leave_no_memory_behind(tmp_path: Path) -> None:
    with offloading(tmp_path) as process:
        assert len(get(process, "/big?1000000")) == 1_000_003
        everyone = [process.pid, *process.worker_pids()]
        eventually(lambda: no_memory_of_messages(everyone), "the memory of the first is closed")
        before = {pid: descriptors(pid) for pid in everyone}
        for _ in range(5):
            assert len(get(process, "/big?1000000")) == 1_000_003
        wait_no_more(before)


def no_memory_of_messages(pids: list[int]) -> bool:
    return not any("memfd:hybrid-offload" in kind for pid in pids for kind in descriptors(pid))


def test_recycling_after_some_calls_fails_none(tmp_path: Path) -> None:
    with offloading(tmp_path, "--offload-max-tasks", "20", workers=2) as process:

        def call() -> None:
            assert get(process, "/echo?word") == "word"

        with loaded(call) as load:
            process.wait_for_log(r"web\.cpu/\d .* has run \d+ calls: starting its successor", count=6)
            load.wait_answers(20)
        assert load.failures == []
        strength(process, 2)


def test_an_offload_worker_that_uses_too_much_memory_is_replaced(tmp_path: Path) -> None:
    with offloading(tmp_path, "--offload-max-memory", "150MB") as process:
        before = get(process, "/where").split()[0]
        assert get(process, "/hoard?200000000") == before
        process.wait_for_log(rf"pid={before} companion uses \d+ MiB: starting its successor")
        strength(process, 1, besides=int(before))
        assert get(process, "/where").split()[0] != before


# --- the end of others


def test_a_call_ends_when_its_caller_is_killed(tmp_path: Path) -> None:
    with offloading(tmp_path) as process, asking(process, "/spin?go") as client:
        pid = wait_runs(tmp_path / "go")
        (caller,) = set(process.worker_pids()) - {pid}
        os.kill(caller, signal.SIGKILL)
        wait_interrupted(tmp_path / "go")
        assert answer(client) == ""
        process.wait_for_log(" ready on ", count=2)
        assert get(process, "/where").split()[0] == str(pid)


def test_a_call_that_goes_on_although_its_caller_was_killed_loses_its_process(tmp_path: Path) -> None:
    """Nobody is left who would complain of it, but for its process."""
    with offloading(tmp_path) as process, asking(process, "/swallow?go"):
        pid = wait_runs(tmp_path / "go")
        (caller,) = set(process.worker_pids()) - {pid}
        os.kill(caller, signal.SIGKILL)
        process.wait_for_log(rf"web\.cpu/0 gen=1 pid={pid} .*a call whose caller has gone went on for a second")
        strength(process, 1, besides=pid)


def test_a_stop_does_not_wait_a_grace_period_for_a_call_whose_caller_has_ended(tmp_path: Path) -> None:
    with offloading(tmp_path, "--graceful-timeout", "30s") as process, asking(process, "/swallow?go"):
        pid = wait_runs(tmp_path / "go")
        process.signal(signal.SIGTERM)
        process.wait_for_log("draining")
        (caller,) = set(process.worker_pids()) - {pid}
        os.kill(caller, signal.SIGKILL)
        process.wait_for_log("companion still drains, as a call whose caller has gone went on for a second")
        assert process.wait(deadline=20) == Exit.KILLED


def test_an_offload_worker_that_is_stopped_without_a_call_is_reported_and_killed(tmp_path: Path) -> None:
    with offloading(tmp_path, "--stall-timeout", "2s", "--offload-at-start") as process:
        (pid,) = strength(process, 1)
        os.kill(pid, signal.SIGSTOP)
        process.wait_for_log(rf"web\.cpu/0 gen=1 pid={pid} .*stood still for \d+\.\d s, so it was killed")
        strength(process, 1, besides=pid)
        assert get(process, "/echo?next") == "next"


@pytest.mark.parametrize("call", ["", "/spin?go", "/swallow?go"], ids=["idle", "spin", "swallow"])
def test_nothing_outlives_a_killed_supervisor(call: str, tmp_path: Path) -> None:
    with offloading(tmp_path, "--graceful-timeout", "500ms", workers=2) as process, ExitStack() as stack:
        get(process, "/where")
        everyone = strength(process, 2)
        if call:
            stack.enter_context(asking(process, call))
            wait_runs(tmp_path / "go")
        process.signal(signal.SIGKILL)
        eventually(lambda: all(map(is_gone, everyone)), "the offload workers have ended")
        eventually(lambda: not process.survivors(), "all others have, too")
        process.wait()


def test_a_stop_lets_calls_end_that_run_and_wait(loop: str, tmp_path: Path) -> None:
    with offloading(tmp_path, workers=2, loop=loop) as process, ExitStack() as stack:
        clients = [stack.enter_context(asking(process, f"/wait?go-{number}")) for number in range(10)]
        eventually(lambda: len(list(tmp_path.glob("go-*.runs"))) == 2, "both offload workers run a call")
        process.signal(signal.SIGTERM)
        process.wait_for_log("draining")
        for number in range(10):
            (tmp_path / f"go-{number}").touch()
        assert all(answer(client).isdigit() for client in clients)
        assert process.wait() == Exit.OK
        assert "died" not in process.stderr


def test_a_stop_ends_calls_that_never_end(tmp_path: Path) -> None:
    with offloading(tmp_path, "--graceful-timeout", "500ms", workers=2) as process, ExitStack() as stack:
        for number in range(4):
            stack.enter_context(asking(process, f"/swallow?go-{number}"))
        eventually(lambda: len(list(tmp_path.glob("go-*.runs"))) == 2, "both offload workers run a call")
        assert process.stop() == Exit.KILLED
        assert process.survivors() == []


STRANGER = """
import contextlib, os, select, sys
from hybrid.workers.offload import letters
from hybrid.workers.offload.packing import pack_call
call = pack_call(os.getpid, (), {})
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for _ in range(3):
    with contextlib.closing(letters.new_socket()) as sock:
        sock.connect("\\0" + sys.argv[1][1:])
        try:
            letters.send(sock, letters.CALL, 1, call)
            select.select([sock], [], [], 20)
            letter = letters.Receiver().receive(sock)
        except (BrokenPipeError, ConnectionResetError):
            print("closed before it was read")
        else:
            print("refused" if letter.kind == letters.FAILED else letter)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_calls_of_another_account_are_refused_and_that_is_logged_once(tmp_path: Path) -> None:
    with offloading(tmp_path) as process:
        assert get(process, "/echo?mine") == "mine"
        names = {
            row.split()[-1] for row in Path("/proc/net/unix").read_text().splitlines() if "@hybrid-offload-" in row
        }
        (pid,) = offload_workers(process)
        (name,) = [name for name in names if is_served_by(pid, name)]
        command = [sys.executable, "-P", "-c", STRANGER, name]
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        assert len(found.stdout.splitlines()) == 3
        assert set(found.stdout.splitlines()) <= {"refused", "closed before it was read"}
        process.wait_for_log("refused a call of another account, uid 65534")
        assert get(process, "/echo?mine") == "mine"
        assert process.stderr.count("refused a call of another account") == 1


def is_served_by(pid: int, name: str) -> bool:
    """Return True if a process holds the socket of an abstract address."""
    rows = [row.split() for row in Path("/proc/net/unix").read_text().splitlines()]
    ours = {f"socket:[{row[6]}]" for row in rows if row[-1] == name}
    return not ours.isdisjoint(sockets(pid))
