"""A worker that becomes a zygote: when it is refork ready, how it handles the order, when it refuses."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from support.lone_worker import LoneWorker, Start
from support.loops import LOOPS
from support.worker_process import PROMOTED

from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import Adopt, Draining, Ping, Promote, Ready, ReforkReady, Unfit

REQUEST = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
RECYCLE = {"refork_after": 3}


@pytest.fixture
def start() -> Iterator[Start]:
    made = Start()
    yield made
    made.close()


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ready(start: Start, loop: str, target: str = "asgi", recycle: dict[str, Any] | None = None) -> LoneWorker:
    worker = start(loop, target, recycle=RECYCLE if recycle is None else recycle)
    worker.record.watched = True  # else it would say that it is awake
    assert isinstance(worker.says(), Ready)
    return worker


def ask(client: socket.socket) -> None:
    client.sendall(REQUEST)
    assert client.recv(1000).endswith(b"/x")


@pytest.mark.parametrize("target", ["wsgi", "asgi"])
def test_it_offers_itself_once_and_drains_to_be_promoted(loop: str, target: str, start: Start) -> None:
    worker = ready(start, loop, target)
    with start.connect() as client:
        for _ in range(5):
            ask(client)
        assert worker.says() == ReforkReady()
        worker.is_told(Promote(7))
        assert worker.says() == Draining()
    code, log = worker.ends()
    assert code == PROMOTED
    assert "draining 1 connections (to become the zygote)" in log
    with pytest.raises(ConnectionError):
        worker.says()


@pytest.mark.parametrize("target", ["handle", "handle_async", "Protocol"])
def test_workers_of_handlers_are_promoted_too(loop: str, target: str, start: Start) -> None:
    worker = ready(start, loop, target)
    with start.connect() as client:
        client.sendall(b"x")
        assert client.recv(100) == b"X"
        worker.is_told(Promote(2))
        assert worker.says() == Draining()
    assert worker.ends()[0] == PROMOTED


def test_later_messages_are_left_for_the_zygote(loop: str, start: Start) -> None:
    worker = ready(start, loop)
    worker.is_told(Promote(2))
    worker.is_told(Adopt((0,)))
    for _ in range(3):
        worker.is_told(Ping())
    assert worker.says() == Draining()
    assert worker.ends()[0] == PROMOTED


def test_a_promoted_worker_that_is_told_to_end_ends_as_a_worker(loop: str, start: Start) -> None:
    worker = ready(start, loop, "handle")
    with start.connect() as client:
        client.sendall(b"x")
        assert client.recv(100) == b"X"
        worker.is_told(Promote(2))
        assert worker.says() == Draining()
        os.kill(worker.process.pid, signal.SIGTERM)
        client.sendall(b"y")
        assert client.recv(100) == b"Y"
    assert worker.ends()[0] == Exit.OK


def test_a_draining_worker_is_not_promoted(loop: str, start: Start) -> None:
    worker = ready(start, loop, "handle")
    with start.connect() as client:
        client.sendall(b"x")
        assert client.recv(100) == b"X"
        os.kill(worker.process.pid, signal.SIGTERM)
        assert worker.says() == Draining()
        worker.is_told(Promote(2))
        client.sendall(b"y")
        assert client.recv(100) == b"Y"
    assert worker.ends()[0] == Exit.OK


def test_a_worker_that_drains_does_not_offer_itself(start: Start) -> None:
    worker = ready(start, "epoll", recycle={"refork_after": 2})
    with start.connect() as client:
        ask(client)
        os.kill(worker.process.pid, signal.SIGTERM)
        assert worker.says() == Draining()
        ask(client)
    assert worker.ends()[0] == Exit.OK
    with pytest.raises(ConnectionError):
        worker.says()


@pytest.mark.parametrize(
    ("leaves", "found"),
    [
        ("thread", "1 live thread (exporter)"),
        ("socket", "1 new socket (127.0.0.1:"),
        ("child", "a child process"),
        ("timer", "a running timer"),
    ],
)
def test_it_refuses_to_be_forked_with_leftovers_of_a_request(leaves: str, found: str, loop: str, start: Start) -> None:
    worker = ready(start, loop, "leave")
    with start.connect() as client:
        client.sendall(leaves.encode())
        assert client.recv(100) == b"left"
    worker.is_told(Promote(2))
    assert worker.says() == Draining()
    said = worker.says()
    assert isinstance(said, Unfit)
    assert found in said.findings
    assert worker.ends()[0] == Exit.OK
