"""Asking real processes where they stand, in all ways to stand still."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import stalling, template
from support.process import DEADLINE
from support.service import eventually, is_stopped

from hybrid.supervisor.watch.dump_file import DumpFile, DumpResult, StackDump, condition_of
from hybrid.workers.contract.signals import DUMP_STACK, MAX_DUMP, TELL_STACKS

PROGRAM = Path(stalling.__file__)


class Stalled:
    """A process that stalls, and the dump_file it shares."""

    def __init__(self, popen: subprocess.Popen[bytes], dump_file: DumpFile) -> None:
        self.popen = popen
        self.dump_file = dump_file
        self.sent: list[int] = []

    def send(self, pid: int, number: int) -> None:
        self.sent.append(number)
        os.kill(pid, number)

    def ask(self) -> DumpResult:
        """Hold an dump, looking as often as a supervisor does."""
        dump = StackDump(self.dump_file, self.popen.pid, self.send)
        until = time.monotonic() + DEADLINE
        while (result := dump.advance(time.monotonic())) is None:
            assert time.monotonic() < until
            select.select([], [], [], 0.005)
        assert dump.due is None
        return result

    def function(self) -> str:
        """Where it stands; asks until there is an answer, which may be late on a busy machine."""
        found: list[str] = []

        def answers() -> bool:
            found.extend(frame.function for frame in self.ask().stack.frames)
            return bool(found)

        eventually(answers, "it says where it stands")
        return found[0]

    def said(self, size: int = 100) -> str:
        assert self.popen.stdout is not None
        return os.read(self.popen.stdout.fileno(), size).decode()


@contextmanager
def stalled(way: str, tmp_path: Path, *, prepared: bool = True, listening: bool = True) -> Iterator[Stalled]:
    """Start the program, wait until it stalls if it is `prepared` to tell so, and end it afterwards."""
    dump_file = DumpFile()
    command = [sys.executable, "-P", str(PROGRAM), str(dump_file.fileno()), way]
    popen = template.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, pass_fds=[dump_file.fileno()], cwd=tmp_path
    )
    try:
        stands = Stalled(popen, dump_file)
        if prepared:
            assert stands.said(1) == ">"
            if listening:
                eventually(lambda: stands.function() not in ("say", "<module>"), "it is beyond saying so")
                stands.sent.clear()
        yield stands
    finally:
        popen.kill()
        popen.communicate()
        dump_file.close()


@pytest.mark.parametrize("way", ["spin", "sleep", "receive", "lock", "hold", "count", "match"])
def test_the_function_that_stalls_is_named(way: str, tmp_path: Path) -> None:
    with stalled(way, tmp_path) as stands:
        result = stands.ask()
        assert stands.popen.poll() is None
    assert result.missing == ""
    assert result.stack.frames[0].function == way
    assert result.stack.frames[0].file.endswith("support/stalling.py")
    assert f"stalling.py:{result.stack.frames[0].line} in {way}\n" in result.describe(1.2)


@pytest.mark.parametrize("way", ["hold", "count", "lock", "receive"])
def test_only_a_worker_that_cannot_answer_in_python_gets_the_second_signal(way: str, tmp_path: Path) -> None:
    with stalled(way, tmp_path) as stands:
        eventually(lambda: stands.ask() and stands.sent[-2:] == [TELL_STACKS, DUMP_STACK], "it is asked for a dump")
        assert stands.function() == way


@pytest.mark.parametrize("way", ["spin", "sleep", "match", "green"])
def test_a_worker_that_answers_in_python_gets_no_second_signal(way: str, tmp_path: Path) -> None:
    with stalled(way, tmp_path) as stands:
        stands.ask()
        assert stands.sent == [TELL_STACKS]


def test_it_can_be_asked_again_and_again(tmp_path: Path) -> None:
    with stalled("hold", tmp_path) as stands:
        assert {stands.function() for _ in range(3)} == {"hold"}


def test_the_function_called_by_the_application_is_reported_too(tmp_path: Path) -> None:
    with stalled("library", tmp_path) as stands:
        stack = stands.ask().stack
    assert stack.frames[0].function == "library"
    assert stack.leaf is not None
    assert stack.leaf.file.endswith("threading.py")


def test_the_stack_of_a_greenlet_is_that_of_the_stall(tmp_path: Path) -> None:
    with stalled("green", tmp_path) as stands:
        assert [frame.function for frame in stands.ask().stack.frames] == ["spin", "in_greenlet"]


def test_among_many_threads_the_one_that_runs_the_loop_is_shown(tmp_path: Path) -> None:
    with stalled("many", tmp_path) as stands:
        assert [frame.function for frame in stands.ask().stack.frames][:2] == ["hold", "many"]


HANGING = {
    "spins": "while True: pass",
    "sleeps": "import time\ntime.sleep(60)",
    "locks": "import threading\ngate = threading.Lock()\ngate.acquire()\ngate.acquire()",
}


@pytest.mark.parametrize("how", HANGING)
def test_an_import_that_hangs_is_named(how: str, tmp_path: Path) -> None:
    (tmp_path / "hanging.py").write_text(f"import os\nos.write(1, b'>')\n{HANGING[how]}\n")
    with stalled("import hanging", tmp_path, listening=False) as stands:
        innermost = stands.ask().stack.frames[0]
    assert (Path(innermost.file).name, innermost.function) == ("hanging.py", "<module>")


# --- workers that cannot answer


def test_a_stopped_process_is_reported_as_stopped_and_survives(tmp_path: Path) -> None:
    with stalled("spin", tmp_path) as stands:
        os.kill(stands.popen.pid, signal.SIGSTOP)
        eventually(lambda: is_stopped(stands.popen.pid), "it is stopped")
        result = stands.ask()
        assert result.describe(1.0) == "worker stalled for 1.0 s: no stack: the process is stopped (SIGSTOP)"
        assert stands.sent == [TELL_STACKS]
        os.kill(stands.popen.pid, signal.SIGCONT)
        assert stands.ask().stack.frames[0].function == "spin"


def test_a_process_without_a_handler_gets_no_signal(tmp_path: Path) -> None:
    with stalled("unprepared", tmp_path, prepared=False) as stands:
        assert "has no handler yet" in stands.ask().missing
        assert stands.sent == []


def test_a_process_with_a_replaced_handler_gets_no_signal(tmp_path: Path) -> None:
    with stalled("deaf", tmp_path, listening=False) as stands:
        assert "has replaced it" in stands.ask().missing


def test_a_main_thread_that_blocks_the_signal_is_not_confused_with_another(tmp_path: Path) -> None:
    with stalled("blocking", tmp_path, listening=False) as stands:
        eventually(lambda: stands.ask().missing == "the application blocks the signal", "it is in C code")


def test_a_process_that_is_gone_is_not_asked(tmp_path: Path) -> None:
    with stalled("spin", tmp_path) as stands:
        stands.popen.kill()
        stands.popen.wait()
        assert stands.ask().missing == "the process is not visible in /proc"


def test_a_process_that_has_ended_is_not_asked(tmp_path: Path) -> None:
    with stalled("spin", tmp_path) as stands:
        stands.popen.kill()
        os.waitid(os.P_PID, stands.popen.pid, os.WEXITED | os.WNOWAIT)
        stands.ask()
        assert stands.sent == []


def test_a_worker_that_sends_bad_messages_is_bounded_and_does_no_harm(tmp_path: Path) -> None:
    with stalled("send_bad_messages", tmp_path, listening=False) as stands:
        text = eventually(lambda: stands.dump_file.take(), "something was written")
        assert len(text) <= MAX_DUMP * 4
        assert os.fstat(stands.dump_file.fileno()).st_size == MAX_DUMP
        eventually(lambda: stands.ask().stack.frames[:1], "it tells where it stands")


# --- effects of the signals on the receiver


def test_a_child_of_the_application_is_not_ended_by_the_signals(tmp_path: Path) -> None:
    with stalled("forked", tmp_path, prepared=False) as stands:
        assert stands.said(1) == "7"


def test_a_system_call_that_can_be_restarted_is(tmp_path: Path) -> None:
    """As C code sees it: one byte received, no EINTR."""
    with stalled("both", tmp_path, prepared=False) as stands:
        assert stands.said(3) == "1 0"


def test_the_condition_of_a_process_is_read_from_proc() -> None:
    condition = condition_of(os.getpid())
    assert condition is not None
    assert condition.state == "R"
    assert condition.hindrance == ""
    assert condition.hears(signal.SIGINT)
    assert not condition.blocks(signal.SIGINT)
    assert condition_of(2**22 + 1) is None
