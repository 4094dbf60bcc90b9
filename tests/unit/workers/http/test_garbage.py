"""Arbitrary input: no error, no limbo, no doubtful request for the application, no response with foreign fields."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.echo import on_loop, pieces
from support.grammar import read_requests
from support.loops import MATRIX
from support.malformed import MALFORMED, ODD
from support.ordeal import undergo
from support.requests import Request, cut, garbage, points, requests

from hybrid.workers.http.settings import Limits

LIMIT = settings(max_examples=100 if MATRIX else 25, deadline=None)
TIGHT = Limits(
    max_request_line=12, max_header_bytes=120, max_headers=4, max_body_size=20, max_pipelined=1,
    max_requests_per_connection=3,
)  # fmt: skip


@given(garbage, points)
@LIMIT
@example(b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", [])
@example(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nConnection: close\r\n\r\n", [])
def test_garbage_does_no_harm(data: bytes, where: list[int]) -> None:
    """Arbitrary bytes and corrupted requests, cut anywhere."""
    on_loop(lambda: undergo(cut(data, where)))


@given(garbage, points)
@LIMIT
def test_garbage_gives_the_same_responses_however_it_is_cut(data: bytes, where: list[int]) -> None:
    """The same requests reach the application, and the same statuses are returned."""
    assert on_loop(lambda: undergo(cut(data, where))) == on_loop(lambda: undergo([data]))


@given(garbage, points)
@LIMIT
def test_limits_give_the_same_responses_however_the_input_is_cut(data: bytes, where: list[int]) -> None:
    """A limit does not depend on where the network cuts."""
    assert on_loop(lambda: undergo(cut(data, where), TIGHT)) == on_loop(lambda: undergo([data], TIGHT))


@given(st.sampled_from([row.request for row in (*MALFORMED, *ODD) if len(row.request) < 1000]), points)
@LIMIT
def test_the_tables_give_the_same_responses_however_they_are_cut(data: bytes, where: list[int]) -> None:
    """The rows of the other tests' tables."""
    assert on_loop(lambda: undergo(cut(data, where))) == on_loop(lambda: undergo([data]))


@given(st.lists(requests(), min_size=1, max_size=3))
@LIMIT
def test_the_grammar_matches_the_generated_requests(asked: list[Request]) -> None:
    """The second parser recovers the generated requests; otherwise the tests here would prove nothing."""
    found = list(read_requests(b"".join(request.wire for request in asked)))
    expected = [(request.method, request.target.encode(), request.content) for request in asked]
    assert [(reading.method, reading.target, reading.body) for reading in found] == expected


@given(garbage)
@LIMIT
def test_garbage_may_arrive_in_single_bytes(data: bytes) -> None:
    """As from slow clients."""
    on_loop(lambda: undergo(pieces(data, 1)))
