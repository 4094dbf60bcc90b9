"""The tests' own tools: what counts as left behind, and which loops are tested."""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from support import loops, processes, tcp
from support.leaks import Census
from support.process import DEADLINE, HybridProcess
from support.rows import for_each
from support.service import assert_free, eventually


def test_nothing_new_is_nothing_left() -> None:
    assert Census().newcomers() == []


def test_a_socket_left_open_is_found() -> None:
    census = Census()
    with socket.socket() as sock:
        found = census.newcomers()
        assert len(found) == 1
        assert found[0].startswith(f"fd {sock.fileno()} socket:")


def test_a_pipe_left_open_is_found() -> None:
    census = Census()
    ends = os.pipe()
    assert len(census.newcomers()) == 2
    for end in ends:
        os.close(end)
    assert census.newcomers() == []


@pytest.mark.parametrize("code", ["input()", "pass"], ids=["living", "finished"])
def test_a_child_nobody_waited_for_is_found(code: str) -> None:
    census = Census()
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    assert child.stdin is not None
    assert [line for line in census.newcomers() if f"pid={child.pid}" in line]
    child.communicate()
    assert census.newcomers() == []


def test_a_look_at_what_a_test_left_takes_less_than_a_look_at_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "pids", lambda: pytest.fail("reads all of /proc, twice for every test"))
    monkeypatch.setattr(psutil, "process_iter", lambda: pytest.fail("reads all of /proc, twice for every test"))
    assert Census().newcomers() == []


def test_children_are_those_of_every_thread() -> None:
    started: list[subprocess.Popen[bytes]] = []
    may_end = threading.Event()

    def start_and_stay() -> None:
        started.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        is_started.set()
        may_end.wait(DEADLINE)

    is_started = threading.Event()
    thread = threading.Thread(target=start_and_stay)
    thread.start()
    try:
        assert is_started.wait(DEADLINE)
        assert started[0].pid in processes.children()
        assert started[0].pid in processes.children(os.getpid())
    finally:
        may_end.set()
        thread.join()
        for child in started:
            child.communicate()


def test_a_process_group_is_its_living_members() -> None:
    pair = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'input()']).wait()"
    leader = subprocess.Popen([sys.executable, "-c", pair], stdin=subprocess.PIPE, process_group=0)
    try:
        eventually(lambda: len(processes.children(leader.pid)) == 1, "it has a child")
        assert set(processes.group(leader.pid)) == {leader.pid, *processes.children(leader.pid)}
        os.kill(leader.pid, signal.SIGKILL)
        eventually(lambda: len(processes.group(leader.pid)) == 1, "a zombie is no member, an orphan is one")
    finally:
        os.killpg(leader.pid, signal.SIGKILL)
        leader.communicate()
    eventually(lambda: processes.group(leader.pid) == [], "all have ended")


def test_a_process_that_does_not_exist_has_nothing() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert processes.children(child.pid) == processes.group(child.pid) == []
    assert processes.name(child.pid) is None
    assert not processes.is_alive(child.pid)


CLAIMS = "import signal, sys; print('listening on', sys.argv[1], file=sys.stderr, flush=True); signal.pause()"
LISTENS = "import socket, sys; sock = socket.create_server(('127.0.0.1', 0)); "
LISTENS += "sys.argv[1] = '127.0.0.1:%d' % sock.getsockname()[1]; "


def test_an_address_on_which_a_process_of_the_group_listens_is_not_free(tmp_path: Path) -> None:
    process = HybridProcess("", cwd=tmp_path, executable=[sys.executable, "-c", LISTENS + CLAIMS])
    try:
        process.wait_for_log("listening on")
        with pytest.raises(AssertionError, match=rf"still listened on; by process: {{{process.pid}: {{\d+}}}}"):
            assert_free(process)
    finally:
        process.close()
    assert_free(process)


def test_an_address_on_which_somebody_else_listens_by_now_is_free(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        address = f"127.0.0.1:{sock.getsockname()[1]}"
        process = HybridProcess(address, cwd=tmp_path, executable=[sys.executable, "-c", CLAIMS])
        try:
            process.wait_for_log("listening on")
            assert_free(process)
        finally:
            process.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_connections_are_those_that_were_accepted_and_not_closed(host: str) -> None:
    """By the states that are asked for; the client's side, the listener and what is in its queue are none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    me = os.getpid()
    with socket.create_server((host, 0), family=family) as server, contextlib.ExitStack() as stack:
        port = server.getsockname()[1]
        accepted = []
        for _ in range(200):  # more than the kernel tells in one message
            stack.enter_context(socket.create_connection((host, port)))
            accepted.append(stack.enter_context(server.accept()[0]))
        waits = stack.enter_context(socket.create_connection((host, port)))
        assert tcp.sockets_at(port, {tcp.LISTEN}) == {os.fstat(server.fileno()).st_ino}
        assert tcp.connections(me, port) == 200
        accepted[0].shutdown(socket.SHUT_WR)
        accepted[1].close()
        assert tcp.connections(me, port) == 198
        assert tcp.connections(me, port, tcp.ACCEPTED) == 199
        waits.close()
        assert tcp.connections(os.getppid(), port, tcp.ACCEPTED) == 0


def test_the_loop_matrix_can_be_narrowed_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_TEST_LOOP", "poll")
    assert loops._chosen() == ("poll",)


def test_without_a_choice_all_loops_are_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYBRID_TEST_LOOP", raising=False)
    assert loops._chosen() == loops.ALL_LOOPS


def test_without_a_choice_every_test_runs_on_the_default_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYBRID_TEST_LOOP", raising=False)
    assert loops._whole() == ("epoll",)


@pytest.mark.parametrize(("choice", "whole"), [("all", loops.ALL_LOOPS), ("poll", ("poll",))])
def test_a_chosen_loop_is_tested_as_a_whole(
    monkeypatch: pytest.MonkeyPatch, choice: str, whole: tuple[str, ...]
) -> None:
    monkeypatch.setenv("HYBRID_TEST_LOOP", choice)
    assert loops._chosen() == loops._whole() == whole


def test_a_loop_that_does_not_exist_is_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_TEST_LOOP", "libev")
    with pytest.raises(ValueError, match="use one of"):
        loops._chosen()


# --- a table in one test


def test_all_rows_are_checked_and_those_that_fail_are_named() -> None:
    seen: list[int] = []

    @for_each("number", range(5), ids=lambda number: f"number {number}")
    def check(number: int) -> None:
        seen.append(number)
        assert number % 2 == 0, "it is odd"
        if number == 4:
            pytest.fail("it is four")

    with pytest.raises(ExceptionGroup, match="3 of 5 rows") as raised:
        check()
    told = [str(error).splitlines()[0] for error in raised.value.exceptions]
    assert told == ["row number 1: it is odd", "row number 3: it is odd", "row number 4: it is four"]
    assert seen == [0, 1, 2, 3, 4]


def test_a_row_may_have_several_values_and_share_fixtures() -> None:
    seen: list[tuple[object, ...]] = []

    @for_each(("left", "right"), [(1, 2), (3, 4)])
    def check(left: int, shared: str, right: int) -> None:
        seen.append((left, right, shared))

    assert [*inspect.signature(check).parameters] == ["shared"]
    check(shared="a fixture")
    assert seen == [(1, 2, "a fixture"), (3, 4, "a fixture")]


def test_a_table_without_rows_is_no_test() -> None:
    @for_each("row", [])
    def check(row: object) -> None: ...

    with pytest.raises(AssertionError, match="the table has no row"):
        check()


def test_a_function_that_does_not_take_the_row_is_refused() -> None:
    with pytest.raises(TypeError, match="check does not take"):

        @for_each("row", [1])
        def check(other: object) -> None: ...
