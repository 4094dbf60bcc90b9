"""Loading an application once for many workers; each test in a separate process, because gevent patches it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.loops import LOOPS
from support.service import APPLICATIONS

BEGIN = """
import asyncio, os, signal, sys
from hybrid.workers import main as entry; from hybrid.workers import preload
from hybrid.workers.boot.application import Application
from hybrid.workers.contract.channel import Channel
from hybrid.workers.contract.worker_spec import WorkerSpec
from hybrid.workers.contract.warming import CannotWarm, NotForkable

application = Application({target!r}, loop={loop!r})
ours, theirs = Channel.pair()
spec = WorkerSpec("web", 0, 1, os.getppid(), (), theirs, 1.0)
"""
DIFFERENCE = """
preload.warm(application, audit_import=True)
loaded = preload.loaded_for(application)
before = set(sys.modules)
from hybrid.workers import serving
start_up = serving.Worker._start_up
async def started(self):
    await start_up(self)
    os.kill(os.getpid(), signal.SIGTERM)
serving.Worker._start_up = started
code = entry.main(spec, application, loaded)
ours = ("hybrid.", "httptools", "websockets", "asyncio", "ssl")
print(code, sorted(name for name in set(sys.modules) - before if name.startswith(ours)))
"""


def run(code: str, cwd: Path, target: str = "app:handle", loop: str = "epoll") -> str:
    """Run a program; return its output."""
    finished = subprocess.run(
        [sys.executable, "-P", "-c", BEGIN.format(target=target, loop=loop) + code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
        env={"PYTHONPATH": f"{cwd}:{APPLICATIONS}", "NOTES": str(cwd / "notes"), "PATH": ""},
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("target", ["counting:asgi", "counting:wsgi", "blocking:handle", "coroutines:handle"])
def test_a_worker_imports_nothing_of_ours_any_more(target: str, loop: str, tmp_path: Path) -> None:
    assert run(DIFFERENCE, tmp_path, target, loop) == "0 []"


def test_a_loaded_application_is_found_by_itself_only(tmp_path: Path) -> None:
    code = """
assert preload.loaded_for(application) is None and not preload.is_warm()
preload.warm(application, audit_import=True)
assert preload.is_warm()
assert preload.loaded_for(Application("blocking:handle")) is None
print(preload.loaded_for(application).kind.value)
"""
    assert run(code, tmp_path, "blocking:handle") == "sync stream"


def test_a_target_that_is_not_there_cannot_be_warmed(tmp_path: Path) -> None:
    code = """
try:
    preload.warm(application, audit_import=True)
except CannotWarm as error:
    print(error.code, error.reason, preload.is_warm())
"""
    assert run(code, tmp_path).startswith("3 cannot import 'app': there is no module 'app' on the path")


def test_an_import_that_leaves_a_thread_is_not_forkable_with_an_audit(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import threading\n"
        "threading.Thread(target=threading.Event().wait, name='ticker', daemon=True).start()\n"
        "def handle(sock, address): pass\n"
    )
    code = """
try:
    preload.warm(application, audit_import=True)
except NotForkable as error:
    print(error.findings, preload.is_warm())
preload.warm(application, audit_import=False)
print(preload.is_warm())
"""
    assert run(code, tmp_path).splitlines() == ["1 live thread (ticker) False", "True"]


def test_a_process_that_cannot_be_looked_at_is_not_forkable(tmp_path: Path) -> None:
    code = """
import resource
import app
fd = os.dup(0)
os.close(fd)
resource.setrlimit(resource.RLIMIT_NOFILE, (fd, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
try:
    preload.warm(application, audit_import=True)
except NotForkable as error:
    print(error.findings)
"""
    (tmp_path / "app.py").write_text("def handle(sock, address): pass")
    assert "cannot be inspected: [Errno 24] Too many open files" in run(code, tmp_path)


def test_gevent_has_no_hub_before_the_fork_and_listens_to_children_after_it(tmp_path: Path) -> None:
    code = """
preload.warm(application, audit_import=True)
from gevent._hub_local import get_hub_if_exists
import posix
if posix.fork() == 0:
    os._exit(0)
posix.wait()
print(get_hub_if_exists())
import gevent
gevent.sleep(0)
child = os.fork()
if child == 0:
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run(code, tmp_path, "blocking:handle", "gevent").splitlines() == ["None", "7"]


def test_a_fork_at_the_import_is_waited_for_on_gevent(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import os\n"
        "for _ in range(20):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
        "def handle(sock, address): pass\n"
    )
    assert run("preload.warm(application, audit_import=True); print('warm')", tmp_path, loop="gevent") == "warm"
