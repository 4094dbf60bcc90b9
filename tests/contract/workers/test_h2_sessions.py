"""The contract of `hybrid.workers.http.h2.session.Session`, clause by clause: the library below it is young."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import frames
from support.frames import GET, POST, PREFACE, Frame
from support.requests import cut, points

from hybrid.workers.http.h2 import session as h2
from hybrid.workers.http.h2.session import ErrorCode, Session

OK = ((b":status", b"200"),)
HELLO = PREFACE + frames.settings()


class Talk:
    """A session, and what a client of raw frames says and hears."""

    def __init__(self, *, streams: int = 100, hello: bytes = HELLO) -> None:
        self.session = Session(streams, 32_768, 100)
        self.heard: list[Frame] = []
        self.says(hello)

    def says(self, *data: bytes) -> list[Any]:
        """Send bytes; return the events, then let the server send what it has."""
        events = list(self.session.receive(b"".join(data)))
        return events + self.hears()

    def hears(self) -> list[Any]:
        """Take all that there is; return the events of that."""
        out = b""
        while data := self.session.take(65_536):
            out += data
        self.heard += frames.read(out)
        return list(self.session.events())

    def of(self, kind: int, stream: int | None = None) -> list[Frame]:
        """Return what was heard of a kind."""
        return [each for each in self.heard if each.kind == kind and stream in (None, each.stream)]

    def body(self, stream: int) -> bytes:
        return b"".join(each.payload for each in self.of(frames.DATA, stream))


def told(events: list[Any]) -> list[tuple[Any, ...]]:
    """Return what events say, without their identity."""
    return [(type(one).__name__, *(getattr(one, name) for name in one.__match_args__)) for one in events]


REQUESTS = (
    frames.headers(1)
    + frames.headers(3, POST, frames.END_HEADERS)
    + frames.frame(frames.DATA, 3, b"part")
    + frames.frame(frames.DATA, 3, b"rest", frames.END_STREAM)
    + frames.headers(5, POST, frames.END_HEADERS)
    + frames.headers(5, ((b"x-sum", b"1"),))
    + frames.reset(1)
    + frames.frame(frames.PING, payload=b"12345678")
)


@given(points)
@settings(max_examples=30, deadline=None)
def test_1_events_come_in_order_however_the_input_is_cut(at: list[int]) -> None:
    whole = Talk().says(REQUESTS)
    talk = Talk()
    assert told([event for piece in cut(REQUESTS, at) for event in talk.says(piece)]) == told(whole)
    assert [type(event) for event in whole][:6] == [
        h2.Requested,
        h2.Requested,
        h2.Arrived,
        h2.Arrived,
        h2.Requested,
        h2.Trailed,
    ]


@given(st.lists(st.binary(max_size=60), max_size=8), st.booleans())
@settings(max_examples=100, deadline=None)
def test_1_no_input_raises(pieces: list[bytes], begins_well: bool) -> None:
    talk = Talk(hello=HELLO if begins_well else b"")
    for piece in pieces:
        talk.says(piece)


@given(st.integers(0, 12), st.integers(0, 255), st.integers(0, 6), st.binary(max_size=40))
@settings(max_examples=100, deadline=None)
def test_1_no_frame_raises(kind: int, flags: int, stream: int, payload: bytes) -> None:
    talk = Talk()
    talk.says(frames.headers(1, POST, frames.END_HEADERS), frames.frame(kind, stream, payload, flags))
    talk.says(frames.headers(3))


def test_2_no_more_is_taken_than_was_asked_for() -> None:
    talk = Talk()
    talk.session.receive(frames.headers(1))
    talk.session.respond(1, OK, b"x" * 1000, False)
    parts = []
    while part := talk.session.take(100):
        parts.append(part)
    assert {len(part) for part in parts[:-1]} == {100}
    assert [frame.kind for frame in frames.read(b"".join(parts))] == [frames.HEADERS, frames.DATA]


def test_3_a_violation_on_a_stream_ends_that_stream() -> None:
    talk = Talk()
    events = talk.says(frames.headers(1, (*GET, (b"Upper", b"case"))), frames.headers(3))
    assert [event.stream_id for event in events if type(event) is h2.Requested] == [3]
    assert [event.stream_id for event in events if type(event) is h2.Closed] == [1]
    assert [frame.stream for frame in talk.of(frames.RST_STREAM)] == [1]


def test_4_a_violation_on_the_connection_ends_it_with_the_reason() -> None:
    talk = Talk()
    events = talk.says(frames.frame(frames.DATA, 0, b"x"))
    assert [frames.goaway_of(frame)[1] for frame in talk.of(frames.GOAWAY)] == [frames.PROTOCOL_ERROR]
    assert type(events[-1]) is h2.Over


_CALM, _INTERNAL = frames.ENHANCE_YOUR_CALM, frames.INTERNAL_ERROR
_BOMB = hpack.Encoder().encode([*GET, *((b"x", b"y" * 3900),) * 30])  # 4 KiB of text, said once, and 30 references
FLOODS: dict[str, tuple[bytes, Callable[[int], bytes], int]] = {
    "PING": (b"", lambda number: frames.frame(frames.PING, payload=b"12345678"), _CALM),
    "SETTINGS": (b"", lambda number: frames.settings(), _CALM),
    "CONTINUATION": (
        frames.frame(frames.HEADERS, 1, frames.block(GET)),
        lambda number: frames.frame(frames.CONTINUATION, 1, frames.block(((b"x", b"y"),))),
        _CALM,
    ),
    "rapid reset": (b"", lambda number: frames.headers(2 * number + 1) + frames.reset(2 * number + 1), _INTERNAL),
    "empty DATA": (
        frames.headers(1, POST, frames.END_HEADERS),
        lambda number: frames.frame(frames.DATA, 1) * 10,
        _CALM,
    ),
    "many fields": (b"", lambda number: frames.headers(1, (*GET, *((b"x", b"y"),) * 300)), _CALM),
    "HPACK bomb": (b"", lambda number: frames.frame(frames.HEADERS, 1, _BOMB, frames.END_HEADERS), _CALM),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_4_a_flood_ends_the_connection_with_the_reason(flood: str) -> None:
    """Where the library cannot send anything then, the last frame is ours."""
    talk = Talk()
    first, more, code = FLOODS[flood]
    talk.session.receive(first)
    for number in range(2000):  # nothing is taken meanwhile
        talk.session.receive(more(number))
        if talk.session.is_over:
            break
    talk.hears()
    assert [frames.goaway_of(frame)[1] for frame in talk.of(frames.GOAWAY)] == [code]


def test_4_a_client_may_go_on_behind_the_end() -> None:
    talk = Talk()
    talk.says(frames.frame(frames.DATA, 0, b"x"))
    talk.says(frames.headers(1))
    assert talk.session.is_over
    assert not talk.of(frames.HEADERS)


def test_5_what_is_sent_to_a_stream_that_is_gone_is_dropped() -> None:
    talk = Talk()
    talk.says(frames.headers(1), frames.reset(1))
    session = talk.session
    session.inform(1, [(b":status", b"103")])
    session.respond(1, OK, b"late", True)
    session.send(1, b"late", True)
    session.send_trailers(1, [(b"x", b"y")])
    session.reset(1, ErrorCode.CANCEL)
    session.share(1)
    session.widen(1, 100_000)
    talk.hears()
    assert not talk.of(frames.HEADERS)
    assert not talk.of(frames.DATA)


def test_6_a_body_waits_for_the_clients_window() -> None:
    talk = Talk()
    talk.says(frames.headers(1))
    talk.session.respond(1, OK, b"x" * 100_000, False)
    talk.hears()
    assert len(talk.body(1)) == 65_535
    assert talk.session.queued(1) == talk.session.queued() == 100_000 - 65_535
    talk.says(frames.window_update(1, 100_000), frames.window_update(0, 100_000))
    assert len(talk.body(1)) == 100_000
    assert talk.session.queued() == 0


def test_7_a_client_gets_a_window_for_what_is_consumed() -> None:
    talk = Talk()
    talk.says(frames.headers(1, POST, frames.END_HEADERS), *(frames.frame(frames.DATA, 1, b"x" * 10_000),) * 5)
    assert not talk.of(frames.WINDOW_UPDATE, 1)
    talk.session.consumed(1, 50_000)
    talk.hears()
    assert [int.from_bytes(frame.payload, "big") for frame in talk.of(frames.WINDOW_UPDATE, 1)] == [50_000]


def test_7_the_connections_window_is_given_back_for_a_closed_stream_too() -> None:
    talk = Talk()
    for stream in range(1, 41, 2):
        body = (frames.frame(frames.DATA, stream, b"x" * 16_000),) * 4
        talk.says(frames.headers(stream, POST, frames.END_HEADERS), *body, frames.reset(stream))
        talk.session.consumed(stream, 64_000)
    talk.hears()
    assert sum(int.from_bytes(frame.payload, "big") for frame in talk.of(frames.WINDOW_UPDATE, 0)[1:]) >= 500_000
    assert not talk.of(frames.GOAWAY)


def test_8_responses_that_share_take_turns() -> None:
    talk = Talk(hello=PREFACE + frames.settings((frames.INITIAL_WINDOW, 1 << 20)) + frames.window_update(0, 1 << 20))
    talk.says(frames.headers(1), frames.headers(3), frames.headers(5))
    for stream in (1, 3, 5):
        talk.session.respond(stream, OK, b"x" * 100_000, False)
        talk.session.share(stream)
    talk.hears()
    first = [frame.stream for frame in talk.of(frames.DATA)][:9]
    assert first == [1, 3, 5] * 3


def test_9_a_request_has_its_pseudo_header_fields_first() -> None:
    event = Talk().says(frames.headers(1, (*GET, (b"x-mine", b"1"))))[0]
    assert event.headers == (*GET, (b"x-mine", b"1"))
    assert event.end_stream


WRONG = {
    "no method": GET[1:],
    "no path": (GET[0], GET[1], GET[3]),
    "empty path": (*GET[:2], (b":path", b""), GET[3]),
    "two paths": (*GET, (b":path", b"/b")),
    "unknown pseudo-header field": (*GET, (b":nonsense", b"1")),
    "pseudo-header field of a response": (*GET, (b":status", b"200")),
    "pseudo-header field behind others": (*GET[:3], (b"x", b"1"), GET[3]),
    "connection": (*GET, (b"connection", b"close")),
    "transfer-encoding": (*GET, (b"transfer-encoding", b"chunked")),
    "upgrade": (*GET, (b"upgrade", b"h2c")),
    "te": (*GET, (b"te", b"gzip")),
    "upper case": (*GET, (b"X-Mine", b"1")),
    "space in a name": (*GET, (b"x mine", b"1")),
    "newline in a value": (*GET, (b"x", b"a\nb")),
    "NUL in a value": (*GET, (b"x", b"a\0b")),
    "space before a value": (*GET, (b"x", b" a")),
    "space behind a value": (*GET, (b"x", b"a ")),
    "two lengths": (*GET, (b"content-length", b"0"), (b"content-length", b"0")),
    "a length that is no number": (*GET, (b"content-length", b"0x0")),
    "a length without a body": (*GET, (b"content-length", b"3")),
}


@pytest.mark.parametrize("fields", WRONG.values(), ids=WRONG)
def test_9_malformed_fields_end_the_stream(fields: frames.Fields) -> None:
    """RFC 9113, section 8.1.1."""
    talk = Talk()
    events = talk.says(frames.headers(1, fields), frames.headers(3))
    assert [event.stream_id for event in events if type(event) is h2.Requested] == [3]
    assert [frames.code_of(frame) for frame in talk.of(frames.RST_STREAM, 1)] == [frames.PROTOCOL_ERROR]


def test_10_more_streams_than_allowed_are_refused_before_the_client_knows_the_limit() -> None:
    talk = Talk(streams=3)
    events = talk.says(*(frames.headers(stream) for stream in (1, 3, 5, 7, 9)))
    assert [event.stream_id for event in events if type(event) is h2.Requested] == [1, 3, 5]
    refused = [(frame.stream, frames.code_of(frame)) for frame in talk.of(frames.RST_STREAM)]
    assert refused == [(7, frames.REFUSED_STREAM), (9, frames.REFUSED_STREAM)]


def test_11_the_end_is_announced_before_it_is_final() -> None:
    talk = Talk()
    talk.says(frames.headers(1))
    talk.session.newest = 1
    talk.session.announce_end()
    talk.hears()
    assert [frames.goaway_of(frame) for frame in talk.of(frames.GOAWAY)] == [(2**31 - 1, frames.NO_ERROR)]
    ping = talk.of(frames.PING)[-1]
    events = talk.says(frames.headers(3), frames.frame(frames.PING, payload=ping.payload, flags=frames.ACK))
    assert [type(event) for event in events] == [h2.Requested, h2.Answered]
    talk.session.newest = 3
    talk.session.end()
    talk.hears()
    assert frames.goaway_of(talk.of(frames.GOAWAY)[-1]) == (3, frames.NO_ERROR)
    assert talk.says(frames.headers(5)) == []
    talk.session.respond(3, OK, b"served", False)
    talk.hears()
    assert talk.body(3) == b"served"


def test_the_fields_of_a_response_are_compressed() -> None:
    talk = Talk()
    talk.says(frames.headers(1), frames.headers(3))
    for stream in (1, 3):
        talk.session.respond(stream, [*OK, (b"x-mine", b"a value of some length")], b"", False)
    talk.hears()
    first, second = (frame.payload for frame in talk.of(frames.HEADERS))
    decoder = hpack.Decoder()
    assert [decoder.decode(each, raw=True)[-1] for each in (first, second)] == [
        (b"x-mine", b"a value of some length")
    ] * 2
    assert len(second) < len(first)
