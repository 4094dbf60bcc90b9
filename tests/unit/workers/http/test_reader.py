"""The callbacks of a request reader, without a connection, and its phases compared with the table."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from support.malformed import MALFORMED, chunked, get, post
from support.rows import for_each
from support.websocket import HANDSHAKE

from hybrid.workers.http.exchange import Refused
from hybrid.workers.http.h1.body_framing import LONG
from hybrid.workers.http.h1.extras import Extras, Fields
from hybrid.workers.http.h1.phases import TRANSITIONS, Event, ReaderPhase
from hybrid.workers.http.h1.reader import RequestReader
from hybrid.workers.http.h1.rules import Rules
from hybrid.workers.http.settings import HttpSettings, Limits

UPGRADE = (b"Connection: Upgrade", b"Upgrade: h2c")


class Recorder:
    """Records the callbacks."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.told: list[Any] = []
        settings = HttpSettings(limits=limits or Limits(max_body_size=100_000))
        self.reader = RequestReader(Rules(settings, offers_websocket=True), self)

    def on_request(
        self,
        method: str,
        target: bytes,
        version: str,
        fields: Fields,
        keep_alive: bool,
        has_body: bool,
        extras: Extras | None,
    ) -> None:
        self.told.append((method, target, version, keep_alive, has_body))

    def on_body(self, data: bytes) -> None:
        self.told.append(data)

    def on_end(self) -> None:
        self.told.append("end")

    def on_refused(self, refused: Refused) -> None:
        self.told.append((refused.status, self.reader.asked()))

    def on_upgraded(self, data: bytes) -> None:
        self.told.append(("upgraded", data))

    def on_surplus(self, total: int) -> None:
        self.told.append(("surplus", total))

    def on_failure(self) -> None:
        self.told.append("failure")


def told(*pieces: bytes, limits: Limits | None = None) -> list[Any]:
    """Feed a new reader; return the recorded callbacks."""
    recorder = Recorder(limits)
    for piece in pieces:
        recorder.reader.feed(piece)
    return recorder.told


def test_a_request_with_a_body_arrives_in_parts() -> None:
    assert told(post(b"Content-Length: 5", body=b"he"), b"llo" + get()) == [
        ("POST", b"/", "1.1", True, True),
        b"he",
        b"llo",
        "end",
        ("GET", b"/", "1.1", True, False),
    ]


@pytest.mark.parametrize("length", [LONG - 1, LONG, LONG + 1])
@pytest.mark.parametrize("cut", [1, 70, 16_384, LONG + 70])
@pytest.mark.parametrize("close", [False, True])
def test_a_body_is_the_same_whether_the_parser_sees_it_or_not(length: int, cut: int, close: bool) -> None:
    """Requests with long bodies of known length follow one another, until one asks for the close."""
    fields = (b"Content-Length: %d" % length, *([b"Connection: close"] if close else []))
    body = bytes(range(256)) * (length // 256 + 1)
    sent = post(b"Content-Length: %d" % length, body=body[:length]) + post(*fields, body=body[:length]) + get()
    pieces = [sent[at : at + cut] for at in range(0, len(sent), cut)] if cut > 1 else [sent[:1], sent[1:]]
    heard = told(*pieces)
    received = b"".join(each for each in heard if isinstance(each, bytes))
    assert received == body[:length] * 2
    others = [each for each in heard if not isinstance(each, bytes)]
    first, second = ("POST", b"/", "1.1", True, True), ("POST", b"/", "1.1", not close, True)
    assert others[:4] == [first, "end", second, "end"]
    if close:
        assert {each[0] for each in others[4:]} == {"surplus"}
    else:
        assert others[4:] == [("GET", b"/", "1.1", True, False)]


def test_a_head_may_arrive_in_pieces() -> None:
    head = get(line=b"GET /x HTTP/1.0")
    assert told(*(bytes([byte]) for byte in head)) == [("GET", b"/x", "1.0", False, False)]


def test_the_body_of_an_ignored_upgrade_is_read_normally() -> None:
    request = chunked(b"5\r\nhello\r\n0\r\n\r\n", *UPGRADE)
    assert told(request, get()) == [
        ("POST", b"/", "1.1", True, True),
        b"hello",
        "end",
        ("GET", b"/", "1.1", True, False),
    ]


def test_bytes_after_a_websocket_handshake_are_passed_on() -> None:
    *_, first, second = told(HANDSHAKE + b"\r\nearly", b"late")
    assert (first, second) == (("upgraded", b"early"), ("upgraded", b"late"))


def test_input_after_a_refused_request_is_dropped() -> None:
    request = get(b"Transfer-Encoding: gzip")
    [(status, asked), *surplus] = told(request + b"abc", b"de")
    assert status == 400
    assert (asked.method, asked.target) == ("GET", b"/")
    assert surplus == [("surplus", 3), ("surplus", 5)]


def test_requests_beyond_the_maximum_are_ignored() -> None:
    assert told(get() * 3, limits=Limits(max_requests_per_connection=2)) == [
        ("GET", b"/", "1.1", True, False),
        ("GET", b"/", "1.1", True, False),
        ("surplus", len(get())),
    ]


@for_each("row", [row for row in MALFORMED if not row.ends], ids=lambda row: row.name)
def test_a_malformed_request_is_refused_once_and_ends_the_reader(row: Any) -> None:
    recorder = Recorder()
    recorder.reader.feed(row.request)
    statuses = [each[0] for each in recorder.told if isinstance(each, tuple) and isinstance(each[0], int)]
    assert statuses == [row.status]
    assert recorder.reader.phase is ReaderPhase.ENDED


def test_a_released_reader_calls_nothing() -> None:
    recorder = Recorder()
    recorder.reader.let_go()
    recorder.reader.feed(get())
    assert recorder.told == []


# --- the table of phases

LEADING = {
    ReaderPhase.HEAD: b"",
    ReaderPhase.BODY: post(b"Content-Length: 50000"),
    ReaderPhase.REPLAYING: post(b"Content-Length: 50000", *UPGRADE),
    ReaderPhase.UPGRADED: HANDSHAKE + b"\r\n",
    ReaderPhase.ENDED: b"\0",
}
BYTES = {
    Event.REQUEST: get(),
    Event.REQUEST_WITH_BODY: post(b"Content-Length: 9"),
    Event.IGNORED_UPGRADE: post(b"Content-Length: 9", *UPGRADE),
    Event.WEBSOCKET: HANDSHAKE + b"\r\n",
    Event.END_OF_BODY: b"x" * 50_000,
}


def test_the_table_is_total() -> None:
    assert set(TRANSITIONS) == set(itertools.product(ReaderPhase, Event))


@for_each(("phase", "event"), TRANSITIONS, ids=lambda each: each.name)
def test_a_reader_changes_its_phase_as_the_table_says(phase: ReaderPhase, event: Event) -> None:
    reader = Recorder().reader
    reader.feed(LEADING[phase])
    assert reader.phase is phase
    if event is Event.END:
        reader.end()
    elif event is Event.END_OF_BODY and phase is ReaderPhase.HEAD:
        reader.on_message_complete()  # of a request without a body: no bytes belong to it
    else:
        reader.feed(BYTES[event])
    assert reader.phase is TRANSITIONS[phase, event]
