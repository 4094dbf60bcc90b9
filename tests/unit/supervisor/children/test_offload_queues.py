"""`OffloadQueues`: a queue for each generation that needs one, for as long as the generation has children."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from hybrid.supervisor.children.offload_queues import OffloadQueues
from hybrid.workers.contract import offload_queue


@pytest.fixture
def queues() -> Iterator[OffloadQueues]:
    found = OffloadQueues()
    yield found
    found.close()


def accepts(queues: OffloadQueues, generation: int, pool: str = "cpu") -> bool:
    """Return True if a call of a generation can be queued."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as caller:
        try:
            caller.connect(offload_queue.address(queues.key, generation, pool))
        except ConnectionRefusedError:
            return False
        return True


def test_a_queue_is_opened_once_for_each_generation(queues: OffloadQueues) -> None:
    assert not accepts(queues, 1)
    first, second = queues.of(1, "cpu"), queues.of(2, "cpu")
    assert first is queues.of(1, "cpu")
    assert first is not second
    assert accepts(queues, 1)
    assert accepts(queues, 2)


def test_queues_of_generations_without_children_are_closed(queues: OffloadQueues) -> None:
    queues.of(1, "cpu")
    queues.of(2, "cpu")
    queues.close_old({2, 3})
    assert not accepts(queues, 1)
    assert accepts(queues, 2)


def test_calls_wait_in_a_queue_that_nobody_serves(queues: OffloadQueues) -> None:
    queues.of(1, "cpu")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as caller:
        caller.connect(offload_queue.address(queues.key, 1, "cpu"))
        caller.send(b"call")
        sock, _ = queues.of(1, "cpu").accept()
        with sock:
            assert sock.recv(10) == b"call"


def test_a_child_keeps_its_own_queue_only(queues: OffloadQueues) -> None:
    own = queues.of(1, "cpu")
    queues.of(2, "cpu")
    queues.close(besides=own)
    assert accepts(queues, 1)
    assert not accepts(queues, 2)


def test_two_services_have_different_addresses(queues: OffloadQueues) -> None:
    other = OffloadQueues()
    queues.of(1, "cpu")
    assert not accepts(other, 1)


def test_each_pool_of_a_generation_has_a_queue_of_its_own(queues: OffloadQueues) -> None:
    queues.of(1, "cpu")
    assert not accepts(queues, 1, "ml")
    queues.of(1, "ml")
    queues.close_unserved({(1, "ml")}, before=2)
    assert accepts(queues, 1, "ml")
    assert not accepts(queues, 1, "cpu")
    queues.close_old({2})
    assert not accepts(queues, 1, "ml")


def test_the_longest_name_of_a_pool_fits_into_an_address(queues: OffloadQueues) -> None:
    queues.of(2**31, "p" * 32)
    assert accepts(queues, 2**31, "p" * 32)
