"""What RFC 9113 says about frames, section by section: right ones are served, wrong ones end a stream, or all.

Each row is what a client sends behind its preface and SETTINGS, and what must come of it. A good request follows on
stream 99: it is served unless the connection has ended.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from support import frames
from support.echo import on_loop
from support.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    POST,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)
from support.h2_scene import Scene
from support.rows import for_each

OPEN = frames.headers(1, POST, END_HEADERS)
WHOLE = frames.headers(1)
BEGUN = frames.headers(1, GET, END_STREAM)  # its field block goes on
BLOCK = frames.block(GET)
PROTOCOL, SIZE, FLOW, CLOSED = (
    frames.PROTOCOL_ERROR,
    frames.FRAME_SIZE_ERROR,
    frames.FLOW_CONTROL_ERROR,
    frames.STREAM_CLOSED,
)


class Connection(NamedTuple):
    """The connection ends with this error."""

    code: int


class Stream(NamedTuple):
    """Stream 1 is reset with this error, and the connection goes on."""

    code: int


class Served(NamedTuple):
    """Everything is served."""


SERVED = Served()


class Row(NamedTuple):
    """A row of the corpus."""

    section: str
    what: str
    sent: bytes
    outcome: Connection | Stream | Served


def setting(key: int, value: int) -> bytes:
    return frames.settings((key, value))


CORPUS = (
    Row("4.1", "a frame of an unknown type", frame(0x77, 0, b"12345678"), SERVED),
    Row("4.1", "flags that are not defined", frame(PING, 0, b"12345678", 0xFE), SERVED),
    Row("4.1", "the reserved bit", frame(PING, 0x80000000, b"12345678"), SERVED),
    Row("4.2", "DATA of the largest size", OPEN + frame(DATA, 1, b"x" * 16_384, END_STREAM), SERVED),
    Row("4.2", "DATA that is too large", OPEN + frame(DATA, 1, b"x" * 16_385, END_STREAM), Connection(SIZE)),
    Row("4.2", "HEADERS that are too large", frame(HEADERS, 1, b"\0" * 16_385, 5), Connection(SIZE)),
    Row("4.3", "a block that cannot be decoded", frame(HEADERS, 1, b"\x40", 5), Connection(frames.COMPRESSION_ERROR)),
    Row("4.3", "an index of no table", frame(HEADERS, 1, b"\xff\x80\x01", 5), Connection(frames.COMPRESSION_ERROR)),
    Row(
        "4.3",
        "PRIORITY within a block",
        BEGUN + frame(PRIORITY, 1, b"\0" * 5),
        Connection(PROTOCOL),
    ),
    Row("4.3", "HEADERS within a block", BEGUN + frames.headers(3), Connection(PROTOCOL)),
    Row("4.3", "an unknown frame within a block", BEGUN + frame(0x77), Connection(PROTOCOL)),
    Row("5.1", "DATA on an idle stream", frame(DATA, 1, b"x"), Connection(PROTOCOL)),
    Row("5.1", "RST_STREAM on an idle stream", frames.reset(1), Connection(PROTOCOL)),
    Row("5.1", "WINDOW_UPDATE on an idle stream", frames.window_update(1, 1), Connection(PROTOCOL)),
    Row("5.1", "CONTINUATION on an idle stream", frame(CONTINUATION, 1, BLOCK, END_HEADERS), Connection(PROTOCOL)),
    Row("5.1", "PRIORITY on an idle stream", frame(PRIORITY, 1, b"\0" * 5), SERVED),
    Row("5.1", "WINDOW_UPDATE behind a reset", OPEN + frames.reset(1) + frames.window_update(1, 1), SERVED),
    Row("5.1", "RST_STREAM behind a reset", OPEN + frames.reset(1) * 2, SERVED),
    Row("5.1.1", "a stream of the server", frames.headers(2), Connection(PROTOCOL)),
    Row("6.1", "DATA on stream 0", frame(DATA, 0, b"x"), Connection(PROTOCOL)),
    Row("6.1", "DATA with padding", OPEN + frame(DATA, 1, b"\x03abc\0\0\0", PADDED | END_STREAM), SERVED),
    Row("6.1", "DATA with more padding than payload", OPEN + frame(DATA, 1, b"\x09abc", PADDED), Connection(PROTOCOL)),
    Row("6.2", "HEADERS on stream 0", frames.headers(0), Connection(PROTOCOL)),
    Row("6.2", "HEADERS with padding", frame(HEADERS, 1, b"\x02" + BLOCK + b"\0\0", PADDED | 5), SERVED),
    Row("6.2", "HEADERS with too much padding", frame(HEADERS, 1, b"\xff" + BLOCK, PADDED | 5), Connection(PROTOCOL)),
    Row("6.2", "HEADERS with a priority", frame(HEADERS, 1, b"\0" * 5 + BLOCK, frames.WITH_PRIORITY | 5), SERVED),
    Row(
        "6.3",
        "PRIORITY on stream 0, ignored as obsolete",
        frame(PRIORITY, 0, b"\0" * 5),
        SERVED,
    ),
    Row("6.4", "RST_STREAM on stream 0", frames.reset(0), Connection(PROTOCOL)),
    Row("6.4", "RST_STREAM of 3 bytes", OPEN + frame(RST_STREAM, 1, b"\0" * 3), Connection(SIZE)),
    Row("6.5", "SETTINGS that are empty", frames.settings(), SERVED),
    Row("6.5", "SETTINGS on a stream", frame(SETTINGS, 1), Connection(PROTOCOL)),
    Row("6.5", "SETTINGS of 5 bytes", frame(SETTINGS, 0, b"\0" * 5), Connection(SIZE)),
    Row("6.5", "an acknowledgement with a payload", frame(SETTINGS, 0, b"\0" * 6, ACK), Connection(SIZE)),
    Row("6.5.2", "an unknown setting", setting(0x99, 1), SERVED),
    Row("6.5.2", "ENABLE_PUSH of 2", setting(frames.ENABLE_PUSH, 2), Connection(PROTOCOL)),
    Row("6.5.2", "a window above the limit", setting(frames.INITIAL_WINDOW, 1 << 31), Connection(FLOW)),
    Row("6.5.2", "frames below the limit", setting(frames.MAX_FRAME_SIZE, 16_383), Connection(PROTOCOL)),
    Row("6.5.2", "frames above the limit", setting(frames.MAX_FRAME_SIZE, 1 << 24), Connection(PROTOCOL)),
    Row("6.6", "PUSH_PROMISE", OPEN + frame(PUSH_PROMISE, 1, b"\0\0\0\2" + BLOCK, 4), Connection(PROTOCOL)),
    Row("6.7", "PING", frame(PING, 0, b"12345678"), SERVED),
    Row("6.7", "PING on a stream", frame(PING, 1, b"12345678"), Connection(PROTOCOL)),
    Row("6.7", "PING of 6 bytes", frame(PING, 0, b"123456"), Connection(SIZE)),
    Row("6.8", "GOAWAY on a stream", frame(GOAWAY, 1, b"\0" * 8), Connection(PROTOCOL)),
    Row("6.9", "an increment of 0", frames.window_update(0, 0), Connection(PROTOCOL)),
    Row("6.9", "an increment of 0 on a stream", OPEN + frames.window_update(1, 0), Connection(PROTOCOL)),
    Row("6.9", "WINDOW_UPDATE of 3 bytes", frame(WINDOW_UPDATE, 0, b"\0\0\1"), Connection(SIZE)),
    Row("6.9.1", "a window that overflows", frames.window_update(0, 2**31 - 1), Connection(FLOW)),
    Row("6.9.1", "a stream's window that overflows", OPEN + frames.window_update(1, 2**31 - 1), Connection(FLOW)),
    Row(
        "6.9.2",
        "an initial window that makes a window overflow",
        OPEN + frames.window_update(1, 2**30) + setting(frames.INITIAL_WINDOW, 2**31 - 1),
        Connection(FLOW),
    ),
    Row("6.10", "CONTINUATION", BEGUN + frame(CONTINUATION, 1, b"", END_HEADERS), SERVED),
    Row("6.10", "CONTINUATION behind a whole block", OPEN + frame(CONTINUATION, 1, b"", 4), Connection(PROTOCOL)),
    Row(
        "6.10",
        "CONTINUATION on stream 0",
        BEGUN + frame(CONTINUATION, 0, b"", 4),
        Connection(PROTOCOL),
    ),
    Row("8.1", "trailers that do not end the stream", OPEN + frames.headers(1, ((b"x", b"y"),), 4), Stream(PROTOCOL)),
    Row("8.1", "pseudo-header fields in trailers", OPEN + frames.headers(1, GET), Stream(PROTOCOL)),
    Row(
        "8.1.1",
        "less than the Content-Length",
        frames.headers(1, (*POST, (b"content-length", b"3")), END_HEADERS) + frame(DATA, 1, b"ab", END_STREAM),
        Stream(PROTOCOL),
    ),
    Row(
        "8.1.1",
        "more than the Content-Length, in two frames",
        frames.headers(1, (*POST, (b"content-length", b"3")), END_HEADERS) + frame(DATA, 1, b"ab") * 2,
        Stream(PROTOCOL),
    ),
)


@for_each("row", CORPUS, ids=lambda row: f"{row.section} {row.what}")
def test_a_frame_has_the_consequence_that_the_standard_names(row: Row) -> None:
    async def main() -> None:
        it = Scene()
        await it.says(row.sent)
        await it.says(frames.headers(99))
        codes = [code for _, code in it.goaways]
        match row.outcome:
            case Connection(code):
                assert codes == [code]
                assert it.is_over
                assert not it.is_whole(99)
            case Stream(code):
                assert (it.resets, codes) == ({1: code}, [])
                assert it.is_whole(99)
            case _:
                assert (it.resets, codes) == ({}, [])
                assert it.is_whole(99)

    on_loop(main)


def test_a_ping_is_answered_with_its_payload_and_an_answer_is_not() -> None:
    async def main() -> None:
        it = Scene()
        await it.says(frame(PING, 0, b"12345678"), frame(PING, 0, b"87654321", ACK))
        assert [(each.payload, each.flags) for each in it.of(PING)] == [(b"12345678", ACK)]

    on_loop(main)


def test_settings_are_acknowledged() -> None:
    async def main() -> None:
        it = Scene()
        await it.says(frames.settings((frames.INITIAL_WINDOW, 70_000)))
        assert [each.flags for each in it.of(SETTINGS)] == [0, ACK, ACK]

    on_loop(main)


def test_a_setting_changes_the_windows_of_open_streams() -> None:
    """RFC 9113, section 6.9.2."""

    async def main() -> None:
        it = Scene(hello=frames.PREFACE + setting(frames.INITIAL_WINDOW, 3))
        await it.says(WHOLE)
        assert it.body(1) == b"GET"
        await it.says(setting(frames.INITIAL_WINDOW, 100))
        assert it.body(1) == b"GET / "

    on_loop(main)


def test_data_counts_with_its_padding() -> None:
    """RFC 9113, section 6.1: the window is given back for it."""

    async def main() -> None:
        it = Scene()
        padding = frame(DATA, 1, struct.pack(">B", 255) + b"\0" * 255, PADDED)
        for _ in range(20):
            await it.says((b"" if _ else OPEN) + padding * 50)
        assert not it.is_over

    on_loop(main)
