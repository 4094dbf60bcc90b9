"""Which orphans `LinuxKernel.end_orphans` ends, clause 11 of the seam: forks that a dead child has left, no others."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

import psutil
import pytest
from support.service import eventually

from hybrid.supervisor.children.kernel import LinuxKernel
from hybrid.workers.contract.channel import Channel
from hybrid.workers.contract.messages import Forked

Leave = Callable[[Callable[[], None]], int]
BACKGROUND = 60  # seconds a process would stay


def waits() -> None:
    signal.sigtimedwait([], BACKGROUND)


def becomes_a_daemon() -> None:
    os.setsid()
    waits()


def executes() -> None:
    os.execvp("sleep", ["sleep", str(BACKGROUND)])


@pytest.fixture
def kernel() -> Iterator[LinuxKernel]:
    kernel = LinuxKernel()
    kernel.adopt_orphans(True)
    yield kernel
    kernel.close()


@pytest.fixture
def leave(kernel: LinuxKernel) -> Iterator[Leave]:
    """Start a child that forks a process which does something; return its pid when the child is dead and reaped."""
    left: list[int] = []

    def start(does: Callable[[], None]) -> int:
        def child(channel: Channel) -> int:
            if os.fork() == 0:
                does()
                os._exit(0)
            return 0

        before = set(psutil.Process().children())
        pid, channel = kernel.fork(child)
        eventually(lambda: kernel.reap([pid]), "the child has ended")
        channel.close()
        (orphan,) = set(psutil.Process().children()) - before
        left.append(orphan.pid)
        return orphan.pid

    yield start
    for pid in left:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def is_reaped(kernel: LinuxKernel, pid: int) -> bool:
    kernel.reap([])
    return not kernel.is_child(pid)


def test_11_a_fork_that_a_dead_child_has_left_is_ended_and_reaped(kernel: LinuxKernel, leave: Leave) -> None:
    pid = leave(waits)
    assert kernel.end_orphans([], is_bereaved=True) is not None
    eventually(lambda: is_reaped(kernel, pid), "it has ended")
    assert kernel.end_orphans([], is_bereaved=False) is None


def test_11_an_orphan_that_was_there_before_a_death_is_left_alone(kernel: LinuxKernel, leave: Leave) -> None:
    pid = leave(waits)
    assert kernel.end_orphans([], is_bereaved=False) is None
    assert kernel.end_orphans([], is_bereaved=True) is None
    assert kernel.is_child(pid)


def test_11_an_orphan_is_ended_though_it_was_seen_before_the_death_was_known(kernel: LinuxKernel) -> None:
    """A look may come between the end of a child and the moment in which it is reaped."""

    def child(channel: Channel) -> int:
        if (pid := os.fork()) == 0:
            waits()
            os._exit(0)
        channel.send_nowait(Forked(pid))
        return 0

    pid, channel = kernel.fork(child)
    eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, "the child has ended")
    assert kernel.end_orphans([pid], is_bereaved=False) is None
    assert kernel.reap([pid])
    assert kernel.end_orphans([], is_bereaved=True) is not None
    forked = channel.receive_nowait()
    assert isinstance(forked, Forked)
    eventually(lambda: is_reaped(kernel, forked.pid), "the orphan has ended")
    channel.close()


def test_11_leftovers_used_by_other_children_end_with_the_last_of_them(kernel: LinuxKernel, leave: Leave) -> None:
    pid = leave(waits)
    heirs = [2_000_001, 2_000_002]
    assert kernel.end_orphans(heirs, is_bereaved=True, heirs=heirs) is None
    assert kernel.end_orphans(heirs[1:], is_bereaved=True) is None
    assert kernel.end_orphans([], is_bereaved=True) is not None
    eventually(lambda: is_reaped(kernel, pid), "it has ended")


@pytest.mark.parametrize("does", [becomes_a_daemon, executes])
def test_11_daemons_and_executed_programs_are_left_alone_and_reaped(
    does: Callable[[], None], kernel: LinuxKernel, leave: Leave
) -> None:
    pid = leave(does)
    eventually(lambda: os.getsid(pid) == pid or psutil.Process(pid).name() == "sleep", "it has begun its own life")
    assert kernel.end_orphans([], is_bereaved=True) is None
    assert not is_reaped(kernel, pid)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: is_reaped(kernel, pid), "it was reaped")


def test_11_a_child_of_ours_is_no_orphan(kernel: LinuxKernel) -> None:
    pid, channel = kernel.fork(lambda channel: int(waits() is not None))
    assert kernel.end_orphans([], is_bereaved=True) is None
    kernel.kill(pid)
    eventually(lambda: kernel.reap([pid]), "the child has ended")
    channel.close()
