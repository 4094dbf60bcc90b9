"""The fast path for ordinary frames behaves exactly like `websockets`, for any bytes."""

from __future__ import annotations

import itertools
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.rows import for_each
from support.websocket import (
    ACCEPT,
    BINARY,
    CLOSE,
    CONT,
    KEY,
    PING,
    PONG,
    TEXT,
    Received,
    close_frame,
    code_of,
    frame,
    received,
)
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from hybrid.workers.http.websocket.frames import MOST_EMPTY, Closed, CloseError, HandshakeError, WebSocket, frame_size

MAX_SIZE = 300
DEFLATE = (b"sec-websocket-extensions", b"permessage-deflate")


def fields(**changes: bytes | None) -> list[tuple[bytes, bytes]]:
    """Return the header fields of a valid handshake, with changes; None removes one."""
    good: dict[str, bytes | None] = {
        "connection": b"Upgrade",
        "upgrade": b"websocket",
        "sec-websocket-version": b"13",
        "sec-websocket-key": KEY,
    }
    changed = {**good, **{name.replace("_", "-"): value for name, value in changes.items()}}
    return [(name.encode(), value) for name, value in changed.items() if value is not None]


def compressed(data: bytes) -> bytes:
    """Return data as the payload of a compressed message (RFC 7692, section 7.2.1)."""
    squeezer = zlib.compressobj(wbits=-12)
    return (squeezer.compress(data) + squeezer.flush(zlib.Z_SYNC_FLUSH))[:-4]


# -- -- the reference: `websockets` alone, with its fragments joined ------------------


def judged_by_websockets(data: bytes, max_size: int) -> tuple[list[str | bytes], bytes, tuple[int, bool] | None]:
    """Return the messages, the output, and the code and kind of the end."""
    protocol = ServerProtocol(state=State.OPEN, max_size=max_size)
    messages: list[str | bytes] = []
    parts: list[Frame] = []
    begins = 0  # the next frame does
    for at, byte in enumerate(data):  # one at a time: the end stops everything after it
        if at == begins and byte & 0x0F == CLOSE and parts:
            parts = []
            protocol.current_size = None  # type: ignore[attr-defined]  # RFC 6455, section 5.4: it may come there
        protocol.receive_data(bytes((byte,)))
        if frame_size(data[: at + 1], begins) == at + 1 - begins:
            begins = at + 1
        for event in protocol.events_received():
            assert isinstance(event, Frame)
            if event.opcode not in (Opcode.CONT, Opcode.TEXT, Opcode.BINARY):
                continue
            parts.append(event)
            whole = b"".join(bytes(part.data) for part in parts)
            is_text = parts[0].opcode is Opcode.TEXT
            if is_text and (fault := fault_of(whole, is_whole=event.fin)) is not None:
                in_one = len(parts) == 1 and event.fin
                protocol.fail(1007, f"{fault.reason} at position {fault.start}" if in_one else fault.reason)
                return messages, b"".join(protocol.data_to_send()), (1007, True)
            if event.fin:
                parts = []
                messages.append(whole.decode() if is_text else whole)
        if protocol.state is not State.OPEN:
            break
    end = None
    if protocol.state is not State.OPEN:
        failed = protocol.parser_exc is not None
        told = protocol.close_sent if failed else protocol.close_rcvd
        assert told is not None
        end = (int(told.code), failed)
    return messages, b"".join(protocol.data_to_send()), end


def fault_of(text: bytes, *, is_whole: bool) -> UnicodeDecodeError | None:
    """Return why bytes are not a prefix of UTF-8; None if they are."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return error if is_whole or error.reason != "unexpected end of data" else None
    return None


def judged_here(pieces: list[bytes], max_size: int) -> tuple[list[str | bytes], bytes, tuple[int, bool] | None]:
    """The same for our implementation."""
    wire = WebSocket(max_size, compression=False)
    messages: list[str | bytes] = []
    output = b""
    for piece in pieces:
        messages += wire.feed(piece)
        output += wire.take_output()
    return messages, output, None if wire.closed is None else (wire.closed.code, wire.closed.failed)


payloads = st.one_of(
    st.binary(max_size=8),
    st.text(max_size=8).map(str.encode),
    st.sampled_from([0, 124, 125, 126, 127, 299, 300, 301]).map(lambda size: b"x" * size),
)
usual = st.builds(frame, st.sampled_from([TEXT, BINARY]), payloads, mask=st.binary(min_size=4, max_size=4))
unusual = st.builds(
    frame,
    st.sampled_from([CONT, TEXT, BINARY, 3, CLOSE, PING, PONG, 11]),
    payloads,
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 0, 1, 4]),
    mask=st.sampled_from([b"\1\2\3\4", b"\1\2\3\4", b"\1\2\3\4", None]),
)
closes = st.builds(close_frame, st.sampled_from([999, 1000, 1001, 1005, 3000, 4999, 5000]), st.text(max_size=4))
streams = st.lists(st.one_of(usual, usual, unusual, closes), max_size=12).map(b"".join)


@given(data=st.one_of(streams, st.binary(max_size=40)), cuts=st.lists(st.integers(0, 600), max_size=6))
@example(data=frame(TEXT, b"a") + frame(TEXT, b"\xff") + frame(TEXT, b"b"), cuts=[])
@example(data=frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), cuts=[])
@example(data=frame(BINARY, b"x" * 301), cuts=[3])
def test_any_bytes_cut_anywhere_give_the_same_as_websockets(data: bytes, cuts: list[int]) -> None:
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces = [data[begin:end] for begin, end in itertools.pairwise(places)]
    assert judged_here(pieces, MAX_SIZE) == judged_by_websockets(data, MAX_SIZE)


@given(data=st.one_of(streams, st.binary(max_size=40)))
def test_one_byte_at_a_time_gives_the_same(data: bytes) -> None:
    pieces = [data[at : at + 1] for at in range(len(data))]
    assert judged_here(pieces, MAX_SIZE) == judged_by_websockets(data, MAX_SIZE)


@pytest.mark.parametrize("cut", [1, 9, 13, 16_384, 65_535, 200_000])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_frame_of_many_reads_is_one_message(opcode: int, cut: int) -> None:
    payload = "é".encode() * 40_000
    data = frame(opcode, payload) + frame(opcode, b"after")
    websocket = WebSocket(0, compression=False)
    pieces = [data[:cut], *(data[at : at + 16_384] for at in range(cut, len(data), 16_384))]
    messages = [message for piece in pieces for message in websocket.feed(piece)]
    assert messages == ([payload, b"after"] if opcode == BINARY else [payload.decode(), "after"])
    assert (websocket.owed, websocket.has_news) == (0, False)


@pytest.mark.parametrize(
    ("payload", "code"), [(b"x" * 70_001, 1009), (b"x" * 69_999 + b"\xff", 1007)], ids=["too long", "not UTF-8"]
)
def test_a_frame_of_many_reads_has_the_limits_of_a_short_one(payload: bytes, code: int) -> None:
    websocket = WebSocket(70_000, compression=False)
    data = frame(TEXT, payload)
    assert not websocket.feed(data[:20_000]) + websocket.feed(data[20_000:])
    assert websocket.closed is not None
    assert websocket.closed.code == code


@for_each("size", [0, 1, 125, 126, 127, 65_535, 65_536, 200_000])
def test_output_is_the_same_as_that_of_websockets(size: int) -> None:
    reference = ServerProtocol(state=State.OPEN)
    reference.send_text(b"x" * size)
    reference.send_binary(b"x" * size)
    wire = WebSocket(0, compression=False)
    assert [wire.text("x" * size), wire.binary(b"x" * size)] == reference.data_to_send()


# -- compression


def test_compressed_messages_arrive_complete_among_plain_ones() -> None:
    wire = WebSocket(MAX_SIZE, compression=True)
    assert b"permessage-deflate" in wire.handshake(b"/", [*fields(), DEFLATE])
    data = frame(TEXT, compressed(b"hello"), rsv=4) + frame(TEXT, b"plain") + frame(BINARY, compressed(b"\0"), rsv=4)
    assert wire.feed(data) == ["hello", "plain", b"\0"]


def test_compression_is_used_only_if_allowed_and_offered() -> None:
    assert b"deflate" not in WebSocket(0, compression=False).handshake(b"/", [*fields(), DEFLATE])
    wire = WebSocket(0, compression=True)
    assert b"deflate" not in wire.handshake(b"/", fields())
    assert received(wire.text("hello"))[0].payload == b"hello"


def test_a_decompression_bomb_fails_at_the_limit() -> None:
    """A message that is small on the wire and huge after decompression."""
    wire = WebSocket(100_000, compression=True)
    wire.handshake(b"/", [*fields(), DEFLATE])
    assert wire.feed(frame(BINARY, compressed(b"\0" * 50_000_000), rsv=4)) == []
    assert wire.closed is not None
    assert (wire.closed.code, wire.closed.failed) == (1009, True)


# -- the end


def test_a_close_frame_is_answered_with_its_code() -> None:
    wire = WebSocket(0, compression=False)
    wire.feed(close_frame(4001, "done") + frame(TEXT, b"too late"))
    assert wire.has_news
    assert [code_of(item) for item in received(wire.take_output())] == [4001]
    assert wire.closed == Closed(4001, "done", failed=False)
    assert not wire.has_news


def test_a_close_frame_without_a_code_is_1005() -> None:
    wire = WebSocket(0, compression=False)
    wire.feed(frame(CLOSE))
    assert wire.closed == Closed(1005, "", failed=False)


def test_nothing_is_received_after_the_end() -> None:
    wire = WebSocket(0, compression=False)
    wire.feed(close_frame(1000))
    assert wire.feed(frame(TEXT, b"too late")) == []


def test_the_rest_of_a_frame_is_dropped_after_a_failure() -> None:
    websocket = WebSocket(0, compression=False)
    data = frame(BINARY, b"x" * 70_000) + frame(BINARY, b"after")
    assert not websocket.feed(data[:40_000])
    websocket.fail(1011, "keepalive ping timeout")
    assert not websocket.feed(data[40_000:])


def test_a_failure_while_our_close_frame_is_unanswered_sends_no_second_one() -> None:
    wire = WebSocket(0, compression=False)
    wire.close(1000, "")
    wire.feed(frame(TEXT, b"\xff"))
    assert wire.take_output() == b""
    assert wire.closed is not None
    assert wire.closed.failed


@for_each(("code", "reason"), [(1005, ""), (1006, ""), (999, ""), (5000, ""), (1000, "x" * 124)])
def test_invalid_close_codes_and_reasons_are_refused(code: int, reason: str) -> None:
    with pytest.raises(CloseError, match="cannot be sent"):
        WebSocket(0, compression=False).close(code, reason)


def test_endless_empty_fragments_take_no_memory() -> None:
    wire = WebSocket(0, compression=False)
    wire.feed(frame(TEXT, b"", fin=False))
    for _ in range(10):
        assert wire.feed(frame(CONT, b"", fin=False) * 100) == []
    assert wire.feed(frame(CONT, b"end")) == ["end"]


def test_endless_empty_fragments_fail_the_connection() -> None:
    """Each costs as much time as a complete message."""
    wire = WebSocket(0, compression=False)
    wire.feed(frame(TEXT, b"", fin=False))
    wire.feed(frame(CONT, b"", fin=False) * MOST_EMPTY)
    assert wire.closed is None
    wire.feed(frame(CONT, b"", fin=False) * 2)
    assert wire.closed is not None
    assert (wire.closed.code, wire.closed.failed) == (1008, True)


def test_only_consecutive_empty_fragments_are_counted() -> None:
    wire = WebSocket(0, compression=False)
    wire.feed(frame(TEXT, b"", fin=False))
    for _ in range(3):
        wire.feed(frame(CONT, b"", fin=False) * MOST_EMPTY + frame(CONT, b"x", fin=False))
    assert wire.feed(frame(CONT, b"")) == ["xxx"]


def test_each_of_several_pings_is_answered() -> None:
    wire = WebSocket(0, compression=False)
    wire.feed(b"".join(frame(PING, b"%d" % number) for number in range(100)))
    assert received(wire.take_output()) == [Received(PONG, b"%d" % number) for number in range(100)]
    wire.feed(frame(PING, b"a"))
    assert wire.take_output() == b"\x8a\x01a"


def test_a_ping_between_fragments_is_answered_and_the_message_continues() -> None:
    wire = WebSocket(0, compression=False)
    data = frame(TEXT, b"a", fin=False) + frame(PING, b"1") + frame(CONT, b"b", fin=False) + frame(PING, b"2")
    assert wire.feed(data + frame(CONT, b"c")) == ["abc"]
    assert received(wire.take_output()) == [Received(PONG, b"1"), Received(PONG, b"2")]


@pytest.mark.parametrize("cut", [0, 1, 3, 8])
@pytest.mark.parametrize("compression", [False, True])
def test_a_close_frame_between_fragments_is_answered_with_its_code(compression: bool, cut: int) -> None:
    wire = WebSocket(0, compression=compression)
    wire.handshake(b"/", [*fields(), DEFLATE])
    assert wire.feed(frame(TEXT, compressed(b"half") if compression else b"half", fin=False, rsv=4 * compression)) == []
    data = close_frame(4001, "done")
    wire.feed(data[:cut])
    wire.feed(data[cut:] + frame(CONT, b"too late"))
    assert wire.closed == Closed(4001, "done", failed=False)
    assert [code_of(item) for item in received(wire.take_output())] == [4001]


def test_a_close_frame_between_fragments_answers_ours() -> None:
    wire = WebSocket(0, compression=False)
    wire.feed(frame(BINARY, b"half", fin=False))
    wire.close(1000, "")
    wire.feed(close_frame(1000))
    assert wire.closed == Closed(1000, "", failed=False)
    assert wire.take_output() == b""


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(CLOSE, b"\x03"), 1002),
        (close_frame(1005), 1002),
        (close_frame(999), 1002),
        (close_frame(2999), 1002),
        (frame(CLOSE, b"\x03\xe8\xff"), 1007),
        (frame(CLOSE, b"\x03\xe8", fin=False), 1002),
        (frame(CLOSE, b"\x03\xe8" + b"x" * 124), 1002),
        (frame(CLOSE, b"\x03\xe8", mask=None), 1002),
        (frame(CLOSE, b"\x03\xe8", rsv=2), 1002),
    ],
    ids=["one byte", "1005", "999", "2999", "no UTF-8", "fragment", "long", "not masked", "reserved bit"],
)
@pytest.mark.parametrize("before", [b"", frame(TEXT, b"half", fin=False)], ids=["alone", "between fragments"])
def test_an_invalid_close_frame_fails_the_connection(before: bytes, data: bytes, code: int) -> None:
    wire = WebSocket(0, compression=False)
    wire.feed(before + data)
    assert [code_of(item) for item in received(wire.take_output())] == [code]
    assert wire.closed is not None
    assert (wire.closed.code, wire.closed.failed) == (code, True)


@for_each(
    "fragments",
    [
        [b"ok", b"\xff"],
        ["κόσμε".encode() + b"\xf4", b"\x90"],  # beyond the last character
        [b"\xed", b"\xa0"],  # a surrogate
        [b"\xc0"],  # an overlong form
        [b"\xce", b"a"],  # an incomplete character
    ],
)
def test_text_fails_at_the_first_fragment_that_is_not_utf_8(fragments: list[bytes]) -> None:
    wire = WebSocket(0, compression=False)
    for number, fragment in enumerate(fragments):
        assert wire.closed is None
        wire.feed(frame(CONT if number else TEXT, fragment, fin=False))
    assert wire.closed is not None
    assert (wire.closed.code, wire.closed.failed) == (1007, True)


def test_a_character_may_be_split_between_fragments() -> None:
    wire = WebSocket(0, compression=False)
    first, *rest = [bytes((byte,)) for byte in "κ😀".encode()]
    assert wire.feed(frame(TEXT, first, fin=False) + b"".join(frame(CONT, byte, fin=False) for byte in rest)) == []
    assert wire.feed(frame(CONT, b"!")) == ["κ😀!"]


def test_an_incomplete_character_at_the_end_fails() -> None:
    wire = WebSocket(0, compression=False)
    wire.feed(frame(TEXT, b"\xce", fin=False) + frame(CONT, b""))
    assert wire.closed is not None
    assert wire.closed.code == 1007


def test_a_close_after_a_ping_is_answered_too() -> None:
    wire = WebSocket(0, compression=False)
    wire.feed(frame(PING, b"a") + frame(CLOSE, b"\x03\xe8"))
    assert wire.take_output() == b"\x8a\x01a\x88\x02\x03\xe8"


# -- the handshake


def test_a_valid_handshake_gets_its_accept_key() -> None:
    block = WebSocket(0, compression=False).handshake(b"/", fields())
    assert block == b"upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: " + ACCEPT + b"\r\n"


@for_each(
    ("status", "changes"),
    [
        (426, {"sec_websocket_version": b"8"}),
        (426, {"sec_websocket_version": None}),
        (426, {"upgrade": b"websocket, h2c"}),
        (400, {"sec_websocket_key": None}),
        (400, {"sec_websocket_key": b"short"}),
        (400, {"sec_websocket_key": b"!" * 24}),
        (400, {"sec_websocket_extensions": b"=;="}),
        (400, {"sec_websocket_protocol": b"a b"}),
    ],
)
def test_invalid_handshakes_are_refused(status: int, changes: dict[str, bytes | None]) -> None:
    with pytest.raises(HandshakeError) as refused:
        WebSocket(0, compression=True).handshake(b"/", fields(**changes))
    assert refused.value.status == status


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
@pytest.mark.parametrize("mask", [b"\1\2\3\4", None])
def test_the_size_of_a_frame_is_read_from_its_head(size: int, mask: bytes | None) -> None:
    data = b"before" + frame(BINARY, b"x" * size, mask=mask)
    assert frame_size(data, 6) == len(data) - 6
    assert frame_size(data[:7], 6) is None
