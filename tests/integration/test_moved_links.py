"""A link to the newest release is moved while the service runs: what is loaded anew is loaded, and works, there."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.clients import ask
from support.service import eventually
from support.upgrading import Upgrading, upgradable

APP = """
from pathlib import Path
RELEASE = {release!r}
def handle(sock, address):
    sock.sendall(f"{{RELEASE}} {{Path.cwd().name}} {{Path('data').read_text()}}".encode())
"""
ON_OFF = pytest.mark.parametrize("preload", ["on", "off"])
WAYS = pytest.mark.parametrize("way", ["by option", "by shell"])


class Deployment:
    """Two releases, and a link to one of them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.link = home / "current"
        for release in ("1", "2"):
            folder = home / "releases" / release
            folder.mkdir(parents=True)
            (folder / "app.py").write_text(APP.format(release=release))
            (folder / "data").write_text(f"data of {release}")
        self.link.symlink_to("releases/1")

    def moves(self, target: str) -> None:
        """Have the link lead elsewhere, at once."""
        draft = self.home / "draft"
        draft.symlink_to(target)
        draft.rename(self.link)

    def options(self, way: str) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Arguments, and how the process is started: with --chdir, or as a shell does after `cd current`."""
        if way == "by option":
            return ("--chdir", str(self.link)), {"cwd": self.home}
        return (), {"cwd": self.link, "env": {"PWD": str(self.link), "NOTES": str(self.home / "notes")}}

    @contextmanager
    def serving(self, way: str, *arguments: str) -> Iterator[Upgrading]:
        more, options = self.options(way)
        options["pidfile"] = self.home / "pid"
        with upgradable("app:handle", "--workers", "1", *arguments, *more, **options) as service:
            yield service


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path)


def answer(address: tuple[str, int]) -> str:
    return ask(address, b"").decode()


@WAYS
@ON_OFF
def test_a_reload_works_in_the_directory_that_the_link_leads_to(preload: str, way: str, deployment: Deployment) -> None:
    with deployment.serving(way, "--preload", preload) as service:
        process = service.process
        assert answer(process.address) == "1 1 data of 1"
        deployment.moves("releases/2")
        process.signal(signal.SIGHUP)
        process.wait_for_log("reload complete")
        eventually(lambda: answer(process.address) == "2 2 data of 2", "the old worker has drained")


@WAYS
def test_an_upgrade_works_in_the_directory_that_the_link_leads_to(way: str, deployment: Deployment) -> None:
    with deployment.serving(way) as service:
        deployment.moves("releases/2")
        service.upgrade()
        eventually(lambda: answer(service.process.address) == "2 2 data of 2", "the old worker has drained")
        service.stop()


def test_the_successor_of_a_dead_worker_works_where_its_siblings_do(deployment: Deployment) -> None:
    with deployment.serving("by option", "--preload", "on") as service:
        process = service.process
        deployment.moves("releases/2")
        mark = len(process.lines)
        os.kill(process.worker_pids()[0], signal.SIGKILL)
        process.wait_for_log(" ready on ", since=mark)
        assert answer(process.address) == "1 1 data of 1"


@ON_OFF
def test_a_reload_fails_where_the_link_leads_nowhere(preload: str, deployment: Deployment) -> None:
    with deployment.serving("by option", "--preload", preload) as service:
        process = service.process
        deployment.moves("releases/3")
        process.signal(signal.SIGHUP)
        process.wait_for_log(f"reload failed, generation 1 goes on: .*cannot work in {deployment.link}: No such file")
        assert answer(process.address) == "1 1 data of 1"
        deployment.moves("releases/1")
