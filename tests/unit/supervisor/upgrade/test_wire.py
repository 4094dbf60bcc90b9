"""The link between a supervisor and its successor."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from support.rows import for_each

from hybrid.supervisor.upgrade.wire import (
    MOST_DESCRIPTORS,
    Cannot,
    Grant,
    Granted,
    PeerLink,
    PeerMessage,
    Serving,
    Taken,
    Want,
    WireError,
    Yours,
)

Ends = tuple[PeerLink, PeerLink]


@pytest.fixture
def ends() -> Iterator[Ends]:
    left, right = (PeerLink(sock) for sock in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    yield left, right
    left.close()
    right.close()


@pytest.mark.parametrize(
    "message", [Want(4), Grant(()), Granted(), Cannot("too many \N{PILE OF POO}"), Serving((0, 2)), Yours(), Taken()]
)
def test_a_message_arrives_as_it_was_sent(ends: Ends, message: PeerMessage) -> None:
    ends[0].send(message)
    assert ends[1].receive_nowait() == (message, [])
    assert ends[1].receive_nowait() is None


def test_the_longest_reason_is_cut(ends: Ends) -> None:
    ends[0].send(Cannot("\N{PILE OF POO}" * 100_000))
    assert ends[1].receive_nowait() == (Cannot("\N{PILE OF POO}" * 1000), [])


def test_as_many_descriptors_as_are_allowed_arrive_and_are_not_inherited(ends: Ends) -> None:
    ends[0].send(Grant((0,) * MOST_DESCRIPTORS), [ends[0].fileno()] * MOST_DESCRIPTORS)
    heard = ends[1].receive_nowait()
    assert heard is not None
    assert len(heard[1]) == MOST_DESCRIPTORS
    assert not any(os.get_inheritable(fd) for fd in heard[1])
    for fd in heard[1]:
        os.close(fd)


def test_too_few_descriptors_are_an_error_and_are_closed(ends: Ends) -> None:
    ends[0].send(Grant((0, 0)), [ends[0].fileno()])
    with pytest.raises(WireError, match="got lost on the way"):
        ends[1].receive_nowait()


def test_descriptors_beside_another_message_are_an_error_and_closed(ends: Ends) -> None:
    ends[0].send(Granted(), [ends[0].fileno()])
    with pytest.raises(WireError):
        ends[1].receive_nowait()


def test_the_other_side_that_is_gone_is_an_error_for_both_directions(ends: Ends) -> None:
    ends[0].close()
    with pytest.raises(WireError, match="gone"):
        ends[1].receive_nowait()
    with pytest.raises(WireError, match="cannot talk to the other supervisor: broken pipe"):
        ends[1].send(Taken())


def test_hanging_up_twice_is_fine(ends: Ends) -> None:
    ends[0].shut_down()
    ends[0].shut_down()
    assert ends[0].fileno() == -1


@for_each(
    "datagram",
    [
        b"x",
        b"3",
        b"{}",
        b'{"type": 3}',
        b'{"type": "Want"}',
        b'{"type": "Want", "slots": true}',
        b'{"type": "Cannot", "reason": 1}',
        b'{"type": "Serving", "taken": ["1"]}',
        b'{"type": "Serving", "taken": 1}',
    ],
)
def test_an_unknown_message_is_an_error(datagram: bytes) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link = PeerLink(right)
    with left:
        left.send(datagram)
        with pytest.raises(WireError, match="this version does not know"):
            link.receive_nowait()
    link.close()
