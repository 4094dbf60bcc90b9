"""USR2 under load: another supervisor takes over, or the old one goes on; every request is answered."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.changes import (
    CLOSING,
    FRESH,
    assert_nothing_lost,
    complaints,
    who_answers,
    write_application,
)
from support.loops import LOOPS
from support.service import assert_free, eventually
from support.storm import PACE, Storm
from support.upgrading import is_alive, upgradable

from hybrid.workers.contract.exits import Exit

CHOSEN = [loop for loop in ("epoll", "gevent", "uvloop") if loop in LOOPS]
CLIENTS = 16
BETWEEN = 300  # answers
REST = 0.01  # seconds: for clients of a supervisor that goes on, which may be long before it knows


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short one: the path of a UNIX socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="hybrid") as name:
        yield Path(name)


@pytest.mark.parametrize(("interface", "connections"), [("asgi", "kept"), ("wsgi", "closed")])
@pytest.mark.parametrize("loop", CHOSEN)
def test_an_upgrade_under_load_loses_no_request(loop: str, interface: str, connections: str, tmp_path: Path) -> None:
    with upgradable(f"echoing:{interface}", "--workers", "2", "--loop", loop, cwd=tmp_path, executed=True) as service:
        process = service.process
        first = {str(pid) for pid in process.worker_pids()}
        with Storm(process.address, clients=CLIENTS, close=CLOSING[connections], rest=PACE) as storm:
            storm.wait_answers(BETWEEN)
            successor = service.upgrade()
            storm.wait_answers(BETWEEN)
        tally = assert_nothing_lost(storm)
        assert tally.by_pid.keys() & first, "workers of the old supervisor have answered"
        assert tally.by_pid.keys() - first, "workers of the new one have answered"
        assert is_alive(successor)
        assert complaints(process) == []
        service.stop()
        assert process.wait() == Exit.OK


def test_a_supervisor_that_has_replaced_another_one_is_replaced_itself(tmp_path: Path) -> None:
    with upgradable("echoing:wsgi", "--workers", "2", cwd=tmp_path) as service:
        with Storm(service.process.address, clients=CLIENTS, close=True, rest=PACE) as storm:
            supervisors = [service.process.pid]
            for _ in range(2):
                storm.wait_answers(BETWEEN)
                supervisors.append(service.upgrade())
            storm.wait_answers(BETWEEN)
        assert_nothing_lost(storm)
        assert len(set(supervisors)) == 3
        assert complaints(service.process) == []


def test_a_unix_socket_is_served_at_its_path_throughout(directory: Path) -> None:
    path = directory / "s"
    with upgradable("echoing:wsgi", "--workers", "2", "--bind", f"unix:{path}", cwd=directory) as service:
        inode = path.stat().st_ino
        with Storm(str(path), clients=CLIENTS, close=True, rest=PACE) as storm:
            storm.wait_answers(BETWEEN)
            service.upgrade()
            storm.wait_answers(BETWEEN)
        assert_nothing_lost(storm)
        assert path.stat().st_ino == inode
        service.stop()
        assert not path.exists()


FAULTS = {
    "missing": None,
    "broken": "def app(:",
    "deadly": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_upgrade_that_fails_leaves_everything_as_it_was(fault: str, tmp_path: Path) -> None:
    """And one that is asked for when the reason is gone, succeeds."""
    write_application(tmp_path, "wsgi")
    with upgradable("app:app", "--workers", "2", cwd=tmp_path, env=FRESH) as service:
        process = service.process
        workers = process.worker_pids()
        with Storm(process.address, clients=CLIENTS, close=True, rest=REST) as storm:
            storm.wait_answers(100)
            code = FAULTS[fault]
            if code is None:
                (tmp_path / "app.py").unlink()
            else:
                write_application(tmp_path, "wsgi", code)
            process.signal(signal.SIGUSR2)
            process.wait_for_log("ERROR .*upgrade failed, this supervisor goes on: ")
            storm.wait_answers(100)
            assert service.supervisor == process.pid
            assert process.worker_pids() == workers
            write_application(tmp_path, "wsgi")
            service.upgrade()
            storm.wait_answers(100)
        assert_nothing_lost(storm)
        assert process.stderr.count("upgrade failed") == 1


@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="needs a virtual environment")
def test_an_interpreter_that_is_gone_is_said(tmp_path: Path) -> None:
    """As when a virtual environment has been removed; the old supervisor goes on."""
    python = another_name_of_python(tmp_path / "environment")
    executable = [str(python), "-P", "-m", "hybrid"]
    with upgradable("echoing:wsgi", "--workers", "1", cwd=tmp_path, executable=executable) as service:
        python.unlink()
        service.process.signal(signal.SIGUSR2)
        service.process.wait_for_log(
            "upgrade failed, this supervisor goes on: cannot execute .*/environment/bin/python"
        )
        assert who_answers(service.process.address).pid in service.process.worker_pids()
        assert service.supervisor == service.process.pid


def another_name_of_python(environment: Path) -> Path:
    """Make a virtual environment that is this one under another path; return its interpreter (PEP 405)."""
    (environment / "bin").mkdir(parents=True)
    for name in ("lib", "pyvenv.cfg"):
        (environment / name).symlink_to(Path(sys.prefix) / name)
    python = environment / "bin" / "python"
    python.symlink_to(Path(sys.executable).resolve())
    return python


def test_a_stop_in_the_middle_of_an_upgrade_ends_both(tmp_path: Path) -> None:
    """The new supervisor waits in its import, at a gate that stays closed."""
    write_application(tmp_path, "wsgi", "import os", "if os.path.exists('gate'): open('gate').read()")
    with upgradable("app:app", "--workers", "1", cwd=tmp_path, env=FRESH) as service:
        process = service.process
        os.mkfifo(tmp_path / "gate")
        process.signal(signal.SIGUSR2)
        successor = int(process.wait_for_log(r"upgrading: supervisor (\d+) is starting")[1])
        process.wait_for_log(f"pid={successor} listening on ")
        process.signal(signal.SIGTERM)
        eventually(lambda: not process.is_running(), "the old supervisor has ended")
        eventually(lambda: not process.survivors(), "the new one has ended")
        assert process.wait() == Exit.OK
        assert_free(process)


def test_a_successor_that_is_killed_while_it_starts_is_no_loss(tmp_path: Path) -> None:
    write_application(tmp_path, "wsgi", "import os", "if os.path.exists('gate'): open('gate').read()")
    with upgradable("app:app", "--workers", "2", cwd=tmp_path, env=FRESH) as service:
        process = service.process
        with Storm(process.address, clients=CLIENTS, close=True, rest=REST) as storm:
            os.mkfifo(tmp_path / "gate")
            process.signal(signal.SIGUSR2)
            successor = int(process.wait_for_log(r"upgrading: supervisor (\d+) is starting")[1])
            process.wait_for_log(f"pid={successor} listening on ")
            storm.wait_answers(100)
            os.kill(successor, signal.SIGKILL)
            process.wait_for_log("upgrade failed, this supervisor goes on")
            storm.wait_answers(100)
            (tmp_path / "gate").unlink()
            service.upgrade()
            storm.wait_answers(100)
        assert_nothing_lost(storm)


def test_the_number_of_workers_of_the_moment_is_not_lost_by_an_upgrade(tmp_path: Path) -> None:
    """Slots that were added stay served, also where the new supervisor is told to have fewer."""
    with upgradable("echoing:wsgi", "--workers", "1", cwd=tmp_path, growth=2) as service:
        process = service.process
        for workers in (2, 3):
            process.signal(signal.SIGTTIN)
            process.wait_for_log(" ready on ", count=workers)
        with Storm(process.address, clients=CLIENTS, close=True, rest=PACE) as storm:
            storm.wait_answers(BETWEEN)
            service.upgrade()
            storm.wait_answers(BETWEEN)
        assert_nothing_lost(storm)


def test_an_upgrade_keeps_the_number_of_workers_that_was_asked_for_live(tmp_path: Path) -> None:
    with upgradable("echoing:wsgi", "--workers", "1", cwd=tmp_path) as service:
        service.process.signal(signal.SIGTTIN)
        service.process.wait_for_log("scaling from 1 to 2 workers")
        for _ in range(2):  # the successor tells its own one
            mark = len(service.process.lines)
            service.upgrade()
            service.process.wait_for_log("upgrading: 2 workers, as before; --workers says 1", since=mark)
            service.process.wait_for_log("serving with 2 workers", since=mark)
        assert complaints(service.process) == []
