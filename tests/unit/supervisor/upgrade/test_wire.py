"""The line between a supervisor and its successor."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from hybrid.supervisor.upgrade.wire import (
    MOST_DESCRIPTORS,
    Cannot,
    Grant,
    Granted,
    Line,
    Serving,
    Taken,
    Want,
    WireError,
    Word,
    Yours,
)

Ends = tuple[Line, Line]


@pytest.fixture
def ends() -> Iterator[Ends]:
    left, right = (Line(sock) for sock in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    yield left, right
    left.close()
    right.close()


@pytest.mark.parametrize(
    "word", [Want(4), Grant(()), Granted(), Cannot("too many \N{PILE OF POO}"), Serving((0, 2)), Yours(), Taken()]
)
def test_a_word_arrives_as_it_was_said(ends: Ends, word: Word) -> None:
    ends[0].say(word)
    assert ends[1].hear_nowait() == (word, [])
    assert ends[1].hear_nowait() is None


def test_the_longest_reason_is_cut(ends: Ends) -> None:
    ends[0].say(Cannot("\N{PILE OF POO}" * 100_000))
    assert ends[1].hear_nowait() == (Cannot("\N{PILE OF POO}" * 1000), [])


def test_as_many_descriptors_as_are_allowed_arrive_and_are_not_inherited(ends: Ends) -> None:
    ends[0].say(Grant((0,) * MOST_DESCRIPTORS), [ends[0].fileno()] * MOST_DESCRIPTORS)
    heard = ends[1].hear_nowait()
    assert heard is not None
    assert len(heard[1]) == MOST_DESCRIPTORS
    assert not any(os.get_inheritable(fd) for fd in heard[1])
    for fd in heard[1]:
        os.close(fd)


def test_too_few_descriptors_are_an_error_and_are_closed(ends: Ends) -> None:
    ends[0].say(Grant((0, 0)), [ends[0].fileno()])
    with pytest.raises(WireError, match="got lost on the way"):
        ends[1].hear_nowait()


def test_descriptors_beside_what_is_no_grant_are_an_error_and_are_closed(ends: Ends) -> None:
    ends[0].say(Granted(), [ends[0].fileno()])
    with pytest.raises(WireError):
        ends[1].hear_nowait()


def test_the_other_side_that_is_gone_is_an_error_for_both_directions(ends: Ends) -> None:
    ends[0].close()
    with pytest.raises(WireError, match="gone"):
        ends[1].hear_nowait()
    with pytest.raises(WireError, match="cannot talk to the other supervisor: broken pipe"):
        ends[1].say(Taken())


def test_hanging_up_twice_is_fine(ends: Ends) -> None:
    ends[0].hang_up()
    ends[0].hang_up()
    assert ends[0].fileno() == -1


@pytest.mark.parametrize(
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
def test_what_is_no_word_is_an_error(datagram: bytes) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line = Line(right)
    with left:
        left.send(datagram)
        with pytest.raises(WireError, match="what this version does not know"):
            line.hear_nowait()
    line.close()
