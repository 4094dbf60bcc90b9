"""A process forked by a handler shares the worker's descriptors, and must not act for the worker."""

from __future__ import annotations

import os
import re
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.clients import ask, connected, read_all, read_exactly
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import eventually, is_stopped, serving

ENDING = [loop for loop in LOOPS if loop != "gevent"]  # gevent's own os.fork keeps the hub


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("target", ["forking:terminated", "forking:terminated_by_thread"])
def test_terminating_a_child_does_not_drain_the_worker(target: str, loop: str, tmp_path: Path) -> None:
    with serving(target, "--workers", "1", "--loop", loop, cwd=tmp_path) as process:
        (worker,) = process.worker_pids()
        for _ in range(2):
            assert ask(process.address, b"go") == f"-15 {worker}".encode()
        assert "draining" not in process.stderr


@pytest.mark.parametrize("target", ["forking:closed_in_child", "forking:closed_in_child_sync"])
def test_a_child_that_closes_the_connection_leaves_the_workers_alone(target: str, loop: str, tmp_path: Path) -> None:
    with serving(target, "--workers", "1", "--loop", loop, cwd=tmp_path) as process, connected(process.address) as sock:
        sock.sendall(b"go")
        assert sock.recv(6) == b"forked"
        sock.sendall(b"still here")
        assert read_all(sock) == b"still here"


@pytest.mark.parametrize("loop", ENDING, indirect=True)
def test_a_child_that_returns_to_the_loop_is_ended(loop: str, tmp_path: Path) -> None:
    with serving("forking:returned_in_child", "--workers", "1", "--loop", loop, cwd=tmp_path) as process:
        assert ask(process.address, b"go") == b"1"
        process.wait_for_log("returned to the event loop: ending it")


def test_a_child_that_ends_before_its_parent_continues_is_reaped(loop: str, tmp_path: Path) -> None:
    """Gevent handles SIGCHLD only after its first fork, which is too late for such a child."""
    arguments = ("--workers", "1", "--loop", loop)
    slow = {"SLOW_PARENT": "1"}
    with (
        serving("forking:closed_in_child_sync", *arguments, cwd=tmp_path, env=slow) as process,
        connected(process.address) as sock,
    ):
        sock.sendall(b"go")
        assert sock.recv(6) == b"forked"


# --- web applications: several clients send requests in one turn of the loop, and one of these requests forks

WSGI = {
    **{loop: ("--loop", loop) for loop in LOOPS},
    **{f"{loop}-threads": ("--loop", loop, "--threads", "4") for loop in LOOPS if loop in ("epoll",)},
    **{f"{loop}-greenlets": ("--loop", loop, "--threads", "0") for loop in LOOPS if loop in ("asyncio", "uvloop")},
}
GREEN = [place for place in WSGI if place in ("select", "poll", "epoll", "asyncio-greenlets")]
ACCESS_LOGS = ("common", "%(s)s %({content-type}o)s")  # the second one keeps heads of responses
CLIENTS = 6
FORKING = 2  # the client with the forking request: others come before and after it in the turn


def in_one_turn(process: HybridProcess, way: str) -> list[bytes]:
    """Let `CLIENTS` clients send requests while the worker sleeps, one of them for a fork; return the output for each.

    Each sends another request after its response, so that a duplicate would show. One more client connects in that very
    turn: its connection does not belong to the forked process either.
    """
    (worker,) = process.worker_pids()
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(process.address)) for _ in range(CLIENTS)]
        for client in clients:
            request(client, "/before")
            while read_exactly(client, 1) != b">":
                pass
        os.kill(worker, signal.SIGSTOP)
        try:
            eventually(lambda: is_stopped(worker), "the worker is stopped")
            for number, client in enumerate(clients):
                request(client, f"/fork/{way}" if number == FORKING else f"/first/{number}")
            newcomer = stack.enter_context(connected(process.address))
            request(newcomer, "/first/newcomer", "connection: close\r\n")
        finally:
            os.kill(worker, signal.SIGCONT)
        assert b"200 OK" in read_all(newcomer), "it was answered"
        for client in clients:
            assert client.recv(1, socket.MSG_PEEK)
        for number, client in enumerate(clients):
            request(client, f"/again/{number}", "connection: close\r\n")
        return [read_all(client) for client in clients]


def request(client: socket.socket, target: str, fields: str = "") -> None:
    client.sendall(f"GET {target} HTTP/1.1\r\nhost: test\r\n{fields}\r\n".encode())


def assert_answered_once(answers: list[bytes], forked: str) -> None:
    """Check that each client got exactly its two responses; the one that forked got `forked`."""
    for number, received in enumerate(answers):
        first = forked if number == FORKING else f"for /first/{number}"
        assert received.count(b"HTTP/1.1 ") == 2, received
        assert re.findall(r"<(.*?)>", received.decode()) == [first, f"for /again/{number}"]


@pytest.mark.parametrize("place", WSGI)
def test_a_child_of_a_wsgi_request_sends_no_response_and_ends_with_it(place: str, tmp_path: Path) -> None:
    ways = {"return": 0, "raise": 1, "exit": 7, "write": 0, "hint": 0, "yield": 0, "read": 0}
    with serving("forking:web_sync", "--interface", "wsgi", "--workers", "1", *WSGI[place], cwd=tmp_path) as process:
        for way, code in ways.items():
            assert_answered_once(in_one_turn(process, way), f"{way}: {code}")
        process.wait_for_log("a process that a request or a call forked failed")


@pytest.mark.parametrize("place", WSGI)
def test_a_child_of_a_generator_sends_no_response_and_ends_with_it(place: str, tmp_path: Path) -> None:
    with serving(
        "forking:web_generator", "--interface", "wsgi", "--workers", "1", *WSGI[place], cwd=tmp_path
    ) as process:
        for way, code in {"return": 0, "raise": 1, "exit": 7}.items():
            assert_answered_once(in_one_turn(process, way), f"{way}: {code}")


@pytest.mark.parametrize("place", GREEN)
def test_a_child_of_a_wsgi_request_that_returns_to_the_loop_is_ended(place: str, tmp_path: Path) -> None:
    with serving("forking:web_sync", "--interface", "wsgi", "--workers", "1", *WSGI[place], cwd=tmp_path) as process:
        assert_answered_once(in_one_turn(process, "park"), "park: 1")
        process.wait_for_log("returned to the event loop: ending it")


@pytest.mark.parametrize("place", WSGI)
def test_a_child_of_a_wsgi_request_that_waits_for_the_body_is_ended(place: str, tmp_path: Path) -> None:
    with (
        serving("forking:web_sync", "--interface", "wsgi", "--workers", "1", *WSGI[place], cwd=tmp_path) as process,
        connected(process.address) as client,
    ):
        client.sendall(b"POST /fork/read HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: 5\r\n\r\n")
        assert re.findall(r"<(.*?)>", read_all(client).decode()) == ["read: 1"]
        process.wait_for_log("returned to the event loop: ending it")


def test_a_child_of_an_asgi_request_sends_no_response_and_ends_with_it(loop: str, tmp_path: Path) -> None:
    ways = {"return": 0, "raise": 1, "exit": 7, "send": 0, "more": 0}
    arguments = ("--interface", "asgi", "--workers", "1", "--loop", loop)
    with serving("forking:web_async", *arguments, cwd=tmp_path) as process:
        for way, code in ways.items():
            assert_answered_once(in_one_turn(process, way), f"{way}: {code}")


def test_a_child_of_an_asgi_request_that_waits_is_ended(loop: str, tmp_path: Path) -> None:
    arguments = ("--interface", "asgi", "--workers", "1", "--loop", loop)
    with serving("forking:web_async", *arguments, cwd=tmp_path) as process:
        assert_answered_once(in_one_turn(process, "await"), "await: 1")
        process.wait_for_log("returned to the event loop: ending it")


def test_a_child_forked_after_an_asgi_response_ends_with_its_request(loop: str, tmp_path: Path) -> None:
    arguments = ("--interface", "asgi", "--workers", "1", "--loop", loop)
    with serving("forking:web_async", *arguments, cwd=tmp_path) as process, connected(process.address) as client:
        request(client, "/behind")
        request(client, "/next", "connection: close\r\n")
        assert re.findall(r"<(.*?)>", read_all(client).decode()) == ["whole", "for /next"]
        process.wait_for_log("behind the answer: return: 0")


@pytest.mark.parametrize("form", ACCESS_LOGS)
def test_a_child_of_a_request_sends_no_response_with_an_access_log(form: str, loop: str, tmp_path: Path) -> None:
    arguments = ("--interface", "wsgi", "--workers", "1", "--loop", loop, "--access-log", form)
    with serving("forking:web_sync", *arguments, cwd=tmp_path) as process:
        for way, code in {"return": 0, "yield": 0, "raise": 1}.items():
            assert_answered_once(in_one_turn(process, way), f"{way}: {code}")
