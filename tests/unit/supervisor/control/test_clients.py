"""One client: what it may send, how it may end, and how much may wait for it."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.control_line import ControlLoop, Handler, Talker, echo, exchange_random_lines, keep
from support.loops import MATRIX

from hybrid.supervisor.control.clients import LINES_AT_ONCE, LONGEST_PART, MOST_OPEN, MOST_UNSENT
from hybrid.supervisor.control.lines import LONGEST_LINE

MEBIBYTE = 1024 * 1024
STATUS = {"id": 1, "request": "status"}
Serve = Callable[..., ControlLoop]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Make loops; at the end none has a client left."""
    loops: list[ControlLoop] = []

    def make(handler: Handler = echo, **options: Any) -> ControlLoop:
        loops.append(ControlLoop(handler, **options))
        return loops[-1]

    yield make
    for loop in loops:
        loop.close()


@pytest.fixture
def loop(serve: Serve) -> ControlLoop:
    return serve()


@pytest.fixture
def client(loop: ControlLoop) -> Iterator[Talker]:
    talker = loop.connects_and_is_greeted()
    yield talker
    talker.close()


def error_of(answer: Any) -> tuple[Any, str]:
    return answer["id"], answer["error"]["code"]


# --- requests and answers


def test_a_request_is_answered_under_its_id(client: Talker) -> None:
    assert client.asks({"id": "a", "request": "status", "service": "web"}) == [
        {"id": "a", "result": {"request": "status", "service": "web"}}
    ]


def test_a_request_without_an_id_is_answered_with_null(client: Talker) -> None:
    assert client.asks({"request": "ping"}) == [{"id": None, "result": {}}]


def test_a_ping_is_answered_here(loop: ControlLoop, client: Talker) -> None:
    assert client.asks({"id": 1, "request": "ping"}) == [{"id": 1, "result": {}}]
    assert loop.requests == []


def test_many_requests_in_one_packet_are_answered_in_order(loop: ControlLoop, client: Talker) -> None:
    count = 10 * LINES_AT_ONCE + 1
    heard = client.asks(*({"id": number, "request": "status"} for number in range(count)))
    assert [answer["id"] for answer in heard] == list(range(count))
    assert loop.line.due is None


def test_a_client_with_many_lines_leaves_turns_to_others(loop: ControlLoop, client: Talker) -> None:
    other = loop.connects_and_is_greeted()
    client.sends(*({"id": number, "request": "status"} for number in range(1000)))
    other.sends(STATUS)
    loop.turn(0.0)
    assert len(loop.requests) <= 2 * LINES_AT_ONCE + 1
    assert loop.line.due == 0.0
    assert other.hears() == [{"id": 1, "result": {"request": "status"}}]
    other.close()


def test_a_request_may_arrive_byte_by_byte(client: Talker) -> None:
    line = b'{"id": 1, "request": "ping"}\n'
    heard = [answer for byte in line for answer in client.asks(bytes([byte]))]
    assert heard == [{"id": 1, "result": {}}]


@pytest.mark.parametrize("line", [b"\n", b"\0\n", b"\xff\xff\n", b"GET / HTTP/1.1\r\n", b"[" * 60_000 + b"\n"])
def test_a_line_that_is_no_request_is_answered_and_the_next_one_too(client: Talker, line: bytes) -> None:
    first, second = client.asks(line, {"id": 2, "request": "ping"})
    assert error_of(first) == (None, "bad_request")
    assert second == {"id": 2, "result": {}}


def test_a_wrong_parameter_is_answered_under_its_id(client: Talker) -> None:
    assert [error_of(answer) for answer in client.asks({"id": 9, "request": "scale"})] == [(9, "bad_request")]


def test_progress_comes_before_the_answer_and_not_after_it(serve: Serve) -> None:
    loop = serve(keep)
    client = loop.connects_and_is_greeted()
    assert client.asks({"id": 1, "request": "reload"}) == []
    (request,) = loop.requests
    loop.line.progress(request, {"ready": 1, "of": 2})
    assert request.is_open
    loop.line.answer(request, {"generation": 2})
    assert not request.is_open
    loop.line.progress(request, {"ready": 2, "of": 2})
    loop.line.answer(request, {"generation": 3})
    loop.line.refuse(request, "failed", "too late")
    assert client.hears() == [
        {"id": 1, "progress": {"ready": 1, "of": 2}},
        {"id": 1, "result": {"generation": 2}},
    ]
    client.close()


def test_a_request_says_who_sent_it(serve: Serve) -> None:
    loop = serve(keep)
    client = loop.connects_and_is_greeted()
    client.asks({"id": 1, "request": "reload"})
    assert loop.requests[0].peer.pid == os.getpid()
    assert repr(loop.requests[0]) == f"Request(reload, {{}}, id=1, uid={os.geteuid()})"
    client.close()


def test_requests_overlap_and_are_answered_in_any_order(serve: Serve) -> None:
    loop = serve(keep)
    client = loop.connects_and_is_greeted()
    client.asks(*({"id": number, "request": "status"} for number in range(3)))
    loop.line.answer(loop.requests[2])
    loop.line.refuse(loop.requests[0], "failed", "no")
    loop.line.answer(loop.requests[1], {"a": 1})
    assert client.hears() == [
        {"id": 2, "result": {}},
        {"id": 0, "error": {"code": "failed", "reason": "no"}},
        {"id": 1, "result": {"a": 1}},
    ]
    client.close()


def test_a_client_has_a_limit_of_requests_in_progress(serve: Serve) -> None:
    loop = serve(keep)
    client = loop.connects_and_is_greeted()
    heard = client.asks(*({"id": number, "request": "status"} for number in range(MOST_OPEN + 2)))
    assert [error_of(answer) for answer in heard] == [(MOST_OPEN, "busy"), (MOST_OPEN + 1, "busy")]
    loop.line.answer(loop.requests[0])
    assert client.asks(STATUS) == [{"id": 0, "result": {}}]
    assert len(loop.requests) == MOST_OPEN + 1
    client.close()


@pytest.mark.parametrize("result", [{"x": float("nan")}, {"x": object()}], ids=["nan", "object"])
def test_an_answer_that_is_no_json_fails_and_is_logged(
    serve: Serve, result: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    loop = serve(keep)
    client = loop.connects_and_is_greeted()
    client.asks(STATUS)
    loop.line.progress(loop.requests[0], result)
    loop.line.answer(loop.requests[0], result)
    assert [error_of(answer) for answer in client.hears()] == [(1, "failed")]
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    client.close()


def test_an_answer_with_a_lone_surrogate_arrives(serve: Serve) -> None:
    loop = serve(lambda line, request: line.answer(request, {"file": "\udce9\N{PILE OF POO}"}))
    client = loop.connects_and_is_greeted()
    assert client.asks(STATUS) == [{"id": 1, "result": {"file": "\ufffd\N{PILE OF POO}"}}]
    client.close()


# --- ends


def test_a_half_closed_client_still_gets_its_answers_and_then_eof(serve: Serve) -> None:
    loop = serve(keep)
    client = loop.connects_and_is_greeted()
    client.sends(STATUS, STATUS)
    client.ends_writing()
    loop.settle()
    assert loop.passes(60) <= 2, "it does not wake without cause"
    loop.line.answer(loop.requests[0])
    loop.settle()
    assert not client.has_ended()
    loop.line.answer(loop.requests[1])
    assert [answer["id"] for answer in client.hears()] == [1, 1]
    assert client.has_ended()
    assert not client.is_reset
    assert loop.line.clients == 0
    client.close()


def test_a_half_closed_client_gets_all_answers_of_many_lines(loop: ControlLoop, client: Talker) -> None:
    client.sends(*({"id": number, "request": "ping"} for number in range(1000)))
    client.ends_writing()
    loop.settle()
    assert len(client.hears()) == 1000
    assert client.has_ended()


def test_a_half_closed_client_without_requests_is_closed(loop: ControlLoop, client: Talker) -> None:
    client.ends_writing()
    loop.settle()
    assert client.has_ended()
    assert loop.line.clients == 0


def test_a_half_closed_subscriber_gets_events_until_it_hangs_up(loop: ControlLoop, client: Talker) -> None:
    client.asks({"id": 1, "request": "subscribe"})
    client.ends_writing()
    loop.settle()
    loop.line.publish({"event": "stop"})
    assert client.hears() == [{"event": "stop"}]
    client.close()
    loop.settle()
    assert loop.line.clients == 0


def test_a_half_closed_client_that_hangs_up_is_noticed_at_once(serve: Serve) -> None:
    loop = serve(keep)
    client = loop.connects_and_is_greeted()
    client.sends(STATUS)
    client.ends_writing()
    loop.settle()
    client.close()
    loop.settle()
    assert loop.line.clients == 0
    assert not loop.requests[0].is_open


def test_an_end_in_the_middle_of_a_line_is_no_request(loop: ControlLoop, client: Talker) -> None:
    client.sends({"id": 1, "request": "status"}, b'{"id": 2, "request": "stop"}')
    client.ends_writing()
    loop.settle()
    assert [answer["id"] for answer in client.hears()] == [1]
    assert [request.name for request in loop.requests] == ["status"]
    assert client.has_ended()
    assert not client.is_reset


def test_a_client_that_leaves_right_after_its_request_is_obeyed(loop: ControlLoop) -> None:
    client = Talker(loop)  # it has not even read the first line
    client.sends({"request": "reload"})
    client.close()
    loop.settle()
    assert [request.name for request in loop.requests] == ["reload"]
    assert loop.line.clients == 0


def test_answers_for_a_client_that_is_gone_are_dropped(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    loop = serve(keep)
    client = loop.connects_and_is_greeted()
    client.asks({"id": 1, "request": "reload"})
    client.close()
    loop.settle()
    (request,) = loop.requests
    assert not request.is_open
    loop.line.progress(request, {})
    loop.line.answer(request, {})
    loop.line.refuse(request, "failed", "")
    assert loop.line.clients == 0
    assert caplog.records == []


def test_a_client_that_shuts_its_reading_half_down_may_still_ask(serve: Serve) -> None:
    loop = serve(echo)
    client = loop.connects_and_is_greeted()
    client.sock.shutdown(socket.SHUT_RD)
    client.sends(STATUS)
    loop.settle()
    assert len(loop.requests) == 1
    assert loop.passes(60) <= 2
    client.close()
    loop.settle()
    assert loop.line.clients == 0


# --- bounds of input


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_that_is_too_long_ends_the_client(loop: ControlLoop, client: Talker, end: bytes) -> None:
    first, last = client.asks({"id": 1, "request": "ping"}, b"x" * (LONGEST_LINE + 1) + end)
    assert first == {"id": 1, "result": {}}
    assert error_of(last) == (None, "bad_request")
    assert client.has_ended()
    assert not client.is_reset
    assert loop.line.size == 0


def test_an_endless_line_takes_no_more_memory_than_two_reads(loop: ControlLoop, client: Talker) -> None:
    client.sends(b"x" * LONGEST_LINE)
    loop.settle()
    assert loop.line.size == LONGEST_LINE
    client.sends(b"x" * (10 * MEBIBYTE))
    loop.settle()
    assert loop.line.clients == 0
    assert loop.line.size == 0


def test_the_longest_line_is_read(client: Talker) -> None:
    line = b'{"id": 1, "request": "ping"' + b" " * (LONGEST_LINE - 28) + b"}"
    assert len(line) == LONGEST_LINE
    assert client.asks(line + b"\n") == [{"id": 1, "result": {}}]


def test_a_line_must_end_in_time(loop: ControlLoop, client: Talker) -> None:
    client.asks(b'{"id": 1, ')
    loop.passes(LONGEST_PART - 0.1)
    assert client.asks(b'"request": ') == []
    loop.passes(0.2)
    (last,) = client.hears()
    assert error_of(last) == (None, "bad_request")
    assert client.has_ended()
    assert loop.line.due is None


def test_each_line_has_its_own_time(loop: ControlLoop, client: Talker) -> None:
    assert client.asks(b'{"request": ') == []
    for _ in range(5):
        loop.passes(LONGEST_PART - 1)
        assert client.asks(b'"ping"}\n{"request": ') == [{"id": None, "result": {}}]
    assert client.asks(b'"ping"}\n') == [{"id": None, "result": {}}]
    assert loop.line.due is None


def test_a_client_between_two_lines_has_all_the_time(loop: ControlLoop, client: Talker) -> None:
    client.asks(STATUS)
    assert loop.line.due is None
    assert loop.passes(86_400) <= 2
    assert client.asks(STATUS) == [{"id": 1, "result": {"request": "status"}}]


# --- bounds of output


def test_a_large_answer_arrives_as_the_client_reads(serve: Serve) -> None:
    text = "x" * (MEBIBYTE - 100)
    loop = serve(lambda line, request: line.answer(request, {"text": text}))
    client = loop.connects_and_is_greeted()
    client.sends(STATUS)
    loop.settle()
    assert loop.line.size > 0
    assert loop.passes(3600) <= 2, "unsent bytes do not wake it"
    heard = []
    for _ in range(20):
        heard += client.hears()
    assert heard == [{"id": 1, "result": {"text": text}}]
    assert loop.line.size == 0
    client.close()


def test_an_answer_above_the_bound_fails_and_says_what_to_do(serve: Serve) -> None:
    loop = serve(lambda line, request: line.answer(request, {"text": "x" * MEBIBYTE}))
    client = loop.connects_and_is_greeted()
    (answer,) = client.asks(STATUS)
    assert error_of(answer) == (1, "failed")
    assert "ask for one service or slot" in answer["error"]["reason"]
    client.close()


def test_a_client_that_does_not_read_is_dropped_at_its_bound(serve: Serve) -> None:
    loop = serve(lambda line, request: line.answer(request, {"text": "x" * 100_000}))
    client = loop.connects_and_is_greeted()
    sizes = []
    while loop.line.clients:
        client.sends(STATUS)
        loop.settle()
        sizes.append(loop.line.size)
    assert MOST_UNSENT - 200_000 < max(sizes) <= MOST_UNSENT
    assert loop.line.size == 0
    client.close()


def test_a_half_closed_client_that_does_not_read_keeps_its_answer_and_costs_no_turns(serve: Serve) -> None:
    loop = serve(lambda line, request: line.answer(request, {"text": "x" * 900_000}))
    client = loop.connects_and_is_greeted()
    client.sends(STATUS)
    client.ends_writing()
    loop.settle()
    assert loop.passes(3600) <= 2
    heard = []
    while not client.has_ended():
        heard += client.hears()
    assert len(heard) == 1
    assert loop.line.clients == 0
    client.close()


@pytest.mark.parametrize("seed", range(4))
def test_random_lines_have_one_answer_each(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    count = 25_000 if MATRIX else 5_000
    answers, requests = exchange_random_lines(count, seed)
    assert answers == count
    assert requests > count // 50
    assert [record for record in caplog.records if record.levelno >= logging.INFO] == []
