"""Stack dumps of real processes: the log record of a stall, when dumps are read, which process is ended then."""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import stalling, template
from support.fake_kernel import FakeKernel
from support.process import DEADLINE
from support.service import eventually, is_stopped
from support.shell import Log

from hybrid.supervisor.children.handles import ChildHandle, Children
from hybrid.supervisor.core.roles import ZYGOTE
from hybrid.supervisor.watch.dump_file import DumpFile
from hybrid.supervisor.watch.stack_dumps import StackDumps
from hybrid.workers.contract.channel import Channel
from hybrid.workers.contract.signals import DUMP_STACK, TELL_STACKS

PROGRAM = Path(stalling.__file__)


class RealSignals(FakeKernel):
    """A fake kernel that sends real signals."""

    def send(self, pid: int, number: int) -> None:
        self.sent.append((pid, signal.Signals(number).name if number < signal.SIGRTMIN else str(number)))
        os.kill(pid, number)

    def abort(self, pid: int) -> None:
        self.send(pid, signal.SIGABRT)


class CountingDumpFile(DumpFile):
    """DumpFile that knows how often it was looked into."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def take(self) -> str:
        self.looks += 1
        return super().take()


class Court:
    """Real processes as children, and the stack_dumps into them."""

    def __init__(self) -> None:
        self.kernel = RealSignals()
        self.children = Children(4)
        self.stack_dumps = StackDumps(self.kernel, self.children)
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def stalls(self, way: str, slot: int = 0) -> int:
        """Start a process that stalls in a way of `support.stalling`, and wait until it is about to; return its pid."""
        dump_file = CountingDumpFile()
        command = [sys.executable, "-P", str(PROGRAM), str(dump_file.fileno()), way]
        return self._start(command, dump_file, slot)

    def listens_not(self) -> int:
        """Start a process that has no handlers for our signals."""
        return self._start([sys.executable, "-c", "print('>', flush=True); input()"], CountingDumpFile(), 0)

    def _start(self, command: list[str], dump_file: DumpFile, slot: int) -> int:
        popen = template.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[dump_file.fileno()],
            stderr=subprocess.PIPE,
        )
        assert popen.stdout is not None
        assert popen.stdout.read(1) == b">"
        self.processes[popen.pid] = popen
        ours, theirs = Channel.pair()
        theirs.close()
        self.children.add(popen.pid, ChildHandle(slot, 3, ours, self.children.take_place(), dump_file, 1))
        return popen.pid

    def looks(self, pid: int) -> int:
        """How often its dump_file was looked into."""
        dump_file = self.children[pid].dump_file
        assert isinstance(dump_file, CountingDumpFile)
        return dump_file.looks

    def goes_on(self) -> None:
        """Let the stack_dumps advance when it is due, until it is over."""
        until = time.monotonic() + DEADLINE
        while (due := self.stack_dumps.due) is not None:
            assert time.monotonic() < until, "it never ends"
            select.select([], [], [], max(0.0, due - time.monotonic()))
            self.stack_dumps.advance(time.monotonic())

    def removes(self, pid: int) -> None:
        """Take a process out of the children, as when it was reaped."""
        handle = self.children.remove(pid)
        self.children.close_channel(handle)
        self.children.forget(handle)

    def close(self) -> None:
        for popen in self.processes.values():
            popen.kill()
            popen.communicate()
        for pid in self.children.pids:
            self.removes(pid)
        self.kernel.close()


@pytest.fixture
def court() -> Iterator[Court]:
    made = Court()
    yield made
    made.close()


def test_the_application_that_stalls_is_named_with_its_worker(
    court: Court, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    pid = court.stalls("spin", slot=1)
    court.stack_dumps.open(pid, time.monotonic() - 5.0, time.monotonic(), aborts=False)
    assert court.stack_dumps.due is not None
    court.goes_on()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "worker stalled for 5." in log()[0]
    facts = record.__dict__
    assert (facts["slot"], facts["generation"], facts["subject_pid"]) == (1, 3, pid)
    assert court.processes[pid].poll() is None

    def is_named() -> bool:
        court.stack_dumps.open(pid, time.monotonic(), time.monotonic(), aborts=False)
        court.goes_on()
        return "stalling.py" in log()[-1]

    assert "stalling.py" in log()[0] or eventually(is_named, "it is named")  # the machine may be busy


def test_a_child_to_abort_gets_sigabrt_after_the_dump(court: Court, log: Log) -> None:
    pid = court.stalls("spin")
    court.stack_dumps.open(pid, time.monotonic() - 5.0, time.monotonic(), aborts=True)
    court.goes_on()
    assert log()[0].startswith("worker stalled for 5.")
    names = [name for _, name in court.kernel.sent]
    assert (names[0], names[-1]) == (str(TELL_STACKS), "SIGABRT")
    assert court.processes[pid].wait(DEADLINE) == -signal.SIGABRT


def test_a_process_that_c_code_holds_is_ended_after_it_was_asked_twice(court: Court, log: Log) -> None:
    pid = court.stalls("hold")
    court.stack_dumps.open(pid, time.monotonic(), time.monotonic(), aborts=True)
    court.goes_on()
    assert len(log()) == 1
    names = [name for _, name in court.kernel.sent]
    assert (names[0], names[-1]) == (str(TELL_STACKS), "SIGABRT")
    assert set(names[1:-1]) <= {str(DUMP_STACK)}
    assert court.processes[pid].wait(DEADLINE) == -signal.SIGABRT


def test_a_second_request_sends_no_second_signal_but_may_abort(court: Court, log: Log) -> None:
    pid = court.stalls("spin")
    since = time.monotonic()
    court.stack_dumps.open(pid, since, time.monotonic(), aborts=False)
    court.stack_dumps.open(pid, since, time.monotonic(), aborts=True)
    court.stack_dumps.open(pid, since, time.monotonic(), aborts=False)
    court.goes_on()
    assert len(log()) == 1
    names = [name for _, name in court.kernel.sent]
    assert (names.count(str(TELL_STACKS)), names.count("SIGABRT"), names[-1]) == (1, 1, "SIGABRT")


def test_it_can_be_asked_again_when_it_stalls_again(court: Court, log: Log) -> None:
    pid = court.stalls("spin")
    for _ in range(2):
        court.stack_dumps.open(pid, time.monotonic(), time.monotonic(), aborts=False)
        court.goes_on()
    assert len(log()) == 2


def test_a_child_without_a_handler_gets_no_deadly_signal(court: Court, log: Log) -> None:
    pid = court.listens_not()
    court.stack_dumps.open(pid, time.monotonic(), time.monotonic(), aborts=False)
    assert "the worker has no handler yet" in log()[0]
    assert (court.stack_dumps.due, court.kernel.sent) == (None, [])
    court.stack_dumps.open(pid, time.monotonic(), time.monotonic(), aborts=True)
    assert court.kernel.sent == [(pid, "SIGABRT")]


def test_one_that_is_stopped_is_named_so_and_ended_all_the_same(court: Court, log: Log) -> None:
    pid = court.stalls("spin")
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: is_stopped(pid), "it is stopped")
    court.stack_dumps.open(pid, time.monotonic(), time.monotonic(), aborts=True)
    court.goes_on()
    assert "stopped (SIGSTOP)" in log()[0]
    assert court.kernel.sent[-1] == (pid, "SIGABRT")


def test_one_that_has_died_meanwhile_is_no_error(court: Court, log: Log) -> None:
    pid = court.stalls("spin")
    court.stack_dumps.open(pid, time.monotonic(), time.monotonic(), aborts=False)
    court.processes[pid].kill()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    court.goes_on()
    assert len(log()) == 1


def test_when_it_was_reaped_the_case_is_closed(court: Court, log: Log) -> None:
    pid = court.stalls("spin")
    court.stack_dumps.open(pid, time.monotonic(), time.monotonic(), aborts=True)
    court.stack_dumps.close(pid)
    court.stack_dumps.close(pid)
    court.removes(pid)
    assert court.stack_dumps.due is None
    court.stack_dumps.advance(time.monotonic() + 100)
    assert log() == []


def test_a_reaped_child_does_not_block_other_dumps(court: Court, log: Log) -> None:
    gone, other = court.stalls("spin"), court.stalls("spin", slot=1)
    court.stack_dumps.open(gone, time.monotonic(), time.monotonic(), aborts=True)
    court.removes(gone)
    court.stack_dumps.open(other, time.monotonic(), time.monotonic() + 1, aborts=False)
    assert (gone, "SIGABRT") not in court.kernel.sent


def test_dumps_are_not_read_before_they_are_due(court: Court, log: Log) -> None:
    """Between two looks a dump that is being written must have time to grow; other things wake the supervisor too."""
    pid = court.stalls("hold")
    now = time.monotonic()
    court.stack_dumps.open(pid, now, now, aborts=False)
    looks, due = court.looks(pid), court.stack_dumps.due
    assert due is not None
    assert due > now
    for _ in range(10):
        court.stack_dumps.advance(now + (due - now) / 2)
    assert court.looks(pid) == looks
    court.stack_dumps.advance(due)
    assert court.looks(pid) == looks + 1


def test_several_are_asked_side_by_side(court: Court, log: Log, caplog: pytest.LogCaptureFixture) -> None:
    pids = [court.stalls(way, slot) for slot, way in enumerate(("spin", "sleep", "hold"))]
    for pid in pids:
        court.stack_dumps.open(pid, time.monotonic(), time.monotonic(), aborts=False)
    court.goes_on()
    assert sorted(record.__dict__["subject_pid"] for record in caplog.records) == sorted(pids)


def test_a_zygote_is_called_one(court: Court, log: Log, caplog: pytest.LogCaptureFixture) -> None:
    pid = court.stalls("spin", slot=ZYGOTE)
    court.stack_dumps.open(pid, time.monotonic(), time.monotonic(), aborts=False)
    court.goes_on()
    assert caplog.records[0].__dict__["slot"] == "zygote"
