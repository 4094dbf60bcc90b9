"""Stream readers: each test runs on lean streams and on asyncio's own and expects the same."""

from __future__ import annotations

import asyncio
import itertools
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.hub import reset, turns, until
from support.streams import LEAN, NATIVE, Ends, on_streams, run_body

TUPLES = LEAN + (NATIVE if sys.version_info >= (3, 13) else [])  # asyncio's readuntil takes tuples since 3.13


@on_streams
async def test_read_returns_available_bytes(ends: Ends) -> None:
    ends.says(b"hello")
    assert await ends.reader.read(100) == b"hello"


@on_streams
async def test_read_returns_at_most_the_requested_size(ends: Ends) -> None:
    ends.says(b"hello")
    assert [await ends.reader.read(2) for _ in range(3)] == [b"he", b"ll", b"o"]


@on_streams
async def test_read_waits_for_data(ends: Ends) -> None:
    ends.loop.call_later(0.01, ends.says, b"late")
    assert await ends.reader.read(100) == b"late"
    ends.loop.call_later(0.01, ends.says, b"later")
    assert await ends.reader.read(100) == b"later"


@on_streams
async def test_read_of_zero_bytes_returns_immediately(ends: Ends) -> None:
    assert await ends.reader.read(0) == b""
    assert not ends.reader.at_eof()


@on_streams
async def test_read_at_the_end_returns_nothing_again_and_again(ends: Ends) -> None:
    ends.says(b"x")
    ends.stops_sending()
    assert await ends.reader.read(100) == b"x"
    assert [await ends.reader.read(100) for _ in range(3)] == [b""] * 3
    assert ends.reader.at_eof()


@on_streams
async def test_read_without_a_size_returns_all_until_the_end(ends: Ends) -> None:
    sent = bytes(range(256)) * 2000
    saying = asyncio.create_task(ends.says_all(sent))
    saying.add_done_callback(lambda _: ends.stops_sending())
    assert await ends.reader.read() == sent
    assert await ends.reader.read(-1) == b""


@on_streams
async def test_a_huge_size_reads_available_bytes(ends: Ends) -> None:
    ends.says(b"hello")
    assert await ends.reader.read(1 << 30) == b"hello"


@on_streams
async def test_readline_returns_lines_and_the_rest(ends: Ends) -> None:
    ends.says(b"one\ntwo\n\nrest")
    ends.stops_sending()
    assert [await ends.reader.readline() for _ in range(5)] == [b"one\n", b"two\n", b"\n", b"rest", b""]


@on_streams
async def test_a_line_may_come_in_pieces(ends: Ends) -> None:
    for delay, piece in enumerate([b"on", b"e\ntw", b"o\n"]):
        ends.loop.call_later(delay / 100, ends.says, piece)
    assert [await ends.reader.readline(), await ends.reader.readline()] == [b"one\n", b"two\n"]


@on_streams
async def test_a_line_longer_than_the_limit_is_dropped_with_an_error(ends: Ends) -> None:
    await ends.says_all(bytes(100_000) + b"\nnext\n")
    ends.stops_sending()
    with pytest.raises(ValueError, match="limit"):
        await ends.reader.readline()
    rest = await ends.reader.read()
    assert rest.endswith(b"next\n")
    assert len(rest) < 100_000


@on_streams
async def test_iterating_gives_the_lines(ends: Ends) -> None:
    ends.says(b"one\ntwo\nrest")
    ends.stops_sending()
    assert [line async for line in ends.reader] == [b"one\n", b"two\n", b"rest"]


@on_streams
async def test_readexactly_waits_for_all_of_it(ends: Ends) -> None:
    ends.says(b"he")
    ends.loop.call_later(0.01, ends.says, b"llo!")
    assert await ends.reader.readexactly(5) == b"hello"
    assert await ends.reader.read(10) == b"!"


@on_streams
async def test_readexactly_takes_any_amount(ends: Ends) -> None:
    sent = bytes(range(256)) * 4000
    saying = asyncio.create_task(ends.says_all(sent))
    assert await ends.reader.readexactly(len(sent)) == sent
    await saying


@on_streams
async def test_readexactly_of_nothing_returns_nothing(ends: Ends) -> None:
    assert await ends.reader.readexactly(0) == b""


@on_streams
async def test_readexactly_refuses_a_negative_size(ends: Ends) -> None:
    with pytest.raises(ValueError, match="readexactly size can not be less than zero"):
        await ends.reader.readexactly(-1)


@on_streams
async def test_readexactly_reports_the_bytes_before_the_end(ends: Ends) -> None:
    ends.says(b"hel")
    ends.stops_sending()
    with pytest.raises(asyncio.IncompleteReadError) as raised:
        await ends.reader.readexactly(5)
    assert (raised.value.partial, raised.value.expected) == (b"hel", 5)
    assert ends.reader.at_eof()


@on_streams
async def test_readuntil_returns_the_separator_too(ends: Ends) -> None:
    ends.says(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nbody")
    assert await ends.reader.readuntil(b"\r\n\r\n") == b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    assert await ends.reader.read(10) == b"body"


@on_streams
async def test_a_separator_may_be_cut_in_two(ends: Ends) -> None:
    ends.says(b"head\r\n\r")
    ends.loop.call_later(0.01, ends.says, b"\nbody")
    assert await ends.reader.readuntil(b"\r\n\r\n") == b"head\r\n\r\n"


@on_streams
async def test_readuntil_reports_the_bytes_before_the_end(ends: Ends) -> None:
    ends.says(b"half a li")
    ends.stops_sending()
    with pytest.raises(asyncio.IncompleteReadError) as raised:
        await ends.reader.readuntil(b"\n")
    assert (raised.value.partial, raised.value.expected) == (b"half a li", None)


@on_streams
async def test_readuntil_refuses_an_empty_separator(ends: Ends) -> None:
    with pytest.raises(ValueError, match="Separator should"):
        await ends.reader.readuntil(b"")


@on_streams
async def test_readuntil_beyond_the_limit_leaves_the_bytes(ends: Ends) -> None:
    sent = bytes(200_000) + b"\n"
    saying = asyncio.create_task(ends.says_all(sent))
    with pytest.raises(asyncio.LimitOverrunError) as raised:
        await ends.reader.readuntil(b"\n")
    assert raised.value.consumed > 65536
    assert await ends.reader.readexactly(len(sent)) == sent
    await saying


@on_streams
async def test_a_separator_found_beyond_the_limit_is_an_error_too(ends: Ends) -> None:
    sent = bytes(65537) + b"\n"
    await ends.says_all(sent)
    await turns()
    with pytest.raises(asyncio.LimitOverrunError) as raised:
        await ends.reader.readuntil(b"\n")
    assert raised.value.consumed == 65537
    assert await ends.reader.readexactly(len(sent)) == sent


@on_streams(places=TUPLES)
async def test_of_several_separators_the_first_match_ends(ends: Ends) -> None:
    ends.says(b"one\rtwo\nthree")
    assert await ends.reader.readuntil((b"\n", b"\r")) == b"one\r"
    assert await ends.reader.readuntil((b"\n", b"\r")) == b"two\n"
    with pytest.raises(ValueError, match="Separator should"):
        await ends.reader.readuntil((b"\n", b""))
    with pytest.raises(ValueError, match="Separator should"):
        await ends.reader.readuntil(())


@on_streams
async def test_the_ways_of_reading_mix(ends: Ends) -> None:
    ends.says(b"line\n12345rest of it\nxy")
    ends.stops_sending()
    assert await ends.reader.readline() == b"line\n"
    assert await ends.reader.readexactly(5) == b"12345"
    assert await ends.reader.read(5) == b"rest "
    assert await ends.reader.readuntil(b"of") == b"of"
    assert await ends.reader.readline() == b" it\n"
    assert not ends.reader.at_eof()
    assert await ends.reader.read() == b"xy"
    assert ends.reader.at_eof()


@on_streams
async def test_there_is_no_exception_before_an_error(ends: Ends) -> None:
    assert ends.reader.exception() is None


# --- cancelling and sharing


@on_streams
async def test_a_cancelled_read_loses_no_byte(ends: Ends) -> None:
    for reading in (
        ends.reader.read(100),
        ends.reader.readline(),
        ends.reader.readexactly(6),
        ends.reader.readuntil(b"y"),
    ):
        task = asyncio.create_task(reading)
        await turns()
        task.cancel()
        await turns()
        assert task.cancelled()
    ends.says(b"hello\n")
    assert await ends.reader.readline() == b"hello\n"


@on_streams
async def test_a_read_cancelled_half_way_keeps_its_bytes_for_the_next(ends: Ends) -> None:
    ends.says(b"hel")
    task = asyncio.create_task(ends.reader.readexactly(6))
    await turns(10)
    task.cancel()
    await turns()
    assert task.cancelled()
    ends.says(b"lo\n")
    assert await ends.reader.readexactly(6) == b"hello\n"


@on_streams
async def test_a_read_cancelled_when_the_data_is_there_loses_nothing(ends: Ends) -> None:
    task = asyncio.create_task(ends.reader.read(100))
    await turns()
    ends.says(b"hello")
    task.cancel()
    await turns()
    received = b"" if task.cancelled() else task.result()
    assert (received or await ends.reader.read(100)) == b"hello"


@on_streams
async def test_a_timeout_ends_a_read_and_the_next_one_works(ends: Ends) -> None:
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.005):
                await ends.reader.read(100)
    ends.says(b"hello")
    async with asyncio.timeout(5):
        assert await ends.reader.read(100) == b"hello"


@on_streams
async def test_wait_for_ends_a_read_and_the_next_one_works(ends: Ends) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ends.reader.readline(), 0.005)
    ends.says(b"hello\n")
    assert await asyncio.wait_for(ends.reader.readline(), 5) == b"hello\n"


@on_streams
async def test_a_second_reader_is_refused_and_the_first_continues(ends: Ends) -> None:
    first = asyncio.create_task(ends.reader.read(100))
    await turns()
    for second in (ends.reader.read(100), ends.reader.readline(), ends.reader.readexactly(2)):
        with pytest.raises(RuntimeError, match="while another coroutine is already waiting for incoming data"):
            await second
    ends.says(b"hello")
    assert await first == b"hello"


@on_streams
async def test_a_read_runs_as_a_task_of_its_own(ends: Ends) -> None:
    task = asyncio.create_task(ends.reader.read(100))
    await turns()
    ends.says(b"hello")
    assert await task == b"hello"


@on_streams
async def test_reading_and_writing_are_gathered(ends: Ends) -> None:
    ends.loop.call_later(0.005, ends.says, b"ping\n")
    ends.writer.write(b"pong")
    line, drained, heard = await asyncio.gather(ends.reader.readline(), ends.writer.drain(), ends.hears(4))
    assert (line, drained, heard) == (b"ping\n", None, b"pong")


@on_streams
async def test_closing_the_writer_ends_a_waiting_read(ends: Ends) -> None:
    task = asyncio.create_task(ends.reader.read(100))
    await turns()
    ends.writer.close()
    assert await task == b""
    assert await ends.reader.read(100) == b""


@on_streams(places=LEAN)
async def test_a_fast_peer_does_not_keep_the_loop(ends: Ends) -> None:
    saying = asyncio.create_task(ends.says_all(bytes(4_000_000)))
    other_turns = 0

    async def count() -> None:
        nonlocal other_turns
        while True:
            await asyncio.sleep(0)
            other_turns += 1

    counting = asyncio.create_task(count())
    left = 4_000_000
    while left:
        left -= len(await ends.reader.read(1000))
    counting.cancel()
    await saying
    assert other_turns > 50


# --- errors of the connection


@on_streams(family="tcp")
async def test_a_reset_is_an_error_of_the_read(ends: Ends) -> None:
    task = asyncio.create_task(ends.reader.read(100))
    await turns()
    reset(ends.peer)
    with pytest.raises(ConnectionResetError):
        await task
    assert isinstance(ends.reader.exception(), ConnectionResetError)
    for reading in (ends.reader.read(100), ends.reader.read(), ends.reader.readline(), ends.reader.readexactly(1)):
        with pytest.raises(ConnectionResetError):
            await reading
    assert ends.writer.is_closing()
    await until(lambda: ends.closed)


@on_streams(family="tcp")
async def test_a_reset_is_an_error_of_a_line_too(ends: Ends) -> None:
    ends.says(b"half a li")
    task = asyncio.create_task(ends.reader.readline())
    await turns()
    reset(ends.peer)
    with pytest.raises(ConnectionResetError):
        await task
    with pytest.raises(ConnectionResetError):
        await ends.writer.drain()
    with pytest.raises(ConnectionResetError):
        await ends.writer.wait_closed()


# --- any cut


@pytest.mark.parametrize(("loop", "task"), LEAN + NATIVE)
@given(data=st.lists(st.sampled_from(b"ab\n\r\0\xff")).map(bytes), cuts=st.lists(st.integers(0, 100)))
def test_any_bytes_cut_anywhere_give_the_same_lines(loop: str, task: str, data: bytes, cuts: list[int]) -> None:
    async def body(ends: Ends) -> None:
        edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        pieces = [data[begin:end] for begin, end in itertools.pairwise(edges)]

        async def say() -> None:
            for piece in pieces:
                ends.says(piece)
                await asyncio.sleep(0)
            ends.stops_sending()

        saying = asyncio.create_task(say())
        expected = [line + b"\n" for line in data.split(b"\n")]
        expected[-1] = expected[-1][:-1]
        assert [line async for line in ends.reader] == [line for line in expected if line]
        await saying

    run_body(body, loop, task)


@pytest.mark.parametrize(("loop", "task"), LEAN + NATIVE)
@given(data=st.binary(max_size=300), sizes=st.lists(st.integers(-1, 50), max_size=20))
def test_any_mixture_of_reads_gives_every_byte_once(loop: str, task: str, data: bytes, sizes: list[int]) -> None:
    async def body(ends: Ends) -> None:
        if data:
            ends.says(data)
        ends.stops_sending()
        received = b""
        for size in sizes:
            match size % 3:
                case 0:
                    received += await ends.reader.read(size)
                case 1:
                    received += await ends.reader.readline()
                case _:
                    try:
                        received += await ends.reader.readexactly(abs(size))
                    except asyncio.IncompleteReadError as error:
                        received += error.partial
        assert received + await ends.reader.read() == data

    run_body(body, loop, task)
