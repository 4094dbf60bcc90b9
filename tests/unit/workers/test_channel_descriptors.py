"""Descriptors that travel beside messages: they arrive, or none is left open; no program inherits them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from support.limits import open_descriptors, scarce_descriptors

from hybrid.workers.contract.channel import Channel, ChannelClosed
from hybrid.workers.contract.messages import Learn, MessageError, Ping, Ready, Spawn

MOST = 253
"""SCM_MAX_FD, linux/net/scm.h."""
Pair = tuple[Channel, Channel]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = Channel.pair()
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
def null() -> Iterator[int]:
    """A descriptor."""
    fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    yield fd
    os.close(fd)


def close_all(descriptors: list[int]) -> None:
    for fd in descriptors:
        os.close(fd)


@pytest.mark.parametrize("number", [0, 1, 2, MOST])
def test_they_arrive_with_their_message_and_in_order(pair: Pair, number: int) -> None:
    ours, theirs = pair
    with socket.socket() as one, socket.socket() as two:
        given = [(one, two)[index % 2].fileno() for index in range(number)]
        assert ours.hand_over_nowait(Spawn(1, 2, 3), given)
        taken = theirs.take_over_nowait()
        assert taken is not None
        message, descriptors = taken
        same = [os.fstat(fd).st_ino for fd in descriptors] == [os.fstat(fd).st_ino for fd in given]
        close_all(descriptors)
    assert (message, len(descriptors), same) == (Spawn(1, 2, 3), number, True)


def test_more_than_the_kernel_takes_are_refused_and_nothing_is_sent(pair: Pair, null: int) -> None:
    ours, theirs = pair
    with pytest.raises(ChannelClosed, match="Invalid argument"):
        ours.hand_over_nowait(Ping(), [null] * (MOST + 1))
    assert theirs.take_over_nowait() is None


def test_no_program_inherits_them(pair: Pair, null: int) -> None:
    ours, theirs = pair
    ours.hand_over_nowait(Ping(), [null])
    taken = theirs.take_over_nowait()
    assert taken is not None
    (fd,) = taken[1]
    assert not os.get_inheritable(fd)
    look = f"import os; os.fstat({fd})"
    ended = subprocess.run([sys.executable, "-c", look], close_fds=False, check=False, capture_output=True, text=True)
    os.close(fd)
    assert "Bad file descriptor" in ended.stderr


def test_a_message_without_any_is_taken_over_too(pair: Pair) -> None:
    ours, theirs = pair
    ours.send_nowait(Ping())
    assert theirs.take_over_nowait() == (Ping(), [])
    assert theirs.take_over_nowait() is None


def test_a_receiver_at_its_descriptor_limit_gets_the_message_and_some_descriptors(pair: Pair, null: int) -> None:
    """So that an order with missing descriptors can be answered (recvmsg(2): MSG_CTRUNC)."""
    ours, theirs = pair
    before = open_descriptors()
    for spare in (0, 1):
        assert ours.hand_over_nowait(Spawn(1, 2, 3), [null, null])
        with scarce_descriptors(spare):
            taken = theirs.take_over_nowait()
        assert taken is not None
        assert (taken[0], len(taken[1])) == (Spawn(1, 2, 3), spare)
        close_all(taken[1])
    assert open_descriptors() == before


def test_descriptors_beside_a_bad_message_are_closed(null: int) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(right)
    before = open_descriptors()
    socket.send_fds(left, [b"garbage"], [null, null])
    with pytest.raises(MessageError, match="garbage"):
        channel.take_over_nowait()
    assert open_descriptors() == before
    left.close()
    channel.close()


def test_descriptors_that_are_not_taken_are_closed(pair: Pair, null: int) -> None:
    """A worker may send some to its supervisor, which has no use for them."""
    ours, theirs = pair
    before = open_descriptors()
    for _ in range(50):
        assert ours.hand_over_nowait(Ready("epoll", "x"), [null] * MOST)
        assert theirs.receive_nowait() == Ready("epoll", "x")
    assert open_descriptors() == before


def test_they_do_not_overtake_waiting_messages(pair: Pair, null: int) -> None:
    ours, theirs = pair
    while ours.send_nowait(Ready("epoll", "x" * 4000)):
        pass
    assert ours.hand_over_nowait(Ping(), [null]) is False
    while theirs.receive_nowait() is not None:
        ours.flush()
    assert ours.hand_over_nowait(Learn(1, ("a:1",), ("stream",)), [null]) is True
    taken = theirs.take_over_nowait()
    assert taken is not None
    assert isinstance(taken[0], Learn)
    close_all(taken[1])


def test_without_room_in_the_socket_nothing_is_sent(pair: Pair, null: int) -> None:
    ours, theirs = pair
    sent = 0
    while ours.hand_over_nowait(Ready("epoll", "x" * 4000), [null]):
        sent += 1
    assert ours.pending == 0
    received = 0
    while (taken := theirs.take_over_nowait()) is not None:
        close_all(taken[1])
        received += 1
    assert received == sent


def test_they_arrive_after_their_sender_has_closed_them_and_is_gone(pair: Pair) -> None:
    ours, theirs = pair
    left, right = socket.socketpair()
    ours.hand_over_nowait(Ping(), [right.fileno()])
    right.close()
    ours.close()
    taken = theirs.take_over_nowait()
    assert taken is not None
    with left, socket.socket(fileno=taken[1][0]) as arrived:
        arrived.send(b"here")
        assert left.recv(10) == b"here"
    with pytest.raises(ChannelClosed):
        theirs.take_over_nowait()


def test_descriptors_in_flight_to_a_dead_process_are_closed(pair: Pair) -> None:
    ours, theirs = pair
    left, right = socket.socketpair()
    ours.hand_over_nowait(Ping(), [right.fileno()])
    right.close()
    theirs.close()
    with left:
        assert left.recv(10) == b""


def test_descriptors_cannot_be_sent_to_a_dead_process(pair: Pair, null: int) -> None:
    ours, theirs = pair
    theirs.close()
    with pytest.raises(ChannelClosed):
        ours.hand_over_nowait(Ping(), [null])


def test_a_descriptor_that_is_closed_cannot_be_handed_over(pair: Pair) -> None:
    ours, theirs = pair
    fd = os.dup(0)
    os.close(fd)
    with pytest.raises(ChannelClosed, match="Bad file descriptor"):
        ours.hand_over_nowait(Ping(), [fd])
    assert theirs.take_over_nowait() is None
