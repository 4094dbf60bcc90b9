"""HTTP/2 connections by raw frames: what becomes of requests, of their limits, and of the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from support import frames
from support.echo import on_loop
from support.frames import GET, POST
from support.h2_scene import Scene
from support.http import FakeTransport, until
from support.malformed import LIMITS, MALFORMED, Malformed
from support.rows import for_each

from hybrid.workers.http.exchange import Exchange
from hybrid.workers.http.h1.connection import HttpConnection
from hybrid.workers.http.h2 import heads
from hybrid.workers.http.head import from_bytes, status_of
from hybrid.workers.http.settings import Limits

OPEN = frames.END_HEADERS  # flags of a request whose body follows
OK = status_of(200)
NONE = from_bytes([])


def scene(main: Callable[[Scene], Awaitable[None]], limits: Limits | None = None, **options: object) -> None:
    """Run a test with a connection."""

    async def run() -> None:
        await main(Scene(limits, **options))  # type: ignore[arg-type]

    on_loop(run)


def with_(*fields: tuple[bytes, bytes], path: bytes = b"/", method: bytes = b"GET") -> frames.Fields:
    return ((b":method", method), GET[1], (b":path", path), GET[3], *fields)


# --- requests


def test_a_request_is_answered() -> None:
    async def main(it: Scene) -> None:
        await it.says(frames.headers(1, with_(path=b"/a%20b?c")))
        assert it.heads(1) == [{b":status": b"200", b"content-type": b"text/plain", b"content-length": b"13"}]
        assert it.body(1) == b"GET /a%20b?c "
        assert it.is_whole(1)

    scene(main)


def test_requests_are_answered_in_any_order() -> None:
    """A request whose body has not come holds up no other."""

    async def main(it: Scene) -> None:
        await it.says(frames.headers(1, POST, OPEN), frames.headers(3))
        assert (it.is_whole(1), it.is_whole(3)) == (False, True)
        await it.says(frames.frame(frames.DATA, 1, b"late", frames.END_STREAM))
        assert it.body(1) == b"POST / late"

    scene(main)


def test_the_answers_of_one_packet_are_sent_at_once() -> None:
    async def main(it: Scene) -> None:
        before = it.transport.writes
        await it.says(*(frames.headers(stream) for stream in range(1, 41, 2)))
        assert all(it.is_whole(stream) for stream in range(1, 41, 2))
        assert it.transport.writes == before + 1

    scene(main)


def test_a_request_that_is_cancelled_in_the_same_packet_is_not_begun() -> None:
    async def main(it: Scene) -> None:
        await it.says(frames.headers(1), frames.reset(1), frames.headers(3))
        assert [call.exchange.stream for call in it.notes.started] == [3]

    scene(main)


def test_a_request_with_a_malformed_body_in_the_same_packet_is_not_begun() -> None:
    async def main(it: Scene) -> None:
        length = with_((b"content-length", b"3"), method=b"POST")
        await it.says(frames.headers(1, length, OPEN), frames.frame(frames.DATA, 1, b"four", frames.END_STREAM))
        assert it.notes.started == []
        assert it.resets == {1: frames.PROTOCOL_ERROR}

    scene(main)


def test_the_application_gets_the_fields_of_the_request() -> None:
    """The authority is the host; pieces of a cookie are one (RFC 9113, section 8.2.3)."""

    async def main(it: Scene) -> None:
        sent = ((b"x-one", b"1"), (b"cookie", b"a=1"), (b"x-two", b""), (b"cookie", b"b=2"))
        await it.says(frames.headers(1, with_(*sent)))
        _, _, fields, _ = it.notes.requests[0]
        assert fields == [(b"host", b"a"), (b"x-one", b"1"), (b"x-two", b""), (b"cookie", b"a=1; b=2")]

    scene(main)


def test_fields_that_could_be_taken_for_others_are_dropped() -> None:
    async def main(it: Scene) -> None:
        await it.says(frames.headers(1, with_((b"content_length", b"3"), (b"proxy", b"a"), (b"x-y", b"b"))))
        assert it.notes.requests[0][2] == [(b"host", b"a"), (b"x-y", b"b")]

    scene(main)


def test_requests_that_repeat_the_fields_share_them() -> None:
    async def main(it: Scene) -> None:
        seen = []
        for stream, path in ((1, b"/a"), (3, b"/a"), (5, b"/a"), (7, b"/b")):
            await it.says(frames.headers(stream, with_((b"x", b"y"), path=path)))
            exchange = it.notes.started[-1].exchange
            seen.append((exchange.request.target, exchange.repeated.likeness))  # type: ignore[union-attr]
        assert seen == [(b"/a", heads.NONE), (b"/a", heads.ALL), (b"/a", heads.ALL), (b"/b", heads.FIELDS)]
        first, *others = [call.exchange.request.headers for call in it.notes.started]
        assert all(each is first for each in others)

    scene(main)


RESET = 0
"""In the place of a status: the request is no HTTP/2, so the session resets its stream."""
REFUSED = [
    ("CONNECT", ((b":method", b"CONNECT"), (b":authority", b"a:80")), 501),
    ("unknown method", with_(method=b"BREW"), 501),
    ("unknown protocol", (*GET[1:], (b":method", b"CONNECT"), (b":protocol", b"nonsense")), 501),
    ("fragment", with_(path=b"/a#b"), 400),
    ("space in the path", with_(path=b"/a b"), RESET),
    ("eight-bit path", with_(path=b"/\xe9"), 400),
    ("asterisk", with_(path=b"*"), RESET),
    ("no host", GET[:3], RESET),
    ("two hosts that differ", with_((b"host", b"b")), 400),
    ("two Host fields that differ", (*GET[:3], (b"host", b"a"), (b"host", b"b")), RESET),
    ("invalid host", (*GET[:3], (b":authority", b"a/b")), RESET),
    ("user in the authority", (*GET[:3], (b":authority", b"u@a")), RESET),
    ("unknown expectation", with_((b"expect", b"nonsense")), 417),
    ("long path", with_(path=b"/" + b"a" * 9000), 414),
    ("many fields", with_(*(((b"x-%d" % number), b"") for number in range(101))), 431),
    ("large field", with_((b"x", b"a" * 33_000)), 431),
    ("large body", with_((b"content-length", b"100001"), method=b"POST"), 413),
]


@for_each("row", REFUSED, ids=lambda row: row[0])
def test_a_refused_request_gets_its_status_and_harms_no_other(row: tuple[str, frames.Fields, int]) -> None:
    name, fields, status = row
    flags = OPEN if name == "large body" else OPEN | frames.END_STREAM

    async def main(it: Scene) -> None:
        await it.says(*pieces(1, fields, flags), frames.headers(3))
        assert it.status(1) == status
        assert it.resets.get(1, 0) == (0 if status else frames.PROTOCOL_ERROR)
        assert [call.exchange.stream for call in it.notes.started] == [3]
        assert it.is_whole(3)

    scene(main, LIMITS)


def pieces(stream: int, fields: frames.Fields, flags: int) -> list[bytes]:
    """Return a HEADERS frame, and CONTINUATION frames for what does not fit in."""
    block = frames.block(fields)
    parts = [block[at : at + 16_384] for at in range(0, len(block), 16_384)]
    kinds = [frames.HEADERS, *(frames.CONTINUATION,) * (len(parts) - 1)]
    all_flags = [flags & ~frames.END_HEADERS, *(0,) * (len(parts) - 1)]
    all_flags[-1] |= frames.END_HEADERS
    return [frames.frame(kind, stream, part, each) for kind, part, each in zip(kinds, parts, all_flags, strict=True)]


def as_http2(row: Malformed) -> tuple[frames.Fields, bytes] | None:
    """Return the fields and the body of a request of HTTP/1; None if HTTP/2 cannot say it."""
    head, _, body = row.request.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    words = first.split(b" ")
    is_said = len(words) == 3 and words[2] == b"HTTP/1.1" and all(words) and all(b":" in line for line in lines)
    if row.before or row.ends or not is_said:
        return None
    pairs = [line.partition(b":") for line in lines]
    fields = [(name.lower(), value.removeprefix(b" ")) for name, _, value in pairs]
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) == 1:
        fields = [field for field in fields if field[0] != b"host"]
    authority = [(b":authority", hosts[0])] if len(hosts) == 1 else []
    return ((b":method", words[0]), GET[1], (b":path", words[1]), *authority, *fields), body


@for_each("row", [row for row in MALFORMED if as_http2(row)], ids=lambda row: row.name)
def test_what_http1_refuses_is_refused(row: Malformed) -> None:
    """By the same status, or by a reset where it violates HTTP/2 itself."""
    said = as_http2(row)
    assert said is not None
    fields, body = said

    async def main(it: Scene) -> None:
        flags = OPEN if body else OPEN | frames.END_STREAM
        content = [frames.frame(frames.DATA, 1, body[:16_384], frames.END_STREAM)] if body else []
        await it.says(*pieces(1, fields, flags), *content)
        assert it.notes.requests == []
        is_reset = bool(it.resets.get(1)) or bool(it.goaways)
        assert is_reset or it.status(1) == row.status, (it.status(1), fields)

    scene(main, LIMITS)


def test_the_methods_are_those_of_http1() -> None:
    async def main(it: Scene) -> None:
        for number, name in enumerate(METHODS):
            connection = HttpConnection(it.context)
            transport = FakeTransport(connection)
            connection.data_received(name + b" / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            await it.says(frames.headers(2 * number + 1, with_(method=name)))
            await it.settles()
            assert int(transport.received[9:12]) == it.status(2 * number + 1), name

    scene(main)


METHODS = (
    b"ACL BASELINE-CONTROL BIND BREW CHECKOUT COPY GET HEAD LINK LOCK M-SEARCH MERGE MKCALENDAR MKCOL MOVE "
    b"NOTIFY OPTIONS PATCH PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE TRACE "
    b"UNBIND UNLINK UNLOCK UNSUBSCRIBE VERSION-CONTROL get"
).split()

# --- bodies


def test_a_body_that_is_too_large_is_refused_on_the_way() -> None:
    async def main(it: Scene) -> None:
        await it.says(frames.headers(1, POST, OPEN))
        for _ in range(7):
            await it.says(frames.frame(frames.DATA, 1, b"x" * 16_000))
        await it.says(frames.headers(3))
        assert (it.status(1), it.is_whole(1), it.is_whole(3)) == (413, True, True)
        assert it.resets == {1: frames.NO_ERROR}

    scene(main, LIMITS)


def test_a_client_whose_request_is_answered_early_is_told_to_send_no_more() -> None:
    """RFC 9113, section 8.1: a reset without an error, behind the response."""

    def answer(exchange: Exchange) -> None:
        exchange.listener = Silent()
        exchange.start(OK, NONE, b"early", False)

    async def main(it: Scene) -> None:
        await it.says(frames.headers(1, POST, OPEN))
        assert (it.body(1), it.is_whole(1), it.resets) == (b"early", True, {1: frames.NO_ERROR})
        assert it.heard[-1].kind == frames.RST_STREAM
        await it.says(frames.frame(frames.DATA, 1, b"on its way"), frames.headers(3))
        assert it.is_whole(3)

    scene(main, answer=answer)


class Silent:
    """An application that does nothing by itself."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def body_arrived(self) -> None:
        self.told.append("body")

    def resumed(self) -> None:
        self.told.append("resumed")

    def disconnected(self) -> None:
        self.told.append("gone")

    def draining(self) -> None:
        self.told.append("draining")

    def interrupt(self) -> None:
        self.told.append("interrupt")

    def peer_done(self) -> bool:
        return True


class Held:
    """An application that keeps its exchanges, for the test to answer."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.listeners: list[Silent] = []

    def __call__(self, exchange: Exchange) -> None:
        exchange.listener = Silent()
        self.exchanges.append(exchange)
        self.listeners.append(exchange.listener)


def test_trailers_end_a_body_and_are_dropped() -> None:
    async def main(it: Scene) -> None:
        data = frames.frame(frames.DATA, 1, b"body")
        await it.says(frames.headers(1, POST, OPEN), data, frames.headers(1, ((b"x-sum", b"1"),)))
        assert it.body(1) == b"POST / body"
        assert (b"x-sum", b"1") not in it.notes.requests[0][2]

    scene(main)


def test_too_many_trailers_are_refused() -> None:
    async def main(it: Scene) -> None:
        many = tuple((b"x-%d" % number, b"") for number in range(101))
        await it.says(frames.headers(1, POST, OPEN), frames.headers(1, many))
        assert (it.status(1), it.notes.requests) == (431, [])

    scene(main)


def test_a_client_that_cancels_is_gone_and_others_are_not() -> None:
    held = Held()

    async def main(it: Scene) -> None:
        await it.says(frames.headers(1), frames.headers(3))
        await it.says(frames.reset(1))
        assert [listener.told for listener in held.listeners] == [["gone"], []]
        assert [exchange.gone for exchange in held.exchanges] == [True, False]
        held.exchanges[1].start(OK, NONE, b"served", False)
        await it.settles()
        assert it.body(3) == b"served"

    scene(main, answer=held)


def test_an_upload_gets_larger_windows_while_the_application_keeps_up() -> None:
    held = Held()

    async def main(it: Scene) -> None:
        await it.says(frames.headers(1, POST, OPEN))
        exchange = held.exchanges[0]
        for _ in range(8):
            await it.says(*(frames.frame(frames.DATA, 1, b"x" * 16_000),) * 2)
            exchange.take_body()
        await it.settles()
        window = (
            65_535 - 8 * 32_000 + sum(int.from_bytes(each.payload, "big") for each in it.of(frames.WINDOW_UPDATE, 1))
        )
        assert window > 2 * 65_536

    scene(main, answer=held)


def test_an_upload_that_the_application_does_not_read_stops_at_its_window() -> None:
    held = Held()

    async def main(it: Scene) -> None:
        body = (frames.frame(frames.DATA, 1, b"x" * 13_107),) * 5
        await it.says(frames.headers(1, POST, OPEN), *body)
        assert held.exchanges[0].buffered == 65_535
        assert not it.of(frames.WINDOW_UPDATE, 1)
        await it.says(frames.frame(frames.DATA, 1, b"too much"))
        assert it.resets == {1: frames.FLOW_CONTROL_ERROR} or it.goaways[-1][1] == frames.FLOW_CONTROL_ERROR

    scene(main, answer=held)


# --- responses


def test_a_response_waits_for_its_own_window_only() -> None:
    held = Held()

    async def main(it: Scene) -> None:
        await it.says(frames.window_update(0, 1 << 20), frames.headers(1), frames.headers(3))
        first, second = held.exchanges
        first.start(OK, NONE, b"x" * 140_000, True)
        assert first.is_held()
        await it.settles()
        assert first.is_held()
        second.start(OK, NONE, b"y" * 50_000, True)
        await it.settles()
        assert (len(it.body(1)), len(it.body(3)), second.is_held()) == (65_535, 50_000, False)
        await it.says(frames.window_update(1, 140_000))
        assert (len(it.body(1)), first.is_held(), held.listeners[0].told) == (140_000, False, ["resumed"])

    scene(main, answer=held)


def test_large_responses_take_turns() -> None:
    held = Held()

    async def main(it: Scene) -> None:
        await it.says(frames.headers(1), frames.headers(3))
        for exchange in held.exchanges:
            exchange.start(OK, NONE, b"x" * 60_000, False)
        await it.settles()
        assert [each.stream for each in it.of(frames.DATA)][:4] == [1, 3, 1, 3]

    scene(main, answer=held, hello=frames.PREFACE + frames.settings() + frames.window_update(0, 1 << 20))


def test_the_client_decides_about_turns() -> None:
    """RFC 9218: the more urgent response comes first."""
    held = Held()

    async def main(it: Scene) -> None:
        await it.says(frames.headers(1, with_((b"priority", b"u=5"))), frames.headers(3, with_((b"priority", b"u=1"))))
        for exchange in held.exchanges:
            exchange.start(OK, NONE, b"x" * 60_000, False)
        await it.settles()
        assert [each.stream for each in it.of(frames.DATA)] == [3] * 4 + [1] * 4

    scene(main, answer=held, hello=frames.PREFACE + frames.settings() + frames.window_update(0, 1 << 20))


def test_many_responses_that_wait_share_their_room() -> None:
    """A client that reads nothing keeps a megabyte or so of a worker, whatever it asks for."""
    held = Held()

    async def main(it: Scene) -> None:
        it.transport.stops_taking()
        await it.says(*(frames.headers(stream) for stream in range(1, 200, 2)))
        for _ in range(20):
            for exchange in held.exchanges:
                if exchange.stage.name == "WAITING":
                    exchange.start(OK, NONE, b"x" * 8192, True)
                elif not exchange.is_held():
                    exchange.write(b"x" * 8192, True)
        assert all(exchange.is_held() for exchange in held.exchanges)
        assert it.connection.session.queued() < 3 << 20

    scene(main, answer=held)


# --- the end


def test_a_connection_without_a_request_is_closed() -> None:
    async def main(it: Scene) -> None:
        await it.lets_time_pass()
        assert (it.is_over, it.goaways) == (True, [(0, frames.NO_ERROR)])

    scene(main)


def test_an_idle_connection_is_closed_though_it_sends_pings() -> None:
    async def main(it: Scene) -> None:
        await it.says(frames.headers(1))
        deadline = it.connection.deadline
        it.context.clock.now += 3
        await it.says(frames.frame(frames.PING, payload=b"12345678"))
        assert it.connection.deadline == deadline
        await it.lets_time_pass()
        assert (it.is_over, it.goaways) == (True, [(1, frames.NO_ERROR)])

    scene(main)


def test_a_connection_with_a_request_is_not_idle() -> None:
    held = Held()

    async def main(it: Scene) -> None:
        await it.says(frames.headers(1))
        for _ in range(5):
            it.context.clock.now += 60
            await it.lets_time_pass()
        assert not it.is_over
        held.exchanges[0].start(OK, NONE, b"late", False)
        await it.settles()
        assert it.body(1) == b"late"
        await it.lets_time_pass()
        assert it.is_over

    scene(main, answer=held)


def test_a_worker_that_stops_serves_what_is_on_its_way() -> None:
    """RFC 9113, section 6.8: the first GOAWAY names no stream, the second the last one that is served."""
    held = Held()

    async def main(it: Scene) -> None:
        await it.says(frames.headers(1))
        it.connection.drain()
        await it.settles()
        assert (it.goaways, held.listeners[0].told) == ([(2**31 - 1, 0)], ["draining"])
        await it.says(frames.headers(3))
        (ping,) = it.of(frames.PING)
        await it.says(frames.frame(frames.PING, payload=ping.payload, flags=frames.ACK), frames.headers(5))
        assert it.goaways[1:] == [(3, 0)] or it.goaways[1:] == [(5, 0)]
        assert not it.is_over
        for exchange in held.exchanges:
            exchange.start(OK, NONE, b"served", False)
        await it.settles()
        assert (it.body(1), it.body(3), it.is_over) == (b"served", b"served", True)

    scene(main, answer=held)


def test_a_client_that_is_to_leave_is_told_once_and_gets_its_answers() -> None:
    held = Held()

    async def main(it: Scene) -> None:
        await it.says(frames.headers(1))
        assert (it.connection.may_leave, it.connection.is_leaving) == (True, False)
        it.connection.leave()
        assert (it.connection.may_leave, it.connection.is_leaving) == (False, True)
        await it.says(frames.headers(3))
        assert (it.goaways, held.listeners[0].told) == ([], []), "not while requests are in progress"
        for exchange in held.exchanges:
            exchange.start(OK, NONE, b"served", False)
        await it.settles()
        assert (it.body(1), it.body(3), it.goaways, it.is_over) == (b"served", b"served", [(3, 0)], True)

    scene(main, answer=held)


def test_an_idle_client_that_is_to_leave_is_told_at_once() -> None:
    async def main(it: Scene) -> None:
        await it.says(frames.headers(1))
        await it.settles()
        it.connection.leave()
        await it.settles()
        assert (it.goaways, it.is_over) == ([(1, 0)], True)

    scene(main)


def test_a_client_stays_while_a_response_has_begun() -> None:
    held = Held()

    async def main(it: Scene) -> None:
        await it.says(frames.headers(1))
        held.exchanges[0].start(OK, NONE, b"some", True)
        assert (it.connection.may_leave, it.connection.is_leaving) == (False, False)
        held.exchanges[0].write(b"more", False)
        await it.settles()
        assert it.connection.may_leave

    scene(main, answer=held)


def test_a_client_that_does_not_answer_the_announcement_is_closed_in_time() -> None:
    async def main(it: Scene) -> None:
        await it.says(frames.headers(1))
        it.connection.drain()
        await it.lets_time_pass()
        assert it.is_over

    scene(main)


def test_a_client_that_goes_away_gets_its_answers() -> None:
    held = Held()

    async def main(it: Scene) -> None:
        await it.says(frames.headers(1), frames.goaway())
        held.exchanges[0].start(OK, NONE, b"served", False)
        await it.settles()
        assert (it.body(1), it.is_over) == (b"served", True)

    scene(main, answer=held)


def test_requests_are_limited() -> None:
    async def main(it: Scene) -> None:
        await it.says(frames.headers(1), frames.headers(3))
        assert (it.is_whole(3), it.goaways) == (True, [(2**31 - 1, 0)])

    scene(main, Limits(max_requests_per_connection=2))


# --- clients that are slow or malicious


def test_a_body_that_arrives_too_slowly_is_refused() -> None:
    async def main(it: Scene) -> None:
        await it.says(frames.headers(1, POST, OPEN), frames.headers(3))
        await it.says(frames.frame(frames.DATA, 1, b"x" * 2000))
        await it.lets_time_pass()
        assert it.status(1) == 0
        await it.lets_time_pass()
        assert (it.status(1), it.is_over) == (408, False)

    scene(main)


def test_a_response_without_a_window_is_given_up() -> None:
    held = Held()

    async def main(it: Scene) -> None:
        await it.says(frames.headers(1), frames.headers(3, with_(method=b"HEAD")))
        held.exchanges[0].start(OK, NONE, b"x" * 10, False)
        for _ in range(3):
            await it.lets_time_pass()
        assert it.resets == {1: frames.CANCEL}
        assert not it.is_over

    scene(main, answer=held, hello=frames.PREFACE + frames.settings((frames.INITIAL_WINDOW, 0)))


def test_an_application_whose_client_opens_no_window_is_told_that_it_is_gone() -> None:
    held = Held()

    async def main(it: Scene) -> None:
        await it.says(frames.headers(1))
        exchange = held.exchanges[0]
        exchange.start(OK, NONE, b"x" * 200_000, True)
        assert exchange.is_held()
        for _ in range(3):
            await it.lets_time_pass()
        assert (it.resets, exchange.gone, held.listeners[0].told) == ({1: frames.CANCEL}, True, ["gone"])

    scene(main, answer=held)


def test_a_client_with_tiny_windows_is_ended() -> None:
    """Each byte would cost a frame both ways; the others that it asks for count as well."""

    async def main(it: Scene) -> None:
        await it.says(frames.headers(1, with_(path=b"/" + b"x" * 3000)))
        for _ in range(30):
            await it.says(frames.window_update(1, 1) * 100)
            if it.is_over:
                break
        assert it.goaways == [(1, frames.ENHANCE_YOUR_CALM)]
        assert len(it.body(1)) < 2000

    scene(main, hello=frames.PREFACE + frames.settings((frames.INITIAL_WINDOW, 1)))


def test_a_client_that_reads_earns_its_window_updates() -> None:
    async def main(it: Scene) -> None:
        for number in range(200):
            stream = 2 * number + 1
            await it.says(frames.headers(stream, POST, OPEN), frames.frame(frames.DATA, stream, b"x" * 16_000))
            await it.says(frames.frame(frames.DATA, stream, b"x", frames.END_STREAM))
            await it.says(*(frames.window_update(0, 1000), frames.window_update(stream, 1000)) * 8)
        assert it.goaways == []

    scene(main)


FLOODS = {
    "PING": lambda number: frames.frame(frames.PING, payload=b"12345678"),
    "SETTINGS": lambda number: frames.settings((frames.HEADER_TABLE_SIZE, number % 4096)),
    "WINDOW_UPDATE": lambda number: frames.window_update(0, 1),
    "PRIORITY_UPDATE": lambda number: frames.frame(frames.PRIORITY_UPDATE, 0, b"\0\0\0\1u=1"),
}


@for_each("name", FLOODS)
def test_a_flood_of_control_frames_is_ended_though_the_client_reads(name: str) -> None:
    async def main(it: Scene) -> None:
        for number in range(100):
            await it.says(FLOODS[name](number) * 100)
            if it.is_over:
                break
        assert [code for _, code in it.goaways] == [frames.ENHANCE_YOUR_CALM]
        await it.lets_time_pass()
        assert it.transport.closing

    scene(main)


def test_a_flood_of_a_client_that_does_not_read_takes_no_memory() -> None:
    async def main(it: Scene) -> None:
        it.transport.stops_taking()
        for _ in range(100):
            await it.says(frames.frame(frames.PING, payload=b"12345678") * 100)
            if it.is_over:
                break
        assert it.is_over
        assert it.transport.get_write_buffer_size() < 100_000

    scene(main)


def test_pings_of_a_client_that_works_are_answered() -> None:
    async def main(it: Scene) -> None:
        for _ in range(50):
            await it.says(frames.frame(frames.PING, payload=b"12345678") * 10)
            it.context.clock.now += 1
        assert it.goaways == []
        assert len(it.of(frames.PING)) == 500

    scene(main)


def test_other_connections_do_not_notice_one_that_is_ended() -> None:
    async def main(it: Scene) -> None:
        other = Scene(hello=frames.PREFACE + frames.settings())
        await it.says(frames.window_update(0, 1) * 5000)
        await other.says(frames.headers(1))
        assert (it.is_over, other.is_whole(1)) == (True, True)

    scene(main)


def test_what_a_client_sends_behind_its_error_is_dropped() -> None:
    """Closing at once would destroy the GOAWAY that says why (RFC 9113, section 5.4.1)."""

    async def main(it: Scene) -> None:
        await it.says(frames.frame(frames.DATA, 0, b"x"))
        assert (it.transport.ended, it.transport.closing) == (True, False)
        await it.says(frames.headers(1), frames.headers(3))
        assert it.notes.started == []
        await it.lets_time_pass()
        assert it.transport.closing

    scene(main)


def test_a_connection_that_breaks_tells_all_its_applications() -> None:
    held = Held()

    async def main(it: Scene) -> None:
        await it.says(*(frames.headers(stream) for stream in (1, 3, 5)))
        await it.transport.vanishes()
        assert [listener.told for listener in held.listeners] == [["gone"]] * 3
        assert it.connection not in it.context.clock.watched
        assert it.context.multiplexed == set()

    scene(main, answer=held)


def test_a_busy_connection_lets_the_loop_turn() -> None:
    """Requests that are answered at once wait when the turn has lasted long enough."""

    async def main(it: Scene) -> None:
        turns = []

        def slow(exchange: Exchange) -> None:
            exchange.listener = Silent()
            ends = asyncio.get_running_loop().time() + 0.002
            while asyncio.get_running_loop().time() < ends:
                pass
            turns.append(it.transport.writes)
            exchange.start(OK, NONE, b"", False)

        it.context.answer = slow
        it.connection.data_received(b"".join(frames.headers(stream) for stream in range(1, 129, 2)))
        assert 0 < len(turns) < 64
        await until(lambda: len(turns) == 64, "all are answered")

    scene(main)
