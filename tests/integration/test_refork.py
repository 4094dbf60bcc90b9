"""`--refork-after`: a warm worker becomes the zygote, on every loop, without a request lost; or nothing has changed."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import psutil
import pytest
from support.changes import CLOSING, INTERFACES, ONE_EACH, assert_nothing_lost, complaints, who_answers
from support.clients import connected
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import descriptors, eventually, serving
from support.storm import Storm

CACHE = 32 << 20  # bytes, as in `warming`
COMPLETE = "refork complete: 2 workers of generation "


def notes(cwd: Path) -> list[list[str]]:
    return [line.split() for line in (cwd / "notes").read_text().splitlines()]


def noted(cwd: Path, what: str) -> list[int]:
    return [int(pid) for word, pid in notes(cwd) if word == what]


def forked_from(process: HybridProcess, generation: int) -> set[int]:
    """The pids of the workers of a generation and of later ones, as the log tells them."""
    found = re.findall(r"gen=(\d+) pid=(\d+) ready on", process.stderr)
    return {int(pid) for number, pid in found if int(number) >= generation}


def private(pid: int) -> int:
    """Bytes of private memory of the process."""
    try:
        return int(psutil.Process(pid).memory_full_info().uss)
    except psutil.NoSuchProcess:  # it has ended since it was listed
        return 0


def is_settled(process: HybridProcess, generation: int) -> bool:
    """Return True if only workers of `generation` and later ones are left."""
    return set(process.worker_pids()) <= forked_from(process, generation) and len(process.zygote_pids()) == 1


def connection_of(process: HybridProcess) -> int:
    """Connect, and return the pid of the worker that the connection has come to."""
    with connected(process.address) as sock:
        return int(sock.recv(100))


def ask_often(process: HybridProcess, times: int, target: str = "/") -> None:
    for _ in range(times):
        who_answers(process.address, target)


# --- what becomes of it


@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("loop", LOOPS)
def test_memory_warmed_up_by_requests_is_shared_and_no_request_is_lost(
    loop: str, interface: str, tmp_path: Path
) -> None:
    arguments = ("--workers", "2", "--loop", loop, "--refork-after", "200")
    with serving(f"warming:{interface}", *arguments, cwd=tmp_path) as process:
        first = process.zygote_pids()
        with Storm(process.address, clients=8, close=interface == "asgi", rest=0.005) as storm:
            process.wait_for_log(COMPLETE + "2")
            storm.wait_answers(100)
        assert_nothing_lost(storm)
        eventually(lambda: is_settled(process, 2), "the old workers and the old zygote have gone")
        assert process.zygote_pids() != first
        assert noted(tmp_path, "import") == first
        assert len(noted(tmp_path, "fill")) <= 3, "each of the first two workers, and the successor of one"
        assert not set(noted(tmp_path, "fill")) & forked_from(process, 2)
        assert all(private(pid) < CACHE for pid in [*process.worker_pids(), *process.zygote_pids()])
        assert "died" not in process.stderr
        assert complaints(process) == []


@pytest.mark.parametrize("target", ["handle", "handle_async"])
@pytest.mark.parametrize("loop", LOOPS)
def test_connections_of_handlers_count_and_those_that_are_open_end_first(
    target: str, loop: str, tmp_path: Path
) -> None:
    with serving(f"warming:{target}", "--workers", "1", "--loop", loop, "--refork-after", "2", cwd=tmp_path) as process:
        (old,) = process.worker_pids()
        with connected(process.address) as held:
            assert int(held.recv(100)) == old
            assert connection_of(process) == old
            process.wait_for_log(r"draining \d connections .to become the zygote.")
            eventually(lambda: connection_of(process) != old, "its successor serves")
            assert "reforking" not in process.stderr
        process.wait_for_log("refork complete: 1 worker of generation 2")
        eventually(lambda: connection_of(process) in forked_from(process, 2), "a fork of it serves")


def test_names_cores_and_signals_are_as_before_a_refork(tmp_path: Path) -> None:
    """Those of the new zygote and of the workers that it has forked."""

    def names_and_cores() -> set[tuple[str, tuple[int, ...]]]:
        workers = map(psutil.Process, process.worker_pids())
        return {(worker.name(), tuple(worker.cpu_affinity())) for worker in workers}

    with serving("warming:wsgi", "--workers", "2", "--pin", "--refork-after", "10", cwd=tmp_path) as process:
        before = names_and_cores()
        ask_often(process, 25)
        process.wait_for_log(COMPLETE + "2")
        eventually(lambda: is_settled(process, 2), "the old ones have gone")
        (zygote,) = process.zygote_pids()
        assert names_and_cores() == before
        os.kill(zygote, signal.SIGTERM)
        process.wait_for_log(f"web/zygote gen=2 pid={zygote} zygote died: killed by SIGTERM")
        ask_often(process, 5)


@pytest.mark.parametrize("loop", [loop for loop in ("epoll", "gevent", "uvloop") if loop in LOOPS])
def test_nothing_grows_from_generation_to_generation(loop: str, tmp_path: Path) -> None:
    def held() -> list[int]:
        return sorted(map(descriptors, [*process.zygote_pids(), *process.worker_pids()]))

    def become(generation: int) -> None:
        eventually(lambda: who_answers(process.address).generation >= generation, f"generation {generation} serves")
        process.wait_for_log(f"refork complete: 1 worker of generation {generation}")

    with serving("warming:asgi", "--workers", "1", "--loop", loop, "--refork-after", "3", cwd=tmp_path) as process:
        become(3)
        eventually(lambda: is_settled(process, 3), "the old ones have gone")
        before = held()
        become(6)
        eventually(lambda: is_settled(process, 6) and held() <= before, f"each holds what it held: {before}")
        assert len(noted(tmp_path, "fill")) <= 2


def test_slots_that_were_added_before_and_after_are_served_by_its_forks(tmp_path: Path) -> None:
    arguments = ("--workers", "1", "--refork-after", "30")
    with serving("warming:wsgi", *arguments, cwd=tmp_path, growth=30) as process:
        with Storm(process.address, clients=4, close=True, rest=0.01) as storm:
            process.signal(signal.SIGTTIN)
            process.wait_for_log(r"refork complete: \d workers? of generation 3")
            process.signal(signal.SIGTTIN)
            storm.wait_answers(100)
            eventually(lambda: re.search(r"web/2 gen=\d+ pid=\d+ ready", process.stderr), "the slot is served")
            process.wait_for_log("refork complete: 3 workers of generation")
        assert_nothing_lost(storm)
        assert len(noted(tmp_path, "import")) == 1
        assert complaints(process) == []


# --- nothing has changed


@pytest.mark.parametrize(("loop", "interface"), ONE_EACH)
def test_a_worker_with_a_thread_of_a_request_is_unfit_and_the_service_continues(
    loop: str, interface: str, tmp_path: Path
) -> None:
    arguments = ("--workers", "1", "--loop", loop, "--refork-after", "5")
    with serving(f"warming:{interface}", *arguments, cwd=tmp_path) as process:
        (old,), zygote = process.worker_pids(), process.zygote_pids()
        ask_often(process, 5, "/thread")
        process.wait_for_log("not reforking generation 1: requests have left 5 live threads .exporter")
        eventually(lambda: old not in process.worker_pids(), "it has ended")
        ask_often(process, 10)
        assert process.zygote_pids() == zygote
        assert process.stderr.count("worker is warm") == 1, "not tried again"
        assert who_answers(process.address).generation == 1
        assert complaints(process) == []


def test_a_start_up_that_fails_the_second_time_ends_the_refork(tmp_path: Path) -> None:
    with serving("warming:once", "--workers", "2", "--refork-after", "5", cwd=tmp_path) as process:
        zygote = process.zygote_pids()
        ask_often(process, 12)
        process.wait_for_log("refork failed, generation 1 goes on: generation 2 cannot start: .*the pool exists")
        eventually(lambda: process.zygote_pids() == zygote, "the worker that was the zygote has ended")
        ask_often(process, 20)
        assert {who_answers(process.address).generation for _ in range(10)} == {1}


def test_a_heir_that_is_killed_has_changed_nothing(tmp_path: Path) -> None:
    with serving("warming:handle", "--workers", "1", "--refork-after", "1", cwd=tmp_path) as process:
        (old,), zygote = process.worker_pids(), process.zygote_pids()
        with connected(process.address):
            process.wait_for_log("to become the zygote.$")
            os.kill(old, signal.SIGKILL)
            process.wait_for_log("refork failed, generation 1 goes on: its worker killed by SIGKILL")
        assert process.zygote_pids() == zygote
        with connected(process.address) as sock:
            assert int(sock.recv(100)) in process.worker_pids()


def test_a_reload_during_a_refork_wins_and_the_connection_continues(tmp_path: Path) -> None:
    with serving("warming:handle", "--workers", "1", "--refork-after", "1", cwd=tmp_path) as process:
        (old,) = process.worker_pids()
        with connected(process.address) as held:
            process.wait_for_log("to become the zygote.$")
            process.signal(signal.SIGHUP)
            process.wait_for_log("reload complete: 1 worker of generation 3")
            assert old in process.worker_pids()
            assert int(held.recv(100)) == old
        eventually(lambda: old not in process.worker_pids(), "it has ended as a worker does")
        eventually(lambda: len(process.zygote_pids()) == 1, "the zygote of the generation before has ended")
        assert "reforking" not in process.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_a_stop_in_the_middle_ends_all(number: int, tmp_path: Path) -> None:
    ends_with = (0, 137)
    with serving(
        "warming:handle", "--workers", "1", "--refork-after", "1", cwd=tmp_path, ends_with=ends_with
    ) as process:
        with connected(process.address) as held:
            process.wait_for_log("to become the zygote.$")
            process.signal(number)
            process.wait_for_log("stopping")
            held.recv(100)
        process.wait()


def test_without_a_zygote_it_has_no_effect_and_logs_it(tmp_path: Path) -> None:
    with serving("warming:wsgi", "--workers", "1", "--preload", "off", "--refork-after", "2", cwd=tmp_path) as process:
        assert "--refork-after has no effect with --preload off" in process.stderr
        ask_often(process, 10)
        assert "warm" not in process.stderr


def test_after_an_import_that_leaves_a_thread_it_has_no_effect_and_logs_it(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("from warming import wsgi as app, _start_thread\n_start_thread()\n")
    with serving("app:app", "--workers", "1", "--refork-after", "2", cwd=tmp_path) as process:
        process.wait_for_log("each worker imports for itself, and --refork-after has no effect")
        ask_often(process, 10)
        assert "worker is warm" not in process.stderr


@pytest.mark.parametrize("connections", CLOSING)
def test_simultaneous_reloads_recycling_and_reforks_lose_no_request(connections: str, tmp_path: Path) -> None:
    arguments = ("--workers", "2", "--refork-after", "50", "--max-requests", "75", "--recycle-jitter", "0.5")
    with serving("warming:asgi", *arguments, cwd=tmp_path) as process:
        # flat out: with fewer requests, a refork always comes before a worker is due for recycling
        with Storm(process.address, clients=8, close=CLOSING[connections]) as storm:
            for _ in range(2):
                storm.wait_answers(200)
                process.signal(signal.SIGHUP)
            storm.wait_answers(200)
            process.wait_for_log("refork complete")
            process.wait_for_log(r"worker .*requests.*: starting its successor")
        assert_nothing_lost(storm)
        assert complaints(process) == []
