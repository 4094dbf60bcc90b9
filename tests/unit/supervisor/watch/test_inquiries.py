"""What operators ask of children: the loop's report, a dump by signal in its place, or the reason for neither."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.dumps import DUMPS
from support.fake_kernel import FakeKernel
from support.service import descriptors, eventually, is_stopped

from hybrid.supervisor.children.handles import ChildHandle, Children
from hybrid.supervisor.core.roles import ZYGOTE
from hybrid.supervisor.watch.dump_file import DumpFile
from hybrid.supervisor.watch.inquiries import PATIENCE, Inquiries, Inquiry
from hybrid.supervisor.watch.stack_dumps import StackDumps
from hybrid.workers.contract import stack_report
from hybrid.workers.contract.channel import Channel
from hybrid.workers.contract.messages import Ping, StacksTold, TellStacks
from hybrid.workers.contract.signals import DUMP_STACK, TELL_STACKS

ROOM = 64 * 1024
FRAME = stack_report.frame("/srv/app.py", 7, "handler", is_ours=False)
TASK = {"name": "Task-1", "waits_for": "a future", "frames": [FRAME], "is_cut": False}
HANDLERS = "import signal; [signal.signal(n, lambda *_: None) for n in ({}, {})]; print('>', flush=True); input()"


class Answering(FakeKernel):
    """A fake kernel whose processes answer some signals by writing into their dump file."""

    def __init__(self) -> None:
        super().__init__()
        self.on_signal: dict[int, Callable[[], object]] = {}  # number -> what happens

    def send(self, pid: int, number: int) -> None:
        self.sent.append((pid, str(number)))
        self.on_signal.get(number, lambda: None)()


class Household:
    """Children with real channels, memory and pids; this process plays their loops."""

    def __init__(self) -> None:
        self.kernel = Answering()
        self.children = Children(8)
        self.stack_dumps = StackDumps(self.kernel, self.children)
        self.inquiries = Inquiries(self.children, self.stack_dumps)
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.theirs: dict[int, Channel] = {}

    def bears(self, slot: int = 0) -> int:
        """Start a process that has handlers for our signals, and does nothing in them; return its pid."""
        program = [sys.executable, "-c", HANDLERS.format(TELL_STACKS, DUMP_STACK)]
        popen = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert popen.stdout is not None
        assert popen.stdout.read(1) == b">"
        ours, theirs = Channel.pair()
        self.processes[popen.pid], self.theirs[popen.pid] = popen, theirs
        self.children.add(popen.pid, ChildHandle(slot, 3, ours, self.children.take_place(), DumpFile(), 1))
        return popen.pid

    def asks(self, pid: int, most: int = ROOM) -> Inquiry:
        return self.inquiries.open(pid, most, self.kernel.now())

    def hears_order(self, pid: int) -> tuple[TellStacks, int]:
        """Return the order that a child got, and its descriptor."""
        taken = self.theirs[pid].take_over_nowait()
        assert taken is not None
        order, (fd,) = taken
        assert isinstance(order, TellStacks)
        return order, fd

    def answers(self, pid: int, data: bytes, size: int | None = None) -> None:
        """Be the loop of a child: write a report, and say so."""
        order, fd = self.hears_order(pid)
        os.pwrite(fd, data, 0)
        os.close(fd)
        self.inquiries.hear(pid, StacksTold(order.id, len(data) if size is None else size))

    def goes_on(self, seconds: float = 2.0) -> None:
        """Let time pass, as the loop of the supervisor does."""
        end = self.kernel.now() + seconds
        while self.kernel.now() < end:
            dues = [due for due in (self.inquiries.due, self.stack_dumps.due) if due is not None]
            self.kernel.wait(max(0.0, min([*dues, end]) - self.kernel.now()))
            self.inquiries.advance(self.kernel.now())
            self.stack_dumps.advance(self.kernel.now())

    def close(self) -> None:
        for pid, popen in self.processes.items():
            if pid in self.children:
                handle = self.children.remove(pid)
                self.children.close_channel(handle)
                self.children.forget(handle)
            self.theirs[pid].close()
            popen.kill()
            popen.communicate()
        self.inquiries.close_in_child()
        self.kernel.close()


@pytest.fixture
def house() -> Iterator[Household]:
    made = Household()
    yield made
    made.close()


def report(**sections: Any) -> bytes:
    return stack_report.encode(sections, {}, ROOM)


def test_the_report_of_a_loop_is_the_result(house: Household) -> None:
    pid = house.bears(slot=2)
    inquiry = house.asks(pid)
    assert not inquiry.is_over
    house.answers(pid, report(tasks=[TASK]))
    assert inquiry.is_over
    assert inquiry.result == {
        "slot": 2,
        "pid": pid,
        "generation": 3,
        "source": "loop",
        "error": None,
        "left_out": {},
        "threads": [],
        "requests": [],
        "greenlets": [],
        "tasks": [TASK],
    }
    assert house.kernel.sent == []
    assert house.inquiries.due is None


def test_several_children_answer_on_their_own(house: Household) -> None:
    quick, slow = house.bears(0), house.bears(1)
    inquiries = [house.asks(pid) for pid in (slow, quick)]
    house.answers(quick, report())
    assert [one.is_over for one in inquiries] == [False, True]
    house.answers(slow, report())
    assert all(one.is_over for one in inquiries)


def test_a_loop_that_does_not_answer_gets_a_signal(house: Household) -> None:
    pid = house.bears()
    house.kernel.on_signal[TELL_STACKS] = lambda: os.write(
        house.children[pid].dump_file.fileno(), DUMPS["3.11"].encode()
    )
    began = house.kernel.now()
    inquiry = house.asks(pid)
    assert house.inquiries.due == began + PATIENCE
    house.goes_on(PATIENCE + 0.05)
    result = inquiry.result
    assert (result["source"], result["error"]) == ("signal", None)
    loop, other = sorted(result["threads"], key=lambda one: not one["is_loop"])
    assert (loop["name"], [frame["function"] for frame in loop["frames"]][:3]) == (
        "MainThread",
        ["dump", "handler", "main"],
    )
    assert other["name"] == "Thread 0x00007f3edf6996c0"


def test_names_of_threads_are_told(house: Household) -> None:
    pid = house.bears()
    dump = DUMPS["3.11"].replace("6996c0 (", "6996c0 [wsgi-0] (").encode()
    house.kernel.on_signal[TELL_STACKS] = lambda: os.write(house.children[pid].dump_file.fileno(), dump)
    inquiry = house.asks(pid)
    house.goes_on(PATIENCE + 0.05)
    assert {one["name"] for one in inquiry.result["threads"]} == {"MainThread", "wsgi-0"}


def test_a_dump_larger_than_the_answer_may_be_is_cut_and_counted(house: Household) -> None:
    pid = house.bears()
    house.kernel.on_signal[TELL_STACKS] = lambda: os.write(
        house.children[pid].dump_file.fileno(), DUMPS["3.11"].encode()
    )
    inquiry = house.asks(pid, 700)
    house.goes_on(PATIENCE + 0.05)
    assert len(inquiry.result["threads"]) == 1
    assert inquiry.result["left_out"] == {"threads": 1}


def test_without_any_answer_the_error_says_why(house: Household) -> None:
    pid = house.bears()
    inquiry = house.asks(pid)
    house.goes_on(1.0)
    assert inquiry.result["error"] == "the worker does not answer"
    assert [number for _, number in house.kernel.sent] == [str(TELL_STACKS), str(DUMP_STACK)]


def test_of_a_stopped_process_that_is_said_and_no_signal_is_sent(house: Household) -> None:
    pid = house.bears()
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: is_stopped(pid), "it is stopped")
    inquiry = house.asks(pid)
    house.goes_on(PATIENCE + 0.01)
    assert inquiry.result["error"] == "the process is stopped (SIGSTOP)"
    assert house.kernel.sent == []


def test_a_zygote_is_asked_by_signal_at_once(house: Household) -> None:
    pid = house.bears(slot=ZYGOTE)
    inquiry = house.asks(pid)
    assert house.theirs[pid].take_over_nowait() is None
    assert house.kernel.sent == [(pid, str(TELL_STACKS))]
    house.goes_on(1.0)
    assert inquiry.result["slot"] == "zygote"


def test_a_program_that_is_not_ours_gets_neither_order_nor_signal(house: Household) -> None:
    pid = house.bears()
    inquiry = Inquiries(house.children, house.stack_dumps, executes=True).open(pid, ROOM, house.kernel.now())
    assert "another program" in inquiry.result["error"]
    assert house.theirs[pid].take_over_nowait() is None
    assert house.kernel.sent == []


def test_a_child_that_dies_meanwhile_is_told(house: Household) -> None:
    pid = house.bears()
    inquiry = house.asks(pid)
    house.inquiries.close(pid)
    assert inquiry.result["error"] == "the process has ended"


def test_a_late_answer_belongs_to_no_later_inquiry(house: Household) -> None:
    pid = house.bears()
    first = house.asks(pid)
    house.goes_on(1.0)
    second = house.asks(pid)
    house.answers(pid, report(tasks=[TASK]))
    assert first.result["error"] is not None
    assert not second.is_over
    house.answers(pid, report())
    assert second.result["tasks"] == []


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"", 0),
        (report(), -1),
        (report(), ROOM + 1),
        (report(), 2**60),
        (report(), 10),
        (b"\x00" * 100, 100),
        (json.dumps(dict.fromkeys(stack_report.SECTIONS, 1)).encode(), None),
    ],
)
def test_a_report_that_cannot_be_read_is_replaced_by_a_dump(house: Household, data: bytes, size: int | None) -> None:
    pid = house.bears()
    inquiry = house.asks(pid)
    house.answers(pid, data, size)
    assert not inquiry.is_over
    house.goes_on(0.01)
    assert house.kernel.sent == [(pid, str(TELL_STACKS))]


@pytest.mark.parametrize("number", [-1, 0, 7, 2**60])
def test_an_answer_that_was_not_asked_is_ignored(house: Household, number: int) -> None:
    pid = house.bears()
    inquiry = house.asks(pid)
    house.inquiries.hear(pid, StacksTold(number, 10))
    house.inquiries.hear(pid + 1, StacksTold(1, 10))
    assert not inquiry.is_over


def test_a_worker_cannot_enlarge_the_memory_of_its_report(house: Household) -> None:
    pid = house.bears()
    house.asks(pid, 1000)
    _, fd = house.hears_order(pid)
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"x" * 10, 1000)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 2000)
    os.close(fd)


def test_a_channel_that_is_not_read_keeps_room_for_other_orders(house: Household) -> None:
    pid = house.bears()
    for _ in range(1000):
        house.asks(pid)
        house.goes_on(0.12)
    house.goes_on(1.0)
    house.children.ping(pid)
    assert house.children[pid].channel.pending == 0
    orders = []
    while (taken := house.theirs[pid].take_over_nowait()) is not None:
        order, fds = taken
        orders.append(order)
        for fd in fds:
            os.close(fd)
    assert isinstance(orders[-1], Ping)
    assert len(orders) < 10


def test_no_descriptor_is_left(house: Household) -> None:
    pid = house.bears()
    before = descriptors(os.getpid())
    house.asks(pid)
    house.answers(pid, report())
    house.asks(pid)
    house.goes_on(1.0)
    _, fd = house.hears_order(pid)
    os.close(fd)
    assert descriptors(os.getpid()) == before


def test_a_dump_in_progress_serves_a_stall_and_operators(house: Household) -> None:
    pid = house.bears()
    house.kernel.on_signal[TELL_STACKS] = lambda: os.write(
        house.children[pid].dump_file.fileno(), DUMPS["3.11"].encode()
    )
    inquiries = [house.asks(pid), house.asks(pid)]
    house.goes_on(PATIENCE)
    house.stack_dumps.open(pid, house.kernel.now() - 1.0, house.kernel.now(), aborts=True)
    house.goes_on(0.1)
    assert all(one.result["threads"] for one in inquiries)
    assert house.stack_dumps.where(pid) == "/srv/app.py:10 in dump"
    assert house.kernel.sent == [(pid, str(TELL_STACKS)), (pid, "SIGABRT")]
