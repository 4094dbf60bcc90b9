"""When a connection lingers before it is closed, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from support.hub import reset, run_on, tcp_pair, until
from support.limits import open_descriptors
from support.loops import LOOPS
from support.rows import for_each

from hybrid.workers.common import lingering
from hybrid.workers.common.lingering import MOST_BYTES, SECONDS, Farewell
from hybrid.workers.hub.hub_runtime import HubRuntime

PLACES = [loop for loop in LOOPS if loop != "gevent"]


@for_each(
    ("expects_input", "peer_ended", "unacknowledged", "elapsed", "over"),
    [
        (False, False, False, 0.0, True),  # everything has arrived, and nothing came
        (False, False, True, 0.0, False),
        (False, True, True, 0.0, True),  # nothing can come any more that could reset it
        (False, False, True, SECONDS, True),
        (True, False, False, 0.0, False),
        (True, True, True, 0.0, True),
        (True, False, False, SECONDS, True),
    ],
)
def test_it_is_over_when_a_close_costs_nothing(
    expects_input: bool, peer_ended: bool, unacknowledged: bool, elapsed: float, over: bool
) -> None:
    assert Farewell(expects_input).is_over(peer_ended, unacknowledged, elapsed) is over


def test_a_peer_that_has_sent_something_is_waited_for() -> None:
    farewell = Farewell(expects_input=False)
    farewell.heard(1)
    assert not farewell.is_over(peer_ended=False, unacknowledged=False, elapsed=0.0)


def test_a_peer_that_sends_without_end_is_not_heard_out() -> None:
    farewell = Farewell(expects_input=True)
    farewell.heard(MOST_BYTES)
    assert farewell.is_over(peer_ended=False, unacknowledged=True, elapsed=0.0)


def pairs() -> dict[str, Callable[[], AbstractContextManager[tuple[socket.socket, socket.socket]]]]:
    return {"tcp": tcp_pair, "unix": UnixPair}


class UnixPair:
    def __enter__(self) -> tuple[socket.socket, socket.socket]:
        self._pair = socket.socketpair()
        return self._pair

    def __exit__(self, *_: object) -> None:
        for sock in self._pair:
            sock.close()


@pytest.fixture(params=["tcp", "unix"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    with pairs()[request.param]() as ends:
        yield ends


def test_a_quiet_connection_is_just_closed(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair
    assert not lingering.is_due(ours.fileno(), ours.family, lingering.forks)


def test_unread_input_is_a_reason_to_linger(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = pair
    peer.sendall(b"unread")
    assert lingering.is_due(ours.fileno(), ours.family, lingering.forks)


def test_the_end_of_the_peers_stream_is_no_reason(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = pair
    peer.shutdown(socket.SHUT_WR)
    assert not lingering.is_due(ours.fileno(), ours.family, lingering.forks)


def fill(sock: socket.socket) -> None:
    """Send until the socket has no room."""
    with contextlib.suppress(BlockingIOError):
        while sock.send(b"x" * 65_536):
            pass


@pytest.mark.parametrize(("family", "due"), [("tcp", True), ("unix", False)])
def test_output_that_has_not_arrived_is_a_reason_on_tcp(family: str, due: bool) -> None:
    """On a UNIX socket it has arrived when it is sent, and no close takes it back."""
    with pairs()[family]() as (ours, _):
        ours.setblocking(False)
        fill(ours)
        assert lingering.is_due(ours.fileno(), ours.family, lingering.forks) is due


def test_a_closed_descriptor_is_no_reason() -> None:
    assert not lingering.is_due(-1, socket.AF_INET, lingering.forks)


Body = Callable[[socket.socket, socket.socket], Coroutine[Any, Any, None]]


def on_loops(body: Body) -> Callable[[str, str], None]:
    """Make a test of `async def test(ours, peer)`, run on each loop and family; nothing may be left open."""

    @pytest.mark.parametrize("family", ["tcp", "unix"])
    @pytest.mark.parametrize("loop", PLACES)
    def test(loop: str, family: str) -> None:
        async def main(runtime: HubRuntime) -> None:
            with pairs()[family]() as (ours, peer):
                ours.setblocking(False)
                peer.setblocking(False)
                await body(ours, peer)

        before = open_descriptors()
        run_on(loop, main)
        assert open_descriptors() == before

    test.__name__ = test.__qualname__ = body.__name__
    test.__doc__ = body.__doc__
    return test


def begin(ours: socket.socket) -> None:
    family = ours.family
    lingering.linger(asyncio.get_running_loop(), ours.detach(), family)


def count() -> int:
    return lingering.count(asyncio.get_running_loop())


@on_loops
async def test_the_peer_gets_the_end_of_the_stream_and_then_ends_it(ours: socket.socket, peer: socket.socket) -> None:
    peer.send(b"unread")
    ours.send(b"answer")
    begin(ours)
    loop = asyncio.get_running_loop()
    assert await loop.sock_recv(peer, 100) == b"answer"
    assert await loop.sock_recv(peer, 100) == b""
    assert count() == 1
    peer.send(b"more")
    peer.close()
    await until(lambda: not count())


@on_loops
async def test_a_peer_that_has_ended_its_stream_is_not_waited_for(ours: socket.socket, peer: socket.socket) -> None:
    peer.send(b"unread")
    peer.shutdown(socket.SHUT_WR)
    begin(ours)
    assert count() == 0


@on_loops
async def test_a_drain_waits_for_it(ours: socket.socket, peer: socket.socket) -> None:
    peer.send(b"unread")
    begin(ours)
    assert not await lingering.wait_none(0)
    assert not await lingering.wait_none(0.01)
    waiting = asyncio.create_task(lingering.wait_none(10))
    await asyncio.sleep(0)
    peer.close()
    assert await waiting


@on_loops
async def test_all_lingering_connections_can_be_ended_together(ours: socket.socket, peer: socket.socket) -> None:
    peer.send(b"unread")
    begin(ours)
    assert count() == 1
    lingering.end_all(asyncio.get_running_loop())
    assert count() == 0
    assert await lingering.wait_none(0)


@on_loops
async def test_the_end_of_the_loop_ends_it(ours: socket.socket, peer: socket.socket) -> None:
    peer.send(b"unread")
    begin(ours)
    assert count() == 1


@on_loops
async def test_the_oldest_makes_room_for_a_further_one(ours: socket.socket, peer: socket.socket) -> None:
    peer.send(b"unread")
    begin(ours)
    others = []
    for _ in range(lingering.MOST_AT_ONCE):
        left, right = socket.socketpair()
        right.send(b"unread")
        begin(left)
        others.append(right)
    assert count() == lingering.MOST_AT_ONCE
    with pytest.raises(ConnectionError):  # our end is closed
        await until(lambda: peer.send(b"x") == 0)
    for other in others:
        other.close()
    await until(lambda: not count())


@on_loops
async def test_a_lost_connection_is_just_closed(ours: socket.socket, peer: socket.socket) -> None:
    reset(peer)
    begin(ours)
    assert count() == 0


def test_a_connection_does_not_linger_after_a_fork_because_the_child_may_read_it(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, peer = pair
    peer.sendall(b"unread")
    accepted = lingering.forks
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    assert not lingering.is_due(ours.fileno(), ours.family, accepted)
