"""Messages of the channel: what is encoded comes back, whatever else arrives is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.workers.contract.messages import MAX_MESSAGE, BootFailed, Message, MessageError, Ready, decode, encode

texts = st.text(st.characters(), max_size=50)
messages = st.one_of(st.builds(Ready, texts, texts), st.builds(BootFailed, st.integers(-1000, 1000), texts))


@given(messages)
def test_a_message_comes_back_as_it_was(message: Message) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize("letter", ["x", "\n", "é", "\ud800", "\U0001f600", '"'])
def test_long_texts_are_cut_so_that_a_message_always_fits(letter: str) -> None:
    for message in (Ready(letter * 100_000, letter * 100_000), BootFailed(3, letter * 100_000)):
        datagram = encode(message)
        assert len(datagram) <= MAX_MESSAGE
        assert type(decode(datagram)) is type(message)


def test_a_reason_of_usual_length_arrives_whole() -> None:
    reason = "cannot import 'app'\n" * 200
    assert decode(encode(BootFailed(3, reason))) == BootFailed(3, reason)


@pytest.mark.parametrize(
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
        b"[" * 30_000,
        b"9" * 30_000,
    ],
)
def test_what_is_no_message_is_refused(datagram: bytes) -> None:
    with pytest.raises(MessageError):
        decode(datagram)


@given(st.binary(max_size=200))
def test_no_garbage_gets_through(datagram: bytes) -> None:
    with pytest.raises(MessageError):
        decode(datagram)
