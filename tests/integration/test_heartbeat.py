"""What a worker tells by its record and its channel, on every loop: busy or not, counts, adoption, recycle."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.lone_worker import DEADLINE, LoneWorker, Start, listening
from support.loops import LOOPS
from support.service import descriptors, eventually, wake_ups

from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import Adopt, Awake, Draining, Forked, Learn, Ping, Ready, RecycleDue, Spawn
from hybrid.workers.contract.scoreboard import (
    ACTIVE,
    ANSWERED,
    ASKED,
    BUSY_SINCE,
    GENERATION,
    LAG_BOUNDS,
    MEMORY,
    PID,
    PULSE,
    STATE,
    TURNS,
    Activity,
    Pulse,
)

OBSERVED = [loop for loop in LOOPS if loop != "uvloop"]
REQUEST = b"GET %b HTTP/1.1\r\nHost: here\r\n\r\n"
CLOSING = b"GET /end HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture
def start() -> Iterator[Start]:
    made = Start()
    yield made
    made.close()


def watched(worker: LoneWorker) -> LoneWorker:
    """Wait until it is ready, and let nobody have to be told of its connections."""
    assert isinstance(worker.says(), Ready)
    worker.record.watched = True
    return worker


def is_pinged(worker: LoneWorker) -> None:
    """Ask the worker, and wait until it has answered in its record."""
    asked = worker.record.times[ASKED] = time.monotonic()
    worker.is_told(Ping())
    eventually(lambda: worker.record.times[ANSWERED] == asked, "the ping is answered")


def answer(client: socket.socket, request: bytes, end: bytes) -> bytes:
    """Send a request and return what comes, up to `end`."""
    client.sendall(request)
    got = b""
    while not got.endswith(end):
        part = client.recv(1000)
        assert part, got
        got += part
    return got


def is_silent(sock: socket.socket | LoneWorker) -> bool:
    """Whether nothing comes within a twentieth of a second."""
    return not select.select([sock.channel if isinstance(sock, LoneWorker) else sock], [], [], 0.05)[0]


# --- turns


class Stall:
    """A handler that computes, or sleeps in C, until it is told to end."""

    def __init__(self, how: str, path: Path) -> None:
        self._path = path
        self.command = f"{how} {path}".encode()
        """What it is to be told."""
        if how == "block":
            os.mkfifo(path)

    def has_begun(self) -> bool:
        """Whether it is at it."""
        return Path(f"{self._path}.begun").exists()

    def ends(self) -> None:
        """Let it answer."""
        if self._path.exists():
            os.close(os.open(self._path, os.O_WRONLY))
        else:
            self._path.touch()


@pytest.fixture
def stalls(tmp_path: Path) -> list[Stall]:
    """Give one of each kind."""
    return [Stall(how, tmp_path / how) for how in ("spin", "block")]


@pytest.mark.parametrize("loop", OBSERVED)
def test_a_turn_that_does_not_end_is_seen_and_a_loop_that_waits_is_not_busy(
    loop: str, start: Start, stalls: list[Stall]
) -> None:
    worker = watched(start(loop, "keep_busy"))
    times = worker.record.times
    assert worker.record.numbers[PULSE] == Pulse.TURNS

    def long_turns() -> int:
        return sum(worker.record.snapshot().lags[LAG_BOUNDS.index(0.1) :])

    with start.connect() as client:
        assert answer(client, b"greets", b"S") == b"GREETS"
        for stall in stalls:
            eventually(lambda: times[BUSY_SINCE] == 0, "it waits for events")
            counted = long_turns()
            before = time.monotonic()
            client.sendall(stall.command)
            eventually(lambda: 0 < times[BUSY_SINCE] < time.monotonic() - 0.1, "it is seen that a turn takes long")
            assert times[BUSY_SINCE] >= before
            eventually(stall.has_begun, "the handler is at it")
            stall.ends()
            assert client.recv(1000) == stall.command.upper()
            eventually(lambda: times[BUSY_SINCE] == 0, "it waits for events again")
            assert long_turns() > counted
    assert worker.record.snapshot().lag_max >= 0.1


@pytest.mark.parametrize("loop", LOOPS)
def test_a_ping_is_answered_when_the_loop_turns_and_not_before(loop: str, start: Start, stalls: list[Stall]) -> None:
    worker = watched(start(loop, "keep_busy"))
    is_pinged(worker)
    is_pinged(worker)
    assert worker.record.numbers[MEMORY] > 1_000_000
    assert (worker.record.numbers[TURNS] > 0) == (loop != "uvloop")
    assert worker.record.numbers[PULSE] == (Pulse.PINGS if loop == "uvloop" else Pulse.TURNS)
    with start.connect() as client:
        assert answer(client, b"greets", b"S") == b"GREETS"
        for stall in stalls:
            client.sendall(stall.command)
            eventually(stall.has_begun, "the handler is at it")
            asked = worker.record.times[ASKED] = time.monotonic()
            worker.is_told(Ping())
            assert is_silent(client)
            assert worker.record.times[ANSWERED] < asked
            stall.ends()
            assert client.recv(1000) == stall.command.upper()
            eventually(lambda: worker.record.times[ANSWERED] == worker.record.times[ASKED], "the ping is answered")


@pytest.mark.parametrize("loop", OBSERVED)
def test_a_forked_child_of_a_handler_writes_nothing_into_the_record(loop: str, start: Start) -> None:
    worker = watched(start(loop, "keep_busy"))
    times = worker.record.times
    with start.connect() as client:
        assert answer(client, b"greets", b"S") == b"GREETS"
        eventually(lambda: times[BUSY_SINCE] == 0, "it waits for events")
        client.sendall(b"fork")
        seen = set()
        while not select.select([client], [], [], 0.001)[0]:
            seen.add(times[BUSY_SINCE])
        assert client.recv(1000) == b"FORK"
        seen.discard(0)
        assert len(seen) <= 1, "one turn, in which the child came and went"
        assert worker.record.snapshot().active == 1


def test_a_quiet_worker_that_is_pinged_sleeps(start: Start) -> None:
    """All loops at once: they rest, so they do not disturb each other."""
    workers = {loop: watched(start(loop, "handle")) for loop in LOOPS}
    for worker in workers.values():
        is_pinged(worker)
    before = {loop: wake_ups(worker.process.pid) for loop, worker in workers.items()}
    for _ in range(4):
        for worker in workers.values():
            is_pinged(worker)
        assert not select.select([], [], [], 0.5)[0]
    rates = {loop: (wake_ups(worker.process.pid) - before[loop]) / 2 for loop, worker in workers.items()}
    assert all(rate < 5 for rate in rates.values()), rates


# --- counts


@pytest.mark.parametrize("loop", LOOPS)
def test_the_record_shows_the_identity_and_the_phases_of_a_worker(loop: str, start: Start) -> None:
    worker = watched(start(loop, "handle"))
    numbers = worker.record.numbers
    assert (numbers[STATE], numbers[GENERATION], numbers[PID]) == (Activity.READY, 3, worker.process.pid)
    with start.connect() as client:
        assert answer(client, b"x", b"X")
        os.kill(worker.process.pid, signal.SIGTERM)
        assert worker.says() == Draining()
        assert numbers[STATE] == Activity.DRAINING
    assert worker.ends()[0] == Exit.OK
    seen = worker.record.snapshot()
    assert (seen.accepted, seen.active, seen.requests) == (1, 0, 1)


def test_a_count_that_a_sibling_has_raised_is_right_again_after_a_ping(start: Start) -> None:
    worker = watched(start("epoll", "handle"))
    with start.connect() as client:
        assert answer(client, b"once", b"E")
        worker.record.numbers[ACTIVE] = 7  # it passed on some, and another worker has adopted them
        is_pinged(worker)
        assert worker.record.snapshot().active == 1


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("target", ["handle", "handle_async", "Protocol"])
def test_connections_are_counted_and_count_as_requests(loop: str, target: str, start: Start) -> None:
    worker = watched(start(loop, target))
    with start.connect() as first, start.connect() as second:
        for client in (first, second):
            assert answer(client, b"once", b"E")
            assert answer(client, b"twice", b"E")
        seen = worker.record.snapshot()
        assert (seen.accepted, seen.active, seen.requests) == (2, 2, 2)
    eventually(lambda: worker.record.snapshot().active == 0, "they are gone")


@pytest.mark.parametrize("loop", LOOPS)
def test_datagrams_count_as_requests(loop: str, start: Start) -> None:
    worker = watched(start(loop, "answer", "datagram"))
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(DEADLINE)
        for _ in range(3):
            client.sendto(b"hello", start.udp.getsockname())
            assert client.recv(100) == b"HELLO"
    assert worker.record.snapshot().requests == 3
    eventually(lambda: worker.record.snapshot().active == 0, "none is at work")


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
def test_requests_are_counted(loop: str, interface: str, start: Start) -> None:
    """The same again, another path, two in one packet, the last of a connection; but not what is refused.

    A handshake of a WebSocket is a request, too.
    """
    worker = watched(start(loop, interface, interface=interface))
    with start.connect() as client:
        for path in (b"/a", b"/b", b"/b", b"/b", b"/c"):
            assert answer(client, REQUEST % path, b"\r\n\r\n" + path)
        assert answer(client, REQUEST % b"/d" + REQUEST % b"/e", b"/e").count(b"200 OK") == 2
        assert answer(client, CLOSING, b"/end")
    with start.connect() as client:
        assert b" 400 " in answer(client, b"GET / HTTP/1.1\r\n\r\n", b"\n")
    is_pinged(worker)
    seen = worker.record.snapshot()
    assert (seen.accepted, seen.requests) == (2, 8)
    if interface == "asgi":
        with start.connect() as client:
            assert b" 101 " in answer(client, HANDSHAKE, b"\r\n\r\n")
            is_pinged(worker)
            assert worker.record.snapshot().requests == 9


# --- what it tells


@pytest.mark.parametrize("loop", LOOPS)
def test_it_reports_one_connection_while_the_supervisor_does_not_watch(loop: str, start: Start) -> None:
    worker = start(loop, "handle")
    assert isinstance(worker.says(), Ready)
    for _ in range(2):
        assert not worker.record.watched
        for _ in range(3):
            with start.connect() as client:
                assert answer(client, b"x", b"X")
        assert worker.says() == Awake()
        assert worker.record.watched
        assert is_silent(worker)
        worker.record.watched = False


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("recycle", "why"),
    [
        ({"max_requests": 3, "jitter": 0}, "served 3 requests"),
        ({"max_lifetime": 0.001}, "lived for "),
    ],
)
def test_it_reports_once_that_it_is_due(loop: str, recycle: dict[str, Any], why: str, start: Start) -> None:
    worker = watched(start(loop, "asgi", interface="asgi", recycle=recycle))
    with start.connect() as client:
        for _ in range(2):
            assert answer(client, REQUEST % b"/x", b"/x")
        assert is_silent(worker)
        assert answer(client, REQUEST % b"/x", b"/x")
        is_pinged(worker)
        said = worker.says()
        assert isinstance(said, RecycleDue)
        assert why in said.why
        for _ in range(3):
            assert answer(client, REQUEST % b"/x", b"/x")
        is_pinged(worker)
        assert is_silent(worker)


def test_a_draining_worker_does_not_report_that_it_is_due(start: Start) -> None:
    worker = watched(start("epoll", "asgi", interface="asgi", recycle={"max_requests": 2, "jitter": 0}))
    with start.connect() as client:
        assert answer(client, REQUEST % b"/x", b"/x")
        os.kill(worker.process.pid, signal.SIGTERM)
        assert worker.says() == Draining()
        is_pinged(worker)
        assert worker.record.snapshot().requests == 1
        assert answer(client, REQUEST % b"/y", b"/y")
    assert worker.ends()[0] == Exit.OK
    with pytest.raises(ConnectionError):
        worker.says()


# --- adoption


def is_adopted(start: Start, listener: socket.socket) -> None:
    """Check that the worker serves what comes to a listener."""
    with start.connect(listener) as client:
        assert answer(client, b"x", b"X")


def is_left_alone(start: Start, listener: socket.socket) -> None:
    """Check that nobody takes what comes to a listener; then the test takes it."""
    with start.connect(listener) as client:
        client.sendall(b"x")
        assert is_silent(client)
        listener.accept()[0].close()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("target", ["handle", "handle_async"])
def test_it_serves_the_queues_of_adopted_slots_and_no_others(loop: str, target: str, start: Start) -> None:
    worker = watched(start(loop, target))
    is_left_alone(start, start.foreign)
    with start.connect(start.foreign) as waiting:
        waiting.sendall(b"waiting")
        worker.is_told(Adopt((0, 7)))
        assert waiting.recv(100) == b"WAITING"
        is_adopted(start, start.foreign)
        is_adopted(start, start.tcp)
        worker.is_told(Adopt(()))
        is_pinged(worker)
        is_left_alone(start, start.foreign)
        is_adopted(start, start.tcp)
        assert answer(waiting, b"served on", b"N") == b"SERVED ON"
        worker.is_told(Adopt((0,)))
        is_adopted(start, start.foreign)
        totals = worker.record.totals()
        assert (totals.accepted, totals.adopted) == (5, 3)


@pytest.mark.parametrize("loop", LOOPS)
def test_it_adopts_slots_that_were_added_since_its_fork(loop: str, start: Start) -> None:
    worker = watched(start(loop, "handle"))
    is_pinged(worker)
    held = descriptors(worker.process.pid)
    with listening() as first, listening() as second, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        given = (first.fileno(), datagrams.fileno(), second.fileno())
        worker.is_told(Adopt((2,)))
        order = Learn(2, ("one", "udp", "two"), ("stream", "datagram", "stream"))
        worker.is_told(order, *given)
        is_adopted(start, first)
        is_adopted(start, second)
        worker.is_told(order, *given)  # again
        worker.is_told(Learn(1, ("other",), ("stream",)), first.fileno())  # its own slot
        is_pinged(worker)
        eventually(lambda: descriptors(worker.process.pid) == held + 2, "it keeps what it may have to adopt")
        worker.is_told(Adopt(()))
        is_pinged(worker)
        is_left_alone(start, first)


@pytest.mark.parametrize("loop", LOOPS)
def test_its_capacity_holds_over_all_it_has_adopted(loop: str, start: Start) -> None:
    worker = watched(start(loop, "handle", max_connections=1))
    worker.is_told(Adopt((0,)))
    with start.connect(start.foreign) as first:
        assert answer(first, b"x", b"X")
        with start.connect() as own, start.connect(start.foreign) as foreign:
            for client in (own, foreign):
                client.sendall(b"x")
            assert is_silent(own)
            assert is_silent(foreign)
            first.close()
            waiting = [own, foreign]
            while waiting:
                for client in select.select(waiting, [], [], DEADLINE)[0]:
                    assert client.recv(1) == b"X"
                    client.close()
                    waiting.remove(client)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_draining_worker_serves_its_own_and_adopted_queues(loop: str, start: Start) -> None:
    """At the end of the service there is no sibling left to do it."""
    worker = watched(start(loop, "handle", max_connections=1))
    worker.is_told(Adopt((0,)))
    with start.connect(start.foreign) as served:
        assert answer(served, b"x", b"X")
        with start.connect() as own, start.connect(start.foreign) as foreign:
            own.sendall(b"own")
            foreign.sendall(b"foreign")
            os.kill(worker.process.pid, signal.SIGTERM)
            assert worker.says() == Draining()
            assert own.recv(100) == b"OWN"
            assert foreign.recv(100) == b"FOREIGN"
            assert answer(served, b"drained", b"D")
    assert worker.ends()[0] == Exit.OK


@pytest.mark.parametrize("loop", LOOPS)
def test_a_draining_worker_adopts_no_queue(loop: str, start: Start) -> None:
    worker = watched(start(loop, "handle"))
    with start.connect() as held:
        assert answer(held, b"x", b"X")
        os.kill(worker.process.pid, signal.SIGTERM)
        assert worker.says() == Draining()
        worker.is_told(Adopt((0,)))
        assert answer(held, b"y", b"Y")
        with start.connect(start.foreign) as foreign:
            foreign.sendall(b"x")
            assert is_silent(foreign)
            start.foreign.accept()[0].close()
    assert worker.ends()[0] == Exit.OK


@pytest.mark.parametrize("loop", LOOPS)
def test_orders_that_cannot_be_are_ignored_and_logged_once(loop: str, start: Start) -> None:
    worker = watched(start(loop, "handle"))
    is_pinged(worker)
    held = descriptors(worker.process.pid)
    fd = start.foreign.fileno()
    worker.is_told(Spawn(1, 1, 1), fd)
    worker.is_told(Learn(2, ("one",), ("stream", "stream")), fd)
    worker.is_told(Learn(2, ("one",), ("strange",)), fd)
    worker.is_told(Forked(4711))  # type: ignore[arg-type]  # nothing that one is told
    with socket.socket(fileno=os.dup(worker.channel.fileno())) as channel:
        channel.send(b"garbage")
        socket.send_fds(channel, [b"garbage"], [fd])
    is_pinged(worker)
    assert descriptors(worker.process.pid) == held
    os.kill(worker.process.pid, signal.SIGTERM)
    code, log = worker.ends()
    assert code == Exit.OK
    assert log.count("ignoring an order of the supervisor") == 1
