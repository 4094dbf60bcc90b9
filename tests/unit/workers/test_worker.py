"""One worker in a separate process, on every loop: from taking its spec to its exit code."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from support.lone_worker import DEADLINE, Start
from support.loops import LOOPS

from hybrid.workers.contract.channel import ChannelClosed
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed, Ready
from hybrid.workers.serving import clean_up_seconds


@pytest.fixture
def start() -> Iterator[Start]:
    made = Start()
    yield made
    made.close()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("target", "kind"), [("handle", "sync stream"), ("handle_async", "async stream"), ("Protocol", "protocol")]
)
def test_it_serves_says_ready_and_drains(loop: str, target: str, kind: str, start: Start) -> None:
    worker = start(loop, target)
    assert worker.says() == Ready(loop, kind, takes_orders=True)
    with start.connect() as client:
        client.sendall(b"who")
        assert client.recv(100) == loop.encode()
        with start.connect() as queued:  # open while it drains: it is served to its end
            os.kill(worker.process.pid, signal.SIGTERM)
            queued.sendall(b"late")
            assert queued.recv(100) == b"LATE"
    code, log = worker.ends()
    assert code == Exit.OK
    assert f"ready on {loop} ({kind})" in log
    assert "connections (SIGTERM)" in log
    assert "Traceback" not in log


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("target", "kind"), [("answer", "async datagram"), ("answer_sync", "sync datagram")])
def test_it_answers_datagrams(loop: str, target: str, kind: str, start: Start) -> None:
    worker = start(loop, target, "datagram")
    assert worker.says() == Ready(loop, kind, takes_orders=True)
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(DEADLINE)
        client.sendto(b"hello", start.udp.getsockname())
        assert client.recv(100) == b"HELLO"
    os.kill(worker.process.pid, signal.SIGTERM)
    assert worker.ends()[0] == Exit.OK


@pytest.mark.parametrize("loop", LOOPS)
def test_handlers_that_do_not_end_are_ended_within_the_grace_period(loop: str, start: Start) -> None:
    worker = start(loop, "handle", grace=0.2)
    worker.says()
    with start.connect() as client:
        client.sendall(b"x")
        assert client.recv(10) == b"X"
        os.kill(worker.process.pid, signal.SIGTERM)
        assert client.recv(10) == b""
    code, log = worker.ends()
    assert code == Exit.OK
    assert "1 connections did not end within the grace period; ending them" in log


@pytest.mark.parametrize(
    ("grace", "connections", "seconds"), [(30.0, 0, 1.0), (30.0, 15_000, 7.0), (30.0, 50_000, 7.5), (1.0, 100, 0.25)]
)
def test_more_handlers_get_more_time_to_end(grace: float, connections: int, seconds: float) -> None:
    assert clean_up_seconds(grace, connections) == seconds


def test_signals_for_the_supervisor_mean_nothing_to_it(start: Start) -> None:
    worker = start("epoll", "handle")
    worker.says()
    with start.connect() as client:
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGTTIN, signal.SIGWINCH):
            os.kill(worker.process.pid, number)
            client.sendall(b"x")
            assert client.recv(10) == b"X"
    os.kill(worker.process.pid, signal.SIGTERM)
    assert worker.ends()[0] == Exit.OK


@pytest.mark.parametrize("loop", LOOPS)
def test_the_end_of_the_supervisor_ends_it(loop: str, start: Start) -> None:
    worker = start(loop, "handle_async")
    worker.says()
    worker.channel.close()
    code, log = worker.ends()
    assert code == Exit.ORPHANED
    assert "the supervisor is gone" in log


def test_a_supervisor_that_is_gone_before_it_is_ready_ends_it(start: Start) -> None:
    worker = start("epoll", "handle")
    worker.channel.close()
    assert worker.ends()[0] == Exit.ORPHANED


def test_a_callback_that_fails_is_one_record(start: Start) -> None:
    worker = start("epoll", "fail_in_a_callback")
    worker.says()
    with start.connect() as client:
        assert client.recv(100) == b"survived"
    os.kill(worker.process.pid, signal.SIGTERM)
    _, log = worker.ends()
    assert "LookupError: in a callback" in log
    assert "connection lost: somewhere" in log


def test_at_its_capacity_it_leaves_connections_in_the_queue(start: Start) -> None:
    worker = start("epoll", "handle", max_connections=1)
    worker.says()
    with start.connect() as first, start.connect() as second:
        first.sendall(b"first")
        assert first.recv(10) == b"FIRST"
        second.sendall(b"second")
        second.settimeout(0.1)
        with pytest.raises(TimeoutError):
            second.recv(10)
        first.close()
        second.settimeout(DEADLINE)
        assert second.recv(10) == b"SECOND"
    os.kill(worker.process.pid, signal.SIGTERM)
    assert worker.ends()[0] == Exit.OK


@pytest.mark.parametrize(
    ("loop", "target", "application", "code", "reason"),
    [
        ("epoll", "missing", {}, Exit.TARGET, "has no attribute 'missing'"),
        ("epoll", "json", {}, Exit.TARGET, "the target is a module, not something to call"),
        ("epol", "handle", {}, Exit.USAGE, "unknown loop 'epol' (did you mean 'epoll'?)"),
        ("epoll", "handle", {"interface": "wsgy"}, Exit.USAGE, "unknown interface 'wsgy'"),
        ("epoll", "answer", {}, Exit.TARGET, "a datagram handler needs a datagram address"),
    ],
)
def test_a_worker_that_cannot_start_reports_the_reason(
    loop: str, target: str, application: dict[str, Any], code: Exit, reason: str, start: Start
) -> None:
    worker = start(loop, target, **application)
    message = worker.says()
    assert isinstance(message, BootFailed)
    assert message.code == code
    assert reason in message.reason
    with pytest.raises(ChannelClosed):
        worker.says()
    assert worker.ends() == (code, "")
