"""The lines of the control protocol as objects."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rows import for_each

from hybrid.control.errors import OtherProtocolError, RefusedError, RequestError
from hybrid.control.messages import (
    MAX_LINE,
    Event,
    Failure,
    Greeting,
    Lines,
    Progress,
    Result,
    greeting_of,
    message_of,
    request_line,
)


def test_a_greeting_has_the_version_the_name_and_the_pid() -> None:
    line = b'{"hybrid": "0.1.0", "protocol": 1, "name": "shop", "pid": 4711, "later": true}'
    assert greeting_of(line) == Greeting("0.1.0", "shop", 4711)


def test_a_refusal_in_the_place_of_a_greeting_is_raised_with_its_reason() -> None:
    with pytest.raises(RefusedError, match="not of your account"):
        greeting_of(b'{"error": {"code": "refused", "reason": "not of your account"}}')


def test_too_many_clients_are_a_refusal_too() -> None:
    with pytest.raises(RefusedError, match="16 clients"):
        greeting_of(b'{"error": {"code": "busy", "reason": "there are 16 clients"}}')


def test_a_greeting_of_another_version_names_both() -> None:
    with pytest.raises(OtherProtocolError, match=r"hybrid 9\.0 speaks version 2 .* this command version 1"):
        greeting_of(b'{"hybrid": "9.0", "protocol": 2, "name": "shop", "pid": 1}')


@for_each("line", [b"HTTP/1.1 400 Bad Request\r", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000])
def test_the_greeting_of_another_program_is_an_error(line: bytes) -> None:
    with pytest.raises(OtherProtocolError):
        greeting_of(line)


@for_each(
    ("line", "expected"),
    [
        ('{"id": 1, "result": {"a": 1}}', Result(1, {"a": 1})),
        ('{"id": 1, "result": null}', Result(1, {})),
        ('{"id": "x", "progress": {"ready": 2}}', Progress("x", {"ready": 2})),
        ('{"id": 1, "error": {"code": "failed", "reason": "no"}}', Failure(1, "failed", "no")),
        ('{"id": null, "error": {}}', Failure(None, "failed", "failed")),
        ('{"event": "death", "pid": 3}', Event({"event": "death", "pid": 3})),
        ('{"id": 1, "something": "newer"}', None),
        ('{"id": 1, "error": "of another shape"}', None),
    ],
)
def test_a_line_is_a_message(line: str, expected: object) -> None:
    assert message_of(line.encode()) == expected


def test_a_failure_becomes_the_error_for_its_code() -> None:
    assert isinstance(Failure(1, "refused", "no").error(), RefusedError)
    error = Failure(1, "unknown_service", "there is none").error()
    assert isinstance(error, RequestError)
    assert (error.code, str(error)) == ("unknown_service", "there is none")


def test_a_request_leaves_out_parameters_that_are_not_given() -> None:
    line = request_line(3, "scale", {"service": None, "by": -1})
    assert line == b'{"id": 3, "request": "scale", "by": -1}\n'


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line), max_size=5), st.integers(1, 7))
def test_lines_are_the_same_however_their_bytes_come(lines: list[bytes], size: int) -> None:
    data = b"".join(line + b"\n" for line in lines)
    splitter = Lines()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert [line for piece in pieces for line in splitter.feed(piece)] == [line for line in lines if line.strip()]


def test_a_line_without_an_end_is_an_error_at_16_mib() -> None:
    splitter = Lines()
    half = b"x" * (MAX_LINE // 2)
    assert list(splitter.feed(half)) == []
    assert list(splitter.feed(half)) == []
    with pytest.raises(OtherProtocolError, match="16 MiB"):
        list(splitter.feed(b"x"))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["code", "reason", "x"]), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["id", "result", "progress", "error", "event"]), VALUES))
def test_any_object_is_a_message_or_left_out(fields: dict[str, object]) -> None:
    message = message_of(json.dumps(fields).encode())
    assert message is None or isinstance(message, Result | Progress | Failure | Event)
