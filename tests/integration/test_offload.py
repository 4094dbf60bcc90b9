"""`hybrid.offload` in a service: from every kind of code on every loop, and what the supervisor does for it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support import processes
from support.clients import TIMEOUT, ask
from support.load import loaded
from support.loops import LOOPS
from support.offloading import get, is_gone, offload_workers, offloading, strength, wait_runs
from support.operated import operated
from support.process import HybridProcess
from support.service import UNSTEERED, eventually, serving


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# --- every kind of code, on every loop


def test_coroutines_greenlets_and_threads_of_an_asgi_worker_offload_a_closure(loop: str, tmp_path: Path) -> None:
    """It closes over an object of the application that holds a lock: the other process has the same."""
    with offloading(tmp_path, loop=loop) as process:
        ways = ("", "/green", "/thread", "/plain")
        answers = {way: get(process, f"{way}/closure?4") for way in ways}
        (pid,) = offload_workers(process)
        assert answers == dict.fromkeys(ways, f"12 True {pid}")


def test_a_wsgi_request_offloads_a_closure(loop: str, tmp_path: Path) -> None:
    with offloading(tmp_path, target="wsgi", loop=loop) as process:
        assert get(process, "/closure?4") == f"12 True {offload_workers(process)[0]}"


@pytest.mark.parametrize("loop", [loop for loop in LOOPS if loop != "gevent"], indirect=True)  # it has greenlets only
def test_a_wsgi_request_in_a_thread_offloads_a_closure(loop: str, tmp_path: Path) -> None:
    with offloading(tmp_path, "--threads", "2", target="wsgi", loop=loop) as process:
        assert get(process, "/closure?4") == f"12 True {offload_workers(process)[0]}"


def test_a_stream_handler_offloads_a_closure(loop: str, tmp_path: Path) -> None:
    with offloading(tmp_path, target="handle", loop=loop) as process:
        assert ask(process.address, b"/closure?4") == f"12 True {offload_workers(process)[0]}".encode()


def test_a_protocol_offloads_from_a_callback(loop: str, tmp_path: Path) -> None:
    with offloading(tmp_path, target="Protocol", loop=loop) as process, socket.create_connection(process.address) as it:
        it.settimeout(TIMEOUT)
        it.sendall(b"/closure?4")
        assert it.recv(100).startswith(b"12 True ")


def test_a_datagram_handler_offloads_a_closure(loop: str, tmp_path: Path) -> None:
    with (
        offloading(tmp_path, "--bind", "udp://127.0.0.1:0", target="datagram", loop=loop) as process,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.settimeout(TIMEOUT)
        client.connect(("127.0.0.1", int(process.addresses[0].rpartition(":")[2])))
        client.send(b"/closure?4")
        assert client.recv(100).startswith(b"12 True ")


def test_an_async_companion_offloads(loop: str, tmp_path: Path) -> None:
    companion = ("--companion", "other=offloading:companion")
    with serving("offloading:app", *companion, "--workers", "1", "--loop", loop, cwd=tmp_path, growth=5) as process:
        eventually((tmp_path / "companion.done").exists, "the companion has its result")
        pid = int((tmp_path / "companion.done").read_text().split()[0])
        assert offload_workers(process) == [pid]


def test_an_executor_works_in_coroutines_greenlets_and_threads(loop: str, tmp_path: Path) -> None:
    with offloading(tmp_path, loop=loop) as process:
        assert get(process, "/executor/echo?hi") == "hi"
        assert get(process, "/executor/fails?hi").startswith("LookupError: hi")
        assert get(process, "/green/map/abc") == "['a', 'b', 'c']"
        assert get(process, "/thread/map/abc") == "['a', 'b', 'c']"


def test_greenlets_and_threads_wait_while_the_queue_is_full(loop: str, tmp_path: Path) -> None:
    """A coroutine cannot wait there: its call comes on top."""
    with offloading(tmp_path, "--offload-queue", "1", loop=loop) as process:
        refused = "OffloadQueueFull: echo is not run: 1 calls wait already (--offload-queue)"
        assert get(process, "/full/go") == f"{refused}; thread greenlet coroutine"


def test_calls_that_are_cancelled_at_random_moments_disturb_no_other(loop: str, tmp_path: Path) -> None:
    with offloading(tmp_path, workers=2, loop=loop) as process:
        assert re.fullmatch(r"lost 0, wrong 0 \[\], cancelled [1-9]\d*", get(process, "/many/400"))


# --- outcomes


def test_an_error_has_its_remote_traceback_as_the_cause(tmp_path: Path) -> None:
    with offloading(tmp_path) as process:
        text = get(process, "/fails?lost")
        assert text.startswith("LookupError: lost <- in the offload worker:\nTraceback (most recent call last):\n")
        assert re.search(r'offloading\.py", line \d+, in fails\n', text)
        assert "body.py" not in text, "the frames of hybrid are left out"


def test_an_error_that_cannot_be_made_again_comes_as_text(tmp_path: Path) -> None:
    with offloading(tmp_path) as process:
        text = get(process, "/fails_unreadably?lost")
        assert text.startswith(
            "OffloadError: fails_unreadably: UnreadableError: lost twice <- in the offload worker:\n"
        )


def test_an_exit_of_a_call_leaves_its_process_alone(tmp_path: Path) -> None:
    with offloading(tmp_path) as process:
        (before,) = (get(process, "/where").split()[0],)
        assert get(process, "/exits?3").startswith("OffloadError: exits: SystemExit: 3 <- ")
        assert get(process, "/where").split()[0] == before


def test_a_process_that_a_call_forks_ends_when_the_call_returns(tmp_path: Path) -> None:
    """Otherwise it would answer too, and accept calls."""
    with offloading(tmp_path) as process:
        assert get(process, "/forks?1") == "child True"
        assert get(process, "/where").split()[0] == str(offload_workers(process)[0])


def test_an_offload_worker_whose_queue_a_call_has_closed_is_replaced(tmp_path: Path) -> None:
    with offloading(tmp_path) as process:
        before = int(get(process, "/where").split()[0])
        assert get(process, "/closes?1") == "None"
        (after,) = strength(process, 1, besides=before)
        assert get(process, "/where").split()[0] == str(after)


def test_a_result_that_cannot_be_sent_is_named_with_its_path(tmp_path: Path) -> None:
    with offloading(tmp_path) as process:
        reason = "the result cannot be offloaded: the result -> ['cart'] -> Cart.lock: _thread.lock"
        assert get(process, "/refused?1") == f"OffloadError: refused: {reason}"


def test_two_coroutines_may_await_a_job(tmp_path: Path) -> None:
    with offloading(tmp_path) as process:
        assert get(process, "/both/echo?one") == "one one"


def test_a_call_within_a_call_runs_in_the_same_process(tmp_path: Path) -> None:
    """Waiting for another offload worker could last forever: all may wait so."""
    with offloading(tmp_path) as process:
        assert get(process, "/nested?inner") == "True inner"


# --- the processes


@pytest.mark.parametrize("preload", ["on", "off"])
def test_offload_workers_start_with_the_first_call(preload: str, tmp_path: Path) -> None:
    with offloading(tmp_path, "--preload", preload, workers=2) as process:
        assert offload_workers(process) == []
        pid, parent, nice, _ = get(process, "/where").split()
        assert int(pid) in strength(process, 2)
        assert int(nice) == os.nice(0) + 5
        assert int(parent) in (process.pid, *process.zygote_pids())
        assert get(process, "/closure?2").startswith("6 True ")


def test_calls_spread_over_the_offload_workers(tmp_path: Path) -> None:
    with offloading(tmp_path, workers=2) as process:
        get(process, "/where")
        both = set(strength(process, 2))
        eventually(lambda: {int(get(process, "/where").split()[0]) for _ in range(6)} == both, "both have run calls")


def test_the_status_shows_them_below_the_workers(tmp_path: Path) -> None:
    text = '[service.web]\ntarget = "offloading:app"\nbind = "127.0.0.1:0"\nworkers = 1\noffload_workers = 1\n'
    with operated(text, tmp_path) as run:
        get(run.process, "/where")
        (pid,) = strength(run.process, 1)
        shown = HybridProcess("status", "--control", str(run.control), cwd=tmp_path)
        assert shown.wait() == 0
        assert re.search(rf"^web/0 .*\nweb\.cpu/0 +{pid} +ready", shown.stdout, re.MULTILINE), shown.stdout
        shown.close()


def test_a_reload_runs_each_call_in_the_generation_of_its_worker(tmp_path: Path) -> None:
    with offloading(tmp_path, workers=2, env={"PYTHONDONTWRITEBYTECODE": "1"}) as process:
        assert get(process, "/where").split()[3] == "1"

        def call() -> None:
            assert len(get(process, "/where").split()) == 4

        with loaded(call) as load:
            for version in ("2", "3"):
                (tmp_path / "version").write_text(version)
                process.signal(signal.SIGHUP)
                process.wait_for_log("reload complete", count=int(version) - 1)
                load.wait_answers(20)
                # an old worker accepts until it has read the order to drain
                eventually(lambda: get(process, "/where").split()[3] == version, "the new code runs")  # noqa: B023
        assert load.failures == []
        strength(process, 2)


def test_an_old_generation_keeps_its_offload_workers_until_its_workers_have_drained(tmp_path: Path) -> None:
    with offloading(tmp_path) as process, socket.create_connection(process.address, TIMEOUT) as client:
        client.sendall(f"GET /wait?{tmp_path}/go HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        old = wait_runs(tmp_path / "go")
        process.signal(signal.SIGHUP)
        process.wait_for_log("gen=2 .* ready for offloaded calls")
        assert processes.is_alive(old)
        (tmp_path / "go").touch()
        received = b""
        while part := client.recv(4096):
            received += part
        assert received.endswith(f"\r\n\r\n{old}".encode())
        strength(process, 1, besides=old)


def test_a_refork_replaces_the_offload_workers(tmp_path: Path) -> None:
    with offloading(tmp_path, "--refork-after", "3") as process:
        before = get(process, "/where").split()[0]
        for _ in range(5):
            get(process, "/where")
        process.wait_for_log("refork complete")
        assert strength(process, 1, besides=int(before)) == [int(get(process, "/where").split()[0])]


def test_scaling_leaves_the_offload_workers_alone(tmp_path: Path) -> None:
    text = '[service.web]\ntarget = "offloading:app"\nbind = "127.0.0.1:0"\nworkers = 1\noffload_workers = 1\n'
    with operated(text, tmp_path, *UNSTEERED) as run:
        get(run.process, "/where")
        before = strength(run.process, 1)
        for workers in (3, 1):
            run.connects().result("scale", service="web", workers=workers)
            assert get(run.process, "/where").split()[0] == str(before[0])
        assert offload_workers(run.process) == before


# --- without offload workers


def test_a_service_without_offload_workers_forks_for_each_call(tmp_path: Path) -> None:
    with offloading(tmp_path, workers=0) as process:
        (worker,) = process.worker_pids()
        pid, parent, *_ = get(process, "/where").split()
        assert int(parent) == worker
        assert get(process, "/green/closure?4").startswith("12 True ")
        assert get(process, "/fails?lost").startswith("LookupError: lost <- in the offload worker:\n")
        assert get(process, "/die?1") == "OffloadDied: the process that ran die has died: exit code -9"
        eventually(lambda: is_gone(int(pid)), "the process of the call has ended")
        assert process.worker_pids() == [worker]


def test_without_offload_workers_only_the_parent_of_a_fork_answers(tmp_path: Path) -> None:
    with offloading(tmp_path, workers=0) as process:
        assert get(process, "/forks?1") == "child True"


SCRIPT = """
import os, sys, time
import hybrid

FACTOR = 3

def times(number):
    print("times", number)
    return number * FACTOR

def main():
    print(hybrid.offload(times, 4).result(), hybrid.offload(lambda n: n * FACTOR, 5).result())
    print(hybrid.offload(os.getpid).result() != os.getpid())
    print(list(hybrid.executor().map(times, range(5))))
    try:
        hybrid.offload(time.sleep, 60, timeout=0.1).result()
    except hybrid.OffloadTimeout as error:
        print(error)
    job = hybrid.offload(time.sleep, 60)
    print(job.cancel(), job.cancelled())
    print(hybrid.offload(lambda: hybrid.offload(times, 1).result()).result())
    hybrid.offload(time.sleep, 60)  # runs at the end

main()
"""


def test_a_script_offloads_to_processes_that_end_with_it(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, process_group=0)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in lines if not line.startswith("times")] == [
        *("12 15", "True", "[0, 3, 6, 9, 12]", "sleep has not ended within 0.1 s", "True True", "3")
    ]
    assert lines.count("times 4") == 2, "what a call prints is not lost"


def test_a_test_offloads_to_processes_that_end_with_their_calls() -> None:
    """The fixture of all tests checks that no process and no pipe is left."""
    import hybrid

    factor = 3
    assert hybrid.offload(lambda number: number * factor, 4).result() == 12
    with pytest.raises(ZeroDivisionError):
        hybrid.offload(lambda: 1 // 0).result()
    assert list(hybrid.executor().map(abs, (-1, -2, 3))) == [1, 2, 3]
