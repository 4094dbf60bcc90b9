"""Requests with a repeated header section get the same results as on connections of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from support.echo import Answer, EchoCall, Wire, on_loop, pieces
from support.hub import turns
from support.loops import MATRIX
from support.ordeal import undergo
from support.repeats import FIRST, series
from support.requests import cut, points
from support.rows import for_each

from hybrid.workers.http import head as heads
from hybrid.workers.http.clock import NEVER
from hybrid.workers.http.exchange import Likeness, Stage
from hybrid.workers.http.settings import Limits

TIGHT = Limits(max_request_line=20, max_header_bytes=90, max_headers=3, max_pipelined=2)
LIMIT = settings(max_examples=250 if MATRIX else 60, deadline=None)


class Outcome(NamedTuple):
    """The results of the bytes sent on a connection."""

    requests: list[tuple[str, bytes, list[tuple[bytes, bytes]], bytes]]
    versions: list[tuple[str, bool]]
    answers: list[Answer]
    closed: bool
    """True if the server ended the connection, or would not read more."""


def likeness(wire: Wire) -> Likeness | None:
    """How much of the newest request repeats the previous one; None if it cannot be repeated."""
    repeated = wire.connection.reader.repeated
    return None if repeated is None else repeated.likeness


async def outcome(parts: Sequence[bytes], limits: Limits | None = None) -> Outcome:
    """Send the parts; return the results before the client closes its sending side."""
    wire = Wire(limits)
    await wire.deliver(parts)
    closed = wire.is_closing
    waits = bool(wire.connection.reader.is_within_request)  # the request is incomplete
    if waits and not closed:
        await wire.end()
        closed = True
    heads = [number for number, request in enumerate(wire.notes.requests) if request[0] == "HEAD"]
    exchanges = [call.exchange for call in wire.notes.started]
    versions = [(each.request.version, each.keep_alive) for each in exchanges if each.stage is Stage.WHOLE]
    return Outcome(wire.notes.requests, versions, wire.answers(*heads), closed)


async def one_by_one(requests: Sequence[bytes], limits: Limits | None = None) -> Outcome:
    """Return the results of requests on connections of their own, up to the first that closes its connection."""
    result = Outcome([], [], [], False)
    for request in requests:
        alone = await outcome([request], limits)
        result.requests.extend(alone.requests)
        result.versions.extend(alone.versions)
        result.answers.extend(alone.answers)
        if alone.closed:
            return result._replace(closed=True)
    return result


@given(series())
@LIMIT
def test_a_series_gives_the_same_results_as_separate_requests(requests: list[bytes]) -> None:
    """One by one, as from clients that wait for each response."""

    async def main() -> None:
        assert await outcome(requests) == await one_by_one(requests)

    on_loop(main)


CACHE_LINE = b"GET / HTTP/1.1\r\n"
MISLEADING = {
    "a header section that ends with the newest one": [
        *[CACHE_LINE + b"X: 1\r\nHost: a\r\n\r\n"] * 3,
        CACHE_LINE + b"Host: a\r\n\r\n",
        CACHE_LINE + b"X: 1\r\nHost: a\r\n\r\n",
    ],
    "one with whose host a target did away": [
        CACHE_LINE + b"Host: a\r\n\r\n",
        b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        CACHE_LINE + b"Host: a\r\n\r\n",
    ],
    "one whose fields were dropped": [CACHE_LINE + b"Host: a\r\nProxy: b\r\nC_D: e\r\n\r\n"] * 4,
    "fields within a request line": [
        *[CACHE_LINE + b"Host: a\r\n\r\n"] * 3,
        CACHE_LINE + b"X: 1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
    ],
    "two requests in one packet": [*[CACHE_LINE + b"Host: a\r\n\r\n"] * 3, (CACHE_LINE + b"Host: a\r\n\r\n") * 2],
}


@for_each("case", MISLEADING)
def test_a_near_repeat_is_parsed_normally(case: str) -> None:
    requests = MISLEADING[case]

    async def main() -> None:
        assert await outcome(requests) == await one_by_one(requests)

    on_loop(main)


@given(series())
@LIMIT
def test_limits_apply_to_repeats(requests: list[bytes]) -> None:
    """Of the request line, of the bytes and of the number of fields."""

    async def main() -> None:
        assert await outcome(requests, TIGHT) == await one_by_one(requests, TIGHT)

    on_loop(main)


@given(series(), points)
@LIMIT
def test_a_series_may_be_cut_anywhere(requests: list[bytes], where: list[int]) -> None:
    """Pipelined, joined and cut anywhere: the responses are the same, and nothing is left in limbo."""
    whole = [request for request in requests if b"\r\n\r\n" in request]

    async def main() -> None:
        assert await outcome(cut(b"".join(whole), where)) == await outcome([b"".join(whole)])
        await undergo(cut(b"".join(whole), where))
        await undergo(requests)

    on_loop(main)


@given(series())
@settings(max_examples=60 if MATRIX else 25, deadline=None)
def test_one_piece_may_contain_parts_of_two_requests(requests: list[bytes]) -> None:
    """The end of a repeat with the beginning of the next one, again and again."""
    data = b"".join(requests)

    async def main() -> None:
        for size in (7, 40):
            assert await outcome(pieces(data, size)) == await outcome([data])

    on_loop(main)


# --- single bytes


def _byte_by_byte(place: int) -> list[bytes]:
    return [FIRST[:place] + bytes([byte]) + FIRST[place + 1 :] for byte in range(256)]


@for_each("place", range(len(FIRST)))
def test_each_byte_of_a_repeat_is_treated_as_on_a_new_connection(place: int) -> None:
    """And so is the request after it."""

    async def main() -> None:
        pairs = []
        for request in _byte_by_byte(place):
            repeated, fresh = Wire(), Wire()
            for _ in range(3):
                repeated.sends(FIRST)
            assert likeness(repeated) is Likeness.FIELDS
            count = len(repeated.notes.requests), len(repeated.transport.received)
            assert count[0] == 3
            for wire in (repeated, fresh):
                for data in (request, FIRST):
                    if not wire.is_closing:
                        wire.sends(data)
            pairs.append((repeated, fresh, count))
        await turns()
        for repeated, fresh, (requests, size) in pairs:
            assert repeated.notes.requests[requests:] == fresh.notes.requests
            assert repeated.transport.received[size:] == fresh.transport.received
            assert repeated.is_closing == fresh.is_closing

    on_loop(main)


@for_each("place", range(len(FIRST) + 1))
def test_a_repeat_may_be_cut_anywhere_and_lack_or_double_a_byte(place: int) -> None:
    """In the packets, and in the bytes that the client writes."""
    left, right = FIRST[:place], FIRST[place:]

    async def main() -> None:
        assert await outcome([FIRST] * 3 + [left, right] * 2) == await outcome([FIRST] * 5)
        for request in (left + right[1:], left + left[-1:] + right, left + b"\r\n" + right):
            assert await outcome([FIRST] * 3 + [request]) == await one_by_one([FIRST] * 3 + [request])

    on_loop(main)


# --- the connection around them


def waiting() -> Wire:
    """Return a connection with two answered requests, and an application that waits from now on."""
    wire = Wire()
    for _ in range(2):
        wire.sends(FIRST)
    wire.context.answer = lambda exchange: EchoCall(wire.notes, exchange)  # waits for the test
    return wire


def _started(wire: Wire) -> list[Any]:
    return wire.notes.started[2:]


def test_a_repeat_bypasses_the_parser() -> None:
    """Otherwise the tests here would prove nothing."""

    async def main() -> None:
        wire = Wire()
        seen = []
        for target in (b"/a", b"/a", b"/a", b"/b", b"/b"):
            wire.sends(FIRST.replace(b"/a", target))
            seen.append(likeness(wire))
        assert seen == [None, Likeness.NONE, Likeness.FIELDS, Likeness.FIELDS, Likeness.ALL]

    on_loop(main)


@pytest.mark.parametrize("most", range(1, 7))
@pytest.mark.parametrize("together", [False, True])
def test_repeats_count_towards_the_maximum_of_requests(most: int, together: bool) -> None:
    """The last response closes the connection; later input is dropped."""

    async def main() -> None:
        sent = [FIRST * 8] if together else [FIRST] * 8
        found = await outcome(sent, Limits(max_requests_per_connection=most))
        assert len(found.requests) == len(found.answers) == most
        assert [answer.field(b"connection") for answer in found.answers] == [None] * (most - 1) + [b"close"]
        assert found.closed

    on_loop(main)


@for_each("before", range(5))
def test_a_draining_connection_answers_one_more_repeat_and_closes(before: int) -> None:
    async def main() -> None:
        wire = Wire()
        for _ in range(before):
            wire.sends(FIRST)
        wire.connection.drain()
        wire.sends(FIRST)
        assert wire.is_closing
        answers = wire.answers()
        assert [answer.field(b"connection") for answer in answers] == [None] * before + [b"close"]

    on_loop(main)


@pytest.mark.parametrize("before", range(5))
def test_a_connection_that_is_to_leave_says_so_with_its_next_response(before: int) -> None:
    async def main() -> None:
        wire = Wire()
        for _ in range(before):
            wire.sends(FIRST)
        assert not wire.connection.is_leaving
        assert wire.connection.may_leave
        wire.connection.leave()
        assert (wire.connection.may_leave, wire.connection.is_leaving) == (False, True)
        assert not wire.is_closing, "an idle connection waits for its next request"
        wire.sends(FIRST)
        assert wire.is_closing
        assert [answer.field(b"connection") for answer in wire.answers()] == [None] * before + [b"close"]

    on_loop(main)


def test_a_response_whose_head_is_sent_keeps_its_connection() -> None:
    """Its client may send the next request at once, and must not lose it."""

    async def main() -> None:
        wire = waiting()
        wire.sends(FIRST)
        exchange = _started(wire)[0].exchange
        exchange.start(heads.status_of(200), heads.from_bytes([(b"content-length", b"2")]), b"a", more=True)
        assert not wire.connection.may_leave
        exchange.write(b"b", more=False)
        assert not wire.is_closing
        assert wire.answers()[-1].field(b"connection") is None

    on_loop(main)


def test_a_repeat_in_progress_closes_after_a_drain() -> None:
    async def main() -> None:
        wire = waiting()
        wire.sends(FIRST)
        wire.connection.drain()
        _started(wire)[0].goes_on()
        assert wire.answers()[-1].field(b"connection") == b"close"
        assert wire.is_closing

    on_loop(main)


@pytest.mark.parametrize("close", ["close", "abort"])
def test_input_after_the_end_is_not_a_request(close: str) -> None:
    """Some transports deliver data that they have read already."""

    async def main() -> None:
        wire = Wire()
        for _ in range(3):
            wire.sends(FIRST)
        getattr(wire.connection, close)()
        wire.sends(FIRST)
        assert len(wire.notes.requests) == 3

    on_loop(main)


def test_repeats_during_a_response_are_answered_in_order() -> None:
    async def main() -> None:
        wire = waiting()
        for target in (b"/1", b"/2", b"/3"):
            wire.sends(FIRST.replace(b"/a", target))
        assert [call.exchange.request.target for call in _started(wire)] == [b"/1"]
        for number in range(3):
            _started(wire)[number].goes_on()
            await turns()
        assert [answer.body for answer in wire.answers()[2:]] == [b"GET /1 ", b"GET /2 ", b"GET /3 "]
        assert {tuple(call.exchange.request.headers) for call in _started(wire)} == {((b"host", b"a"), (b"x", b"b"))}

    on_loop(main)


@pytest.mark.parametrize("repeats", [False, True])
def test_the_beginning_of_the_next_request_may_arrive_during_a_response(repeats: bool) -> None:
    async def main() -> None:
        wire = waiting()
        wire.sends(FIRST if repeats else FIRST.replace(b"b", b"c"))
        wire.sends(FIRST[:-3])
        _started(wire)[0].goes_on()
        await turns()
        wire.sends(FIRST[-3:])
        _started(wire)[1].goes_on()
        assert len(wire.answers()) == 4
        assert wire.notes.requests[-1] == wire.notes.requests[0]

    on_loop(main)


def test_the_application_is_told_if_the_client_leaves_during_a_repeat() -> None:
    async def main() -> None:
        wire = waiting()
        wire.sends(FIRST)
        (call,) = _started(wire)
        assert not call.exchange.gone
        await wire.transport.vanishes()
        assert call.exchange.gone
        assert wire.connection not in wire.context.clock.watched

    on_loop(main)


def test_a_client_may_close_its_sending_side_after_a_repeat() -> None:
    async def main() -> None:
        wire = waiting()
        wire.sends(FIRST)
        await wire.end()
        assert not wire.transport.closing
        _started(wire)[0].goes_on()
        await turns()
        assert wire.answers()[-1].field(b"connection") == b"close"
        assert wire.transport.closing

    on_loop(main)


def test_repeats_have_the_usual_deadlines() -> None:
    """None while the application works; the pause between requests is limited."""

    async def main() -> None:
        wire = waiting()
        connection = wire.connection
        idle = connection.deadline
        assert idle < NEVER
        for number in range(3):
            wire.sends(FIRST)
            assert connection.deadline == NEVER
            _started(wire)[number].goes_on()
            assert connection.deadline == connection.clock.now + wire.context.keep_alive_timeout
        wire.sends(FIRST[:5])
        assert connection.deadline == connection.clock.now + wire.context.header_timeout

    on_loop(main)


def test_connections_do_not_mix() -> None:
    """Each has its own remembered fields, however their requests alternate."""

    async def main() -> None:
        wires = [Wire() for _ in range(3)]
        shared = wires[0].context
        for wire in wires[1:]:
            wire.connection.context = shared
        for turn in range(5):
            for number, wire in enumerate(wires):
                wire.sends(b"GET /%d HTTP/1.1\r\nHost: a\r\nX: %d\r\n\r\n" % (turn, number))
        await asyncio.sleep(0)
        requests = wires[0].notes.requests
        assert [request[1] for request in requests] == [b"/%d" % turn for turn in range(5) for _ in wires]
        assert [request[2][1][1] for request in requests] == [b"0", b"1", b"2"] * 5

    on_loop(main)
