"""The part of an inheritance that belongs to a service, when services and their addresses change between two starts."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from hybrid.supervisor.listeners.addresses import Bind, parse_bind
from hybrid.supervisor.upgrade.inheritance import Inheritance, _Entry
from hybrid.supervisor.upgrade.wire import Granted, PeerLink, Want

ANY = "127.0.0.1:0"
ONE, TWO = "127.0.0.1:8001", "127.0.0.1:8002"


class Bequest:
    """An inheritance, and the predecessor's end of its link."""

    def __init__(self, *entries: tuple[str, str, int]) -> None:
        """`entries`: service, address and number of slots of each."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.predecessor = PeerLink(theirs)
        listed = [_Entry(bind, [], slots, None, service=service) for service, bind, slots in entries]
        self.inheritance = Inheritance(1, PeerLink(ours), listed)

    def takes(self, service: str, *texts: str) -> list[int | None]:
        """Return which of the entries a service with these addresses gets for each."""
        share = self.inheritance.share(service, binds(*texts))
        handed = [share.sockets_for(bind) for bind in binds(*texts)]
        return [None if one is None else one.entry for one in handed]

    def asked(self, service: str, slots: int, *texts: str) -> list[Want]:
        """Return what the predecessor is asked for by a service with so many workers."""
        self.predecessor.send(Granted())
        self.predecessor.send(Granted())
        self.inheritance.share(service, binds(*texts)).have_slots(slots)
        found: list[Want] = []
        while (received := self.predecessor.receive_nowait()) is not None:
            assert isinstance(received[0], Want)
            found.append(received[0])
        return found

    def close(self) -> None:
        self.predecessor.close()
        self.inheritance.close()


def binds(*texts: str) -> tuple[Bind, ...]:
    return tuple(map(parse_bind, texts))


@pytest.fixture
def swapped() -> Iterator[Bequest]:
    """At the predecessor, `web` has address ONE with 4 slots, and `chat` TWO with one."""
    made = Bequest(("web", ONE, 4), ("chat", TWO, 1))
    yield made
    made.close()


@pytest.fixture
def twice() -> Iterator[Bequest]:
    """At the predecessor, both services have any free port, `chat` twice."""
    made = Bequest(("web", ANY, 2), ("chat", ANY, 2), ("chat", ANY, 2))
    yield made
    made.close()


def test_each_service_gets_its_own_addresses(swapped: Bequest) -> None:
    assert swapped.takes("web", ONE) == [0]
    assert swapped.takes("chat", TWO) == [1]


def test_services_may_swap_their_addresses(swapped: Bequest) -> None:
    assert swapped.takes("web", TWO) == [1]
    assert swapped.takes("chat", ONE) == [0]


def test_a_renamed_service_keeps_its_addresses(swapped: Bequest) -> None:
    assert swapped.takes("site", ONE) == [0]


def test_a_new_service_gets_the_address_of_one_that_was_removed(swapped: Bequest) -> None:
    assert swapped.takes("news", TWO, "127.0.0.1:8003") == [1, None]


def test_an_address_is_taken_once(swapped: Bequest) -> None:
    swapped.takes("web", ONE)
    assert swapped.takes("chat", ONE) == [None]


def test_any_free_port_stays_with_its_service(twice: Bequest) -> None:
    assert twice.takes("chat", ANY, ANY) == [1, 2]
    assert twice.takes("web", ANY) == [0]


def test_a_renamed_service_gets_another_free_port(twice: Bequest) -> None:
    assert twice.takes("site", ANY) == [None]


def test_all_addresses_of_an_older_version_belong_to_any_service() -> None:
    bequest = Bequest(("", ANY, 2))
    assert bequest.takes("web", ANY) == [0]
    bequest.close()


def test_so_many_slots_have_sockets_as_the_addresses_in_use_had(swapped: Bequest) -> None:
    assert swapped.inheritance.share("web", binds(ONE)).slots == 4
    assert swapped.inheritance.share("web", binds(TWO)).slots == 1
    assert swapped.inheritance.share("web", binds(ONE, TWO)).slots == 4
    assert swapped.inheritance.share("news", binds("127.0.0.1:8003")).slots == 0


def test_nothing_is_asked_for_that_is_there(swapped: Bequest) -> None:
    assert swapped.asked("web", 4, ONE) == []


def test_more_workers_of_one_service_ask_for_its_sockets_only(swapped: Bequest) -> None:
    assert swapped.asked("chat", 3, TWO) == [Want(3, "chat")]


def test_sockets_are_asked_for_by_the_name_that_the_predecessor_knows(swapped: Bequest) -> None:
    assert swapped.asked("web", 2, TWO) == [Want(2, "chat")]


def test_an_address_of_another_service_gets_as_many_sockets_as_the_own_ones_have(swapped: Bequest) -> None:
    """Otherwise the service would have to open some, which it may not before it owns the sockets."""
    assert swapped.asked("web", 2, ONE, TWO) == [Want(4, "chat")]
