"""Idle HTTP connections at a stop: closed after a moment, at Ctrl-C immediately; a reload gives them time."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.clients import connected
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import serving
from support.wsgi import read_answer, send_request

from hybrid.workers.contract.exits import Exit

INTERFACES = ["wsgi", "asgi"]
ASKED_BEFORE = 100  # requests that may be served between the announcement of a drain and its start


@contextmanager
def patient(interface: str, loop: str, cwd: Path, delay: str) -> Iterator[HybridProcess]:
    """Serve with one worker that keeps idle clients longer than any test."""
    limits = ("--keep-alive-timeout", "1h", "--header-timeout", "1h", "--graceful-timeout", "1h")
    arguments = ("--loop", loop, "--workers", "1", "--idle-close-delay", delay, *limits)
    with serving(f"pressed:{interface}", *arguments, cwd=cwd) as process:
        yield process


@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("loop", LOOPS)
def test_a_stop_does_not_wait_for_idle_connections(loop: str, interface: str, tmp_path: Path) -> None:
    with (
        patient(interface, loop, tmp_path, "50ms") as process,
        connected(process.address) as idle,
        connected(process.address) as fresh,
    ):
        send_request(idle, "/hello")
        assert read_answer(idle).status == 200
        process.signal(signal.SIGTERM)
        assert (idle.recv(1), fresh.recv(1)) == (b"", b"")
        assert process.wait() == Exit.OK


@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("loop", LOOPS)
def test_ctrl_c_closes_idle_connections_immediately(loop: str, interface: str, tmp_path: Path) -> None:
    with patient(interface, loop, tmp_path, "0") as process, connected(process.address) as idle:
        send_request(idle, "/hello")
        assert read_answer(idle).status == 200
        process.signal(signal.SIGINT)
        assert idle.recv(1) == b""
        assert process.wait() == Exit.OK


@pytest.mark.parametrize("loop", LOOPS)
def test_a_reload_leaves_idle_connections_open_until_the_service_stops(loop: str, tmp_path: Path) -> None:
    with (
        patient("asgi", loop, tmp_path, "1ms") as process,
        connected(process.address) as first,
        connected(process.address) as second,
    ):
        for idle in (first, second):
            send_request(idle, "/hello")
            assert read_answer(idle).status == 200
        process.signal(signal.SIGHUP)
        process.wait_for_log("draining 2 connections")
        for _ in range(ASKED_BEFORE):
            send_request(first, "/hello")
            answer = read_answer(first)
            assert answer.status == 200
            if answer.header("connection") == "close":
                break
        assert first.recv(1) == b""
        process.signal(signal.SIGTERM)
        assert second.recv(1) == b""
        assert process.wait() == Exit.OK
