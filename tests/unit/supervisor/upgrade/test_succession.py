"""The two ends of an upgrade as the shell sees them, over real lines and with a real program."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import heir
from support.fake_kernel import FakeKernel
from support.process import DEADLINE
from support.shell import Log, deployment, settings

from hybrid.supervisor import start
from hybrid.supervisor.contact.notify_socket import NotifySocket
from hybrid.supervisor.contact.pidfile import Pidfile
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.events import How
from hybrid.supervisor.listeners.sockets import Listeners
from hybrid.supervisor.upgrade.inheritance import Inheritance
from hybrid.supervisor.upgrade.invocation import Invocation
from hybrid.supervisor.upgrade.succession import Origin, Succession
from hybrid.supervisor.upgrade.wire import PeerLink, PeerMessage, Serving, Taken, Yours
from hybrid.workers.contract.exits import Exit

# CPython 3.12 warns of a fork beside threads, which test runners have
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

PREDECESSOR = 2**22 + 5
"""A pid that no process has (proc(5): pid_max)."""


class NotingListeners(Listeners):
    """Listeners that record the calls of an upgrade."""

    deeds: list[str]

    def steer(self, slots: tuple[int, ...], datagrams: tuple[int, ...] | None = None) -> None:
        self._note(f"steer {slots}")
        super().steer(slots, datagrams)

    def take_over(self) -> tuple[str, ...]:
        self._note("take over")
        return (*super().take_over(), "one address is as it was")

    def leave(self) -> None:
        self._note("leave")
        super().leave()

    def _note(self, deed: str) -> None:
        self.__dict__.setdefault("deeds", []).append(deed)


@pytest.fixture
def listeners() -> Iterator[NotingListeners]:
    with NotingListeners(settings()) as made:
        made.deeds = []
        yield made


# --- as successor


class Predecessor:
    """The other end of the link, and the inheritance at this one, which has no sockets in it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link = PeerLink(theirs)
        self.inheritance = Inheritance(PREDECESSOR, PeerLink(ours), [])
        self.heard: list[PeerMessage] = []

    def hears(self) -> list[PeerMessage]:
        """Everything that was said so far."""
        while self.link.fileno() != -1 and (heard := self.link.receive_nowait()) is not None:
            self.heard.append(heard[0])
        return self.heard

    def answers(self) -> None:
        """Act as a predecessor: give the sockets, and leave when they were taken."""
        before = len(self.heard)
        for word in self.hears()[before:]:
            if isinstance(word, Serving):
                self.link.send(Yours())
            if isinstance(word, Taken):
                self.link.shut_down()

    def close(self) -> None:
        self.link.close()
        self.inheritance.close()


@pytest.fixture
def predecessor() -> Iterator[Predecessor]:
    made = Predecessor()
    yield made
    made.close()


@pytest.fixture
def successor(predecessor: Predecessor, listeners: NotingListeners) -> Iterator[Succession]:
    """What replaces a predecessor: this process."""
    made = Succession(Origin(None, predecessor.inheritance), listeners, None)
    yield made
    made.close()


def test_without_a_predecessor_nothing_is_awaited(listeners: NotingListeners) -> None:
    succession = Succession(Origin(), listeners, None)
    succession.claim()
    assert (succession.is_waiting, succession.descriptors, succession.receive(7)) == (False, (), None)
    succession.close()


def test_the_claim_is_made_once(predecessor: Predecessor, successor: Succession) -> None:
    assert successor.is_waiting
    assert successor.descriptors == (predecessor.inheritance.fileno(),)
    successor.claim()
    successor.claim()
    assert predecessor.hears() == [Serving(())]


def test_nothing_is_taken_before_it_is_given(
    predecessor: Predecessor, successor: Succession, listeners: NotingListeners
) -> None:
    (fd,) = successor.descriptors
    assert successor.receive(fd) is None
    assert (successor.is_waiting, listeners.deeds, predecessor.hears()) == (True, [], [])


def test_given_sockets_are_taken_and_confirmed(
    predecessor: Predecessor, successor: Succession, listeners: NotingListeners, log: Log
) -> None:
    (fd,) = successor.descriptors
    predecessor.link.send(Yours())
    assert successor.receive(fd) is None
    assert (successor.is_waiting, listeners.deeds) == (False, ["take over"])
    assert predecessor.hears() == [Taken()]
    assert log() == ["one address is as it was", f"upgraded: this supervisor has replaced {PREDECESSOR}"]


def test_the_line_ends_with_the_predecessor(predecessor: Predecessor, successor: Succession) -> None:
    (fd,) = successor.descriptors
    predecessor.link.send(Yours())
    successor.receive(fd)
    predecessor.link.shut_down()
    assert successor.receive(fd) is None
    assert (successor.descriptors, successor.receive(fd)) == ((), None)


def test_a_withdrawn_offer_stops_the_successor(
    predecessor: Predecessor, successor: Succession, listeners: NotingListeners, log: Log
) -> None:
    (fd,) = successor.descriptors
    successor.claim()
    predecessor.link.shut_down()
    assert successor.receive(fd) == ev.StopAsked(graceful=True)
    assert (successor.descriptors, successor.is_waiting, listeners.deeds) == ((), True, [])
    assert log() == ["the supervisor to be replaced is gone, or has withdrawn its offer"]
    successor.claim()


def test_the_pidfile_changes_hands_with_the_sockets(
    predecessor: Predecessor, listeners: NotingListeners, tmp_path: Path, log: Log
) -> None:
    path = tmp_path / "pid"
    path.write_text(f"{PREDECESSOR}\n")
    pidfile = Pidfile(path, PREDECESSOR)
    succession = Succession(Origin(None, predecessor.inheritance), listeners, pidfile)
    assert path.read_text() == f"{PREDECESSOR}\n"
    predecessor.link.send(Yours())
    succession.receive(*succession.descriptors)
    assert path.read_text() == f"{os.getpid()}\n"
    succession.close()


def test_a_pidfile_that_cannot_be_written_does_not_prevent_serving(
    predecessor: Predecessor, listeners: NotingListeners, tmp_path: Path, log: Log
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    pidfile = Pidfile(folder / "pid", PREDECESSOR)
    folder.rmdir()
    succession = Succession(Origin(None, predecessor.inheritance), listeners, pidfile)
    predecessor.link.send(Yours())
    succession.receive(*succession.descriptors)
    assert not succession.is_waiting
    assert predecessor.hears() == [Taken()]
    assert any("cannot write the pidfile" in line for line in log())
    succession.close()


def test_the_service_manager_is_notified_when_the_predecessor_has_left(
    predecessor: Predecessor, listeners: NotingListeners, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        notify_socket = NotifySocket(os.fsencode(tmp_path / "notify"), os.getpid(), is_held=True)
        succession = Succession(Origin(None, predecessor.inheritance, notify_socket), listeners, None)
        notify_socket.ready()
        predecessor.link.send(Yours())
        (fd,) = succession.descriptors
        succession.receive(fd)
        with pytest.raises(BlockingIOError):
            manager.recv(100)
        predecessor.link.shut_down()
        succession.receive(fd)
        assert manager.recv(100) == b"READY=1"
        succession.close()


def test_a_successor_that_does_not_own_the_sockets_cannot_upgrade(
    predecessor: Predecessor, listeners: NotingListeners
) -> None:
    succession = Succession(Origin(Invocation.current(), predecessor.inheritance), listeners, None)
    event = succession.start()
    assert isinstance(event, ev.SuccessorFailed)
    assert "about to replace another one" in event.reason
    succession.close()


# --- as predecessor


@pytest.fixture
def _successors_are_children() -> Iterator[None]:
    """Be the parent of successors, which are orphans, so that the test can wait for them."""
    libc = ctypes.CDLL(None)
    libc.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER, linux/prctl.h
    yield
    libc.prctl(36, 0, 0, 0, 0)


class Upgrade:
    """The predecessor, in this process, that `support.heir` replaces."""

    def __init__(self, way: str, listeners: NotingListeners, executable: str = sys.executable) -> None:
        arguments = ("-P", str(Path(heir.__file__)), way)
        invocation = Invocation(executable, arguments, "/", dict(os.environ))
        self.notify_socket = NotifySocket(None, os.getpid())
        self.succession = Succession(Origin(invocation, None, self.notify_socket), listeners, None)
        self.terminated: list[int] = []
        self.pid = 0

    def starts(self) -> ev.Event:
        event = self.succession.start()
        if isinstance(event, ev.SuccessorStarted):
            self.pid = event.pid
        return event

    def hears(self) -> ev.Event:
        """Wait for the next thing that matters."""
        while True:
            (fd,) = self.succession.descriptors
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            assert poll.poll(DEADLINE * 1000), "nothing was said"
            event = self.succession.receive(fd)
            if event is not None:
                return event

    def withdraws(self) -> None:
        self.succession.withdraw(self._terminate)

    def _terminate(self, pid: int) -> None:
        self.terminated.append(pid)
        os.kill(pid, signal.SIGTERM)

    def ends(self) -> int:
        """Wait for the program's end; return its exit code."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.usefixtures("_successors_are_children")
def test_when_the_successor_has_taken_the_sockets_they_are_left(listeners: NotingListeners) -> None:
    upgrade = Upgrade("serves", listeners)
    assert upgrade.starts() == ev.SuccessorStarted(upgrade.pid)
    assert listeners.deeds == []
    assert upgrade.hears() == ev.SuccessorServes()
    assert (listeners.deeds, upgrade.succession.descriptors) == (["leave"], ())
    upgrade.withdraws()
    assert upgrade.terminated == []
    assert upgrade.ends() == 0
    upgrade.succession.close()


@pytest.mark.usefixtures("_successors_are_children")
def test_a_successor_that_fails_leaves_all_as_it_was_and_another_may_try(listeners: NotingListeners) -> None:
    upgrade = Upgrade("fails", listeners)
    for _ in range(2):
        upgrade.starts()
        assert isinstance(upgrade.hears(), ev.SuccessorFailed)
        assert (listeners.deeds, upgrade.succession.descriptors) == ([], ())
        assert upgrade.ends() == 3
    upgrade.withdraws()
    assert upgrade.terminated == []
    upgrade.succession.close()


@pytest.mark.usefixtures("_successors_are_children")
@pytest.mark.parametrize("way", ["hangs", "deaf"])
def test_a_successor_that_is_given_up_ends_also_if_it_hears_nothing(listeners: NotingListeners, way: str) -> None:
    upgrade = Upgrade(way, listeners)
    upgrade.starts()
    upgrade.withdraws()
    upgrade.withdraws()
    assert upgrade.terminated == [upgrade.pid]
    assert (listeners.deeds, upgrade.succession.descriptors) == ([], ())
    upgrade.ends()
    upgrade.succession.close()


@pytest.mark.usefixtures("_successors_are_children")
def test_a_successor_ends_with_the_supervisor_that_it_does_not_replace_yet(listeners: NotingListeners) -> None:
    upgrade = Upgrade("hangs", listeners)
    upgrade.starts()
    upgrade.succession.close()
    assert upgrade.ends() == 0


def test_a_program_that_is_not_there_is_a_failure(listeners: NotingListeners) -> None:
    upgrade = Upgrade("serves", listeners, executable="/nowhere/python")
    event = upgrade.starts()
    assert isinstance(event, ev.SuccessorFailed)
    assert "cannot execute /nowhere/python" in event.reason
    assert upgrade.succession.descriptors == ()
    upgrade.succession.close()


def test_without_a_command_no_upgrade_is_possible(listeners: NotingListeners) -> None:
    event = Succession(Origin(), listeners, None).start()
    assert isinstance(event, ev.SuccessorFailed)
    assert "not started by a command" in event.reason


# --- in the shell


def run(kernel: FakeKernel, origin: Origin, **fields: object) -> Exit:
    return start.run(deployment(**fields), kernel, None, origin)


def test_a_successor_takes_over_once_all_its_workers_serve(
    kernel: FakeKernel, predecessor: Predecessor, log: Log
) -> None:
    kernel.on_fork(lambda pid: kernel.at(2, lambda: kernel.says_ready(pid)))
    early: list[list[PeerMessage]] = []
    kernel.at(1, lambda: early.append(list(predecessor.hears())))
    kernel.always(predecessor.answers)
    kernel.at(20, lambda: kernel.receives("SIGTERM"))
    assert run(kernel, Origin(None, predecessor.inheritance)) is Exit.OK
    assert early == [[]]
    assert predecessor.heard == [Serving(()), Taken()]
    assert log()[1:3] == ["serving with 2 workers", f"upgraded: this supervisor has replaced {PREDECESSOR}"]


def test_sockets_are_steered_only_once_they_are_ours(
    kernel: FakeKernel, predecessor: Predecessor, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    steered: list[tuple[float, tuple[int, ...]]] = []

    def note(self: Listeners, slots: tuple[int, ...], datagrams: tuple[int, ...] | None = None) -> None:
        steered.append((kernel.now() - 1000.0, slots))

    monkeypatch.setattr(Listeners, "steer", note)
    kernel.at(5, lambda: kernel.dies(4711, How(signal="SIGKILL")))
    kernel.at(8, lambda: kernel.always(predecessor.answers))
    kernel.at(20, lambda: kernel.receives("SIGTERM"))
    run(kernel, Origin(None, predecessor.inheritance))
    assert steered[0][0] >= 8
    assert steered[0][1] == (0, 1)


def test_a_successor_stops_if_its_predecessor_ends_too_early(
    kernel: FakeKernel, predecessor: Predecessor, log: Log
) -> None:
    kernel.at(5, predecessor.link.shut_down)
    assert run(kernel, Origin(None, predecessor.inheritance)) is Exit.OK
    assert log()[2] == "the supervisor to be replaced is gone, or has withdrawn its offer"
    assert log()[-1] == "stopped"


def test_a_supervisor_that_cannot_upgrade_logs_it_and_continues(kernel: FakeKernel, log: Log) -> None:
    kernel.at(1, lambda: kernel.receives("SIGUSR2"))
    kernel.at(9, lambda: kernel.receives("SIGTERM"))
    assert run(kernel, Origin()) is Exit.OK
    assert log()[2:4] == [
        "upgrading: starting another supervisor on the same sockets",
        "upgrade failed, this supervisor goes on: it was not started by a command of its own: "
        "restart the program it runs in",
    ]


def test_the_service_manager_is_notified_of_a_whole_life(kernel: FakeKernel, log: Log, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(DEADLINE)
        heard: list[str] = []

        def listen() -> None:
            while select.select([manager], [], [], 0)[0]:
                heard.append(manager.recv(1000).decode().split("\n")[0])

        kernel.always(listen)
        kernel.at(1, lambda: kernel.receives("SIGHUP"))
        kernel.at(9, lambda: kernel.receives("SIGTERM"))
        run(kernel, Origin(notify_socket=NotifySocket(os.fsencode(tmp_path / "notify"), os.getpid())))
        listen()
    words = [word for word in heard if not word.startswith("STATUS=")]
    assert words == ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]
    assert "STATUS=2 of 2 workers ready, generation 1" in heard
