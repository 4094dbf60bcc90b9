"""Messages of calls: inline or in sealed memory, and nothing else is accepted."""

from __future__ import annotations

import array
import fcntl
import os
import resource
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hybrid.workers.offload import letters
from hybrid.workers.offload.letters import CALL, BadLetter, Receiver
from hybrid.workers.offload.packing import MOST_BUFFERS, Packed, pack_result

INLINE = 128 * 1024
ALL_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
HEAD = struct.Struct("=BBHIQd")


class Pair:
    """Two ends of a connection."""

    def __init__(self) -> None:
        self.sender, self.receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.receiver.setblocking(False)

    def passes(self, value: object) -> letters.Letter:
        """Send an object; return what comes."""
        letters.send(self.sender, CALL, 7, pack_result(value))
        return self.receives()

    def receives(self) -> letters.Letter:
        letter = Receiver().receive(self.receiver)
        assert letter is not None
        return letter

    def sends_raw(self, data: bytes, *descriptors: int) -> None:
        """Send bytes and descriptors, which it closes."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        self.sender.sendmsg([data], rights)
        for descriptor in descriptors:
            os.close(descriptor)


@pytest.fixture
def pair() -> Iterator[Pair]:
    found = Pair()
    before = descriptors()
    yield found
    assert descriptors() == before, "descriptors are left"
    found.sender.close()
    found.receiver.close()


def descriptors() -> list[str]:
    """Return the open descriptors."""
    return [entry.name for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]


def memory(content: bytes, seals: int = ALL_SEALS) -> int:
    """Return a memfd with this content."""
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    if seals:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def head(*lengths: int, version: int = 1, count: int | None = None) -> bytes:
    """Return head and lengths of a message."""
    buffers = len(lengths) - 1 if count is None else count
    return HEAD.pack(version, CALL, buffers, 0, 7, 0.0) + struct.pack(f"={len(lengths)}Q", *lengths)


# --- what is sent


@pytest.mark.parametrize("size", [0, 100, INLINE - 100, INLINE + 1, 3_000_000])
def test_an_object_of_any_size_passes(size: int, pair: Pair) -> None:
    letter = pair.passes(b"x" * size)
    assert (letter.kind, letter.key, letter.is_dill) == (CALL, 7, False)
    assert letter.load() == b"x" * size


def test_a_letter_remembers_that_dill_has_made_it(pair: Pair) -> None:
    letter = pair.passes(lambda: 5)
    assert letter.is_dill
    assert letter.load()() == 5


@pytest.mark.parametrize("size", [1000, 1_000_000])
def test_buffers_are_writable_and_of_the_receiver_alone(size: int, pair: Pair) -> None:
    sent = np.zeros(size)
    (found, _) = pair.passes((sent, bytearray(3))).load()
    found += 1
    assert found.sum() == size
    assert sent.sum() == 0


def test_large_buffers_are_aligned_for_vector_instructions(pair: Pair) -> None:
    arrays = [np.full(size, size % 256, dtype=np.uint8) for size in (1, 100_000, 63, 200_001)]
    letter = pair.passes(arrays)
    found = letter.load()
    assert [int(one.ctypes.data) % 64 for one in found] == [0] * 4
    assert [(one.size, int(one[0]), int(one[-1])) for one in found] == [
        (n, n % 256, n % 256) for n in (1, 100_000, 63, 200_001)
    ]


@pytest.mark.parametrize("size", [1, 1000])
def test_as_many_buffers_as_a_pickle_may_have_pass(size: int, pair: Pair) -> None:
    """More parts than one sendmsg(2) takes."""
    found = pair.passes([np.full(size, number) for number in range(MOST_BUFFERS + 5)]).load()
    assert [int(one[-1]) for one in found] == list(range(MOST_BUFFERS + 5))


def test_small_buffers_of_sockets_do_not_matter(pair: Pair) -> None:
    pair.sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    assert pair.passes(b"x" * 100_000).load() == b"x" * 100_000


def test_one_receiver_takes_one_message_after_another(pair: Pair) -> None:
    receiver = Receiver()
    for size in (200_000, 10, 100_000, 0):
        letters.send(pair.sender, CALL, size, Packed(b"y" * size))
        letter = receiver.receive(pair.receiver)
        assert letter is not None
        assert (letter.key, bytes(letter.pickle)) == (size, b"y" * size)


# --- without a message


def test_nothing_that_has_come_is_told_from_an_end(pair: Pair) -> None:
    with pytest.raises(BlockingIOError):
        Receiver().receive(pair.receiver)
    pair.sender.shutdown(socket.SHUT_WR)
    assert Receiver().receive(pair.receiver) is None


def test_a_peer_that_closes_without_reading_is_a_reset(pair: Pair) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left:
        letters.send(left, CALL, 1, Packed(b"x"))
        right.close()
        with pytest.raises(ConnectionResetError):
            Receiver().receive(left)


def test_a_receiver_that_is_gone_is_an_error() -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    right.close()
    with left, pytest.raises(BrokenPipeError):
        letters.send(left, CALL, 1, Packed(b"x" * 500_000))


# --- what is refused


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"hello", "it is too short", id="short"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "it has another form", id="http"),
        pytest.param(head(0, version=2), "it has another form", id="version"),
        pytest.param(head(0, count=MOST_BUFFERS + 1), "it has another form", id="too-many-buffers"),
        pytest.param(head(0, count=3), "it has another form", id="lengths-missing"),
        pytest.param(head(5) + b"1234", "its content has another size", id="content-missing"),
        pytest.param(head(3) + b"1234", "its content has another size", id="content-beyond"),
        pytest.param(head(2**64 - 1, 2) + b"1", "its content has another size", id="overflow"),
        pytest.param(head(170_000) + bytes(170_000), "it was cut", id="cut"),
    ],
)
def test_a_message_of_another_form_is_refused(data: bytes, reason: str, pair: Pair) -> None:
    pair.sends_raw(data)
    with pytest.raises(BadLetter, match=reason):
        pair.receives()


@pytest.mark.parametrize("seals", [0, ALL_SEALS & ~fcntl.F_SEAL_WRITE, ALL_SEALS & ~fcntl.F_SEAL_SHRINK])
def test_memory_that_may_change_is_refused(seals: int, pair: Pair) -> None:
    pair.sends_raw(head(4), memory(b"data", seals))
    with pytest.raises(BadLetter, match="its memory may still change"):
        pair.receives()


def test_memory_of_another_size_is_refused(pair: Pair) -> None:
    pair.sends_raw(head(5), memory(b"data"))
    with pytest.raises(BadLetter, match="its content has another size"):
        pair.receives()


def test_empty_memory_is_refused(pair: Pair) -> None:
    pair.sends_raw(head(0), memory(b""))
    with pytest.raises(BadLetter, match="its memory cannot be used"):
        pair.receives()


def test_a_descriptor_that_is_no_memory_is_refused(pair: Pair) -> None:
    pair.sends_raw(head(4), os.open(os.devnull, os.O_RDONLY))
    with pytest.raises(BadLetter, match="its memory cannot be used"):
        pair.receives()


def test_descriptors_beyond_the_first_are_closed(pair: Pair) -> None:
    pair.sends_raw(head(4), *(memory(b"data") for _ in range(5)))
    with pytest.raises(BadLetter, match="it has more than one descriptor"):
        pair.receives()


def test_a_lack_of_descriptors_is_named(pair: Pair) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    pair.sends_raw(head(4), memory(b"data"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(BadLetter, match="no descriptor was left"):
            pair.receives()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_descriptors_beyond_all_room_are_closed(pair: Pair) -> None:
    pair.sends_raw(head(4), *(memory(b"data") for _ in range(50)))
    with pytest.raises(BadLetter, match="it was cut"):
        pair.receives()


def test_a_small_message_with_a_descriptor_keeps_none(pair: Pair) -> None:
    pair.sends_raw(b"hello", memory(b"data"))
    with pytest.raises(BadLetter, match="it is too short"):
        pair.receives()
