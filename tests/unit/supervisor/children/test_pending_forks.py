"""A supervisor with a zygote that obeys, does not, or lies; over a fake kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from support.fake_kernel import FakeKernel
from support.fake_zygote import FakeZygote, Zygotes
from support.leaks import Census
from support.limits import open_descriptors
from support.shell import Log, run

from hybrid.supervisor.core.events import How
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import CannotSpawn, Forked, Message, Ping, Ready

KILLED = How(signal="SIGKILL")


@pytest.fixture
def zygotes(kernel: FakeKernel) -> Iterator[Zygotes]:
    """All that the kernel forks: zygotes that obey."""
    made = Zygotes(kernel)
    yield made
    made.close()


def test_a_life_with_a_zygote(kernel: FakeKernel, zygotes: Zygotes, log: Log) -> None:
    kernel.at(60, lambda: kernel.receives("SIGTERM"))
    assert run(kernel, preload="on") is Exit.OK
    assert log()[1:] == [
        "serving with 2 workers",
        "stopping: draining 2 workers (at most 30 s); press Ctrl-C again to end at once",
        "stopped",
    ]
    assert len(zygotes.all) == 1
    assert kernel.alive == {}


def test_orphans_are_adopted_as_long_as_the_supervisor_lives(kernel: FakeKernel, zygotes: Zygotes, log: Log) -> None:
    seen = []
    kernel.at(1, lambda: seen.append(kernel.adopts_orphans))
    kernel.at(2, lambda: kernel.receives("SIGTERM"))
    run(kernel, preload="on")
    assert seen == [True]
    assert not kernel.adopts_orphans


def test_a_worker_that_dies_is_replaced_by_the_zygote(kernel: FakeKernel, zygotes: Zygotes, log: Log) -> None:
    kernel.at(5, lambda: kernel.dies(4712, KILLED))
    kernel.at(9, lambda: kernel.receives("SIGTERM"))
    assert run(kernel, preload="on") is Exit.OK
    assert log()[2] == "worker died: killed by SIGKILL after 5.0 s; restarting now"
    assert "draining 2 workers" in log()[3]
    assert len(zygotes.all) == 1


def test_a_slow_fork_is_waited_for(kernel: FakeKernel, zygotes: Zygotes, log: Log) -> None:
    zygotes.do = lambda zygote: None
    for _ in range(2):
        kernel.at(3, lambda: zygotes.last.serves())
    kernel.at(9, lambda: kernel.receives("SIGTERM"))
    assert run(kernel, preload="on") is Exit.OK
    assert log()[1] == "serving with 2 workers"


def test_a_zygote_that_cannot_fork_is_asked_again(kernel: FakeKernel, zygotes: Zygotes, log: Log) -> None:
    def refuse_once(zygote: FakeZygote) -> None:
        zygotes.do = FakeZygote.serves
        zygote.cannot("Resource temporarily unavailable")

    zygotes.do = refuse_once
    kernel.at(9, lambda: kernel.receives("SIGTERM"))
    assert run(kernel, preload="on") is Exit.OK
    why = "cannot fork a worker: Resource temporarily unavailable; trying again in 0.1 s"
    assert log()[1:3] == [why, "serving with 2 workers"]


def test_a_worker_that_died_before_its_first_message_is_replaced(
    kernel: FakeKernel, zygotes: Zygotes, log: Log
) -> None:
    def lose_once(zygote: FakeZygote) -> None:
        zygotes.do = FakeZygote.serves
        zygote.loses_worker()

    zygotes.do = lose_once
    kernel.at(9, lambda: kernel.receives("SIGTERM"))
    assert run(kernel, preload="on") is Exit.OK
    assert "the zygote has not forked it, or it died at once; trying again" in log()[1]
    assert log()[2] == "serving with 2 workers"


def test_a_zygote_that_dies_with_orders_is_replaced_and_so_are_they(
    kernel: FakeKernel, zygotes: Zygotes, log: Log
) -> None:
    def die_once(zygote: FakeZygote) -> None:
        zygotes.do = FakeZygote.serves
        zygote.dies(KILLED)

    kernel.at(2, lambda: setattr(zygotes, "do", die_once))
    kernel.at(3, lambda: kernel.dies(4712, KILLED))
    kernel.at(9, lambda: kernel.receives("SIGTERM"))
    assert run(kernel, preload="on") is Exit.OK
    assert len(zygotes.all) == 2
    assert "draining 2 workers" in log()[-2]


def test_a_silent_zygote_is_given_up_and_its_late_forks_are_ignored(
    kernel: FakeKernel, zygotes: Zygotes, log: Log
) -> None:
    def never(zygote: FakeZygote) -> None:
        """Do nothing."""

    def wake_up() -> None:
        late.append(zygotes.last.serves())

    late: list[int] = []
    zygotes.do = never
    kernel.at(9.99, lambda: setattr(zygotes, "is_over", True))
    kernel.at(9.99, lambda: kernel.survives_kill(zygotes.last.pid))
    kernel.at(11, wake_up)
    kernel.at(30, lambda: kernel.receives("SIGTERM"))
    assert run(kernel, preload="on") is Exit.OK
    assert any("did not fork within 10 s" in line for line in log())
    assert "serving with 2 workers" in log()
    assert not any(pid in late for pid, _ in kernel.sent)


@pytest.mark.parametrize("word", [b"lorem ipsum", Ready("epoll", "async stream"), Ping()])
def test_a_wrong_first_message_is_a_failed_fork(
    kernel: FakeKernel, zygotes: Zygotes, log: Log, word: Message | bytes
) -> None:
    def lie_once(zygote: FakeZygote) -> None:
        zygotes.do = FakeZygote.serves
        zygote.forks_who_says(word)

    zygotes.do = lie_once
    kernel.at(9, lambda: kernel.receives("SIGTERM"))
    assert run(kernel, preload="on") is Exit.OK
    assert log()[1].startswith("cannot fork a worker: its first message is ")
    assert log()[2] == "serving with 2 workers"


# --- workers that lie about their pid


@pytest.mark.parametrize("pid", [0, -1, 1, 4711, 4712, pytest.param(os.getpid(), id="own"), 2**31, 2**80])
def test_a_pid_that_is_no_new_childs_is_never_signalled(
    kernel: FakeKernel, zygotes: Zygotes, log: Log, pid: int
) -> None:
    """4711 is the zygote, 4712 the first worker; -1 would be everybody (kill(2))."""

    def lie(zygote: FakeZygote) -> None:
        zygotes.do = FakeZygote.serves
        zygote.forks_who_says(Forked(pid))

    def lie_from_now_on() -> None:
        zygotes.do = lie

    kernel.at(1, lie_from_now_on)
    kernel.at(1, lambda: kernel.dies(4713, KILLED))
    kernel.at(9, lambda: kernel.receives("SIGQUIT"))
    assert run(kernel, preload="on") is Exit.KILLED
    assert any(f"its first message is Forked(pid={pid}), which no new child" in line for line in log())
    # the zygote, the first worker, and the one in place of the liar
    assert {pid for pid, _ in kernel.sent} == {4711, 4712, 4715}


def test_a_worker_adopted_by_another_process_is_ignored(kernel: FakeKernel, zygotes: Zygotes, log: Log) -> None:
    def lose_once(zygote: FakeZygote) -> None:
        zygotes.do = FakeZygote.serves
        strangers.append(zygote.forks(is_ours=False))

    strangers: list[int] = []
    zygotes.do = lose_once
    kernel.at(9, lambda: kernel.receives("SIGQUIT"))
    run(kernel, preload="on")
    assert not {pid for pid, _ in kernel.sent} & set(strangers)


def test_a_second_confirmation_of_a_worker_is_ignored(kernel: FakeKernel, zygotes: Zygotes, log: Log) -> None:
    kernel.at(2, lambda: kernel.says(4712, Forked(4712)))
    kernel.at(3, lambda: kernel.says(4712, Forked(4713)))
    kernel.at(4, lambda: kernel.says(4712, Forked(1)))
    kernel.at(9, lambda: kernel.receives("SIGTERM"))
    assert run(kernel, preload="on") is Exit.OK
    assert len(log()) == 4


def test_a_worker_cannot_call_off_the_fork_of_another(kernel: FakeKernel, zygotes: Zygotes, log: Log) -> None:
    def hold(zygote: FakeZygote) -> None:
        zygotes.do = lambda zygote: None
        kernel.says(4712, CannotSpawn(1, "so there"))

    kernel.at(1, lambda: setattr(zygotes, "do", hold))
    kernel.at(1, lambda: kernel.dies(4713, KILLED))
    kernel.at(3, lambda: zygotes.last.serves())
    kernel.at(9, lambda: kernel.receives("SIGTERM"))
    assert run(kernel, preload="on") is Exit.OK
    assert not any("so there" in line for line in log())


def test_a_late_refusal_of_an_old_zygote_means_nothing(kernel: FakeKernel, zygotes: Zygotes, log: Log) -> None:
    def hold(zygote: FakeZygote) -> None:
        """Say nothing as the new zygote; the old one refuses forks it was never asked for."""
        kernel.says(4711, CannotSpawn(0, "too late"))
        kernel.says(4711, CannotSpawn(1, "too late"))
        zygotes.do = lambda zygote: None

    kernel.at(1, lambda: setattr(zygotes, "do", hold))
    kernel.at(1, lambda: kernel.ignores_terminate(4711))
    kernel.at(1, lambda: kernel.receives("SIGHUP"))
    kernel.at(3, lambda: setattr(zygotes, "do", FakeZygote.serves))
    kernel.at(9, lambda: kernel.receives("SIGTERM"))
    run(kernel, preload="on", graceful_timeout=2.0)
    assert not any("too late" in line for line in log())
    assert "reload complete: 2 workers of generation 2" in log()


# --- descriptors


@pytest.mark.parametrize("preload", ["on", "off"])
def test_deaths_leave_no_descriptor_open(kernel: FakeKernel, log: Log, preload: str) -> None:
    zygotes = Zygotes(kernel)
    zygotes.is_over = preload == "off"
    counts: list[int] = []
    kernel.at(2, lambda: counts.append(open_descriptors()))
    for number in range(20):
        kernel.at(3 + number * 2, lambda: kernel.dies(max(kernel.alive), KILLED))
    kernel.at(50, lambda: counts.append(open_descriptors()))
    kernel.at(51, lambda: kernel.receives("SIGTERM"))
    assert run(kernel, preload=preload) is Exit.OK
    assert counts[0] == counts[1]


def test_a_failure_of_our_own_leaves_no_pending_fork_behind(kernel: FakeKernel, zygotes: Zygotes, log: Log) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    census = Census()
    zygotes.do = lambda zygote: None
    kernel.at(1, fail)
    with pytest.raises(ZeroDivisionError):
        run(kernel, preload="on")
    zygotes.close()
    assert census.newcomers() == []
