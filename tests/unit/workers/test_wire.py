"""The form of messages: encoding, decoding, refusals, descriptors."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rows import for_each

from hybrid.workers.contract import wire
from hybrid.workers.contract.wire import Codec, UndecodableError


@dataclasses.dataclass(frozen=True)
class Report:
    count: int
    is_last: bool
    text: str
    names: tuple[str, ...]
    parent: int | None
    anything: object


@dataclasses.dataclass(frozen=True)
class Nothing:
    pass


CODEC: Codec[Report | Nothing] = Codec((Report, Nothing))
RIGHT = Report(1, True, "x", ("a",), None, {"free": [1, None]})
JSON = b'{"type": "Report", "count": 1, "is_last": true, "text": "x", "names": ["a"], "parent": null, "anything": 1}'


@given(
    st.builds(
        Report,
        st.integers(),
        st.booleans(),
        st.text(),
        st.lists(st.text()).map(tuple),
        st.none() | st.integers(),
        st.none() | st.text() | st.dictionaries(st.text(), st.integers()),
    )
    | st.builds(Nothing)
)
def test_a_message_comes_back_as_it_was(message: Report | Nothing) -> None:
    assert CODEC.decode(CODEC.encode(message)) == message


def test_long_texts_are_cut_on_request_only() -> None:
    message = dataclasses.replace(RIGHT, text="x" * 100)
    assert CODEC.decode(CODEC.encode(message)) == message
    assert CODEC.decode(CODEC.encode(message, most_text=7)) == dataclasses.replace(RIGHT, text="x" * 7)
    assert b'"text": "xxx",' in Codec((Report,), most_text=3).encode(message)


@for_each(
    ("right", "wrong", "field"),
    [
        (b'"count": 1', b'"count": true', "count"),
        (b'"count": 1', b'"count": 1.0', "count"),
        (b'"is_last": true', b'"is_last": 1', "is_last"),
        (b'"text": "x"', b'"text": null', "text"),
        (b'"names": ["a"]', b'"names": [1]', "names"),
        (b'"names": ["a"]', b'"names": "a"', "names"),
        (b'"parent": null', b'"parent": false', "parent"),
        (b'"parent": null', b'"parent": "1"', "parent"),
    ],
)
def test_a_field_of_another_type_is_named(right: bytes, wrong: bytes, field: str) -> None:
    assert right in JSON
    with pytest.raises(UndecodableError, match=rf"^Report\.{field} is not ") as raised:
        CODEC.decode(JSON.replace(right, wrong))
    assert raised.value.fields["type"] == "Report"


@for_each("datagram", [b"", b"7", b"[]", b"{}", b'{"type": "Gone"}', b'{"type": []}', b"[" * 30_000])
def test_a_datagram_that_is_no_message_is_refused(datagram: bytes) -> None:
    with pytest.raises(UndecodableError):
        CODEC.decode(datagram)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        yield left, right


def test_descriptors_arrive_as_duplicates_that_no_program_inherits(ends: tuple[socket.socket, socket.socket]) -> None:
    read, write = os.pipe()
    wire.send(ends[0], b"two", [read, write])
    datagram, found, is_cut = wire.receive(ends[1], 100)
    assert (datagram, len(found), is_cut) == (b"two", 2, False)
    assert not any(os.get_inheritable(fd) for fd in found)
    os.write(found[1], b"through")
    assert os.read(read, 100) == b"through"
    for fd in (read, write, *found):
        os.close(fd)


def test_as_many_descriptors_as_the_kernel_takes_arrive(ends: tuple[socket.socket, socket.socket]) -> None:
    wire.send(ends[0], b"many", [0] * wire.MOST_DESCRIPTORS)
    _, found, is_cut = wire.receive(ends[1], 100)
    for fd in found:
        os.close(fd)
    assert (len(found), is_cut) == (wire.MOST_DESCRIPTORS, False)


def test_nothing_to_receive_and_the_end_are_told_apart(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(BlockingIOError):
        wire.receive(ends[1], 100)
    ends[0].close()
    assert wire.receive(ends[1], 100) == (b"", [], False)
