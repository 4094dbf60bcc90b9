"""The program for events: one at a time, in order, bounded in time and number; over a fake kernel and a real one."""

from __future__ import annotations

import errno
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.fake_kernel import FakeKernel
from support.shell import Log

from hybrid.supervisor.children.kernel import Kernel, LinuxKernel
from hybrid.supervisor.core.events import How
from hybrid.supervisor.shell import announcing
from hybrid.supervisor.shell.announcing import LONGEST_RUN, MOST_WAITING, Announcing

# CPython 3.12 warns of a fork beside threads, which test runners have; our children touch nothing those could hold
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

DEADLINE = 20.0  # seconds


class Loop:
    """What the supervisor's loop does with the program, and nothing else."""

    def __init__(self, kernel: Kernel, *command: str, most_waiting: int = MOST_WAITING) -> None:
        self.kernel = kernel
        self.children: dict[int, Callable[[How], None]] = {}
        self.announcing = Announcing(command, kernel, self.children, tuple, most_waiting)

    def hear(self, *numbers: int) -> None:
        """Let events happen."""
        for number in numbers:
            self.announcing.hear({"event": "scale", "workers": number})

    def turn(self, timeout: float = 0.0) -> None:
        """Wait once, at most `timeout` seconds, and handle what has happened."""
        due, now = self.announcing.due, self.kernel.now()
        for fd in self.kernel.wait(timeout if due is None else min(timeout, due - now)) or ():
            assert self.announcing.take(fd)
        for pid, how in self.kernel.reap(tuple(self.children)):
            self.children.pop(pid)(how)
        self.announcing.advance(self.kernel.now())

    def settle(self) -> None:
        """Go on until nothing waits and nothing runs."""
        until = self.kernel.now() + DEADLINE
        while self.children or self.announcing.due is not None:
            assert self.kernel.now() < until, "it never settles"
            self.turn(1.0)


@pytest.fixture
def fake() -> Iterator[FakeKernel]:
    """A kernel whose children run until they are killed."""
    kernel = FakeKernel()
    yield kernel
    kernel.close()


@pytest.fixture
def linux() -> Iterator[LinuxKernel]:
    """The real kernel."""
    kernel = LinuxKernel()
    yield kernel
    kernel.close()


# --- over the fake kernel


def test_one_program_runs_at_a_time(fake: FakeKernel) -> None:
    loop = Loop(fake, "notify")
    loop.hear(1, 2, 3)
    for _ in range(5):
        loop.turn()
    assert len(fake.alive) == 1
    (first,) = fake.alive
    fake.dies(first, How(code=0))
    loop.turn()
    assert len(fake.alive) == 1
    assert first not in fake.alive
    loop.announcing.close()


def test_after_ten_seconds_its_process_group_is_killed(fake: FakeKernel, log: Log) -> None:
    loop = Loop(fake, "notify")
    loop.hear(1)
    loop.turn()
    (pid,) = fake.alive
    began = fake.now()
    loop.settle()
    assert fake.now() - began == pytest.approx(LONGEST_RUN)
    assert fake.sent[:2] == [(-pid, "SIGKILL"), (pid, "SIGKILL")]
    assert log() == ["--on-event: killed after 10 s"]


def test_the_oldest_events_are_dropped(fake: FakeKernel) -> None:
    loop = Loop(fake, "notify")
    loop.hear(*range(MOST_WAITING + 20))
    assert len(loop.announcing._waiting) == MOST_WAITING
    assert loop.announcing._waiting[0]["workers"] == 20


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM])
def test_a_fork_that_fails_is_tried_again_without_losing_the_event(fake: FakeKernel, log: Log, number: int) -> None:
    loop = Loop(fake, "notify")
    fake.fail_next_fork(number)
    loop.hear(1)
    loop.turn()
    assert fake.alive == {}
    began = fake.now()
    loop.turn(60.0)
    assert fake.now() - began == pytest.approx(1.0)
    assert len(fake.alive) == 1
    assert log()[0].startswith("--on-event: cannot start: ")
    loop.announcing.close()


def test_the_same_complaint_is_logged_once_a_minute(fake: FakeKernel, log: Log) -> None:
    fake.on_fork(lambda pid: fake.dies(pid, How(code=1)))
    loop = Loop(fake, "notify")
    loop.hear(*range(10))
    loop.settle()
    assert log() == ["--on-event: it ended with exit code 1"]
    fake.at(61, lambda: loop.hear(1))
    loop.turn(62)
    loop.settle()
    assert len(log()) == 2


def test_at_the_end_it_waits_two_seconds_and_says_what_was_not_delivered(fake: FakeKernel, log: Log) -> None:
    loop = Loop(fake, "notify")
    loop.hear(1, 2, 3)
    began = fake.now()
    loop.announcing.finish()
    assert fake.now() - began == pytest.approx(2.0)
    assert fake.alive == {}
    assert loop.children == {}
    assert log() == [
        "--on-event: the supervisor ends, and 2 events were not delivered",
        "--on-event: killed, as the supervisor ends",
    ]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGQUIT"])
def test_at_the_end_another_signal_ends_the_wait(fake: FakeKernel, name: str) -> None:
    loop = Loop(fake, "notify")
    loop.hear(1)
    fake.at(0.5, lambda: fake.receives(name))
    began = fake.now()
    loop.announcing.finish()
    assert fake.now() - began == pytest.approx(0.5)
    assert fake.alive == {}


def test_the_end_without_events_takes_no_time(fake: FakeKernel, log: Log) -> None:
    began = fake.now()
    Loop(fake, "notify").announcing.finish()
    assert fake.now() == began
    assert log() == []


def test_a_program_that_the_kernel_holds_does_not_keep_the_supervisor(fake: FakeKernel) -> None:
    loop = Loop(fake, "notify")
    loop.hear(1)
    fake.on_fork(fake.survives_kill)
    began = fake.now()
    loop.announcing.finish()
    assert fake.now() - began == pytest.approx(3.0)
    assert loop.announcing.due is None


# --- over the real kernel


def test_the_program_gets_each_event_as_a_line_of_json_in_order(linux: LinuxKernel, tmp_path: Path) -> None:
    loop = Loop(linux, "sh", "-c", f"cat >> {tmp_path}/events")
    loop.hear(1, 2, 3)
    loop.settle()
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert events == [{"event": "scale", "workers": number} for number in (1, 2, 3)]


def test_the_next_event_after_a_gap_says_how_many_are_missing(linux: LinuxKernel, tmp_path: Path) -> None:
    loop = Loop(linux, "sh", "-c", f"cat >> {tmp_path}/events", most_waiting=3)
    loop.hear(*range(3 + 20))
    loop.settle()
    first, second, *_ = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert first == {"event": "scale", "workers": 20, "dropped": 20}
    assert second == {"event": "scale", "workers": 21}


def test_its_output_is_logged(linux: LinuxKernel, caplog: pytest.LogCaptureFixture, log: Log) -> None:
    loop = Loop(linux, "sh", "-c", "echo one; echo two >&2; printf rest")
    loop.hear(1)
    loop.settle()
    assert log() == ["one", "two", "rest"]
    assert {vars(record)["service"] for record in caplog.records} == {"on-event"}


def test_a_missing_program_is_named(linux: LinuxKernel, log: Log) -> None:
    loop = Loop(linux, "/no/such/program")
    loop.hear(1, 2)
    loop.settle()
    assert log() == ["--on-event: cannot execute /no/such/program: no such file or directory"]


def test_a_large_event_needs_no_reader(linux: LinuxKernel, log: Log) -> None:
    """A pipe would be full at 64 KiB."""
    loop = Loop(linux, "true")
    loop.announcing.hear({"event": "log", "text": "x" * 1_000_000})
    loop.settle()
    assert log() == []


def test_what_it_leaves_in_its_process_group_ends_with_it(linux: LinuxKernel, tmp_path: Path) -> None:
    loop = Loop(linux, "sh", "-c", f"sleep 3600 & echo $! > {tmp_path}/pid")
    linux.adopt_orphans(True)
    loop.hear(1)
    loop.settle()
    pid = int((tmp_path / "pid").read_text())
    until = linux.now() + DEADLINE
    while linux.is_child(pid):
        assert linux.now() < until, "it lives on"
        linux.end_orphans((), is_bereaved=False)
        linux.reap(())
        linux.wait(0.01)


def test_a_slow_program_is_killed(linux: LinuxKernel, monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    monkeypatch.setattr(announcing, "LONGEST_RUN", 0.2)
    loop = Loop(linux, "sleep", "3600")
    loop.hear(1, 2)
    loop.settle()
    assert log() == ["--on-event: killed after 0.2 s"]


def test_it_inherits_no_descriptor_but_the_standard_ones(linux: LinuxKernel, log: Log) -> None:
    command = ("sh", "-c", "echo /proc/$$/fd/*")
    loop = Loop(linux, *command)
    loop.hear(1)
    loop.settle()
    shell = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # with its own for the listing
    count = [len(line.split()) for line in (*log(), shell)]
    assert count[0] == count[1] <= 4
