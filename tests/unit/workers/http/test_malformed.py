"""Malformed requests get their status and never reach an application; odd but valid ones are served."""

from __future__ import annotations

import asyncio

from support.echo import Answer, Wire, on_loop, pieces
from support.malformed import LIMITS, MALFORMED, ODD, Malformed, Odd, get
from support.rows import for_each

FIRST = get(line=b"GET /first HTTP/1.1")
CUTS = {"whole": 1 << 20, "bytes": 1, "sevens": 7}
LONG = 3000  # bytes; longer requests are cut into fewer pieces


def _cut(request: bytes, size: int) -> list[bytes]:
    return pieces(request, size if len(request) < LONG else max(size, 997))


async def _refused(row: Malformed, size: int, before: bytes = b"") -> tuple[Wire, list[Answer]]:
    """Send a malformed request; return the output once the server has closed its sending side."""
    wire = Wire(LIMITS)
    await wire.deliver(_cut(before + row.request, size))
    if row.ends:
        await wire.end()
    assert wire.is_closing, "the server goes on listening"
    answers = wire.answers()
    await wire.end()
    assert wire.transport.closing, "the server does not let go"
    assert wire.connection not in wire.context.clock.watched
    return wire, answers


def test_the_table_is_long_and_its_names_are_unique() -> None:
    """At least 60 rows, each with a name of its own."""
    assert len(MALFORMED) >= 60
    names = [row.name for row in (*MALFORMED, *ODD)]
    assert len(set(names)) == len(names)


@for_each("row", MALFORMED, ids=lambda row: row.name)
def test_a_malformed_request_is_refused(row: Malformed) -> None:
    """It gets its status and a close, however the network cuts it; no application gets it complete."""

    async def main() -> None:
        for cut, size in CUTS.items():
            wire, answers = await _refused(row, size)
            assert [answer.status for answer in answers] == [200] * row.before + [row.status], cut
            assert answers[-1].field(b"connection") == b"close", cut
            assert len(wire.notes.requests) == row.before, cut
            if cut == "whole" and len(row.request) < LONG:
                assert len(wire.notes.started) == row.before or row.ends

    on_loop(main)


@for_each("row", MALFORMED, ids=lambda row: row.name)
def test_earlier_requests_are_answered_first(row: Malformed) -> None:
    """A malformed request does not affect the response to a valid one before it."""

    async def main() -> None:
        for cut, size in CUTS.items():
            wire, answers = await _refused(row, size, FIRST)
            assert [answer.status for answer in answers] == [200] * (row.before + 1) + [row.status], cut
            assert answers[0].body == b"GET /first ", cut
            assert wire.notes.seen[0] == b"GET /first ", cut
            assert len(wire.notes.requests) == row.before + 1, cut

    on_loop(main)


@for_each("row", MALFORMED, ids=lambda row: row.name)
def test_nothing_after_a_malformed_request_is_served(row: Malformed) -> None:
    """A valid request after a malformed one may be smuggled."""

    async def main() -> None:
        wire = Wire(LIMITS)
        await wire.deliver([row.request, get(line=b"GET /smuggled HTTP/1.1")])
        await wire.deliver([get(line=b"GET /smuggled HTTP/1.1")])
        await wire.end()
        assert not any(b"/smuggled" in target for _, target, _, _ in wire.notes.requests)
        assert wire.transport.closing

    on_loop(main)


@for_each("row", ODD, ids=lambda row: row.name)
def test_an_odd_request_is_served(row: Odd) -> None:
    """It reaches the application unchanged, however the network cuts it."""

    async def main() -> None:
        for cut, size in CUTS.items():
            wire = Wire(LIMITS)
            await wire.deliver(_cut(row.request, size))
            assert wire.notes.seen == row.seen, cut
            answers = wire.answers(*(number for number, seen in enumerate(row.seen) if seen.startswith(b"HEAD")))
            assert [answer.status for answer in answers] == [200] * len(row.seen), cut
            assert wire.is_closing is row.closes, cut
            assert (answers[-1].field(b"connection") == b"close") is row.closes, cut
            await wire.end()
            assert wire.transport.closing, cut

    on_loop(main)


@for_each("row", ODD, ids=lambda row: row.name)
def test_an_odd_request_from_a_half_closed_client_is_served(row: Odd) -> None:
    """The connection is closed after the response."""

    async def main() -> None:
        wire = Wire(LIMITS)
        wire.sends(row.request)
        await wire.end()
        assert wire.notes.seen == row.seen
        assert wire.transport.closing

    on_loop(main)


def test_the_authority_of_the_target_replaces_the_host_field() -> None:
    """The application gets one Host, that of the target (RFC 9112, section 3.2.2)."""

    async def main() -> None:
        wire = Wire()
        await wire.deliver([get(line=b"GET http://b:81/ HTTP/1.1")])
        fields = wire.notes.requests[0][2]
        assert [value for name, value in fields if name == b"host"] == [b"b:81"]

    on_loop(main)


def test_a_field_with_an_underscore_does_not_reach_the_application() -> None:
    """`CONTENT_LENGTH` could be confused with another field."""

    async def main() -> None:
        wire = Wire()
        await wire.deliver([get(b"Content_Length: 3", b"X_Y: a", b"Proxy: a", b"X-Y: b")])
        assert [name for name, _ in wire.notes.requests[0][2]] == [b"host", b"x-y"]

    on_loop(main)


def test_trailers_do_not_reach_the_application_as_fields() -> None:
    """They arrive after the header section, and must not be merged into it."""

    async def main() -> None:
        wire = Wire()
        body = b"0\r\nX-Admin: yes\r\n\r\n"
        await wire.deliver([get(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.1") + body + get()])
        assert [[name for name, _ in request[2]] for request in wire.notes.requests] == [
            [b"host", b"transfer-encoding"],
            [b"host"],
        ]

    on_loop(main)


def test_a_client_that_expects_it_gets_100_continue() -> None:
    """Once, when the application asks for the body (RFC 9110, section 10.1.1)."""

    async def main() -> None:
        wire = Wire()
        head = get(b"Expect: 100-continue", b"Content-Length: 3", line=b"POST / HTTP/1.1")
        await wire.deliver([head])
        assert bytes(wire.transport.received) == b"HTTP/1.1 100 Continue\r\n\r\n"
        await wire.deliver([b"abc"])
        assert [answer.body for answer in wire.answers()] == [b"POST / abc"]
        assert bytes(wire.transport.received).count(b"100 Continue") == 1

    on_loop(main)


def test_an_http_1_0_client_gets_no_100_continue() -> None:
    """HTTP/1.0 has no informational responses (RFC 9110, section 15.2)."""

    async def main() -> None:
        wire = Wire()
        await wire.deliver([get(b"Expect: 100-continue", b"Content-Length: 3", line=b"POST / HTTP/1.0")])
        assert not wire.transport.received

    on_loop(main)


def test_a_request_between_two_responses_waits_for_its_turn() -> None:
    """Responses keep the order of the requests; otherwise a client would mix them up."""

    async def main() -> None:
        wire = Wire()
        head = get(b"Content-Length: 1", line=b"POST /1 HTTP/1.1")
        wire.sends(head)
        wire.sends(b"a" + get(line=b"GET /2 HTTP/1.1"))
        while wire.connection.current is not None:
            await asyncio.sleep(0)
        wire.sends(get(line=b"GET /3 HTTP/1.1"))
        await wire.settle()
        assert wire.notes.seen == (b"POST /1 a", b"GET /2 ", b"GET /3 ")

    on_loop(main)
