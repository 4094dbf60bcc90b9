"""What makes a line a request."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.rows import for_each

from hybrid.supervisor.control.requests import LEVELS, REQUESTS, BadRequestError, parse


def refusal(line: bytes) -> BadRequestError:
    with pytest.raises(BadRequestError) as caught:
        parse(line)
    return caught.value


@for_each(
    ("fields", "parameters"),
    [
        ({"request": "ping"}, {}),
        ({"id": 1, "request": "status"}, {}),
        ({"id": "a", "request": "status", "service": "web"}, {"service": "web"}),
        ({"id": -0.5, "request": "reload"}, {}),
        ({"id": None, "request": "scale", "workers": 0}, {"workers": 0}),
        ({"id": 2**53, "request": "scale", "by": -2, "service": "ä"}, {"by": -2, "service": "ä"}),
        ({"id": 1, "request": "restart", "service": "web", "slot": 3}, {"service": "web", "slot": 3}),
        ({"id": 1, "request": "stop", "now": True}, {"now": True}),
        ({"id": 1, "request": "upgrade"}, {}),
        ({"id": 1, "request": "stacks", "slot": 0}, {"slot": 0}),
        ({"id": 1, "request": "loglevel", "level": "debug", "for": 0.5}, {"level": "debug", "for": 0.5}),
        ({"id": 1, "request": "subscribe"}, {}),
    ],
)
def test_a_request_has_id_kind_and_parameters(fields: dict[str, Any], parameters: dict[str, Any]) -> None:
    request_id, kind, given = parse(json.dumps(fields).encode())
    assert (request_id, kind.name, given) == (fields.get("id"), fields["request"], parameters)


def test_a_line_may_end_as_on_other_systems() -> None:
    assert parse(b' {"request": "ping"}\r')[1] is REQUESTS["ping"]


@for_each(
    "line",
    [
        b"",
        b"\0",
        b"\xff\xfe",
        b"GET / HTTP/1.1\r",
        b"[]",
        b"1",
        b"null",
        b'"ping"',
        b'{"request": "ping"} {}',
        b'{"request": "ping",}',
        b"{'request': 'ping'}",
        b'\xef\xbb\xbf{"request": "ping"}',
        '{"request": "ping"}'.encode("utf-16"),
        '{"request": "ping"}'.encode("utf-32-le"),
        b'{"request": "\xed\xa0\x80"}',
        b'{"request": "ping", "id": NaN}',
        b'{"request": "ping", "id": -Infinity}',
        b'{"request": "ping", "request": "stop"}',
        b'{"request": "ping", "id": ' + b"9" * 5000 + b"}",
        b"[" * 60_000,
        b'{"":' * 15_000 + b"1" + b"}" * 15_000,
        b'{"request": ' + b"[" * 700 + b"]" * 700 + b"}",
    ],
    ids=range(22),
)
def test_a_line_that_is_no_object_is_refused_without_an_id(line: bytes) -> None:
    error = refusal(line)
    assert error.request_id is None
    assert len(str(error)) < 300


@for_each("depth", range(100, 1500, 100))
def test_a_value_of_any_depth_is_refused_and_not_fatal(depth: int) -> None:
    refusal(b'{"request": ' + b"[" * depth + b"]" * depth + b"}")
    refusal(b'{"request": "status", "service": ' + b"[" * depth + b"]" * depth + b"}")


@for_each("value", [True, [], {}, "x" * 201, 2**53 + 1, -(2**60), 10**4000, 1e300])
def test_an_id_is_a_number_or_a_text_within_bounds(value: object) -> None:
    error = refusal(json.dumps({"id": value, "request": "ping"}).encode())
    assert error.request_id is None
    assert str(error).startswith("id: ")


def test_an_infinite_id_is_refused() -> None:
    assert str(refusal(b'{"id": 1e999, "request": "ping"}')).startswith("id: ")


@for_each("name", [None, 1, "", "Ping", "ping ", "__class__", [], {"request": "ping"}, "\ud800"])
def test_an_unknown_request_is_refused_with_those_that_are_known(name: object) -> None:
    error = refusal(json.dumps({"id": 7, "request": name}).encode())
    assert error.request_id == 7
    assert "unknown request" in str(error)
    assert "known: ping, status, blockers, labels, reload" in str(error)


@for_each(
    ("fields", "reason"),
    [
        ({"request": "ping", "x": 1}, "ping: unknown parameter 'x'; it takes none"),
        ({"request": "stop", "force": True}, "stop: unknown parameter 'force'; it takes: service, now"),
        ({"request": "status", "service": 1}, "status: service is a text of 1 to 200 characters, not 1"),
        ({"request": "status", "service": None}, "status: service is a text of 1 to 200 characters, not None"),
        ({"request": "status", "service": ""}, "status: service is a text of 1 to 200 characters, not ''"),
        ({"request": "stop", "now": 1}, "stop: now is true or false, not 1"),
        ({"request": "scale"}, "scale: give either workers or by"),
        ({"request": "scale", "workers": 1, "by": 1}, "scale: give either workers or by"),
        ({"request": "scale", "workers": -1}, "scale: workers is a whole number of 0 or more, not -1"),
        ({"request": "scale", "workers": True}, "scale: workers is a whole number of 0 or more, not True"),
        ({"request": "scale", "workers": 2.0}, "scale: workers is a whole number of 0 or more, not 2.0"),
        ({"request": "scale", "workers": 10**30}, f"scale: workers is a whole number of 0 or more, not {10**30}"),
        ({"request": "scale", "by": "2"}, "scale: by is a whole number, not '2'"),
        ({"request": "restart", "service": "web"}, "restart: slot is missing"),
        ({"request": "restart", "slot": 1}, "restart: service is missing"),
        ({"request": "loglevel"}, "loglevel: level is missing"),
        ({"request": "loglevel", "level": "DEBUG"}, f"loglevel: level is one of {', '.join(LEVELS)}, not 'DEBUG'"),
        ({"request": "loglevel", "level": "info", "for": 0}, "loglevel: for is a number of seconds above 0, not 0"),
    ],
)
def test_a_wrong_parameter_is_refused_with_its_id_and_a_reason(fields: dict[str, Any], reason: str) -> None:
    error = refusal(json.dumps({"id": "x", **fields}).encode())
    assert (error.request_id, str(error)) == ("x", reason)


def test_infinite_seconds_are_refused() -> None:
    assert "for is a number" in str(refusal(b'{"request": "loglevel", "level": "info", "for": 1e999}'))


def test_a_long_value_is_shown_in_part() -> None:
    assert len(str(refusal(json.dumps({"request": "x" * 60_000}).encode()))) < 300
    assert len(str(refusal(json.dumps({"request": "ping", "y" * 60_000: 1}).encode()))) < 300


def test_those_who_may_only_look_may_change_nothing() -> None:
    assert {name for name, kind in REQUESTS.items() if kind.is_for_lookers} == {
        *("ping", "status", "blockers", "labels", "stacks", "subscribe")
    }
