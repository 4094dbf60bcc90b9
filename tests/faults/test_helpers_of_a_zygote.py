"""Processes that the import of the application has started: its workers use them for as long as they live."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
from support import processes
from support.clients import connected
from support.process import HybridProcess
from support.service import eventually, serving
from support.wsgi import read_answer, send_request

from hybrid.workers.contract.exits import Exit

PRELOADED = ("--preload", "on", "--graceful-timeout", "20")


def pids(process: HybridProcess) -> tuple[int, int]:
    """Return the pids of a worker and of the helper."""
    with connected(process.address) as sock:
        send_request(sock, "/", "Connection: close")
        worker, helper = read_answer(sock).body.split()
    return int(worker), int(helper)


def test_a_worker_that_retires_ends_no_process_of_its_zygote(tmp_path: Path) -> None:
    with serving("helped:wsgi", "--workers", "2", *PRELOADED, cwd=tmp_path) as process:
        _, helper = pids(process)
        process.signal(signal.SIGTTOU)
        process.wait_for_log("worker retired")
        assert processes.is_alive(helper)
        assert process.stop() == Exit.OK
        assert "Traceback" not in process.stderr


def test_leftovers_of_a_dead_zygote_serve_its_workers(tmp_path: Path) -> None:
    with serving("helped:wsgi", "--workers", "1", *PRELOADED, cwd=tmp_path) as process:
        worker, helper = pids(process)
        (zygote,) = process.zygote_pids()
        os.kill(zygote, signal.SIGKILL)
        process.wait_for_log("zygote died")
        eventually(lambda: psutil.Process(helper).ppid() == process.pid, "the supervisor has adopted the helper")
        eventually(lambda: process.zygote_pids(), "another zygote is there")
        assert processes.is_alive(helper)
        assert pids(process) == (worker, helper)
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: not processes.is_alive(helper), "it ends with the last worker that has used it")


def test_a_reload_leaves_them_to_the_workers_that_drain(tmp_path: Path) -> None:
    with serving("helped:wsgi", "--workers", "1", *PRELOADED, cwd=tmp_path) as process:
        _, helper = pids(process)
        with connected(process.address) as sock:
            send_request(sock, "/")
            assert read_answer(sock).status == 200  # so the old worker has this connection
            send_request(sock, "/", "Content-Length: 2", "Connection: close")
            process.signal(signal.SIGHUP)
            process.wait_for_log("reload complete")
            eventually(lambda: psutil.Process(helper).ppid() == process.pid, "the old zygote has ended")
            eventually(lambda: pids(process)[1] != helper, "the old worker accepts nothing more")
            assert processes.is_alive(helper)
            sock.sendall(b"go")
            assert int(read_answer(sock).body.split()[1]) == helper
        eventually(lambda: not processes.is_alive(helper), "it has ended with the worker")
