"""What systemd hears of a service at a real NOTIFY_SOCKET: ready, reloading, stopping, watchdog, main process."""

from __future__ import annotations

import os
import re
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.changes import FRESH, write_application
from support.clients import connected
from support.manager import Manager, managing
from support.service import eventually, serving
from support.upgrading import upgradable
from support.wsgi import read_answer, send_request

from hybrid.workers.contract.exits import Exit

FED_EACH = 0.2  # seconds; half of the time that the manager waits


@pytest.fixture
def manager() -> Iterator[Manager]:
    """Its path is short: it has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="hybrid") as name, managing(f"{name}/notify") as manager:
        yield manager


def told_by(manager: Manager, *, watchdog: bool = False) -> dict[str, str]:
    """The environment that systemd gives to a service of `Type=notify-reload`."""
    fed = {"WATCHDOG_USEC": str(int(2e6 * FED_EACH))} if watchdog else {}
    return {"NOTIFY_SOCKET": manager.address, **fed}


def words(manager: Manager) -> list[str]:
    """The names of the notifications in order, except status and watchdog."""
    manager.heard += manager.hears()
    names = [text.partition("=")[0] for text in manager.heard]
    return [name for name in names if name not in ("STATUS", "WATCHDOG")]


def test_a_service_notifies_when_it_serves_reloads_and_stops(manager: Manager, tmp_path: Path) -> None:
    with serving("echoing:wsgi", "--workers", "2", cwd=tmp_path, env=told_by(manager)) as process:
        manager.wait("READY=1")
        process.signal(signal.SIGHUP)
        stamp = manager.wait("RELOADING=1")
        assert re.search(r"\nMONOTONIC_USEC=\d+$", stamp)
        manager.wait("READY=1", since=manager.heard.index(stamp))
        process.wait_for_log("reload complete")
        assert process.stop() == Exit.OK
        assert words(manager) == ["READY", "RELOADING", "READY", "STOPPING"]
        assert "STATUS=2 of 2 workers ready, generation 2" in manager.heard


def test_a_reload_that_fails_ends_with_ready_too(manager: Manager, tmp_path: Path) -> None:
    """Or systemd would wait for it until its time-out."""
    write_application(tmp_path, "wsgi")
    with serving("app:app", "--workers", "1", cwd=tmp_path, env={**told_by(manager), **FRESH}) as process:
        write_application(tmp_path, "wsgi", "def app(:")
        process.signal(signal.SIGHUP)
        process.wait_for_log("reload failed")
        manager.wait("RELOADING=1")
        manager.wait("READY=1", since=len(manager.heard) - 1)
        assert words(manager) == ["READY", "RELOADING", "READY"]


def test_nothing_is_ready_before_all_workers_are(manager: Manager, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    env = {**told_by(manager), "GATE": str(tmp_path / "gate")}
    arguments = ("--workers", "2", "--preload", "off")
    with serving("gated_import:handle", *arguments, cwd=tmp_path, ready=False, env=env) as process:
        process.wait_for_log("at the gate", count=2)
        assert words(manager) == []
        opened = os.open(tmp_path / "gate", os.O_RDWR)  # does not wait for a reader (fifo(7))
        try:
            manager.wait("READY=1")
        finally:
            os.close(opened)


def test_the_watchdog_is_fed_while_a_worker_serves_and_not_while_the_only_one_is_stalled(
    manager: Manager, tmp_path: Path
) -> None:
    env = told_by(manager, watchdog=True)
    with serving("echoing:asgi", "--workers", "1", cwd=tmp_path, env=env) as process:
        manager.wait("READY=1")
        for _ in range(2):
            manager.wait("WATCHDOG=1", since=len(manager.heard))
        with connected(process.address) as sock:
            send_request(sock, f"/sleeping?until={tmp_path}/end&token=x", "connection: close")
            process.wait_for_log("worker stalled for 1")
            manager.hears()
            assert "WATCHDOG=1" not in manager.listen(2 * FED_EACH)
            (tmp_path / "end").touch()
            assert read_answer(sock).status == 200
        mark = len(manager.heard)
        manager.wait("WATCHDOG=1", since=mark)


def test_the_watchdog_is_fed_while_one_of_two_is_stalled(manager: Manager, tmp_path: Path) -> None:
    env = told_by(manager, watchdog=True)
    with (
        serving("echoing:asgi", "--workers", "2", cwd=tmp_path, env=env) as process,
        connected(process.address) as sock,
    ):
        send_request(sock, f"/sleeping?until={tmp_path}/end&token=x", "connection: close")
        process.wait_for_log("worker stalled for 1")
        manager.hears()
        manager.wait("WATCHDOG=1", since=len(manager.heard))
        (tmp_path / "end").touch()
        assert read_answer(sock).status == 200


def test_the_main_process_is_named_by_the_one_before_it(manager: Manager, tmp_path: Path) -> None:
    """And the new one says nothing before that; at its end it says that it stops."""
    env = told_by(manager, watchdog=True)
    with upgradable("echoing:wsgi", "--workers", "1", cwd=tmp_path, env=env) as service:
        with manager.recorded():
            successor = service.upgrade()
        manager.wait(f"^MAINPID={successor}$")
        mark = len(manager.heard)
        manager.wait("WATCHDOG=1", since=mark)
        service.stop()
        manager.wait("STOPPING=1", since=mark)
        assert words(manager) == ["READY", "MAINPID", "READY", "STOPPING"]


def test_the_main_process_is_named_also_to_a_manager_that_reads_late(manager: Manager, tmp_path: Path) -> None:
    """Its queue is full when the old supervisor has nothing else left to do."""
    env = told_by(manager, watchdog=True)
    with upgradable("echoing:wsgi", "--workers", "1", cwd=tmp_path, env=env) as service:
        process = service.process
        process.wait_for_log("cannot reach the service manager .*: resource temporarily unavailable")
        process.signal(signal.SIGUSR2)
        process.wait_for_log("upgraded: the other supervisor serves")
        manager.wait("^MAINPID=")
        eventually(lambda: not process.is_running(), "the old supervisor has ended")
