"""A kernel without processes: children are numbers, time passes only in `wait`, verbs make things happen.

It keeps the contract of `hybrid.supervisor.children.kernel`; the same suite runs over it and over the real one.
Channels are real socket pairs within this process. Zygotes are played by `support.fake_zygote`.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import os
import select
import signal
from collections.abc import Callable, Collection

from hybrid.supervisor.children.kernel import CannotFork, ChildMain
from hybrid.supervisor.core.events import How
from hybrid.workers.contract.channel import Channel, ChannelClosed
from hybrid.workers.contract.messages import BootFailed, Message, Ready

_FIRST_PID = 4711
_MOST_WAITS = 200_000  # between two events of the agenda; a test of the longest agenda has some thousand


class FakeKernel:
    """See above. A child exits with code 0 when it is terminated, unless it was told to ignore that."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, str]] = []  # (pid, signal name) in order
        self.alive: dict[int, Channel] = {}  # pid -> the child's end of its channel
        self.is_open = True
        self.adopts_orphans = False
        self.scheme = ""  # what workers say that addresses begin with
        self._now = 1000.0
        self._pids = itertools.count(_FIRST_PID)
        self._dead: dict[int, How] = {}  # pid -> how; not reaped yet
        self._deaf: set[int] = set()  # pids that ignore SIGTERM
        self._immortal: set[int] = set()  # pids that survive SIGKILL
        self._fork_failures: list[int] = []  # errno of the next forks
        self._on_fork: Callable[[int], object] = lambda pid: None
        self._signals: list[str] = []
        self._woken = False  # a death has happened since the last wait
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []  # (when, order, what): what others will do
        self._order = itertools.count()
        self._waits = 0  # since the last event of the agenda
        self._habits: list[Callable[[], object]] = []  # called at each wait
        self._is_pid_one = False
        self._adopted: set[int] = set()  # pids of children that we have not forked
        self._foreign: set[int] = set()  # pids of processes that are no children of ours
        self._poll = select.poll()

    # --- verbs

    def at(self, seconds: float, what: Callable[[], object]) -> None:
        """Call a function `seconds` from now, during a wait."""
        heapq.heappush(self._agenda, (self._now + seconds, next(self._order), what))

    def always(self, what: Callable[[], object]) -> None:
        """Call a function at the start of each wait."""
        self._habits.append(what)

    def on_fork(self, what: Callable[[int], object]) -> None:
        """Let something happen to each new child."""
        self._on_fork = what

    def says(self, pid: int, message: Message) -> None:
        """Let a child send a message."""
        self.alive[pid].send_nowait(message)

    def says_ready(self, pid: int) -> None:
        """Let a child say that it serves."""
        self.says(pid, Ready("epoll", "async stream", self.scheme))

    def says_failed(self, pid: int, code: int, reason: str) -> None:
        """Let a child say that it cannot start, and exit."""
        self.says(pid, BootFailed(code, reason))
        self.dies(pid, How(code=code))

    def told(self, pid: int) -> list[Message]:
        """Return the messages that a child has been sent since the last time."""
        return list(iter(self.alive[pid].receive_nowait, None))

    def sends_bad_messages(self, pid: int, times: int = 1) -> None:
        """Let a child send a bad message."""
        for _ in range(times):
            os.write(self.alive[pid].fileno(), b"lorem ipsum")

    def hangs_up(self, pid: int) -> None:
        """Let a child close its channel and live on."""
        self.alive[pid].close()

    def ignores_terminate(self, pid: int) -> None:
        """Let a child go on when it gets SIGTERM."""
        self._deaf.add(pid)

    def survives_kill(self, pid: int) -> None:
        """Let a child be held by the kernel, so that not even SIGKILL ends it."""
        self._deaf.add(pid)
        self._immortal.add(pid)

    def dies(self, pid: int, how: How) -> None:
        """Let a child die."""
        self.alive.pop(pid).close()
        if pid not in self._foreign:
            self._dead[pid] = how
            self._woken = True

    def is_stolen(self, pid: int, how: How) -> None:
        """Let a child die and be reaped by other code."""
        self.dies(pid, how)
        self._dead[pid] = How()

    def receives(self, name: str) -> None:
        """Let this process get a signal."""
        self._signals.append(name)

    def bears(self, channel: Channel, *, is_ours: bool = True) -> int:
        """Let a process appear that we have not forked, with this end of a channel; return its pid.

        It is a child of ours only if we adopt orphans.
        """
        pid = next(self._pids)
        self.alive[pid] = channel
        (self._adopted if is_ours and self.adopts_orphans else self._foreign).add(pid)
        return pid

    def fail_next_fork(self, number: int) -> None:
        """Let the next fork fail with this errno."""
        self._fork_failures.append(number)

    def becomes_pid_one(self) -> None:
        """Let this process be the parent of all orphans."""
        self._is_pid_one = True

    def adopts(self) -> int:
        """Let a strange child appear that is dead already; return its pid."""
        pid = next(self._pids)
        self._dead[pid] = How(code=0)
        self._woken = True
        return pid

    def is_zombie(self, pid: int) -> bool:
        """Return True if a dead child has not been reaped."""
        return pid in self._dead

    # --- the kernel

    def now(self) -> float:
        return self._now

    def fork(self, main: ChildMain) -> tuple[int, Channel]:
        if self._fork_failures:
            raise CannotFork(os.strerror(self._fork_failures.pop(0)))
        ours, theirs = Channel.pair()
        pid = next(self._pids)
        self.alive[pid] = theirs
        self._on_fork(pid)
        return pid, ours

    def reap(self, pids: Collection[int]) -> list[tuple[int, How]]:
        mine = [pid for pid in pids if pid in self._dead]
        found = [(pid, self._dead.pop(pid)) for pid in mine]
        for pid in [pid for pid in self._dead if pid in self._adopted or self._is_pid_one]:
            del self._dead[pid]
        return found

    def terminate(self, pid: int) -> None:
        self.sent.append((pid, "SIGTERM"))
        if pid in self.alive and pid not in self._deaf:
            self.dies(pid, How(code=0))

    def kill(self, pid: int) -> None:
        self.sent.append((pid, "SIGKILL"))
        if pid in self.alive and pid not in self._immortal:
            self.dies(pid, How(signal="SIGKILL"))

    def abort(self, pid: int) -> None:
        self.sent.append((pid, "SIGABRT"))
        if pid in self.alive and pid not in self._immortal:
            self.dies(pid, How(signal="SIGABRT"))

    def send(self, pid: int, number: int) -> None:
        match number:
            case signal.SIGTERM:
                self.terminate(pid)
            case signal.SIGABRT:
                self.abort(pid)
            case signal.SIGKILL:
                self.kill(pid)
            case _:  # workers ignore those that mean something to a supervisor
                self.sent.append((pid, f"signal {number}"))

    def adopt_orphans(self, wanted: bool) -> None:
        self.adopts_orphans = wanted

    def end_orphans(self, pids: Collection[int], *, is_bereaved: bool, heirs: Collection[int] = ()) -> float | None:
        return None

    def is_child(self, pid: int) -> bool:
        return pid not in self._foreign and (pid in self.alive or pid in self._dead)

    def watch(self, fd: int, *, reads: bool = True, writes: bool = False) -> None:
        self._poll.register(fd, (select.POLLIN if reads else 0) | (select.POLLOUT if writes else 0))

    def unwatch(self, fd: int) -> None:
        with contextlib.suppress(KeyError):
            self._poll.unregister(fd)

    def wait(self, timeout: float | None) -> list[int] | None:
        end = None if timeout is None else self._now + min(max(0.0, timeout), 1e6)
        self._waits += 1
        assert self._waits < _MOST_WAITS, f"nothing ends this: {self._state()}"
        for what in self._habits:
            what()
        while True:
            ready = self._ready()
            if ready or self._signals or self._woken:
                self._woken = False
                return ready
            if self._agenda and (end is None or self._agenda[0][0] <= end):
                self._now, _, what = heapq.heappop(self._agenda)
                self._waits = 0
                what()
            elif end is None:
                raise AssertionError("waits forever, and nothing is on the agenda")
            else:
                # at least a bit later: `now + (due - now)` may be less than `due`
                self._now = end if end > self._now or not timeout else math.nextafter(self._now, math.inf)
                return None

    def _state(self) -> str:
        """Describe what there is, for a test that would go on forever."""
        ready = [(fd, os.readlink(f"/proc/self/fd/{fd}")) for fd in self._ready()]  # noqa: PTH115
        return f"it is {self._now}; ready: {ready}; alive: {[*self.alive]}; dead: {self._dead}; later: {self._agenda}"

    def _ready(self) -> list[int]:
        """Return the readable descriptors; those that were closed are forgotten, as epoll(7) does."""
        found = self._poll.poll(0)
        for fd, events in found:
            if events & select.POLLNVAL:
                self._poll.unregister(fd)
        return [fd for fd, events in found if not events & select.POLLNVAL]

    def take_signals(self) -> list[str]:
        taken, self._signals = self._signals, []
        assert all(name in signal.Signals.__members__ for name in taken)
        return taken

    def close(self) -> None:
        self.is_open = False
        for channel in self.alive.values():
            with contextlib.suppress(ChannelClosed):
                channel.close()
        self.alive.clear()
