"""How the shell handles messages and deaths of children, over a fake kernel."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Collection

import pytest
from support.fake_kernel import FakeKernel
from support.shell import Log, run

from hybrid.supervisor.core.events import How
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import Adopt, Drain, Ping, Promote, Stop

KILLED = How(signal="SIGKILL")


def first(kernel: FakeKernel) -> int:
    return min(kernel.alive)


def test_a_report_about_a_worker_carries_its_slot_generation_and_pid(
    kernel: FakeKernel, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.at(3.2, lambda: kernel.dies(first(kernel), KILLED))
    kernel.at(60, lambda: kernel.receives("SIGTERM"))
    run(kernel)
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.getMessage() == "worker died: killed by SIGKILL after 3.2 s; restarting now"
    assert (record.__dict__["slot"], record.__dict__["generation"], record.__dict__["subject_pid"]) == (0, 1, 4711)


def test_a_deaf_worker_is_killed_at_the_deadline(kernel: FakeKernel, log: Log) -> None:
    kernel.at(1, lambda: kernel.ignores_terminate(first(kernel)))
    kernel.at(2, lambda: kernel.receives("SIGTERM"))
    assert run(kernel, graceful_timeout=7.5) is Exit.KILLED
    assert kernel.now() == pytest.approx(1009.5)
    assert "worker still not drained after 7.5 s: killing it" in log()


def test_a_worker_that_cannot_be_killed_is_left_behind(kernel: FakeKernel, log: Log) -> None:
    kernel.at(1, lambda: kernel.survives_kill(first(kernel)))
    kernel.at(2, lambda: kernel.receives("SIGQUIT"))
    assert run(kernel) is Exit.KILLED
    assert "worker cannot be killed: leaving it behind" in log()
    assert list(kernel.alive) == [4711]


def test_the_last_message_is_read_after_bad_messages(kernel: FakeKernel, log: Log) -> None:
    def fail(pid: int) -> None:
        kernel.sends_bad_messages(pid, times=3)
        kernel.says_failed(pid, Exit.LOOP, "uvloop is not installed")

    kernel.on_fork(fail)
    assert run(kernel, workers=1) is Exit.LOOP
    assert log()[1:] == ["ignored: not a control message: b'lorem ipsum'", "uvloop is not installed"]


def test_a_bad_message_is_logged_once_per_worker_and_otherwise_ignored(kernel: FakeKernel, log: Log) -> None:
    kernel.at(1, lambda: kernel.sends_bad_messages(first(kernel), times=100))
    kernel.at(2, lambda: kernel.sends_bad_messages(first(kernel), times=100))
    kernel.at(3, lambda: kernel.receives("SIGTERM"))
    assert run(kernel) is Exit.OK
    assert sum("not a control message" in line for line in log()) == 1


def test_an_order_that_a_worker_sends_is_ignored(kernel: FakeKernel, log: Log) -> None:
    for order in (Drain(), Ping(), Promote(2), Adopt(()), Stop(False, ())):
        kernel.at(1, lambda order=order: kernel.says(first(kernel), order))
    kernel.at(3, lambda: kernel.receives("SIGTERM"))
    assert run(kernel) is Exit.OK
    assert len(log()) == 4, "listening, serving, stopping, stopped"


def test_a_worker_that_hangs_up_and_lives_is_left_in_peace(kernel: FakeKernel, log: Log) -> None:
    kernel.at(1, lambda: kernel.hangs_up(first(kernel)))
    kernel.at(50, lambda: kernel.receives("SIGTERM"))
    assert run(kernel) is Exit.OK
    assert not any("died" in line for line in log())


def test_a_fork_that_fails_is_tried_again(kernel: FakeKernel, log: Log) -> None:
    kernel.fail_next_fork(errno.EAGAIN)
    kernel.at(5, lambda: kernel.receives("SIGTERM"))
    assert run(kernel) is Exit.OK
    assert log()[1:3] == [
        "cannot fork a worker: Resource temporarily unavailable; trying again in 0.1 s",
        "serving with 2 workers",
    ]


def test_a_new_slot_without_room_for_its_socket_is_tried_again(
    kernel: FakeKernel, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = [OSError(errno.EMFILE, os.strerror(errno.EMFILE))]
    real = socket.socket.bind

    class Scarce(socket.socket):
        def bind(self, address: object) -> None:
            if refusals:
                raise refusals.pop()
            real(self, address)

    kernel.at(1, lambda: monkeypatch.setattr(socket, "socket", Scarce))
    kernel.at(1, lambda: kernel.receives("SIGTTIN"))
    kernel.at(9, lambda: kernel.receives("SIGTERM"))
    assert run(kernel) is Exit.OK
    assert "too many open files; trying again in 0.1 s" in log()[3]
    assert "draining 3 workers" in log()[-2]


def test_a_signal_is_not_sent_to_a_pid_that_was_reaped(kernel: FakeKernel, log: Log) -> None:
    """Two deaths are reaped in one turn, and the last words of one end the start: the other's pid is free."""
    kernel.on_fork(lambda pid: None)
    reap = kernel.reap

    def reap_after_both_failed(pids: Collection[int]) -> list[tuple[int, How]]:
        for pid in list(kernel.alive):
            kernel.says_failed(pid, Exit.TARGET, "broken")
        return reap(pids)

    kernel.at(1, lambda: setattr(kernel, "reap", reap_after_both_failed))
    kernel.at(1, lambda: kernel.receives("SIGUSR1"))
    assert run(kernel) is Exit.TARGET
    assert kernel.sent == []


def test_orphans_are_no_workers(kernel: FakeKernel, log: Log) -> None:
    kernel.becomes_pid_one()
    orphans: list[int] = []
    kernel.at(1, lambda: orphans.append(kernel.adopts()))
    kernel.at(9, lambda: kernel.receives("SIGTERM"))
    assert run(kernel) is Exit.OK
    assert not kernel.is_zombie(orphans[0])
    assert not any("died" in line for line in log())
