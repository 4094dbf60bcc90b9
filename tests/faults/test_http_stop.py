"""A stop under keep-alive load: every request that was sent is answered, and the connections end with a word."""

from __future__ import annotations

import asyncio
import itertools
import re
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support.clients import connected
from support.loops import LOOPS
from support.process import DEADLINE, HybridProcess
from support.service import UNSTEERED, connected_to_all, eventually, serving
from support.steady import steady
from support.tcp import connections
from support.wsgi import read_answer, send_request

from hybrid.workers.contract.exits import Exit

CONNECTIONS = 64
GRACE = 60.0  # seconds; longer than a test waits for an end
TRIES = 10
PATIENCE = 5.0  # seconds for one try
ASKED_BEFORE = 100  # requests that may be answered between the word of a stop and its beginning
ARGUMENTS = ("--workers", "2", "--graceful-timeout", f"{GRACE}", *UNSTEERED)


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_stop_under_load_leaves_no_request_unanswered(loop: str, interface: str, tmp_path: Path) -> None:
    """Each connection is told with its last answer that it is closed; the workers are done before the deadline."""
    with serving(f"pressed:{interface}", "--loop", loop, *ARGUMENTS, cwd=tmp_path) as process:
        with steady(process.address, CONNECTIONS) as load:
            load.wait_answers(20 * CONNECTIONS)
            assert process.stop() == Exit.OK
        assert load.failures == []
        assert load.answered == load.sent
        assert load.announced == CONNECTIONS
        assert "Traceback" not in process.stderr


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
@pytest.mark.parametrize("loop", LOOPS)
def test_who_connects_during_a_stop_is_served_or_not_let_in(loop: str, interface: str, tmp_path: Path) -> None:
    """A connection that the service accepted is answered, however close to the end; others are refused."""
    with serving(f"pressed:{interface}", "--loop", loop, *ARGUMENTS, cwd=tmp_path) as process:
        answered, broken = asyncio.run(connect_until_refused(process))
        assert broken == []
        assert answered > CONNECTIONS
        assert process.wait() == Exit.OK


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
@pytest.mark.parametrize("loop", LOOPS)
def test_idle_connections_are_answered_once_more_during_a_stop(loop: str, interface: str, tmp_path: Path) -> None:
    """A request may be on its way when the stop begins: none of them meets a closed connection."""
    arguments = ("--loop", loop, *ARGUMENTS, "--idle-close-delay", f"{GRACE}")
    with serving(f"pressed:{interface}", *arguments, cwd=tmp_path) as process, ExitStack() as stack:
        idle = [stack.enter_context(connected(process.address)) for _ in range(CONNECTIONS)]
        for number, sock in enumerate(idle[: CONNECTIONS // 2]):
            send_request(sock, f"/hello?{number}")
            assert read_answer(sock).status == 200
        process.signal(signal.SIGTERM)
        process.wait_for_log(r"draining \d+ connections", count=2)
        for sock in idle:  # also those that have not asked for anything yet
            assert ask_to_the_last(sock) <= ASKED_BEFORE
            assert sock.recv(1) == b""
        assert process.wait() == Exit.OK


@pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed")
@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
@pytest.mark.parametrize("loop", LOOPS)
def test_wrk_sees_nothing_of_a_worker_that_retires(loop: str, interface: str, tmp_path: Path) -> None:
    """It connects anew to the other one, and counts no error at all."""
    arguments = ("--loop", loop, *ARGUMENTS)
    with serving(f"pressed:{interface}", *arguments, cwd=tmp_path, growth=1) as process, wrk(process) as running:
        process.signal(signal.SIGTTOU)
        assert int(process.wait_for_log(r"draining (\d+) connections")[1]) > 0
        eventually(lambda: len(process.worker_pids()) == 1, "the worker has retired")
        running.send_signal(signal.SIGINT)  # wrk prints its counts
        said, _ = running.communicate(timeout=DEADLINE)
        assert int(re.findall(r"(\d+) requests in", said)[0]) >= CONNECTIONS
        assert "Socket errors" not in said
        assert "Non-2xx" not in said


async def connect_until_refused(process: HybridProcess) -> tuple[int, list[str]]:
    """Ask on ever new connections, stop the service meanwhile; return how many were answered, and what went wrong."""
    answered = 0
    broken: list[str] = []

    async def client() -> None:
        nonlocal answered
        while True:
            try:
                reader, writer = await asyncio.open_connection(*process.address)
            except ConnectionError:
                return
            try:
                writer.write(b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                if b"200 OK" not in await reader.read():
                    broken.append("closed without an answer")
                answered += 1
            except OSError as error:
                broken.append(str(error))
            finally:
                writer.close()
            if answered == 4 * CONNECTIONS:
                process.signal(signal.SIGTERM)

    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    return answered, broken


def ask_to_the_last(sock: socket.socket) -> int:
    """Ask until an answer says that it is the last, and return how many there were."""
    for number in itertools.count(1):
        send_request(sock, "/hello")
        answer = read_answer(sock)
        assert answer.status == 200
        if answer.header("connection") == "close":
            return number
    raise AssertionError


@contextmanager
def wrk(process: HybridProcess) -> Iterator[subprocess.Popen[str]]:
    """Run wrk until it is told to stop; give it once each worker has a connection of it."""
    workers = process.worker_pids()
    host, port = process.address
    with connected_to_all(process):
        pass  # wrk opens all of its own at once: the worker that became ready last accepts by now
    eventually(lambda: not any(connections(worker, port) for worker in workers), "these connections have ended")
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{DEADLINE:.0f}s", f"http://{host}:{port}/hello"]
    for _ in range(TRIES):  # all of them may come to one worker while it serves the queue of the other one
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
            try:
                if shares_out(running, port, workers):
                    yield running
                    return
            finally:
                running.kill()
    raise AssertionError(f"the connections of wrk came to one worker, {TRIES} times")


def shares_out(running: subprocess.Popen[str], port: int, workers: list[int]) -> bool:
    """Wait until all connections are accepted; return whether each worker has one. False if wrk ends before."""
    until = time.monotonic() + PATIENCE
    while running.poll() is None and time.monotonic() < until:
        if sum(connections(worker, port) for worker in workers) >= CONNECTIONS:  # wrk's first look at us is over, too
            return all(connections(worker, port) for worker in workers)
        select.select([], [], [], 0.005)
    return False
