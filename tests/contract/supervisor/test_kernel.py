"""The contract of the kernel seam, clause by clause, over the real kernel and over the fake."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import faulthandler
import math
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Protocol

import pytest
from support.fake_kernel import FakeKernel
from support.limits import scarce_descriptors

from hybrid.supervisor.children.kernel import CAUGHT, CannotFork, Kernel, LinuxKernel
from hybrid.supervisor.core.events import How
from hybrid.workers.contract.channel import Channel, ChannelClosed
from hybrid.workers.contract.messages import Forked, Ready

# CPython 3.12 warns of a fork beside threads, which test runners have; our children touch nothing those could hold
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

DEADLINE = 10.0  # seconds


class World(Protocol):
    """The events that the tests cause, in either kernel."""

    kernel: Kernel

    def start(self, *, deaf: bool = False) -> tuple[int, Channel]: ...
    def start_orphan(self) -> int: ...
    def end_orphan(self, pid: int) -> None: ...
    def end(self, pid: int, channel: Channel, code: int) -> None: ...
    def steal(self, pid: int, channel: Channel) -> None: ...
    def stranger(self) -> int: ...
    def is_zombie(self, pid: int) -> bool: ...
    def signal_us(self, name: str) -> None: ...
    def no_more_processes(self) -> None: ...


def _obey(channel: Channel) -> int:
    """Be a child: exit with the code that the first message names."""
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    poll.poll()
    message = channel.receive_nowait()
    return int(message.loop) if isinstance(message, Ready) else 99


def _obey_deafly(channel: Channel) -> int:
    faulthandler.disable()  # the test runner's: an abort is meant
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    channel.send_nowait(Ready("deaf", ""))
    return _obey(channel)


def _leave_orphan(channel: Channel) -> int:
    """Be a child: leave a process behind that obeys in its place, and say its pid."""
    if (pid := os.fork()) == 0:
        _obey(channel)
        os._exit(0)
    channel.send_nowait(Forked(pid))
    return 0


class RealWorld:
    def __init__(self) -> None:
        self.kernel = LinuxKernel()
        self._strangers: list[int] = []
        self._orphans: dict[int, Channel] = {}  # pid -> our end of its channel
        self._scarcity = contextlib.ExitStack()

    def start(self, *, deaf: bool = False) -> tuple[int, Channel]:
        pid, channel = self.kernel.fork(_obey_deafly if deaf else _obey)
        if deaf:
            _wait_readable(channel)
            channel.receive_nowait()
        return pid, channel

    def start_orphan(self) -> int:
        pid, channel = self.kernel.fork(_leave_orphan)
        _wait_dead(pid)
        assert self.kernel.reap([pid]) == [(pid, How(code=0))]
        forked = channel.receive_nowait()
        assert isinstance(forked, Forked)
        self._orphans[forked.pid] = channel
        return forked.pid

    def end_orphan(self, pid: int) -> None:
        self._orphans[pid].send_nowait(Ready("0", ""))
        _wait_dead(pid)
        self._orphans.pop(pid).close()

    def end(self, pid: int, channel: Channel, code: int) -> None:
        channel.send_nowait(Ready(str(code), ""))
        _wait_dead(pid)

    def steal(self, pid: int, channel: Channel) -> None:
        channel.send_nowait(Ready("0", ""))
        os.waitpid(pid, 0)

    def stranger(self) -> int:
        pid = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], os.environ)
        self._strangers.append(pid)
        _wait_dead(pid)
        return pid

    def is_zombie(self, pid: int) -> bool:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def signal_us(self, name: str) -> None:
        os.kill(os.getpid(), signal.Signals[name])

    def no_more_processes(self) -> None:
        self._scarcity.enter_context(scarce_descriptors(0))

    def close(self) -> None:
        self._scarcity.close()
        for pid in self._strangers:
            os.waitpid(pid, 0)
        for channel in self._orphans.values():
            channel.close()
        self.kernel.close()


class FakeWorld:
    def __init__(self) -> None:
        self.kernel = FakeKernel()

    def start(self, *, deaf: bool = False) -> tuple[int, Channel]:
        pid, channel = self.kernel.fork(_obey)
        if deaf:
            self.kernel.ignores_terminate(pid)
        return pid, channel

    def start_orphan(self) -> int:
        ours, theirs = Channel.pair()
        ours.close()
        return self.kernel.bears(theirs)

    def end_orphan(self, pid: int) -> None:
        self.kernel.dies(pid, How(code=0))

    def end(self, pid: int, channel: Channel, code: int) -> None:
        self.kernel.dies(pid, How(code=code))

    def steal(self, pid: int, channel: Channel) -> None:
        self.kernel.is_stolen(pid, How(code=0))

    def stranger(self) -> int:
        return self.kernel.adopts()

    def is_zombie(self, pid: int) -> bool:
        return self.kernel.is_zombie(pid)

    def signal_us(self, name: str) -> None:
        self.kernel.receives(name)

    def no_more_processes(self) -> None:
        self.kernel.fail_next_fork(errno.EMFILE)

    def close(self) -> None:
        self.kernel.close()


def _wait_readable(channel: Channel) -> None:
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    assert poll.poll(DEADLINE * 1000), "the child has said nothing"


def _wait_dead(pid: int) -> None:
    """Wait until a child is dead, and leave it to be reaped."""
    pidfd = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    dead = poll.poll(DEADLINE * 1000)
    os.close(pidfd)
    assert dead, "the child has not died"


@pytest.fixture(params=[RealWorld, FakeWorld], ids=["linux", "fake"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made = request.param()
    yield made
    made.close()


@pytest.fixture
def start(world: World) -> Iterator[Callable[..., tuple[int, Channel]]]:
    """Start children that surely end."""
    children: dict[int, Channel] = {}

    def begin(*, deaf: bool = False) -> tuple[int, Channel]:
        pid, channel = world.start(deaf=deaf)
        children[pid] = channel
        return pid, channel

    yield begin
    for pid in children:
        world.kernel.kill(pid)
    for pid, channel in children.items():
        channel.close()
        _reap_until(world, pid, may_be_gone=True)


def _reap_until(world: World, pid: int, *, may_be_gone: bool = False) -> How:
    end = world.kernel.now() + DEADLINE
    while world.kernel.now() < end:
        for found, how in world.kernel.reap([pid]):
            assert found == pid
            return how
        if may_be_gone and isinstance(world, FakeWorld):
            break
        world.kernel.wait(0.5)
    assert may_be_gone, f"{pid} was not reaped"
    return How()


Start = Callable[..., tuple[int, Channel]]


def test_1_time_never_goes_back(world: World) -> None:
    times = [world.kernel.now() for _ in range(1000)]
    assert times == sorted(times)


def test_2_a_child_exits_with_the_result_of_its_main(world: World, start: Start) -> None:
    pid, channel = start()
    world.end(pid, channel, 3)
    assert world.kernel.reap([pid]) == [(pid, How(code=3))]


def test_2_a_failed_fork_gives_the_reason_and_leaves_nothing_open(world: World) -> None:
    world.no_more_processes()
    with pytest.raises(CannotFork, match="Too many open files"):
        world.start()


def test_3_a_death_is_the_end_of_the_channel(world: World, start: Start) -> None:
    pid, channel = start()
    world.end(pid, channel, 0)
    with pytest.raises(ChannelClosed):
        channel.receive_nowait()


def test_4_the_living_are_not_reaped(world: World, start: Start) -> None:
    pid, _ = start()
    assert world.kernel.reap([pid]) == []


def test_4_a_death_is_returned_once(world: World, start: Start) -> None:
    first, channel = start()
    second, _ = start()
    world.end(first, channel, 0)
    assert world.kernel.reap([first, second]) == [(first, How(code=0))]
    assert world.kernel.reap([second]) == []


def test_4_other_peoples_children_are_left_alone(world: World, start: Start) -> None:
    pid, channel = start()
    stranger = world.stranger()
    world.end(pid, channel, 0)
    assert world.kernel.reap([pid]) == [(pid, How(code=0))]
    assert world.is_zombie(stranger)


def test_5_a_child_reaped_by_other_code_ended_unseen(world: World, start: Start) -> None:
    pid, channel = start()
    world.steal(pid, channel)
    assert world.kernel.reap([pid]) == [(pid, How())]


def test_6_terminate_lets_a_child_decide(world: World, start: Start) -> None:
    pid, _ = start(deaf=True)
    world.kernel.terminate(pid)
    assert world.kernel.reap([pid]) == []


def test_6_abort_does_not(world: World, start: Start) -> None:
    pid, _ = start(deaf=True)
    world.kernel.abort(pid)
    assert _reap_until(world, pid) == How(signal="SIGABRT")


def test_6_kill_does_not(world: World, start: Start) -> None:
    pid, _ = start(deaf=True)
    world.kernel.kill(pid)
    assert _reap_until(world, pid) == How(signal="SIGKILL")


def test_6_a_signal_for_a_dead_process_is_no_error(world: World, start: Start) -> None:
    pid, channel = start()
    world.end(pid, channel, 0)
    world.kernel.reap([pid])
    world.kernel.terminate(pid)
    world.kernel.abort(pid)
    world.kernel.kill(pid)
    world.kernel.send(pid, signal.SIGUSR1)


def test_6_a_signal_that_a_child_ignores_leaves_it_alone(world: World, start: Start) -> None:
    pid, channel = start(deaf=True)
    world.kernel.send(pid, signal.SIGUSR1)
    world.kernel.send(pid, signal.SIGTERM)
    world.end(pid, channel, 3)
    assert world.kernel.reap([pid]) == [(pid, How(code=3))]


def test_6_any_signal_can_be_sent(world: World, start: Start) -> None:
    pid, _ = start()
    world.kernel.send(pid, signal.SIGKILL)
    assert _reap_until(world, pid) == How(signal="SIGKILL")


@pytest.mark.parametrize("timeout", [0.0, -1.0, -math.inf, 0.05])
def test_7_a_wait_lasts_as_long_as_asked(world: World, timeout: float) -> None:
    before = world.kernel.now()
    assert world.kernel.wait(timeout) is None
    assert max(timeout, 0.0) - 1e-6 <= world.kernel.now() - before < DEADLINE


@pytest.mark.parametrize("timeout", [1e7, 1e300, math.inf])
def test_7_a_wait_may_be_asked_to_last_for_very_long(world: World, timeout: float) -> None:
    world.signal_us("SIGUSR1")
    assert world.kernel.wait(timeout) == []
    assert world.kernel.take_signals() == ["SIGUSR1"]


def test_7_a_readable_descriptor_ends_a_wait(world: World) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        world.kernel.watch(ours.fileno())
        theirs.send(b"x")
        assert world.kernel.wait(DEADLINE) == [ours.fileno()]
        world.kernel.unwatch(ours.fileno())


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1"])
def test_8_a_signal_that_came_before_is_not_lost(world: World, name: str) -> None:
    world.signal_us(name)
    before = world.kernel.now()
    world.kernel.wait(DEADLINE)
    assert world.kernel.now() - before < DEADLINE
    assert world.kernel.take_signals() == [name]


def test_8_a_death_that_came_before_is_not_lost(world: World, start: Start) -> None:
    pid, channel = start()
    world.end(pid, channel, 0)
    before = world.kernel.now()
    world.kernel.wait(DEADLINE)
    assert world.kernel.now() - before < DEADLINE
    assert world.kernel.reap([pid])


def test_9_signals_come_in_order_and_once(world: World) -> None:
    for name in ("SIGTTIN", "SIGTTOU", "SIGTTIN", "SIGINT"):
        world.signal_us(name)
        world.kernel.wait(0)
    assert world.kernel.take_signals() == ["SIGTTIN", "SIGTTOU", "SIGTTIN", "SIGINT"]
    assert world.kernel.take_signals() == []


def test_7_a_death_is_more_than_time(world: World, start: Start) -> None:
    """A caller with own work at each timeout must see that there are events."""
    pid, channel = start()
    world.end(pid, channel, 0)
    assert world.kernel.wait(DEADLINE) is not None


def test_9_a_death_is_no_signal(world: World, start: Start) -> None:
    pid, channel = start()
    world.end(pid, channel, 0)
    world.kernel.wait(DEADLINE)
    assert world.kernel.take_signals() == []


def test_10_a_forgotten_descriptor_ends_no_wait(world: World) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        world.kernel.watch(ours.fileno())
        theirs.send(b"x")
        world.kernel.unwatch(ours.fileno())
        world.kernel.unwatch(ours.fileno())
        assert world.kernel.wait(0.01) is None


def test_10_a_descriptor_may_be_forgotten_after_it_was_closed(world: World) -> None:
    ours, theirs = socket.socketpair()
    fd = ours.fileno()
    world.kernel.watch(fd)
    ours.close()
    theirs.close()
    world.kernel.unwatch(fd)
    assert world.kernel.wait(0) is None


def test_10_room_to_write_ends_a_wait_that_asks_for_it(world: World) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                ours.send(bytes(65536))
        world.kernel.watch(ours.fileno(), reads=False, writes=True)
        assert world.kernel.wait(0.01) is None
        theirs.recv(1_000_000)
        assert world.kernel.wait(DEADLINE) == [ours.fileno()]
        world.kernel.unwatch(ours.fileno())


def test_10_a_second_watch_changes_what_ends_a_wait(world: World) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        world.kernel.watch(ours.fileno(), reads=True, writes=True)
        assert world.kernel.wait(DEADLINE) == [ours.fileno()]
        world.kernel.watch(ours.fileno(), reads=False)
        assert world.kernel.wait(0.01) is None
        world.kernel.watch(ours.fileno())
        assert world.kernel.wait(DEADLINE) == [ours.fileno()]
        world.kernel.unwatch(ours.fileno())


def test_10_a_hang_up_ends_a_wait_for_nothing_else(world: World) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        world.kernel.watch(ours.fileno(), reads=False)
        theirs.shutdown(socket.SHUT_WR)  # it may still read, so this is none
        assert world.kernel.wait(0.01) is None
        theirs.close()
        assert world.kernel.wait(DEADLINE) == [ours.fileno()]
        world.kernel.unwatch(ours.fileno())


def test_11_orphans_are_adopted_until_adoption_is_turned_off(world: World) -> None:
    world.kernel.adopt_orphans(True)
    ours = world.start_orphan()
    world.kernel.adopt_orphans(False)
    others = world.start_orphan()
    assert (world.kernel.is_child(ours), world.kernel.is_child(others)) == (True, False)
    world.end_orphan(ours)
    world.end_orphan(others)
    world.kernel.reap([])


def test_11_an_orphan_that_is_asked_for_is_reaped_as_any_child(world: World) -> None:
    world.kernel.adopt_orphans(True)
    pid = world.start_orphan()
    world.kernel.adopt_orphans(False)
    assert world.kernel.reap([pid]) == []
    world.end_orphan(pid)
    assert world.kernel.reap([pid]) == [(pid, How(code=0))]


def test_11_an_unknown_orphan_is_reaped_and_not_reported(world: World) -> None:
    world.kernel.adopt_orphans(True)
    pid = world.start_orphan()
    world.kernel.adopt_orphans(False)
    world.kernel.reap([])
    assert world.kernel.is_child(pid)
    world.end_orphan(pid)
    assert world.kernel.reap([]) == []
    assert not world.kernel.is_child(pid)


def test_11_children_of_other_code_are_left_alone(world: World, start: Start) -> None:
    stranger = world.stranger()
    world.kernel.adopt_orphans(True)
    pid, channel = start()
    orphan = world.start_orphan()
    world.kernel.adopt_orphans(False)
    world.end_orphan(orphan)
    world.end(pid, channel, 0)
    assert world.kernel.reap([]) == []
    assert world.is_zombie(stranger)
    assert world.kernel.reap([pid]) == [(pid, How(code=0))]


def test_11_adopting_twice_is_adopting_once(world: World) -> None:
    for wanted in (True, True, False, False):
        world.kernel.adopt_orphans(wanted)
    pid = world.start_orphan()
    assert not world.kernel.is_child(pid)
    world.end_orphan(pid)


def test_11_a_child_is_one_from_its_fork_until_it_is_reaped(world: World, start: Start) -> None:
    pid, channel = start()
    assert world.kernel.is_child(pid)
    world.end(pid, channel, 0)
    assert world.kernel.is_child(pid)
    world.kernel.reap([pid])
    assert not world.kernel.is_child(pid)


@pytest.mark.parametrize("number", [-(2**70), -1, 0, 1, 2**31, 2**70])
def test_11_other_pids_are_not_children(world: World, start: Start, number: int) -> None:
    start()  # waitid(2) takes 0 and -1 for any child
    assert not world.kernel.is_child(number)


def test_11_this_process_is_no_child_of_its_own(world: World) -> None:
    assert not world.kernel.is_child(os.getpid())


def test_12_closing_twice_is_fine(world: World) -> None:
    world.kernel.close()
    world.kernel.close()


# --- what only the real one can show


def test_12_signal_handlers_wakeup_descriptor_and_mask_are_given_back() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        before = ([signal.getsignal(s) for s in CAUGHT], signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        kernel = LinuxKernel()
        assert signal.SIGUSR2 not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        kernel.close()
        assert ([signal.getsignal(s) for s in CAUGHT], signal.pthread_sigmask(signal.SIG_BLOCK, ())) == before
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})


def test_12_adoption_is_turned_off() -> None:
    kernel = LinuxKernel()
    kernel.adopt_orphans(True)
    kernel.close()
    wanted = ctypes.c_int(7)
    ctypes.CDLL(None).prctl(37, ctypes.byref(wanted), 0, 0, 0)  # PR_GET_CHILD_SUBREAPER, linux/prctl.h
    assert wanted.value == 0


@pytest.fixture
def kernel() -> Iterator[LinuxKernel]:
    made = LinuxKernel()
    yield made
    made.close()


def _run_child(kernel: LinuxKernel, main: Callable[[Channel], int]) -> How:
    pid, channel = kernel.fork(main)
    _wait_dead(pid)
    channel.close()
    return kernel.reap([pid])[0][1]


def test_2_an_exception_does_not_escape_into_the_parents_code(
    kernel: LinuxKernel, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(channel: Channel) -> int:
        raise LookupError("nobody catches this")

    assert _run_child(kernel, fail) == How(code=1)
    assert "nobody catches this" in capfd.readouterr().err


def test_a_child_has_default_handlers_and_ignores_terminal_signals(kernel: LinuxKernel) -> None:
    def look(channel: Channel) -> int:
        for name in ("SIGINT", "SIGQUIT", "SIGHUP", "SIGTTIN", "SIGTTOU", "SIGUSR1", "SIGUSR2"):
            os.kill(os.getpid(), signal.Signals[name])
        defaults = all(signal.getsignal(s) is signal.SIG_DFL for s in (signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM))
        unblocked = not signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return 0 if defaults and unblocked and signal.set_wakeup_fd(-1) == -1 else 1

    assert _run_child(kernel, look) == How(code=0)


def test_a_signal_for_a_new_child_is_not_taken_for_ours(kernel: LinuxKernel) -> None:
    """The child shares the wake-up pipe until it has let go of it."""
    for _ in range(20):
        pid, channel = kernel.fork(_obey)
        kernel.terminate(pid)
        _wait_dead(pid)
        channel.close()
        assert kernel.reap([pid]) == [(pid, How(signal="SIGTERM"))]
    kernel.wait(0)
    assert kernel.take_signals() == []


def test_a_real_time_signal_without_a_name_is_reported_by_number(kernel: LinuxKernel) -> None:
    def end(channel: Channel) -> int:
        os.kill(os.getpid(), 40)
        return 0

    assert _run_child(kernel, end) == How(signal="signal 40")


def test_2_no_process_left_is_an_error_of_its_own(kernel: LinuxKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """EAGAIN cannot be provoked as root: RLIMIT_NPROC does not apply."""

    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(CannotFork, match="Resource temporarily unavailable"):
        kernel.fork(_obey)


_AS_PID_ONE = """
import os
from hybrid.supervisor.core.events import How
from hybrid.supervisor.children.kernel import LinuxKernel

assert os.getpid() == 1
kernel = LinuxKernel()

def leave_an_orphan(channel):
    orphan = os.fork()
    if orphan == 0:
        os.setsid()
        os._exit(5)
    print(orphan, flush=True)
    return 7

pid, channel = kernel.fork(leave_an_orphan)
seen = []
while True:
    seen += kernel.reap([] if seen else [pid])
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        break  # no process is left, neither alive nor dead
    kernel.wait(0.05)
assert seen == [(pid, How(code=7))], seen
kernel.close()
"""


def test_4_as_pid_one_it_reaps_orphans_and_never_takes_one_for_a_worker() -> None:
    command = ["unshare", "--pid", "--fork", "--user", "--map-root-user"]
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no PID namespaces here")
    subprocess.run([*command, sys.executable, "-P", "-c", _AS_PID_ONE], check=True, timeout=60)
