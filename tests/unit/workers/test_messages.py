"""Messages of the channel: encoding and decoding are inverse, bad messages are refused."""

from __future__ import annotations

import dataclasses
import json
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rows import for_each

from hybrid.workers.contract import messages as contract
from hybrid.workers.contract.messages import (
    MAX_MESSAGE,
    Adopt,
    BootFailed,
    CannotSpawn,
    Forked,
    Learn,
    Message,
    MessageError,
    Ping,
    Ready,
    RecycleDue,
    Spawn,
    Unfit,
    decode,
    encode,
)

KINDS: tuple[type[Message], ...] = typing.get_args(Message)
texts = st.text(st.characters(), max_size=50)
numbers = st.integers(-(2**70), 2**70)
_VALUES: dict[str, st.SearchStrategy[object]] = {
    "str": texts,
    "int": numbers,
    "bool": st.booleans(),
    "tuple[int, ...]": st.lists(numbers, max_size=20).map(tuple),
    "tuple[str, ...]": st.lists(texts, max_size=20).map(tuple),
}


def messages_of(kind: type[Message]) -> st.SearchStrategy[Message]:
    return st.builds(kind, *(_VALUES[str(field.type)] for field in dataclasses.fields(kind)))


@given(st.one_of([messages_of(kind) for kind in KINDS]))
def test_a_message_comes_back_as_it_was(message: Message) -> None:
    assert decode(encode(message)) == message


def test_every_message_there_is_can_be_sent() -> None:
    defined = {one for one in vars(contract).values() if dataclasses.is_dataclass(one)}
    assert defined == set(KINDS)


@for_each("letter", ["x", "\n", "é", "\ud800", "\U0001f600", '"'])
def test_long_texts_are_cut_so_that_a_message_always_fits(letter: str) -> None:
    long = letter * 100_000
    for message in (Ready(long, long), BootFailed(3, long), RecycleDue(long), Unfit(long), CannotSpawn(1, long)):
        datagram = encode(message)
        assert len(datagram) <= MAX_MESSAGE
        assert type(decode(datagram)) is type(message)


def test_a_reason_of_usual_length_arrives_whole() -> None:
    reason = "cannot import 'app'\n" * 200
    assert decode(encode(BootFailed(3, reason))) == BootFailed(3, reason)


def test_as_many_slots_as_there_can_be_fit_one_message() -> None:
    every = Adopt(tuple(range(1024)))
    assert len(encode(every)) <= MAX_MESSAGE
    assert decode(encode(every)) == every


def test_as_many_listeners_as_descriptors_can_travel_fit_one_message() -> None:
    address = "[2001:0db8:0000:0000:0000:0000:0000:0001]:65535"
    assert len(encode(Learn(1023, (address,) * 253, ("datagram",) * 253))) <= MAX_MESSAGE


def test_tuples_come_back_as_tuples() -> None:
    message = decode(b'{"type": "Learn", "slot": 3, "addresses": ["a:1"], "kinds": []}')
    assert message == Learn(3, ("a:1",), ())
    assert hash(message) == hash(Learn(3, ("a:1",), ()))


@for_each("kind", KINDS)
@for_each("value", [None, True, 1.5, "x", 7, [[]], ["x", 7], [7, "x"], [True], {}, {"x": 7}])
def test_a_field_of_another_type_is_refused(kind: type[Message], value: object) -> None:
    for field in dataclasses.fields(kind):
        right: dict[str, object] = {
            "int": 1,
            "bool": True,
            "str": "x",
            "tuple[int, ...]": [1],
            "tuple[str, ...]": ["x"],
        }
        fields = {one.name: right[str(one.type)] for one in dataclasses.fields(kind)}
        assert isinstance(decode(json.dumps({"type": kind.__name__, **fields}).encode()), kind)
        if type(value) is not type(right[str(field.type)]) or isinstance(value, list):
            with pytest.raises(MessageError, match=kind.__name__):
                decode(json.dumps({"type": kind.__name__, **fields, field.name: value}).encode())


@pytest.mark.parametrize("message", [Ping(), Forked(7), Spawn(1, 2, 3), Adopt((1, 2))])
def test_a_field_too_few_or_too_many_is_refused(message: Message) -> None:
    fields = json.loads(encode(message))
    with pytest.raises(MessageError):
        decode(json.dumps({**fields, "more": 1}).encode())
    optional = {one.name for one in dataclasses.fields(message) if one.default is not dataclasses.MISSING}
    for name in fields.keys() - optional:
        with pytest.raises(MessageError):
            decode(json.dumps({key: value for key, value in fields.items() if key != name}).encode())


@for_each(
    "datagram",
    [
        b"lorem ipsum",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"7",
        b"{}",
        b'{"type": "Gone"}',
        b'{"type": ["Ready"]}',
        b'{"type": "Ready"}',
        b'{"type": "Ready", "loop": "epoll", "interface": "x", "more": 1}',
        b'{"type": "Ready", "loop": 5, "interface": "x"}',
        b'{"type": "BootFailed", "code": "3", "reason": "x"}',
        b'{"type": "BootFailed", "code": true, "reason": "x"}',
        b'{"type": "Forked", "pid": NaN}',
        b'{"type": "Forked", "pid": Infinity}',
        b'{"type": "Forked", "pid": ' + b"9" * 30_000 + b"}",
        b'{"type": "Adopt", "slots": "12"}',
        b'{"type": "Adopt", "slots": {"1": 2}}',
        b'{"type": "Adopt", "slots": ' + b"[" * 30_000,
        b'{"type": "Message"}',
        b'{"type": "MessageError"}',
        b"[" * 30_000,
        b"9" * 30_000,
    ],
)
def test_a_bad_message_is_refused(datagram: bytes) -> None:
    with pytest.raises(MessageError):
        decode(datagram)


@given(st.binary(max_size=200))
def test_no_garbage_gets_through(datagram: bytes) -> None:
    with pytest.raises(MessageError):
        decode(datagram)
