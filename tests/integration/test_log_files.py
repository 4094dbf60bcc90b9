"""`--log-file` and `--access-log-file`: SIGUSR1 opens them again, and no line is lost or torn."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import threading
from pathlib import Path

import pytest
from support import processes
from support.clients import connected
from support.operated import Line, operated
from support.process import DEADLINE, HybridProcess
from support.service import descriptors, eventually, serving
from support.wsgi import read_answer, send_request

UNREAD = """
access_log = "json"
access_log_file = "pipe"
[service.web]
target = "counting:asgi"
bind = "127.0.0.1:0"
workers = 1
"""
FILES = ("--log-file", "run.log", "--access-log", "json", "--access-log-file", "access.log")


def get(process: HybridProcess, target: str = "/") -> bytes:
    with connected(process.address) as sock:
        send_request(sock, target)
        return read_answer(sock).body


def started(process: HybridProcess, log: Path) -> None:
    """Wait until a service serves whose log is a file, and let the process know its addresses."""
    eventually(lambda: log.exists() and "serving with" in log.read_text(), "it serves")
    process.has_logged(log.read_text().splitlines())


def reopen(process: HybridProcess, log: Path) -> None:
    """Ask for new files, and wait until the supervisor has them."""
    process.signal(signal.SIGUSR1)
    eventually(lambda: log.exists() and "reopened" in log.read_text(), "the files are open again")


def test_the_log_and_the_access_log_go_to_files(tmp_path: Path) -> None:
    log, access = tmp_path / "run.log", tmp_path / "access.log"
    with serving("witness:wsgi", "--workers", "2", *FILES, cwd=tmp_path, ready=False) as process:
        started(process, log)
        assert get(process) == b"hello"
        eventually(lambda: access.read_text().count("\n") == 1, "a line of the access log")
        assert json.loads(access.read_text())["target"] == "/"
        assert log.stat().st_mode & 0o777 & ~0o640 == 0
        assert process.stop() == 0
    assert process.stdout == ""
    assert re.search(r"INFO +web/0 gen=1 pid=\d+ ready on epoll", log.read_text())
    assert "stopped" in log.read_text()


@pytest.mark.parametrize("preload", ["on", "off"])
def test_all_processes_write_to_the_new_files_after_usr1(preload: str, tmp_path: Path) -> None:
    log, access = tmp_path / "run.log", tmp_path / "access.log"
    options = ("--workers", "2", "--preload", preload, *FILES)
    with serving("talkative:wsgi", *options, cwd=tmp_path, ready=False) as process:
        started(process, log)
        get(process)
        held = descriptors(process.pid)
        for path in (log, access):
            path.rename(path.with_suffix(".1"))
        reopen(process, log)
        old = access.with_suffix(".1").read_text()

        def arrives() -> bool:
            get(process, "/count/1/1")
            return access.exists() and access.stat().st_size > 0 and "line 1 x" in log.read_text()

        eventually(arrives, "lines in the new files")
        assert access.with_suffix(".1").read_text().startswith(old)
        eventually(lambda: descriptors(process.pid) == held, "the old files are closed, and nothing else is open")
        process.signal(signal.SIGHUP)  # children of a later generation have the new files from the start
        eventually(lambda: "reload complete" in log.read_text(), "the reload is complete")
        eventually(lambda: re.search(r"web/1 gen=2 pid=\d+ ready", log.read_text()), "a new worker logs there")
        assert process.stop() == 0


def test_a_file_that_cannot_be_opened_again_stays_in_use(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    log = folder / "run.log"
    with serving("witness:wsgi", "--log-file", str(log), cwd=tmp_path, ready=False) as process:
        started(process, log)
        moved = tmp_path / "moved"
        folder.rename(moved)
        process.signal(signal.SIGUSR1)
        kept = moved / "run.log"
        eventually(lambda: "cannot reopen" in kept.read_text(), "the failure is logged")
        assert get(process) == b"hello"
        assert process.stop() == 0
    assert kept.read_text().count("cannot reopen") == 1
    assert f"cannot write to {log}: no such file or directory; lines still go to the file" in kept.read_text()


def test_a_log_file_that_cannot_be_opened_ends_the_start_in_one_line(tmp_path: Path) -> None:
    with serving("witness:wsgi", "--log-file", "missing/run.log", cwd=tmp_path, ready=False) as process:
        assert process.wait() == 1
    assert len(process.lines) == 1
    assert f"cannot write to {tmp_path}/missing/run.log: no such file or directory" in process.lines[0]


def test_without_files_usr1_is_one_line(tmp_path: Path) -> None:
    with serving("witness:wsgi", cwd=tmp_path) as process:
        process.signal(signal.SIGUSR1)
        process.wait_for_log("nothing to reopen: neither --log-file nor --access-log-file is set")


def test_a_blocked_worker_goes_on_with_the_old_file_until_its_loop_turns(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    with serving("talkative:wsgi", "--workers", "1", "--log-file", "run.log", cwd=tmp_path, ready=False) as process:
        started(process, log)
        with connected(process.address) as sock:
            send_request(sock, "/hold")
            eventually(lambda: "held" in log.read_text(), "it is blocked")
            log.rename(tmp_path / "run.log.1")
            reopen(process, log)
            (tmp_path / "go").touch()
            read_answer(sock)
        assert "released" in (tmp_path / "run.log.1").read_text()
        assert "released" not in log.read_text()

        def arrives() -> bool:
            get(process, "/count/1/1")
            return "line 1 x" in log.read_text()

        eventually(arrives, "lines in the new file")
        assert process.stop() == 0


def test_rotation_under_load_loses_no_line_and_tears_none(tmp_path: Path) -> None:
    """40,000 lines of two workers, as fast as they can (16,000 a second), while the file is renamed again and again."""
    log = tmp_path / "run.log"
    count, batch, clients = 40_000, 500, 4
    options = ("--workers", "2", "--log-format", "json", "--stall-threshold", "60s", "--log-file", str(log))
    with serving("talkative:wsgi", *options, cwd=tmp_path, ready=False) as process:
        eventually(lambda: log.exists() and "serving with" in log.read_text(), "it serves")
        line = next(line for line in log.read_text().splitlines() if "listening on" in line)
        host, _, port = json.loads(line)["message"].split()[-1].rpartition(":")

        def ask(client: int) -> None:
            for first in range(client * batch, count, clients * batch):
                with connected((host, int(port))) as sock:
                    send_request(sock, f"/count/{first}/{batch}")
                    read_answer(sock)

        threads = [threading.Thread(target=ask, args=(client,)) for client in range(clients)]
        for thread in threads:
            thread.start()
        rotations = 0
        while any(thread.is_alive() for thread in threads):
            rotations += 1
            log.rename(tmp_path / f"run.log.{rotations}")
            reopen(process, log)
        for thread in threads:
            thread.join()
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    files = list(tmp_path.glob("run.log*"))
    found = [json.loads(line)["message"] for file in files for line in file.read_text().splitlines()]
    numbers = sorted(int(text.split()[1]) for text in found if text.startswith("line "))
    assert numbers == list(range(count))
    assert rotations > 1


def test_lines_that_nobody_reads_are_counted_over_a_death_and_an_upgrade(tmp_path: Path) -> None:
    """The access log is a pipe, which holds less than is written."""
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with operated(UNREAD, tmp_path, ends=False) as shop:
            line = shop.connects()
            (web,) = line.result("status")["services"]
            client = http.client.HTTPConnection(web["addresses"][0].removeprefix("http://"), timeout=DEADLINE)
            with contextlib.closing(client):
                for _ in range(500):
                    client.request("GET", "/" + "x" * 200)
                    client.getresponse().read()
            lost = dropped(line)
            kept = os.read(reader, 1 << 20).count(b"\n")
            assert kept + lost == 500
            os.kill(line.result("status")["services"][0]["workers"][0]["pid"], signal.SIGKILL)
            eventually(lambda: line.result("status")["services"][0]["counts"]["deaths"], "the death was noticed")
            assert dropped(line) == lost
            pid = line.result("upgrade")["pid"]
            eventually(lambda: not shop.process.is_running(), "the predecessor has ended")
            with contextlib.closing(Line(str(shop.control))) as later:
                assert dropped(later) == lost
            os.kill(pid, signal.SIGTERM)
            eventually(lambda: not processes.is_alive(pid), "the successor has ended")
    finally:
        os.close(reader)


def dropped(line: Line) -> int:
    """Return the lines that the worker has lost."""
    (web,) = line.result("status")["services"]
    return sum(worker["log_dropped"] for worker in web["workers"])
