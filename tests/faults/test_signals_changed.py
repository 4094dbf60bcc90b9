"""Application code that changes signal handlers: its worker drains when it is told to, all the same."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support.clients import connected
from support.loops import LOOPS
from support.service import serving
from support.wsgi import read_answer, send_request

from hybrid.workers.contract.exits import Exit

DEEDS = ["/nested", "/deaf", "/own"]
ASKED_BEFORE = 100  # requests that may be served between the announcement of a drain and its start
ARGUMENTS = ("--workers", "1", "--threads", "0", "--keep-alive-timeout", "60", "--idle-close-delay", "60")


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("loop", LOOPS)
def test_a_stop_right_after_it_drains_the_worker(loop: str, deed: str, tmp_path: Path) -> None:
    """The connection that is open is answered once more, and closed."""
    with (
        serving("signalling:wsgi", "--loop", loop, *ARGUMENTS, cwd=tmp_path, executed=True) as process,
        connected(process.address) as sock,
    ):
        send_request(sock, deed)
        assert read_answer(sock).status == 200
        process.signal(signal.SIGTERM)
        process.wait_for_log("draining 1 connection")
        for _ in range(ASKED_BEFORE):
            send_request(sock, "/")
            answer = read_answer(sock)
            assert answer.status == 200
            if answer.header("connection") == "close":
                break
        assert process.wait() == Exit.OK
        assert "killed" not in process.stderr


@pytest.mark.parametrize("loop", LOOPS)
def test_a_worker_hears_sigterm_again_a_moment_after_it(loop: str, tmp_path: Path) -> None:
    """The handler is put back when the supervisor looks at the worker next."""
    with serving("signalling:wsgi", "--loop", loop, *ARGUMENTS, cwd=tmp_path, executed=True) as process:
        with connected(process.address) as sock:
            send_request(sock, "/own")
            worker = int(read_answer(sock).body)
        process.wait_for_log("handler for SIGTERM that the application has set")
        os.kill(worker, signal.SIGTERM)
        process.wait_for_log("draining 0 connections|worker retired")
        process.wait_for_log(r" ready on \w+ \(", count=2)


def test_a_stop_ends_a_worker_whose_import_has_caught_the_signal(tmp_path: Path) -> None:
    """It is told again once it serves, by a message then."""
    os.mkfifo(tmp_path / "gate")
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('caught', file=sys.stderr, flush=True))\n"
        "open('gate').read()\n"
        "signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
        "def handle(sock, address): ...\n"
    )
    (tmp_path / "catching.py").write_text(code)
    arguments = ("--workers", "1", "--preload", "off")
    with serving("catching:handle", *arguments, cwd=tmp_path, env={"PYTHONPATH": "."}, ready=False) as process:
        with (tmp_path / "gate").open("w"):  # it is in the midst of its import
            process.signal(signal.SIGTERM)
            process.wait_for_log("caught")
        assert process.wait() == Exit.OK
