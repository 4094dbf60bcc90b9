"""The backlog of a connection: kept without copies if that is safe, and sent in order."""

from __future__ import annotations

import socket
import tracemalloc
from collections.abc import Iterator

import pytest

from hybrid.workers.streams.backlog import Backlog

MIB = 1 << 20


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        yield left, right


def pass_on(backlog: Backlog, pair: tuple[socket.socket, socket.socket]) -> bytes:
    """Send everything, and return the received bytes."""
    left, right = pair
    arrived = bytearray()
    while backlog:
        try:
            backlog.send(left)
        except BlockingIOError:
            arrived += right.recv(MIB)
    left.shutdown(socket.SHUT_WR)
    while data := right.recv(MIB):
        arrived += data
    return bytes(arrived)


@pytest.mark.parametrize(
    "pieces",
    [
        [b""],
        [b"a", b"bc", b"def"],
        [b"x" * MIB, b"small", b"y" * MIB],
        [bytes([number % 256]) * (number * 97) for number in range(400)],
        [bytearray(b"a" * 70_000), memoryview(b"b" * 70_000), b"c" * 70_000],
    ],
)
def test_everything_arrives_in_order(pieces: list[bytes], pair: tuple[socket.socket, socket.socket]) -> None:
    backlog = Backlog()
    for piece in pieces:
        backlog.add(piece)
    whole = b"".join(pieces)
    assert len(backlog) == len(whole)
    assert pass_on(backlog, pair) == whole


def test_a_part_may_start_at_an_offset(pair: tuple[socket.socket, socket.socket]) -> None:
    backlog = Backlog()
    backlog.add(b"x" * 50_000 + b"y" * 50_000, 50_000)
    assert pass_on(backlog, pair) == b"y" * 50_000


@pytest.mark.parametrize("kind", [bytearray, lambda data: memoryview(bytearray(data))])
def test_data_that_its_owner_changes_later_is_sent_as_it_was(
    kind: object, pair: tuple[socket.socket, socket.socket]
) -> None:
    data = kind(b"x" * 100_000)  # type: ignore[operator]
    backlog = Backlog()
    backlog.add(data)
    data[:] = b"y" * 100_000
    assert pass_on(backlog, pair) == b"x" * 100_000


def test_bytes_are_not_copied() -> None:
    data = b"x" * (8 * MIB)
    backlog = Backlog()
    tracemalloc.start()
    backlog.add(data, 100)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MIB


def test_small_parts_are_joined() -> None:
    backlog = Backlog()
    for _ in range(10_000):
        backlog.add(b"tiny")
    assert len(backlog) == 40_000
    assert len(backlog._parts) == 1


def test_items_of_other_sizes_are_counted_in_bytes() -> None:
    backlog = Backlog()
    backlog.add(memoryview(b"12345678").cast("I"))
    assert len(backlog) == 8
