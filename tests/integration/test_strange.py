"""What is allowed and seldom done: upgrades, exits, foreign SIGTERMs, patched libraries."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support.clients import ask, connected
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import serving

from hybrid.workers.contract.exits import Exit


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_connection_that_changed_its_protocol_is_not_counted_for_ever(loop: str, tmp_path: Path) -> None:
    arguments = ("--workers", "1", "--max-connections", "2", "--loop", loop)
    with serving("strange:Upgrading", *arguments, cwd=tmp_path) as process:
        for _ in range(5):
            with connected(process.address) as sock:
                sock.sendall(b"go")
                assert sock.recv(20) == b"upgraded"


def test_a_factory_may_give_every_connection_the_same_protocol(loop: str, tmp_path: Path) -> None:
    arguments = ("--workers", "1", "--max-connections", "2", "--loop", loop, "--interface", "protocol")
    with serving("strange:shared", *arguments, cwd=tmp_path) as process:
        for _ in range(5):
            with connected(process.address):
                pass
        (worker,) = process.worker_pids()
        os.kill(worker, signal.SIGTERM)
        process.wait_for_log(r"draining 0 connections|worker retired")


def test_an_exit_in_a_callback_ends_no_other_connection(loop: str, tmp_path: Path) -> None:
    with serving("strange:Exiting", "--workers", "1", "--loop", loop, cwd=tmp_path) as process:
        (worker,) = process.worker_pids()
        with connected(process.address) as innocent:
            ask(process.address, b"exit")
            innocent.sendall(b"still here")
            assert innocent.recv(20) == b"still here"
        assert process.worker_pids() == [worker]


def test_a_worker_that_somebody_else_drains_gets_a_successor_at_once(loop: str, tmp_path: Path) -> None:
    """Its open connection goes on, and new ones do not wait for its end."""
    with serving("coroutines:handle", "--workers", "1", "--loop", loop, cwd=tmp_path) as process:
        (worker,) = process.worker_pids()
        with connected(process.address) as kept:
            kept.sendall(b"echo\nbefore")
            assert kept.recv(20) == b"before"
            os.kill(worker, signal.SIGTERM)
            process.wait_for_log("told to drain by another process; starting its successor")
            process.wait_for_log(r" ready on \w+ \(", count=2)
            assert int(ask(process.address, b"pid\n")) != worker
            kept.sendall(b"after")
            assert kept.recv(20) == b"after"


def test_the_peers_name_outlives_the_connection(loop: str, tmp_path: Path) -> None:
    with serving("strange:names", "--workers", "1", "--loop", loop, cwd=tmp_path) as process:
        assert ask(process.address, b"who am I") == b"127.0.0.1"
        assert "failed" not in process.stderr


@pytest.mark.parametrize("loop", [name for name in LOOPS if name != "gevent"], indirect=True)
def test_an_application_patched_for_gevent_is_refused_by_other_loops(loop: str, tmp_path: Path) -> None:
    (tmp_path / "patched.py").write_text(
        "from gevent import monkey; monkey.patch_all()\ndef handle(sock, address): ...\n"
    )
    process = HybridProcess("run", "--bind", "127.0.0.1:0", "patched:handle", "--loop", loop, cwd=tmp_path)
    try:
        assert process.wait() == Exit.TARGET
        assert "write --loop gevent" in process.stderr
        assert "Traceback" not in process.stderr
    finally:
        process.close()


def test_a_host_name_that_cannot_be_is_refused_in_one_line(tmp_path: Path) -> None:
    process = HybridProcess("run", "--bind", "foo..bar:0", cwd=tmp_path)
    try:
        assert process.wait() == Exit.BIND
        assert "Traceback" not in process.stderr
    finally:
        process.close()
