"""The contract of the pollers, clause by clause, over select, poll and epoll and over the fake."""

from __future__ import annotations

import errno
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Protocol

import pytest
from support.fake_poller import FakePoller

from hybrid.workers import pollers
from hybrid.workers.pollers.contract import ERROR, HANGUP, READ, WRITE, Poller
from hybrid.workers.pollers.epoll import Poller as EpollPoller
from hybrid.workers.pollers.poll import Poller as PollPoller
from hybrid.workers.pollers.select import FD_SETSIZE
from hybrid.workers.pollers.select import Poller as SelectPoller


class World(Protocol):
    """Events that the tests cause, in the kernel or in the fake."""

    poller: Poller

    def connection(self) -> int: ...
    def peer_sends(self, fd: int) -> None: ...
    def reads(self, fd: int) -> None: ...
    def peer_hangs_up(self, fd: int) -> None: ...
    def closes(self, fd: int) -> None: ...
    def opens_again(self, fd: int) -> None: ...
    def signal_arrives(self, seconds: float) -> list[str]: ...
    def now(self) -> float: ...
    def close(self) -> None: ...


class RealWorld:
    def __init__(self, name: str) -> None:
        self.poller = pollers.open_poller(name)
        self._pairs: dict[int, tuple[socket.socket, socket.socket]] = {}  # fd -> (its socket, the peer's)
        self._timers: list[threading.Timer] = []
        self._handler = signal.getsignal(signal.SIGUSR1)

    def connection(self) -> int:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._pairs[ours.fileno()] = ours, theirs
        return ours.fileno()

    def peer_sends(self, fd: int) -> None:
        self._pairs[fd][1].send(b"x")

    def reads(self, fd: int) -> None:
        self._pairs[fd][0].recv(100)

    def peer_hangs_up(self, fd: int) -> None:
        self._pairs[fd][1].close()

    def closes(self, fd: int) -> None:
        self._pairs[fd][0].close()

    def opens_again(self, fd: int) -> None:
        former_peer = self._pairs[fd][1]
        other = self.connection()  # the kernel gives the lowest free number, which may be this one
        if other != fd:
            os.dup2(other, fd)
            copied, peer = self._pairs.pop(other)
            copied.close()
            self._pairs[fd] = socket.socket(fileno=fd), peer
        former_peer.close()

    def signal_arrives(self, seconds: float) -> list[str]:
        seen: list[str] = []
        signal.signal(signal.SIGUSR1, lambda *_: seen.append("handled"))
        timer = threading.Timer(seconds, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR1))
        timer.start()
        self._timers.append(timer)
        return seen

    def now(self) -> float:
        return time.monotonic()

    def close(self) -> None:
        for timer in self._timers:
            timer.join()
        signal.signal(signal.SIGUSR1, self._handler)
        self.poller.close()
        for pair in self._pairs.values():
            for sock in pair:
                sock.close()


class FakeWorld:
    def __init__(self) -> None:
        self.poller = FakePoller()

    def connection(self) -> int:
        return self.poller.opens(WRITE)

    def peer_sends(self, fd: int) -> None:
        self.poller.becomes(fd, READ | WRITE)

    def reads(self, fd: int) -> None:
        self.poller.becomes(fd, WRITE)

    def peer_hangs_up(self, fd: int) -> None:
        self.poller.becomes(fd, READ | WRITE | HANGUP)

    def closes(self, fd: int) -> None:
        self.poller.is_closed(fd)

    def opens_again(self, fd: int) -> None:
        self.poller.becomes(fd, WRITE)

    def signal_arrives(self, seconds: float) -> list[str]:
        seen: list[str] = []
        self.poller.at(seconds, lambda: seen.append("handled"))
        return seen

    def now(self) -> float:
        return self.poller.now

    def close(self) -> None:
        self.poller.close()


@pytest.fixture(params=[*pollers.NAMES, "fake"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made: World = FakeWorld() if request.param == "fake" else RealWorld(request.param)
    yield made
    made.close()


def knows_hang_ups(world: World) -> bool:
    return not isinstance(world.poller, SelectPoller)


# --- 1: add


def test_1_add_watches_for_the_bits_of_the_mask(world: World) -> None:
    fd = world.connection()
    world.poller.add(fd, READ)
    assert world.poller.wait(0) == []
    world.peer_sends(fd)
    assert world.poller.wait(0) == [(fd, READ)]


def test_1_add_may_watch_for_both_directions(world: World) -> None:
    fd = world.connection()
    world.poller.add(fd, READ | WRITE)
    assert world.poller.wait(0) == [(fd, WRITE)]
    world.peer_sends(fd)
    assert world.poller.wait(0) == [(fd, READ | WRITE)]


def test_1_add_of_no_bits_reports_no_data(world: World) -> None:
    fd = world.connection()
    world.poller.add(fd, 0)
    world.peer_sends(fd)
    assert world.poller.wait(0) == []


def test_1_second_add_is_refused_and_changes_nothing(world: World) -> None:
    fd = world.connection()
    world.poller.add(fd, READ)
    with pytest.raises(FileExistsError):
        world.poller.add(fd, WRITE)
    assert world.poller.wait(0) == []


def test_1_add_of_a_closed_descriptor_is_refused_and_changes_nothing(world: World) -> None:
    fd = world.connection()
    world.closes(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        world.poller.add(fd, READ)
    world.opens_again(fd)
    assert world.poller.wait(0) == []
    world.poller.add(fd, WRITE)
    assert world.poller.wait(0) == [(fd, WRITE)]


def test_1_select_refuses_a_descriptor_that_does_not_fit_its_set() -> None:
    poller = SelectPoller()
    with pytest.raises(OSError, match="cannot watch descriptor 1024") as raised:
        poller.add(FD_SETSIZE, READ)
    assert raised.value.errno == errno.EMFILE
    assert poller.wait(0) == []
    poller.close()


# --- 2: modify


def test_2_modify_replaces_the_mask(world: World) -> None:
    fd = world.connection()
    world.poller.add(fd, READ)
    world.poller.modify(fd, WRITE)
    world.peer_sends(fd)
    assert world.poller.wait(0) == [(fd, WRITE)]
    world.poller.modify(fd, READ)
    assert world.poller.wait(0) == [(fd, READ)]
    world.poller.modify(fd, 0)
    assert world.poller.wait(0) == []


def test_2_modify_of_an_unwatched_descriptor_is_refused(world: World) -> None:
    fd = world.connection()
    with pytest.raises(FileNotFoundError):
        world.poller.modify(fd, READ)


# --- 3: remove


def test_3_remove_stops_watching(world: World) -> None:
    fd = world.connection()
    world.poller.add(fd, READ | WRITE)
    world.poller.remove(fd)
    world.peer_sends(fd)
    assert world.poller.wait(0) == []


def test_3_a_removed_descriptor_may_be_added_again(world: World) -> None:
    fd = world.connection()
    world.poller.add(fd, READ)
    world.poller.remove(fd)
    world.poller.add(fd, WRITE)
    assert world.poller.wait(0) == [(fd, WRITE)]


def test_3_remove_never_raises(world: World) -> None:
    fd = world.connection()
    world.poller.remove(fd)
    world.poller.remove(-1)
    world.poller.add(fd, READ)
    world.closes(fd)
    world.poller.remove(fd)
    world.poller.remove(fd)
    assert world.poller.wait(0) == []


# --- 4: wait


def test_4_each_descriptor_is_reported_once(world: World) -> None:
    fds = {world.connection() for _ in range(5)}
    for fd in fds:
        world.poller.add(fd, READ | WRITE)
        world.peer_sends(fd)
    assert sorted(world.poller.wait(None)) == [(fd, READ | WRITE) for fd in sorted(fds)]


def test_4_a_timeout_of_zero_does_not_block(world: World) -> None:
    fd = world.connection()
    world.poller.add(fd, READ)
    assert world.poller.wait(0) == []


def test_4_a_timeout_is_rounded_up(world: World) -> None:
    fd = world.connection()
    world.poller.add(fd, READ)
    began = world.now()
    assert world.poller.wait(0.0104) == []
    assert world.now() - began >= 0.0104 - 1e-6


def test_4_a_signal_does_not_cut_the_wait_short(world: World) -> None:
    fd = world.connection()
    world.poller.add(fd, READ)
    began = world.now()
    seen = world.signal_arrives(0.02)
    assert world.poller.wait(0.1) == []
    assert world.now() - began >= 0.1 - 1e-6
    assert seen == ["handled"]


def test_4_an_empty_poller_waits_for_the_timeout(world: World) -> None:
    began = world.now()
    assert world.poller.wait(0.01) == []
    assert world.now() - began >= 0.01 - 1e-6


# --- 5: level-triggered


def test_5_a_ready_descriptor_is_reported_again(world: World) -> None:
    fd = world.connection()
    world.poller.add(fd, READ)
    world.peer_sends(fd)
    assert [world.poller.wait(0) for _ in range(3)] == [[(fd, READ)]] * 3
    world.reads(fd)
    assert world.poller.wait(0) == []


# --- 6: ERROR and HANGUP


def test_6_a_hang_up_wakes_a_reader(world: World) -> None:
    fd = world.connection()
    world.poller.add(fd, READ)
    world.peer_hangs_up(fd)
    [(found, mask)] = world.poller.wait(0)
    assert found == fd
    assert mask & READ
    assert bool(mask & HANGUP) is knows_hang_ups(world)


def test_6_a_hang_up_is_reported_unasked_where_the_call_does(world: World) -> None:
    fd = world.connection()
    world.poller.add(fd, 0)
    world.peer_hangs_up(fd)
    assert world.poller.wait(0) == ([(fd, HANGUP)] if knows_hang_ups(world) else [])


# --- 7: closed descriptors, closed pollers


def test_7_a_watched_descriptor_that_was_closed_is_reported_at_most_once(world: World) -> None:
    fd, other = world.connection(), world.connection()
    world.poller.add(fd, READ)
    world.poller.add(other, WRITE)
    world.closes(fd)
    reported = [item for _ in range(3) for item in world.poller.wait(0) if item[0] == fd]
    assert reported in ([], [(fd, ERROR)])
    assert world.poller.wait(0) == [(other, WRITE)]


def test_7_the_number_of_a_closed_descriptor_may_be_added_anew(world: World) -> None:
    fd = world.connection()
    world.poller.add(fd, READ)
    world.closes(fd)
    world.poller.wait(0)
    world.opens_again(fd)
    world.poller.add(fd, WRITE)
    assert world.poller.wait(0) == [(fd, WRITE)]


def test_7_select_names_a_closed_descriptor_that_it_watches_for_nothing() -> None:
    poller = SelectPoller()
    ours, theirs = socket.socketpair()
    fd = ours.fileno()
    poller.add(fd, READ)
    poller.add(theirs.fileno(), 0)
    ours.close()
    assert poller.wait(0) == [(fd, ERROR)]
    theirs.close()
    poller.close()


def test_7_a_closed_poller_refuses_everything_but_close_and_remove(world: World) -> None:
    fd = world.connection()
    world.poller.add(fd, READ)
    world.poller.close()
    world.poller.close()
    world.poller.remove(fd)
    for refused in (
        lambda: world.poller.add(fd, READ),
        lambda: world.poller.modify(fd, READ),
        lambda: world.poller.wait(0),
    ):
        with pytest.raises(ValueError, match="closed"):
            refused()


# --- opening one by name


@pytest.mark.parametrize(("name", "kind"), [("select", SelectPoller), ("poll", PollPoller), ("epoll", EpollPoller)])
def test_a_poller_is_opened_by_name(name: str, kind: type) -> None:
    poller = pollers.open_poller(name)
    assert isinstance(poller, kind)
    poller.close()


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown poller 'kqueue': use one of select, poll, epoll"):
        pollers.open_poller("kqueue")
