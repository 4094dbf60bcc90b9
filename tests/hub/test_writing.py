"""Stream writers: each test runs on lean streams and on asyncio's own and expects the same, unless it says why not."""

from __future__ import annotations

import array
import asyncio
import gc
import os
import socket
import weakref
from typing import Any

import pytest
from support.hub import reset, run_on, turns, until
from support.streams import LEAN, Ends, on_streams, open_ends

from hybrid.workers.hub.hub_runtime import HubRuntime
from hybrid.workers.streams import stream_socket

BIG = bytes(range(256)) * 20_000  # more than the buffers of a socket pair take


@on_streams
async def test_written_bytes_reach_the_peer(ends: Ends) -> None:
    ends.writer.write(b"hello")
    await ends.writer.drain()
    assert await ends.hears(5) == b"hello"


@on_streams
async def test_any_bytes_like_object_may_be_written(ends: Ends) -> None:
    for data in (b"bytes", bytearray(b"array"), memoryview(b"__view__")[2:6]):
        ends.writer.write(data)
    ends.writer.write(b"")
    ends.writer.write(bytearray())
    assert await ends.hears(14) == b"bytesarrayview"


@on_streams(places=LEAN)  # asyncio before 3.12 counts items where it means bytes
async def test_views_of_wide_items_are_written_whole(ends: Ends) -> None:
    numbers = array.array("I", range(100_000))
    view = memoryview(numbers)
    ends.writer.write(view)
    ends.writer.write(view)  # kept: the first one filled the socket
    assert await ends.hears(2 * view.nbytes) == numbers.tobytes() * 2


@on_streams
async def test_only_bytes_like_objects_can_be_written(ends: Ends) -> None:
    def refused() -> None:
        for data in ("text", 5, None, [1, 2, 3]):
            with pytest.raises(TypeError):
                ends.writer.write(data)

    refused()
    ends.writer.write(BIG)
    refused()
    assert await ends.hears(len(BIG)) == BIG


@on_streams(places=LEAN)
async def test_only_bytes_like_objects_can_be_written_after_close(ends: Ends) -> None:
    ends.writer.close()
    with pytest.raises(TypeError, match="'str'"):
        ends.writer.write("text")


@on_streams(places=LEAN)
async def test_after_a_fork_a_close_leaves_the_input_to_the_child(ends: Ends) -> None:
    ends.writer.write(BIG)
    with ends.writer._connection.sock.dup() as the_childs:
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        ends.says(b"for the child")
        ends.writer.close()
        await turns()
        assert the_childs.recv(100) == b"for the child"


@on_streams
async def test_writelines_writes_all_of_them(ends: Ends) -> None:
    ends.writer.writelines([b"one ", bytearray(b"two "), memoryview(b"three"), b""])
    ends.writer.writelines([])
    assert await ends.hears(13) == b"one two three"


@on_streams
async def test_bytes_that_do_not_fit_are_sent_in_order_later(ends: Ends) -> None:
    ends.writer.write(BIG)
    ends.writer.write(b"then this")
    ends.writer.write(bytearray(b" and that"))
    assert await ends.hears(len(BIG) + 18) == BIG + b"then this and that"
    ends.writer.write(b"again")
    assert await ends.hears(5) == b"again"


@on_streams
async def test_drain_waits_while_the_peer_does_not_read(ends: Ends) -> None:
    ends.writer.write(BIG)
    draining = asyncio.create_task(ends.writer.drain())
    await turns()
    assert not draining.done()
    assert await ends.hears(len(BIG)) == BIG
    await draining


@on_streams
async def test_drain_bounds_the_backlog_for_a_peer_that_does_not_read(ends: Ends) -> None:
    async def flood() -> None:
        while True:
            ends.writer.write(bytes(10_000))
            await ends.writer.drain()

    flooding = asyncio.create_task(flood())
    await turns(2000)
    kept = ends.writer.transport.get_write_buffer_size()
    await turns(100)
    assert ends.writer.transport.get_write_buffer_size() == kept
    assert 0 < kept <= stream_socket.HIGH_WATER + 10_000
    flooding.cancel()


@on_streams
async def test_drain_returns_below_the_low_water_mark(ends: Ends) -> None:
    ends.writer.transport.set_write_buffer_limits(high=1_000_000, low=10)
    assert ends.writer.transport.get_write_buffer_limits() == (10, 1_000_000)
    ends.writer.write(BIG)
    draining = asyncio.create_task(ends.writer.drain())
    while not draining.done():
        assert not draining.done()
        await ends.hears(10_000)
        await turns(3)
    assert ends.writer.transport.get_write_buffer_size() <= 10


@on_streams
async def test_a_water_mark_of_zero_makes_drain_wait_for_all(ends: Ends) -> None:
    ends.writer.transport.set_write_buffer_limits(high=0)
    ends.writer.write(BIG)
    heard = asyncio.create_task(ends.hears(len(BIG)))
    await ends.writer.drain()
    assert ends.writer.transport.get_write_buffer_size() == 0
    assert await heard == BIG


@on_streams
async def test_lower_water_marks_apply_to_the_present_backlog(ends: Ends) -> None:
    ends.writer.transport.set_write_buffer_limits(high=100_000_000)
    ends.writer.write(BIG)
    await ends.writer.drain()
    ends.writer.transport.set_write_buffer_limits(high=100)
    draining = asyncio.create_task(ends.writer.drain())
    await turns()
    assert not draining.done()
    await ends.hears(len(BIG))
    await draining


@on_streams
async def test_water_marks_have_the_usual_defaults(ends: Ends) -> None:
    transport = ends.writer.transport
    assert transport.get_write_buffer_limits() == (16384, 65536)
    transport.set_write_buffer_limits(low=100)
    assert transport.get_write_buffer_limits() == (100, 400)
    transport.set_write_buffer_limits(high=100)
    assert transport.get_write_buffer_limits() == (25, 100)
    transport.set_write_buffer_limits()
    assert transport.get_write_buffer_limits() == (16384, 65536)
    with pytest.raises(ValueError, match="must be >= low"):
        transport.set_write_buffer_limits(high=1, low=2)


@on_streams
async def test_several_may_wait_to_drain(ends: Ends) -> None:
    ends.writer.write(BIG)
    waiting = [asyncio.create_task(ends.writer.drain()) for _ in range(3)]
    cancelled = asyncio.create_task(ends.writer.drain())
    await turns()
    cancelled.cancel()
    await ends.hears(len(BIG))
    assert await asyncio.gather(*waiting) == [None, None, None]


@on_streams
async def test_a_drain_that_has_nothing_to_wait_for_runs_in_every_form(ends: Ends) -> None:
    ends.writer.write(b"x")
    assert await ends.writer.drain() is None
    assert await asyncio.create_task(ends.writer.drain()) is None
    assert await asyncio.wait_for(ends.writer.drain(), 5) is None
    assert await asyncio.gather(ends.writer.drain(), ends.writer.drain()) == [None, None]
    assert await asyncio.ensure_future(ends.writer.drain()) is None
    assert await asyncio.shield(ends.writer.drain()) is None
    async with asyncio.TaskGroup() as group:
        group.create_task(ends.writer.drain())
    task = asyncio.create_task(ends.writer.drain())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await ends.writer.drain() is None


# --- ending


@on_streams
async def test_write_eof_ends_one_half_and_reading_continues(ends: Ends) -> None:
    assert ends.writer.can_write_eof()
    ends.writer.write(b"last words")
    ends.writer.write_eof()
    assert await ends.hears_all() == b"last words"
    ends.says(b"I hear")
    assert await ends.reader.read(100) == b"I hear"
    with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
        ends.writer.write(b"more")
    ends.writer.write_eof()


@on_streams
async def test_write_eof_comes_after_unsent_bytes(ends: Ends) -> None:
    ends.writer.write(BIG)
    ends.writer.write_eof()
    assert await ends.hears_all() == BIG
    ends.says(b"x")
    assert await ends.reader.read(1) == b"x"


@on_streams
async def test_write_eof_after_close_does_nothing(ends: Ends) -> None:
    ends.writer.close()
    ends.writer.write_eof()
    await ends.writer.wait_closed()


@on_streams
async def test_close_ends_the_connection(ends: Ends) -> None:
    assert not ends.writer.is_closing()
    ends.writer.close()
    assert ends.writer.is_closing()
    await ends.writer.wait_closed()
    assert await ends.hears_all() == b""
    assert ends.closed == ["closed"]
    ends.writer.close()
    await ends.writer.wait_closed()
    assert ends.closed == ["closed"]


@on_streams
async def test_close_sends_unsent_bytes_first(ends: Ends) -> None:
    ends.writer.write(BIG)
    ends.writer.close()
    assert ends.writer.is_closing()
    assert ends.closed == []
    heard = asyncio.create_task(ends.hears_all())
    await ends.writer.wait_closed()
    assert await heard == BIG


@on_streams
async def test_bytes_written_after_close_are_dropped(ends: Ends) -> None:
    ends.writer.write(b"before")
    ends.writer.close()
    ends.writer.write(b"after")
    assert await ends.hears_all() == b"before"


@on_streams
async def test_abort_drops_unsent_bytes(ends: Ends) -> None:
    ends.writer.write(BIG)
    ends.writer.transport.abort()
    assert ends.writer.is_closing()
    assert len(await ends.hears_all()) < len(BIG)
    await ends.writer.wait_closed()
    assert ends.closed == ["closed"]


@on_streams(places=LEAN)
async def test_aborting_while_draining_is_an_error_of_drain(ends: Ends) -> None:
    ends.writer.write(BIG)
    draining = asyncio.create_task(ends.writer.drain())
    await turns()
    ends.writer.transport.abort()
    with pytest.raises(ConnectionResetError, match="Connection lost"):
        await draining


@on_streams(places=LEAN)
async def test_a_closed_connection_gives_a_peer_that_does_not_read_a_while(ends: Ends) -> None:
    ends.writer.write(BIG)
    ends.writer.close()
    [linger] = [timer for timer in ends.loop._scheduled if timer._callback == ends.writer._connection.abort]  # type: ignore[attr-defined]
    assert linger.when() - ends.loop.time() > stream_socket.LINGER / 2
    await ends.hears(1_000_000)
    await until(lambda: linger.cancelled())  # progress: a new one
    ends.writer._connection.abort()  # as the timer would
    assert ends.closed == ["closed"]
    assert not [timer for timer in ends.loop._scheduled if not timer.cancelled() and "abort" in repr(timer)]  # type: ignore[attr-defined]


@on_streams(family="tcp")
async def test_a_peer_that_is_gone_is_an_error_of_drain(ends: Ends) -> None:
    reset(ends.peer)

    async def write_on() -> None:
        while True:
            ends.writer.write(b"x" * 1000)
            await ends.writer.drain()
            await asyncio.sleep(0)

    with pytest.raises(ConnectionError):
        await write_on()
    assert ends.writer.is_closing()
    ends.writer.write(b"dropped")
    with pytest.raises(ConnectionError):
        await ends.writer.wait_closed()
    await until(lambda: ends.closed)


@on_streams(family="tcp")
async def test_a_reset_while_draining_is_an_error_of_drain(ends: Ends) -> None:
    while not ends.writer.transport.get_write_buffer_size():
        ends.writer.write(BIG)
    draining = asyncio.create_task(ends.writer.drain())
    await turns()
    reset(ends.peer)
    with pytest.raises(ConnectionError):
        await draining


@on_streams(family="tcp", places=LEAN)
async def test_write_eof_to_a_peer_that_is_gone_ends_the_connection(ends: Ends) -> None:
    reset(ends.peer)
    await turns()
    ends.writer.write_eof()
    with pytest.raises(OSError, match=r"."):
        await ends.writer.wait_closed()


# --- facts


@on_streams(family="tcp")
async def test_extra_info_names_both_ends(ends: Ends) -> None:
    for source in (ends.writer, ends.writer.transport):
        assert source.get_extra_info("peername") == ends.peer.getsockname()
        assert source.get_extra_info("sockname") == ends.peer.getpeername()
        assert source.get_extra_info("socket").fileno() >= 0
        assert source.get_extra_info("cipher") is None
        assert source.get_extra_info("cipher", "none") == "none"


@on_streams(family="tcp")
async def test_a_closed_connection_still_names_both_ends(ends: Ends) -> None:
    ours, theirs = ends.peer.getpeername(), ends.peer.getsockname()
    ends.writer.close()
    await ends.writer.wait_closed()
    for source in (ends.writer, ends.writer.transport):
        assert source.get_extra_info("peername", "gone") == theirs
        assert source.get_extra_info("sockname", "gone") == ours


@on_streams
async def test_the_transport_writes_and_closes_too(ends: Ends) -> None:
    transport = ends.writer.transport
    assert isinstance(transport, asyncio.WriteTransport)
    assert transport.can_write_eof()
    transport.write(b"by ")
    transport.writelines([b"the ", b"transport"])
    assert await ends.hears(16) == b"by the transport"
    transport.write_eof()
    assert not transport.is_closing()
    transport.close()
    assert transport.is_closing()
    await ends.writer.wait_closed()


# --- life time; asyncio's transports are kept alive by its loop, so these are about the lean ones


@pytest.mark.parametrize("loop", ["select", "poll", "epoll"])
def test_an_open_connection_is_closed_when_its_writer_is_collected(loop: str) -> None:
    async def main(runtime: HubRuntime) -> None:
        left, right = socket.socketpair()
        with right:
            ends = await open_ends(runtime, left, right)
            ends.writer.write(b"bye")
            with pytest.warns(ResourceWarning, match="unclosed <StreamWriter"):
                ends.writer = None
            assert ends.closed == ["closed"]
            assert await ends.hears_all() == b"bye"

    run_on(loop, main)


def test_a_connection_is_freed_without_the_garbage_collector() -> None:
    async def main(runtime: HubRuntime) -> None:
        left, right = socket.socketpair()
        with right:
            ends = await open_ends(runtime, left, right)
            ends.writer.write(BIG)
            ends.writer.transport.abort()
            await turns()
            alive = weakref.ref(ends.writer)
            ends.writer = ends.reader = None
            assert alive() is None

    gc.disable()
    try:
        run_on("epoll", main)
    finally:
        gc.enable()


def test_a_loop_is_freed_once_it_is_closed() -> None:
    loops: list[weakref.ref[Any]] = []

    async def main(runtime: HubRuntime) -> None:
        left, right = socket.socketpair()
        with right:
            ends = await open_ends(runtime, left, right)
            await ends.writer.drain()
            ends.writer.close()
            loops.append(weakref.ref(runtime.loop))

    run_on("epoll", main)
    gc.collect()
    assert loops[0]() is None


def test_an_error_of_the_poller_ends_a_connection_that_has_to_wait() -> None:
    async def main(runtime: HubRuntime) -> None:
        left, right = socket.socketpair()
        with right:
            ends = await open_ends(runtime, left, right)
            ends.writer._connection.watch.fd = -1  # as if the descriptor did not fit the poller
            ends.writer.write(BIG)
            with pytest.raises(OSError, match="closed"):
                await ends.writer.drain()

    run_on("epoll", main)
