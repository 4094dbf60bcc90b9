"""Adoption: the listeners that are accepted from after each order, with recording acceptors."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest

from hybrid.workers.accepting.acceptor import Acceptor
from hybrid.workers.accepting.adoption import Adoption
from hybrid.workers.contract.channel import Channel
from hybrid.workers.contract.messages import Learn
from hybrid.workers.contract.worker_spec import Listener, ListenerKind, WorkerSpec

STREAM, DATAGRAM = ListenerKind.STREAM, ListenerKind.DATAGRAM


class FakeAcceptor:
    """Records whether it accepts."""

    def __init__(self, listener: Listener, fails: bool) -> None:
        self.listener = listener
        self.accepts = False
        self._fails = fails

    def start(self) -> None:
        if self._fails:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.accepts = True

    def pause(self) -> None:
        self.accepts = False


class Siblings:
    """The adoption of a worker in slot 1 of slots 0 to 2, each with two streams and a datagram socket."""

    def __init__(self) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.acceptors: list[FakeAcceptor] = []
        self.fails: set[str] = set()
        """Addresses that cannot be polled."""
        self.channel, self.other = Channel.pair()
        listeners = [
            Listener(f"{address}{slot}", kind, self.sock, slot)
            for slot in range(3)
            for address, kind in (("a", STREAM), ("udp", DATAGRAM), ("b", STREAM))
        ]
        listeners.append(Listener("unix", STREAM, self.sock, None))
        spec = WorkerSpec("web", 1, 1, 1, tuple(listeners), self.channel, 1.0)
        self.adoption = Adoption(spec, self._open)

    def _open(self, listener: Listener) -> Acceptor:
        self.acceptors.append(FakeAcceptor(listener, listener.address in self.fails))
        return cast(Acceptor, self.acceptors[-1])

    @property
    def adopted(self) -> list[str]:
        """The addresses that are accepted from."""
        return sorted(item.listener.address for item in self.acceptors if item.accepts)

    def learns(self, slot: int, *addresses: str, kinds: tuple[str, ...] | None = None) -> list[int]:
        """Announce a new slot; return the descriptors passed."""
        given = [os.dup(self.sock.fileno()) for _ in addresses]
        self.adoption.learn(Learn(slot, addresses, kinds or ("stream",) * len(addresses)), given)
        return given

    def close(self) -> None:
        """Close everything."""
        for acceptor in self.acceptors:
            acceptor.listener.sock.close()
        for end in (self.sock, self.channel, self.other):
            cast(Any, end).close()


@pytest.fixture
def siblings() -> Iterator[Siblings]:
    made = Siblings()
    yield made
    made.close()


def are_open(descriptors: list[int]) -> list[bool]:
    """The descriptors that are still open."""
    return [os.access(f"/proc/self/fd/{fd}", os.F_OK) for fd in descriptors]


def test_an_order_names_all_adopted_slots(siblings: Siblings) -> None:
    assert siblings.adopted == []
    siblings.adoption.adopt((0,))
    assert siblings.adopted == ["a0", "b0"]
    siblings.adoption.adopt((0, 2))
    assert siblings.adopted == ["a0", "a2", "b0", "b2"]
    siblings.adoption.adopt((2,))
    assert siblings.adopted == ["a2", "b2"]
    siblings.adoption.adopt((0,))
    assert siblings.adopted == ["a0", "b0"]
    assert len(siblings.acceptors) == 4, "each is made once"


def test_the_own_slot_and_unknown_slots_are_ignored(siblings: Siblings) -> None:
    siblings.adoption.adopt((1, 9))
    assert siblings.adopted == []


def test_a_slot_is_learned_before_or_after_its_adoption(siblings: Siblings) -> None:
    siblings.learns(5, "a5", "b5")
    assert siblings.adopted == []
    siblings.adoption.adopt((5, 6))
    assert siblings.adopted == ["a5", "b5"]
    siblings.learns(6, "a6")
    assert siblings.adopted == ["a5", "a6", "b5"]


def test_unneeded_descriptors_are_closed(siblings: Siblings) -> None:
    siblings.adoption.adopt((5,))
    assert are_open(siblings.learns(5, "a5", "udp5", kinds=("stream", "datagram"))) == [True, False]
    assert are_open(siblings.learns(5, "a5", "b5")) == [False, True]
    assert are_open(siblings.learns(1, "a1")) == [False]
    assert siblings.adopted == ["a5", "b5"]


@pytest.mark.parametrize(("addresses", "kinds"), [(("a",), ("strange",)), (("a", "b"), ("stream",))])
def test_an_invalid_order_is_refused_and_its_descriptors_closed(
    addresses: tuple[str, ...], kinds: tuple[str, ...], siblings: Siblings
) -> None:
    given = [os.dup(siblings.sock.fileno()) for _ in addresses]
    with pytest.raises(ValueError, match=r"strange|2 descriptors for 2 listeners"):
        siblings.adoption.learn(Learn(5, addresses, kinds), given)
    assert not any(are_open(given))


def test_missing_descriptors_are_detected(siblings: Siblings) -> None:
    given = [os.dup(siblings.sock.fileno())]
    with pytest.raises(ValueError, match="1 descriptors for 2 listeners"):
        siblings.adoption.learn(Learn(5, ("a", "b"), ("stream", "stream")), given)
    assert not any(are_open(given))


def test_a_descriptor_that_is_not_a_socket_is_refused_and_closed(siblings: Siblings) -> None:
    given = [os.dup(siblings.sock.fileno()), os.open(os.devnull, os.O_RDONLY)]
    with pytest.raises(ValueError, match="non-socket"):
        siblings.adoption.learn(Learn(5, ("a", "b"), ("stream", "stream")), given)
    assert not any(are_open(given))


def test_a_listener_that_cannot_be_polled_is_logged_and_the_others_are_adopted(
    siblings: Siblings, caplog: pytest.LogCaptureFixture
) -> None:
    siblings.fails.add("a0")
    siblings.adoption.adopt((0, 2))
    assert siblings.adopted == ["a2", "b0", "b2"]
    assert [record.message for record in caplog.records] == [
        "cannot accept connections queued at slot 0: [Errno 28] No space left on device"
    ]


def test_nothing_is_adopted_after_the_end(siblings: Siblings) -> None:
    siblings.adoption.adopt((0,))
    siblings.adoption.end()
    assert siblings.adopted == []
    siblings.adoption.adopt((0, 2))
    assert siblings.adopted == []
