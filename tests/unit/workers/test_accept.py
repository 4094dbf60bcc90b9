"""Accepting: one at a time, within the capacity, without spinning; queued connections are served at a stop."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from hybrid.workers.accepting.acceptor import RETRY, Acceptor
from hybrid.workers.common.connections import Connection, Connections
from hybrid.workers.common.heartbeat import Heartbeat
from hybrid.workers.contract.scoreboard import Scoreboard
from hybrid.workers.runtime import Accepted, polled_by


class FakeLoop:
    """Records readers and timers; the test runs them."""

    def __init__(self) -> None:
        self.readers: dict[int, Callable[[], object]] = {}
        self.timers: list[tuple[float, Callable[[], object]]] = []
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def add_reader(self, fd: int, callback: Callable[[], object]) -> None:
        self.readers[fd] = callback

    def remove_reader(self, fd: int) -> None:
        del self.readers[fd]

    def call_later(self, seconds: float, callback: Callable[[], object]) -> FakeLoop:
        self.timers.append((seconds, callback))
        return self

    def cancel(self) -> None:
        self.timers.clear()

    def rings(self) -> None:
        """Run the timers."""
        timers, self.timers = self.timers, []
        for _, callback in timers:
            callback()


class FakeListener:
    """A listener whose queue is a list of errors and connections (None)."""

    family = socket.AF_UNIX

    def __init__(self, *queue: int | None) -> None:
        self.queue = list(queue)
        self.opened: list[int] = []

    def fileno(self) -> int:
        return 77

    def _accept(self) -> tuple[int, str]:
        if not self.queue:
            raise BlockingIOError
        item = self.queue.pop(0)
        if item is not None:
            raise OSError(item, os.strerror(item))
        self.opened.append(1000 + len(self.opened))
        return self.opened[-1], "peer"


class Served:
    """An acceptor over fakes, and its accepted connections."""

    def __init__(self, *queue: int | None, capacity: int = 0) -> None:
        self.loop = FakeLoop()
        self.listener = FakeListener(*queue)
        self.connections = Connections()
        self.accepted: list[Accepted] = []
        self.entries: list[Connection] = []
        self.acceptor = self.another(self.listener, capacity)

    def another(self, listener: Any, capacity: int) -> Acceptor:
        loop: Any = self.loop
        return Acceptor(loop, listener, self._connected, self.connections, capacity)

    def _connected(self, accepted: Accepted) -> None:
        self.accepted.append(accepted)
        self.entries.append(self.connections.add(accepted.address))

    def turn(self, count: int = 1) -> None:
        """Report the listener as readable."""
        for _ in range(count):
            for callback in list(self.loop.readers.values()):
                callback()

    @property
    def polls(self) -> bool:
        return bool(self.loop.readers)


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level("DEBUG", "hybrid")
    return caplog


def test_each_turn_accepts_one_connection() -> None:
    served = Served(None, None, None)
    assert not served.polls
    served.acceptor.start()
    for count in (1, 2, 3, 3):
        served.turn()
        assert len(served.accepted) == count
    assert served.accepted[0] == (1000, "peer", served.listener)


def test_polling_stops_at_capacity_and_resumes_with_room() -> None:
    served = Served(None, None, None, capacity=2)
    served.acceptor.start()
    served.turn(5)
    assert (len(served.accepted), served.polls) == (2, False)
    served.entries[0].closed()
    assert served.polls
    served.turn(5)
    assert (len(served.accepted), served.polls) == (3, False)


def test_several_listeners_share_the_capacity() -> None:
    served = Served(None, None, capacity=1)
    other = FakeListener(None)
    other.fileno = lambda: 78  # type: ignore[method-assign]
    second = served.another(other, 1)
    served.acceptor.start()
    second.start()
    served.turn(3)
    assert (len(served.accepted), served.polls) == (1, False)
    served.entries[0].closed()
    served.turn()
    assert len(served.accepted) == 2


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_running_out_of_descriptors_is_logged_once_and_stops_polling_for_a_while(
    number: int, log: pytest.LogCaptureFixture
) -> None:
    served = Served(None, number, number, None, None)
    served.acceptor.start()
    served.turn(2)
    assert not served.polls
    assert [seconds for seconds, _ in served.loop.timers] == [RETRY]
    served.entries[0].closed()  # room, but the system may still be out of descriptors: wait for the timer
    assert not served.polls
    served.loop.rings()
    served.turn()
    assert not served.polls
    served.loop.rings()
    served.turn(2)
    assert len(served.accepted) == 3
    shown = [record.message for record in log.records if record.levelno >= logging.WARNING]
    assert shown == [
        f"cannot accept: {os.strerror(number)}; 1 connections are open, "
        "the next ones wait in the backlog (see `ulimit -n`)",
        "accepting connections again",
    ]


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.EHOSTUNREACH])
def test_after_a_connections_error_the_next_one_is_accepted(number: int) -> None:
    served = Served(number, None)
    served.acceptor.start()
    served.turn(2)
    assert len(served.accepted) == 1
    assert served.polls


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF, errno.ENOTSOCK])
def test_a_broken_listener_is_reported_once_and_not_polled(number: int, log: pytest.LogCaptureFixture) -> None:
    served = Served(*[number] * 10)
    served.acceptor.start()
    served.turn(5)
    assert not served.polls
    assert len([record for record in log.records if record.levelno >= logging.ERROR]) == 1
    served.connections.add("x").closed()
    assert not served.polls


def test_stopping_accepts_exactly_the_queued_connections() -> None:
    served = Served(None, errno.ECONNABORTED, None)
    served.acceptor.start()
    served.acceptor.stop()
    assert (len(served.accepted), served.polls) == (2, False)
    served.listener.queue.append(None)
    served.entries[0].closed()
    served.turn()
    assert len(served.accepted) == 2


def test_stopping_accepts_queued_connections_beyond_the_capacity() -> None:
    served = Served(None, None, None, capacity=1)
    served.acceptor.start()
    served.turn()
    served.acceptor.stop()
    assert len(served.accepted) == 3


def test_stopping_without_free_descriptors_ends_the_retries() -> None:
    served = Served(errno.EMFILE, errno.EMFILE)
    served.acceptor.start()
    served.turn()
    served.acceptor.stop()
    assert (served.loop.timers, served.polls) == ([], False)


def test_small_responses_are_sent_at_once_on_tcp() -> None:
    connections = Connections()
    seen: list[int] = []

    def connected(accepted: Accepted) -> None:
        with accepted.socket() as sock:
            seen.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            acceptor = Acceptor(asyncio.get_running_loop(), listener, connected, connections)
            acceptor.start()
            with socket.create_connection(listener.getsockname()):
                while not seen:
                    await asyncio.sleep(0)
            acceptor.stop()

    asyncio.run(main())
    assert seen == [1]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_real_limit_of_descriptors_is_survived(log: pytest.LogCaptureFixture) -> None:
    import resource

    async def main() -> list[int]:
        connections, served = Connections(), []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            clients = [socket.create_connection(listener.getsockname()) for _ in range(4)]
            acceptor = Acceptor(asyncio.get_running_loop(), listener, served.append, connections)
            free = [os.dup(0), os.dup(0)]  # the lowest; there may be others in use between them
            for fd in free:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free[1] + 1, 4096))
            acceptor.start()
            while not log.records:
                await asyncio.sleep(0)
            found = [len(served)]
            for client in clients[2:]:
                client.close()
            while len(served) < 4:
                await asyncio.sleep(0.01)
                acceptor._again()
            found.append(len(served))
            acceptor.stop()
            return found

    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if asyncio.run(main()) == [2, 4] else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_pause_leaves_queued_connections_to_others_until_the_next_start() -> None:
    served = Served(None, None, None)
    served.acceptor.start()
    served.turn()
    served.acceptor.pause()
    served.turn()
    served.entries[0].closed()
    assert (len(served.accepted), served.polls) == (1, False)
    served.acceptor.start()
    served.turn()
    assert (len(served.accepted), served.polls) == (2, True)
    served.acceptor.start()
    served.turn()
    assert len(served.accepted) == 3


def test_a_pause_without_free_descriptors_ends_the_retries() -> None:
    served = Served(errno.EMFILE, None)
    served.acceptor.start()
    served.turn()
    served.acceptor.pause()
    assert (served.loop.timers, served.polls) == ([], False)
    served.acceptor.start()
    served.turn()
    assert len(served.accepted) == 1


def test_an_acceptor_that_polls_or_is_paused_costs_nothing_when_connections_end() -> None:
    served = Served(capacity=1)
    for _ in range(3):
        served.acceptor.start()
        served.acceptor.start()
        assert served.connections.on_discard == []
        connection = served.connections.add(None)
        served.turn()
        assert len(served.connections.on_discard) == 1, "it is full, and waits for room"
        served.acceptor.start()
        assert len(served.connections.on_discard) == 1
        connection.closed()
        assert (served.polls, served.connections.on_discard) == (True, [])
        served.acceptor.pause()
        served.acceptor.pause()
        assert served.connections.on_discard == []


def test_a_paused_acceptor_that_was_full_does_not_wait_for_room() -> None:
    served = Served(capacity=1)
    connection = served.connections.add(None)
    served.acceptor.start()
    assert len(served.connections.on_discard) == 1
    served.acceptor.pause()
    assert served.connections.on_discard == []
    connection.closed()
    assert not served.polls


def test_a_listener_that_the_loop_could_not_poll_is_polled_once_a_connection_has_ended() -> None:
    served = Served()
    loop: Any = served.loop
    failures = [errno.ENOMEM]

    def listen(fd: int, callback: Callable[[], object]) -> Callable[[], object]:
        if failures:
            raise OSError(failures.pop(), "no memory")
        return polled_by(loop)(fd, callback)

    listener: Any = served.listener
    acceptor = Acceptor(loop, listener, served._connected, served.connections, 0, listen)
    connection = served.connections.add(None)
    with pytest.raises(OSError, match="no memory"):
        acceptor.start()
    assert not served.polls
    connection.closed()
    assert served.polls


@pytest.mark.parametrize("adopts", [False, True])
def test_connections_of_another_slot_are_counted_apart(adopts: bool) -> None:
    served = Served(None, None)
    record = Scoreboard(1).record(0)
    served.connections = Connections(Heartbeat(record))
    loop: Any = served.loop
    listener: Any = served.listener
    Acceptor(loop, listener, served._connected, served.connections, adopts=adopts).start()
    served.turn(2)
    assert (record.totals().accepted, record.totals().adopted) == (2, 2 if adopts else 0)


def test_what_must_be_left_to_others_is_not_polled_until_then() -> None:
    served = Served(None, None)
    times = [0.2, 0.1, 0.3]
    loop: Any = served.loop
    listener: Any = served.listener
    acceptor = Acceptor(loop, listener, served._connected, served.connections, holds=lambda: times.pop(0))
    acceptor.start()
    served.turn()
    assert (served.polls, served.accepted, loop.timers[-1][0]) == (False, [], 0.2)
    loop.rings()
    served.turn(2)
    assert len(served.accepted) == 2, "they have waited for long enough"
    served.turn()
    listener.queue.append(None)
    served.turn()
    assert (served.polls, len(served.accepted), loop.timers[-1][0]) == (False, 2, 0.1), "others come"
    listener.queue.clear()
    loop.rings()
    listener.queue.append(None)
    served.turn()
    assert (served.polls, len(served.accepted), loop.timers[-1][0]) == (False, 2, 0.3), "others had taken that one"


@pytest.mark.parametrize("how", ["another connection ends", "it was paused meanwhile"])
def test_what_is_left_to_others_is_left_to_them_for_that_long(how: str) -> None:
    served = Served(None)
    loop: Any = served.loop
    listener: Any = served.listener
    other = served.connections.add("peer")
    acceptor = Acceptor(loop, listener, served._connected, served.connections, holds=lambda: 0.2)
    acceptor.start()
    served.turn()
    if how == "another connection ends":
        other.closed()
    else:
        acceptor.pause()
        acceptor.start()
        served.turn()
    assert (served.polls, served.accepted, loop.timers[-1][0]) == (False, [], 0.2)


def test_what_was_left_to_others_for_long_enough_is_accepted_whole() -> None:
    served = Served(*[None] * 5)
    loop: Any = served.loop
    listener: Any = served.listener
    times = [0.2, 0.1]
    acceptor = Acceptor(loop, listener, served._connected, served.connections, holds=lambda: times.pop(0))
    acceptor.start()
    served.turn()
    loop.rings()
    served.turn(3)
    assert len(served.accepted) == 4
    loop.now += 0.4
    served.turn()
    assert (served.polls, len(served.accepted)) == (False, 4), "it asks again after a while"


def test_what_is_left_to_others_is_accepted_at_the_end() -> None:
    served = Served(None, None)
    loop: Any = served.loop
    listener: Any = served.listener
    acceptor = Acceptor(loop, listener, served._connected, served.connections, holds=lambda: 0.2)
    acceptor.start()
    served.turn()
    acceptor.stop()
    assert len(served.accepted) == 2


def test_a_connection_is_counted_before_it_is_served() -> None:
    served = Served(None)
    told: list[int] = []
    heartbeat = Heartbeat(Scoreboard(1).record(0))
    heartbeat.on_awake = lambda: told.append(len(served.accepted))
    served.connections = Connections(heartbeat)
    acceptor = served.another(served.listener, 0)
    acceptor.start()
    served.turn()
    assert (told, len(served.accepted)) == ([0], 1)
