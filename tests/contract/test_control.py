"""The contract of the control socket: each request of `support.control_contract.CONTRACT` gets an answer of its shape.

`PEERS` are the supervisors that are held to it. The fake is one, so that tests of the commands rely on what is so.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from support.control_contract import (
    CONTRACT,
    EVENT_SHAPE,
    GREETING_SHAPE,
    PROGRESS_SHAPE,
    STATUS_SHAPE,
    Clause,
    complaints,
)
from support.control_peer import ControlPeer, dial, lines_of, program, service, status
from support.rows import for_each


@contextlib.contextmanager
def _fake() -> Iterator[str]:
    with ControlPeer() as peer:
        yield peer.address


PEERS: dict[str, Callable[[], AbstractContextManager[str]]] = {"fake": _fake}
"""Name -> starts a supervisor with one application `web` of two workers, and gives its address."""


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest) -> Iterator[str]:
    with PEERS[request.param]() as address:
        yield address


def test_0_the_first_line_is_the_greeting(peer: str) -> None:
    with dial(peer) as sock:
        assert [*complaints(next(lines_of(sock)), GREETING_SHAPE, "greeting")] == []


@pytest.mark.parametrize("clause", CONTRACT, ids=lambda clause: f"{clause.number}-{_name(clause)}")
def test_a_request_has_an_answer_of_its_shape(peer: str, clause: Clause) -> None:
    is_line = isinstance(clause.request, bytes)
    with dial(peer) as sock:
        answers = lines_of(sock)
        next(answers)
        sock.sendall(clause.request if is_line else json.dumps(clause.request).encode() + b"\n")
        for answer in answers:
            if "progress" not in answer:
                break
            assert answer["id"] == clause.number
            assert [*complaints(answer["progress"], PROGRESS_SHAPE, "progress")] == []
        assert answer["id"] == (None if is_line else clause.number)
        if clause.code:
            assert answer["error"]["code"] == clause.code
            assert answer["error"]["reason"]
        else:
            assert [*complaints(answer.get("result"), clause.result, "result")] == []
        if clause.ends:
            assert list(answers) == []


def test_one_connection_carries_all_requests_but_the_last(peer: str) -> None:
    with dial(peer) as sock:
        answers = lines_of(sock)
        next(answers)
        for clause in CONTRACT[:-1]:
            line = clause.request if isinstance(clause.request, bytes) else json.dumps(clause.request).encode() + b"\n"
            sock.sendall(line)
            answer = next(each for each in answers if "result" in each or "error" in each)
            assert ("error" in answer) == bool(clause.code)


def _name(clause: Clause) -> str:
    return "line" if isinstance(clause.request, bytes) else str(clause.request["request"])


# --- the shapes themselves


@pytest.mark.parametrize("fields", [status(), status(service(), program()), status(service(failure="it died"))])
def test_the_statuses_of_the_tests_have_the_shape_of_the_contract(fields: dict[str, object]) -> None:
    assert [*complaints(fields, STATUS_SHAPE)] == []


@for_each(
    ("value", "shape", "expected"),
    [
        ({"a": 1}, {"a": int}, []),
        ({"a": 1, "b": 2}, {"a": int}, []),
        ({}, {"a": int}, [": has no 'a'"]),
        ({}, {"a?": int}, []),
        ({"a": "x"}, {"a?": int}, [".a: 'x' is no int"]),
        ({"a": True}, {"a": int}, [".a: True is no int"]),
        ({"a": 1}, {"a": float}, []),
        ({"a": [1, "x"]}, {"a": [int]}, [".a[1]: 'x' is no int"]),
        ({"a": 0}, {"a": None}, [".a: 0 is not null"]),
        ([], {"a": int}, [": [] is no object"]),
        ({"event": "ready", "at": 1, "slot": "x"}, EVENT_SHAPE, [".slot: 'x' is none of 2 shapes"]),
    ],
)
def test_a_difference_of_shape_is_found(value: object, shape: object, expected: list[str]) -> None:
    assert [*complaints(value, shape)] == expected
