"""The request `stacks` of the control line: what each worker does, on all loops, also if the loop does not answer."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from support.changes import write_application
from support.clients import connected, read_all, read_exactly
from support.loops import LOOPS
from support.operator import Operator, entries_with, functions, operating
from support.process import HybridProcess
from support.service import eventually, is_stopped, serving

ONE = ("--workers", "1")
IN_THE_LOOP = {"asyncio": ("--threads", "0"), "uvloop": ("--threads", "0")}
CHOSEN = [loop for loop in ("epoll", "gevent", "uvloop") if loop in LOOPS]
FREE = Path("free")  # a file that ends a stall


@contextmanager
def inspected(target: str, loop: str, tmp_path: Path, *options: str) -> Iterator[tuple[HybridProcess, Operator]]:
    """Run a target of `inspected` with one worker, and an operator."""
    options = (*ONE, "--loop", loop, *options)
    with serving(f"inspected:{target}", *options, cwd=tmp_path) as process, operating(process) as operator:
        yield process, operator


@contextmanager
def requesting(process: HybridProcess, target: str) -> Iterator[socket.socket]:
    """Send a request that is not answered, and hang up at the end."""
    with connected(process.address) as sock:
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        yield sock


@contextmanager
def waiting(process: HybridProcess, target: str) -> Iterator[None]:
    """Have a request wait while the block runs; it is answered then."""
    with requesting(process, target) as sock:
        yield
        with requesting(process, "/release") as other:
            read_exactly(other, 12)
        assert read_exactly(sock, 12) == b"HTTP/1.1 200"


@contextmanager
def stalling(process: HybridProcess, path: str, tmp_path: Path) -> Iterator[None]:
    """Stall the loop of the only worker while the block runs."""
    end = tmp_path / FREE
    with requesting(process, f"{path}?{end}") as sock:
        try:
            yield
        finally:
            end.touch()
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock).endswith(b"ok")


# --- each kind of work, on each loop


@pytest.mark.parametrize("loop", LOOPS)
def test_a_sync_handler_that_waits_is_a_greenlet_with_its_stack(loop: str, tmp_path: Path) -> None:
    with inspected("sync_waits_in_recv", loop, tmp_path) as (process, operator), connected(process.address) as sock:
        read_exactly(sock, 1)
        row = operator.told_by_loop()
        assert row["error"] is None
        (entry,) = entries_with(row["greenlets"], "sync_waits_deeper")
        inner = functions(entry)
        assert inner.index("sync_waits_deeper") + 1 == inner.index("sync_waits_in_recv")
        ours = [frame["function"] for frame in entry["frames"] if frame.get("ours")]
        assert "sync_waits_in_recv" not in ours
        assert "run_handler" in ours


@pytest.mark.parametrize("loop", LOOPS)
def test_a_spawned_greenlet_is_shown(loop: str, tmp_path: Path) -> None:
    with inspected("spawning", loop, tmp_path) as (process, operator), connected(process.address) as sock:
        read_exactly(sock, 1)
        row = operator.waits_until_shown("spawned_sleeps", "greenlets")
        (entry,) = entries_with(row["greenlets"], "spawned_sleeps")
        assert entry["name"].endswith(".Greenlet")


@pytest.mark.parametrize("loop", LOOPS)
def test_an_async_handler_is_a_task_with_the_chain_of_its_coroutines(loop: str, tmp_path: Path) -> None:
    with inspected("async_waits_for_future", loop, tmp_path) as (process, operator), connected(process.address) as sock:
        read_exactly(sock, 1)
        row = operator.waits_until_shown("async_waits_deeper", "tasks")
        (entry,) = entries_with(row["tasks"], "async_waits_deeper")
        assert functions(entry)[:2] == ["async_waits_deeper", "async_waits_for_future"]
        assert entry["waits_for"] == "a future"


@pytest.mark.parametrize("loop", LOOPS)
def test_an_async_handler_that_reads_waits_for_data(loop: str, tmp_path: Path) -> None:
    with inspected("async_reads", loop, tmp_path) as (process, operator), connected(process.address) as sock:
        read_exactly(sock, 1)
        row = operator.waits_until_shown("async_reads", "tasks")
        (entry,) = entries_with(row["tasks"], "async_reads")
        assert functions(entry)[-2] == "async_reads"
        assert entry["waits_for"]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_wsgi_request_is_shown_with_the_stack_that_runs_it(loop: str, tmp_path: Path) -> None:
    with inspected("wsgi", loop, tmp_path) as (process, operator), waiting(process, "/wait?token=secret"):
        where = "threads" if loop in ("asyncio", "uvloop") else "greenlets"
        row = operator.waits_until_shown("wsgi_waits", where)
        (request,) = row["requests"]
        assert (request["method"], request["path"]) == ("GET", "/wait")
        assert "secret" not in str(row)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_wsgi_request_in_a_thread_is_a_thread_with_a_name(loop: str, tmp_path: Path) -> None:
    if loop == "gevent":
        pytest.skip("gevent has no threads for requests")
    with inspected("wsgi", loop, tmp_path, "--threads", "2") as (process, operator), waiting(process, "/wait"):
        row = operator.waits_until_shown("wsgi_waits", "threads")
        (entry,) = entries_with(row["threads"], "wsgi_waits")
        assert (entry["name"].startswith("wsgi-"), entry["is_loop"]) == (True, False)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_asgi_request_that_sleeps_is_shown_with_its_task(loop: str, tmp_path: Path) -> None:
    with inspected("asgi", loop, tmp_path) as (process, operator), waiting(process, "/wait?token=secret"):
        row = operator.waits_until_shown("asgi_sleeps", "tasks")
        (entry,) = entries_with(row["tasks"], "asgi_sleeps")
        assert functions(entry)[:3] == ["sleep", "asgi_sleeps", "asgi"]
        (request,) = row["requests"]
        assert (request["method"], request["path"]) == ("GET", "/wait")
        assert "secret" not in str(row)


def test_the_age_of_a_request_is_told(tmp_path: Path) -> None:
    with inspected("asgi", "epoll", tmp_path, "--access-log") as (process, operator), waiting(process, "/wait"):
        (first,) = operator.waits_until_shown("asgi_sleeps", "tasks")["requests"]
        assert first["seconds"] >= 0
        eventually(lambda: operator.told_by_loop()["requests"][0]["seconds"] > first["seconds"], "it grows")


# --- workers that do not answer


@pytest.mark.parametrize("loop", CHOSEN)
def test_a_loop_that_spins_in_python_is_found_by_signal(loop: str, tmp_path: Path) -> None:
    with inspected("asgi", loop, tmp_path) as (process, operator), stalling(process, "/spin", tmp_path):
        row = operator.waits_until_shown("spins_in_python", "threads")
        assert row["source"] == "signal"
        (entry,) = entries_with(row["threads"], "spins_in_python")
        assert (entry["name"], entry["is_loop"]) == ("MainThread", True)
        assert "asgi" in functions(entry)


@pytest.mark.parametrize("loop", CHOSEN)
def test_c_code_that_holds_the_interpreter_is_found_by_signal(loop: str, tmp_path: Path) -> None:
    options = IN_THE_LOOP.get(loop, ())
    with inspected("wsgi", loop, tmp_path, *options) as (process, operator), stalling(process, "/hold", tmp_path):
        row = operator.waits_until_shown("holds_the_interpreter", "threads")
        assert (row["source"], row["error"]) == ("signal", None)


def test_of_two_workers_one_answers_although_the_other_is_stopped(tmp_path: Path) -> None:
    with serving("inspected:asgi", "--workers", "2", cwd=tmp_path) as process, operating(process) as operator:
        stopped = operator.worker(1)["pid"]
        os.kill(stopped, signal.SIGSTOP)
        try:
            eventually(lambda: is_stopped(stopped), "it is stopped")

            def rows() -> list[dict[str, Any]]:
                found = operator.stacks(service="web")[:2]
                return found if found[0]["source"] == "loop" else []

            first, second = eventually(rows, "the other one answers")
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert first["error"] is None
        assert (second["pid"], second["error"]) == (stopped, "the process is stopped (SIGSTOP)")
        operator.told_by_loop(1)


@pytest.mark.parametrize("preload", ["on", "off"])
def test_an_import_that_hangs_is_shown(preload: str, tmp_path: Path) -> None:
    """In the worker, or in the zygote that imports for it."""
    place = "zygote" if preload == "on" else 0
    lines = ("import os", "def hangs_in_import():", "    os.read(os.pipe()[0], 1)", "hangs_in_import()")
    write_application(tmp_path, "wsgi", *lines)
    with serving("app:app", *ONE, "--preload", preload, cwd=tmp_path, ready=False) as process:
        with operating(process) as operator:

            def find() -> bool:
                rows = [row for row in operator.stacks() if entries_with(row["threads"], "hangs_in_import")]
                return [(row["slot"], row["source"]) for row in rows] == [(place, "signal")]

            eventually(find, "the import is shown")
        process.signal(signal.SIGQUIT)
        process.wait()


def test_a_zygote_that_waits_says_so(tmp_path: Path) -> None:
    with inspected("asgi", "epoll", tmp_path, "--preload", "on") as (_, operator):
        zygote = next(row for row in operator.stacks() if row["slot"] == "zygote")
        assert "waits for orders" in zygote["error"]


# --- the answer as a whole


def test_the_loop_serves_while_operators_ask(tmp_path: Path) -> None:
    """Many requests at once: some are refused with `busy`, all are answered, and the worker serves."""
    with inspected("asgi", "epoll", tmp_path) as (process, operator):
        answers: list[dict[str, object]] = []

        def ask() -> None:
            with suppress(OSError), operating(process) as other:
                answers.extend(other.asks("stacks") for _ in range(5))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        codes = {answer["error"]["code"] for answer in answers if "error" in answer}  # type: ignore[index]
        assert len(answers) == 40
        assert codes <= {"busy"}
        with requesting(process, "/") as sock:
            assert read_exactly(sock, 12) == b"HTTP/1.1 200"
        assert operator.told_by_loop()["error"] is None


def test_slots_and_services_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    with inspected("asgi", "epoll", tmp_path) as (_, operator):
        assert operator.asks("stacks", slot=7)["error"]["code"] == "unknown_slot"
        assert operator.asks("stacks", service="shop")["error"]["code"] == "unknown_service"
        assert [row["slot"] for row in operator.stacks(slot=0)] == [0]
