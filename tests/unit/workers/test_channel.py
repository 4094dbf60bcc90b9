"""The channel between supervisor and worker: messages whole, never a wait, EOF for a death."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Iterator

import pytest

from hybrid.workers.contract.channel import Channel, ChannelClosed
from hybrid.workers.contract.messages import BootFailed, MessageError, Ping, Ready
from hybrid.workers.contract.worker_spec import Listener, ListenerKind, WorkerSpec


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = Channel.pair()
    yield ours, theirs
    ours.close()
    theirs.close()


def drained(channel: Channel) -> list[object]:
    return list(iter(channel.receive_nowait, None))


def test_messages_arrive_one_by_one_in_order(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    assert theirs.receive_nowait() is None
    assert ours.send_nowait(Ready("epoll", "sync stream"))
    assert ours.send_nowait(BootFailed(3, "no"))
    assert drained(theirs) == [Ready("epoll", "sync stream"), BootFailed(3, "no")]


def test_a_message_makes_the_other_end_readable(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    poll = select.poll()
    poll.register(theirs.fileno(), select.POLLIN)
    assert poll.poll(0) == []
    ours.send_nowait(Ready("epoll", "x"))
    assert poll.poll(0) == [(theirs.fileno(), select.POLLIN)]


def test_messages_wait_while_the_socket_is_full_and_the_oldest_go(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    number = 0
    while ours.send_nowait(BootFailed(number, "x" * 4000)):
        number += 1
    for more in range(number + 1, number + 200):
        assert not ours.send_nowait(BootFailed(more, "x" * 4000))
    assert ours.pending == 64
    assert not ours.flush()
    received = drained(theirs)
    while not ours.flush():
        received += drained(theirs)
    received += drained(theirs)
    codes = [message.code for message in received if isinstance(message, BootFailed)]
    assert codes == [*range(number), *range(number + 200 - 64, number + 200)]
    assert ours.pending == 0


def test_the_end_of_the_other_side_raises(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    ours.send_nowait(Ready("epoll", "last words"))
    ours.close()
    ours.close()
    assert ours.fileno() == -1
    assert theirs.receive_nowait() == Ready("epoll", "last words")
    with pytest.raises(ChannelClosed, match="the other side is gone"):
        theirs.receive_nowait()
    with pytest.raises(ChannelClosed):
        theirs.send_nowait(Ready("epoll", "into the void"))


def test_the_last_messages_of_a_peer_arrive_though_it_has_left_some_unread(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    ours.send_nowait(Ping())
    theirs.send_nowait(BootFailed(3, "no such module"))
    theirs.close()
    assert ours.receive_nowait() == BootFailed(3, "no such module")
    with pytest.raises(ChannelClosed):
        ours.receive_nowait()


def test_a_channel_closed_on_this_side_refuses(pair: tuple[Channel, Channel]) -> None:
    ours, _ = pair
    ours.close()
    with pytest.raises(ChannelClosed):
        ours.receive_nowait()
    with pytest.raises(ChannelClosed):
        ours.send_nowait(Ready("epoll", "x"))


def test_garbage_is_refused_and_the_next_message_arrives() -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(right)
    left.send(b"garbage")
    left.send(b'{"type": "Ready", "loop": "epoll", "interface": "x"}')
    with pytest.raises(MessageError, match="garbage"):
        channel.receive_nowait()
    assert channel.receive_nowait() == Ready("epoll", "x")
    left.close()
    channel.close()


def test_want_of_memory_for_a_message_is_no_end_of_the_channel() -> None:
    class Short(socket.socket):
        """A socket of a system that has no memory, once."""

        def send(self, *arguments: object) -> int:
            if errors:
                raise OSError(errors[0], os.strerror(errors.pop()))
            return super().send(*arguments)  # type: ignore[call-overload, no-any-return]

    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for number in (errno.ENOBUFS, errno.ENOMEM):
        errors = [number]
        channel = Channel(Short(fileno=os.dup(left.fileno())))
        assert not channel.send_nowait(Ping())
        assert channel.flush()
        channel.close()
    theirs = Channel(right)
    assert drained(theirs) == [Ping(), Ping()]
    left.close()
    theirs.close()


def test_a_seat_knows_its_own_listeners_and_labels(pair: tuple[Channel, Channel]) -> None:
    with socket.socket() as sock:
        listeners = tuple(
            Listener(f"127.0.0.1:{port}", ListenerKind.STREAM, sock, slot) for port, slot in ((1, 0), (2, 1), (3, None))
        )
        spec = WorkerSpec("web", 1, 4, 4711, listeners, pair[0], 30.0)
        assert [item.address for item in spec.own_listeners] == ["127.0.0.1:2", "127.0.0.1:3"]
        assert dict(spec.labels) == {"service": "web", "slot": 1, "generation": 4}
