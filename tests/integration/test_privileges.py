"""Workers of another user: they run as that user, serve, and still end with their supervisor."""

from __future__ import annotations

import os
import pwd
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clients import ask
from support.loops import LOOPS
from support.service import assert_free, eventually, owner, serving

from hybrid.workers.contract.exits import Exit

# The interpreter may lie where only root can read. Then root's capabilities are kept over the change of ids
# (SECBIT_NO_SETUID_FIXUP, capabilities(7)), and the rest of it is as it always is.
KEEPING_CAPABILITIES = ["setpriv", "--securebits=+no_setuid_fixup", sys.executable, "-P", "-m", "hybrid"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory whose parents everybody may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="hybrid") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("loop", LOOPS)
def test_workers_run_as_nobody_and_end_with_their_supervisor(loop: str, directory: Path) -> None:
    arguments = ("--workers", "2", "--loop", loop, "--user", "nobody")
    executable = None if _is_open_to_all(Path(os.__file__)) else KEEPING_CAPABILITIES
    with serving("plain:tell_pid", *arguments, cwd=directory, executable=executable) as process:
        workers = process.worker_pids()
        assert owner(process.pid) == 0
        assert {owner(pid) for pid in workers} == {pwd.getpwnam("nobody").pw_uid}
        assert int(ask(process.address, b"")) in workers
        os.kill(workers[0], signal.SIGKILL)  # its successor is made by a supervisor that is still root
        process.wait_for_log("worker died: killed by SIGKILL")
        process.wait_for_log(" ready on ", count=3)
        assert {owner(pid) for pid in process.worker_pids()} == {pwd.getpwnam("nobody").pw_uid}
        process.signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        eventually(lambda: not process.survivors(), "the workers have noticed the end of their supervisor")
        assert_free(process)


def test_an_unknown_user_is_refused_in_one_line(directory: Path) -> None:
    with serving("plain:tell_pid", "--user", "no-such-user", cwd=directory, ready=False) as process:
        assert process.wait() == Exit.USAGE
        assert len([line for line in process.lines if "no-such-user" in line]) == 1


def _is_open_to_all(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o005 == 0o005 for parent in path.resolve().parents)
