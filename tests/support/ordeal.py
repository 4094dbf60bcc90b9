"""Invariants of a connection with arbitrary input: no error, no limbo, only our responses, no doubtful request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hybrid.workers.http.settings import Limits
from support.echo import Answer, Wire
from support.grammar import Fields, read_requests
from support.malformed import LIMITS
from support.records import logged

FIELDS = frozenset({b"content-type", b"content-length", b"connection"})  # of all responses here
REFUSALS = frozenset({400, 413, 414, 417, 431, 501, 505})


async def undergo(parts: Sequence[bytes], limits: Limits = LIMITS) -> tuple[tuple[bytes, ...], list[int]]:
    """Send the parts and the end; check the invariants; return the application's input and the statuses."""
    with logged() as log:
        wire = Wire(limits)
        await wire.deliver(parts)
        await wire.end()
        if not wire.transport.closing:
            raise AssertionError("the client has ended its side, and the server does not end")
        for _ in range(3):
            await asyncio.sleep(0)
        assert wire.connection not in wire.context.clock.watched, "the connection is not over"
    assert not [line for line in log if "ERROR" in line], log
    _check_requests(wire, b"".join(parts))
    answers = wire.answers(*(n for n, request in enumerate(wire.notes.requests) if request[0] == "HEAD"))
    _check_answers(wire, answers)
    return wire.notes.seen, [answer.status for answer in answers]


def _check_requests(wire: Wire, data: bytes) -> None:
    """The application must have received the requests that the grammar finds, and nothing after them."""
    right = read_requests(data)
    for method, target, fields, body in wire.notes.requests:
        expected = next(right, None)
        assert expected is not None, f"{method} {target!r} is no request by the grammar"
        assert (method, body) == (expected.method, expected.body)
        if b"://" in expected.target[:8]:
            assert expected.target.endswith(target.removeprefix(b"/")) or target == b"*", (target, expected.target)
        else:
            assert target == expected.target
        assert sorted(_told(fields)) == sorted(_told(expected.fields)), (fields, expected.fields)
        assert len([name for name, _ in fields if name == b"host"]) <= 1


def _told(fields: Fields) -> Fields:
    """The fields that reach the application unchanged: not Host, which the target may replace, nor dropped ones."""
    return [(name, value) for name, value in fields if name not in (b"host", b"proxy") and b"_" not in name]


def _check_answers(wire: Wire, answers: list[Answer]) -> None:
    """One for each request, in their order; at most one refusal, at the end."""
    count = len(wire.notes.requests)
    for number, answer in enumerate(answers):
        names = [name for name, _ in answer.fields]
        assert set(names) <= FIELDS, names
        assert len(set(names)) == len(names), names
        if number < count:
            assert answer.status == 200
            method, _, _, _ = wire.notes.requests[number]
            assert answer.body == (b"" if method == "HEAD" else wire.notes.seen[number])
        else:
            assert answer.status in REFUSALS, answer
            assert number == count, answer
            assert answer.field(b"connection") == b"close"
    assert len(answers) >= count, "an answer is missing"
