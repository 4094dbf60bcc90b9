"""Features of asyncio's streams beyond reading and writing: each test runs on lean streams and on asyncio's own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
import tempfile
import weakref
from typing import Any

import pytest
from support.certificates import certificates
from support.hub import reset, turns, until
from support.streams import LEAN, NATIVE, Ends, on_streams

BIG = bytes(8 << 20)


# --- the end, as writers see it


@on_streams
async def test_drain_after_close_is_an_error(ends: Ends) -> None:
    ends.writer.close()
    await ends.writer.wait_closed()
    with pytest.raises(ConnectionResetError, match="Connection lost"):
        await ends.writer.drain()


@on_streams
async def test_drain_after_abort_is_an_error(ends: Ends) -> None:
    ends.writer.transport.abort()
    with pytest.raises(ConnectionResetError, match="Connection lost"):
        await ends.writer.drain()


@on_streams
async def test_drain_after_close_and_a_reset_is_an_error_each_time(ends: Ends) -> None:
    ends.writer.close()
    ends.peer.close()
    await ends.writer.wait_closed()
    for _ in range(3):
        with pytest.raises(ConnectionError):
            await ends.writer.drain()


@on_streams
async def test_a_background_writer_ends_when_the_connection_is_closed(ends: Ends) -> None:
    async def beat() -> None:
        while True:
            ends.writer.write(b"beat")
            await ends.writer.drain()
            await asyncio.sleep(0)

    beating = asyncio.create_task(beat())
    assert await ends.hears(8) == b"beatbeat"
    ends.writer.close()
    with pytest.raises(ConnectionResetError):
        await beating


@on_streams(family="tcp")
async def test_a_background_writer_ends_when_the_peer_resets(ends: Ends) -> None:
    async def beat() -> None:
        while True:
            ends.writer.write(b"beat")
            await ends.writer.drain()
            await asyncio.sleep(0)

    beating = asyncio.create_task(beat())
    assert await ends.hears(4) == b"beat"
    reset(ends.peer)
    with pytest.raises(ConnectionError):
        await beating


@on_streams
async def test_drain_waits_while_a_closed_connection_has_too_much_to_send(ends: Ends) -> None:
    ends.writer.write(BIG)
    ends.writer.close()
    draining = asyncio.create_task(ends.writer.drain())
    await turns()
    assert not draining.done()
    assert await ends.hears_all() == BIG
    await asyncio.wait([draining])
    assert draining.exception() is None or isinstance(draining.exception(), ConnectionResetError)


# --- the end, as readers see it


@on_streams
async def test_at_eof_sees_the_end_before_a_read_meets_it(ends: Ends) -> None:
    ends.says(b"abcdefgh")
    ends.stops_sending()
    records = [await ends.reader.readexactly(4)]
    await turns()
    while not ends.reader.at_eof():
        records.append(await ends.reader.readexactly(4))
    assert records == [b"abcd", b"efgh"]


@on_streams
async def test_at_eof_of_a_connection_that_was_closed_by_the_peer_without_a_word(ends: Ends) -> None:
    assert not ends.reader.at_eof()
    ends.stops_sending()
    await until(ends.reader.at_eof)
    assert await ends.reader.read() == b""


@on_streams
async def test_at_eof_takes_nothing_from_a_read_that_waits(ends: Ends) -> None:
    reading = asyncio.create_task(ends.reader.read(100))
    await turns()
    ends.says(b"hello")
    assert not ends.reader.at_eof()
    assert await reading == b"hello"


@on_streams
async def test_at_eof_after_this_side_closed(ends: Ends) -> None:
    ends.writer.close()
    await ends.writer.wait_closed()
    assert ends.reader.at_eof()
    assert await ends.reader.read() == b""


@on_streams(family="tcp")
async def test_at_eof_after_a_reset_leaves_the_error_to_the_read(ends: Ends) -> None:
    reset(ends.peer)
    await turns(20)
    assert not ends.reader.at_eof()
    with pytest.raises(ConnectionResetError):
        await ends.reader.readexactly(4)
    assert isinstance(ends.reader.exception(), ConnectionResetError)


# --- objects of Python


@on_streams
async def test_reader_and_writer_are_asyncios(ends: Ends) -> None:
    assert isinstance(ends.reader, asyncio.StreamReader)
    assert isinstance(ends.writer, asyncio.StreamWriter)
    assert isinstance(ends.writer.transport, asyncio.Transport)
    assert ends.writer.transport is ends.writer.transport


@on_streams
async def test_reader_and_writer_take_attributes_and_weak_references(ends: Ends) -> None:
    for end in (ends.reader, ends.writer):
        end.nick = "anna"
        assert weakref.ref(end)().nick == "anna"
    assert {ends.writer: 1}[ends.writer] == 1


@on_streams
async def test_representations_name_class_and_transport(ends: Ends) -> None:
    assert repr(ends.reader).startswith("<StreamReader transport=<")
    assert repr(ends.writer).startswith("<StreamWriter transport=<")
    assert "reader=<StreamReader" in repr(ends.writer)


# --- a reader that is fed


@on_streams
async def test_fed_data_is_read(ends: Ends) -> None:
    ends.reader.feed_data(b"one\ntwo")
    assert await ends.reader.readline() == b"one\n"
    assert await ends.reader.read(100) == b"two"
    ends.says(b"three")
    assert await ends.reader.readexactly(5) == b"three"


@on_streams
async def test_any_amount_can_be_fed(ends: Ends) -> None:
    ends.reader.feed_data(BIG)
    ends.says(b"more")
    assert await ends.reader.readexactly(len(BIG)) == BIG
    assert await ends.reader.read(10) == b"more"


@on_streams
async def test_feeding_wakes_a_read_that_waits(ends: Ends) -> None:
    for read in (lambda: ends.reader.read(10), ends.reader.readline, lambda: ends.reader.readexactly(4)):
        ends.loop.call_soon(ends.reader.feed_data, b"fed\n")
        assert await read() == b"fed\n"


@on_streams
async def test_an_end_that_is_fed_ends_a_read_that_waits(ends: Ends) -> None:
    ends.loop.call_soon(ends.reader.feed_eof)
    assert await ends.reader.read(10) == b""
    assert ends.reader.at_eof()


@on_streams
async def test_an_exception_that_is_set_is_raised_by_reads_and_drain(ends: Ends) -> None:
    ends.loop.call_soon(ends.reader.set_exception, LookupError("mine"))
    with pytest.raises(LookupError, match="mine"):
        await ends.reader.read(10)
    with pytest.raises(LookupError, match="mine"):
        await ends.reader.readline()
    with pytest.raises(LookupError, match="mine"):
        await ends.writer.drain()
    with pytest.raises(LookupError, match="mine"):
        await asyncio.create_task(ends.writer.drain())
    assert isinstance(ends.reader.exception(), LookupError)


@on_streams
async def test_a_reader_has_its_transport_already(ends: Ends) -> None:
    with pytest.raises(AssertionError, match="already set"):
        ends.reader.set_transport(ends.writer.transport)


# --- the transport


@on_streams
async def test_reading_can_be_paused_and_resumed(ends: Ends) -> None:
    transport = ends.writer.transport
    assert transport.is_reading()
    transport.pause_reading()
    transport.pause_reading()
    assert not transport.is_reading()
    ends.says(b"hello")
    reading = asyncio.create_task(ends.reader.readexactly(5))
    await turns()
    assert not reading.done()
    transport.resume_reading()
    transport.resume_reading()
    assert transport.is_reading()
    assert await reading == b"hello"
    ends.says(b"again")
    ends.stops_sending()
    assert await ends.reader.read() == b"again"


@on_streams
async def test_a_waiting_read_continues_after_a_pause(ends: Ends) -> None:
    reading = ends.start(ends.reader.read(10))
    await turns()
    ends.writer.transport.pause_reading()
    await turns()
    ends.writer.transport.resume_reading()
    ends.says(b"hello")
    assert await reading == b"hello"


@on_streams
async def test_a_read_that_waits_can_be_cancelled_at_a_pause(ends: Ends) -> None:
    reading = ends.start(ends.reader.read(10))
    await turns()
    ends.writer.transport.pause_reading()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    ends.writer.transport.resume_reading()
    ends.says(b"hello")
    assert await ends.reader.read(10) == b"hello"


@on_streams
async def test_a_reader_that_is_fed_slows_a_fast_peer_down(ends: Ends) -> None:
    ends.writer.transport.pause_reading()
    ends.writer.transport.resume_reading()
    saying = asyncio.create_task(ends.says_all(BIG))
    await turns(50)
    assert not saying.done()
    assert await ends.reader.readexactly(len(BIG)) == BIG
    await saying


class Recorder(asyncio.Protocol):
    """Records its calls."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def data_received(self, data: bytes) -> None:
        self.seen.append(data)

    def eof_received(self) -> bool:
        self.seen.append("eof")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.seen.append(exc)


@on_streams
async def test_another_protocol_gets_the_input(ends: Ends) -> None:
    ends.says(b"mine")
    assert await ends.reader.readexactly(4) == b"mine"
    protocol = Recorder()
    ends.writer.transport.set_protocol(protocol)
    assert ends.writer.transport.get_protocol() is protocol
    ends.says(b"yours")
    await until(lambda: protocol.seen)
    ends.stops_sending()
    await until(lambda: ends.closed and len(protocol.seen) == 3)
    assert protocol.seen == [b"yours", "eof", None]


class Buffered(asyncio.BufferedProtocol):
    """Takes three bytes at a time."""

    def __init__(self) -> None:
        self.seen = b""
        self._buffer = bytearray(3)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.seen += self._buffer[:nbytes]


@on_streams
async def test_another_protocol_may_bring_its_own_buffer(ends: Ends) -> None:
    protocol = Buffered()
    ends.writer.transport.set_protocol(protocol)
    ends.says(b"hello, world")
    await until(lambda: protocol.seen == b"hello, world")


@on_streams
async def test_a_protocol_that_fails_has_its_connection_closed(ends: Ends) -> None:
    class Failing(Recorder):
        def data_received(self, data: bytes) -> None:
            raise LookupError("mine")

    reported: list[dict[str, Any]] = []
    ends.loop.set_exception_handler(lambda loop, context: reported.append(context))
    protocol = Failing()
    ends.writer.transport.set_protocol(protocol)
    ends.says(b"x")
    await until(lambda: protocol.seen)
    assert [type(error) for error in protocol.seen] == [LookupError]
    assert [type(context["exception"]) for context in reported] == [LookupError]


@on_streams
async def test_the_protocol_at_first_is_asyncios_and_feeds_the_reader(ends: Ends) -> None:
    protocol = ends.writer.transport.get_protocol()
    assert isinstance(protocol, asyncio.StreamReaderProtocol)
    ends.writer.transport.set_protocol(Recorder())
    ends.writer.transport.set_protocol(protocol)
    ends.says(b"hello")
    assert await ends.reader.read(10) == b"hello"
    protocol.connection_lost(LookupError("mine"))
    with pytest.raises(LookupError, match="mine"):
        await ends.reader.read(10)


# --- files


@on_streams
async def test_the_loop_sends_files(ends: Ends) -> None:
    content = bytes(range(256)) * 4000
    with tempfile.TemporaryFile() as file:
        file.write(content)
        ends.writer.write(b"head")
        sending = asyncio.create_task(ends.loop.sendfile(ends.writer.transport, file, 1000, fallback=False))
        assert await ends.hears(4 + len(content) - 1000) == b"head" + content[1000:]
        assert await sending == len(content) - 1000
        assert file.tell() == len(content)
    ends.writer.write(b"tail")
    assert await ends.hears(4) == b"tail"
    ends.says(b"read on")
    assert await ends.reader.readexactly(7) == b"read on"


@on_streams
async def test_nothing_is_written_into_the_middle_of_a_file(ends: Ends) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(BIG)
        sending = asyncio.create_task(ends.loop.sendfile(ends.writer.transport, file, fallback=False))
        await turns()
        with pytest.raises(RuntimeError, match="sendfile is in progress"):
            ends.writer.write(b"x")
        assert await ends.hears(len(BIG)) == BIG
        assert await sending == len(BIG)


class Memory:
    """A file without a descriptor."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def readinto(self, buffer: memoryview) -> int:
        taken, self._content = self._content[: len(buffer)], self._content[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


@on_streams
async def test_the_loop_sends_a_file_that_is_no_regular_one(ends: Ends) -> None:
    content = bytes(range(256)) * 1000
    sending = asyncio.create_task(ends.loop.sendfile(ends.writer.transport, Memory(content)))  # type: ignore[arg-type]
    assert await ends.hears(len(content)) == content
    assert await sending == len(content)
    ends.says(b"read on")
    assert await ends.reader.readexactly(7) == b"read on"
    ends.writer.write(b"tail")
    await ends.writer.drain()
    assert await ends.hears(4) == b"tail"


@on_streams
async def test_no_file_is_sent_over_a_closed_connection(ends: Ends) -> None:
    ends.writer.close()
    with tempfile.TemporaryFile() as file, pytest.raises(RuntimeError, match="closing"):
        await ends.loop.sendfile(ends.writer.transport, file)


# --- TLS


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates().certificate, certificates().key)
    return context


async def tls_client(ends: Ends) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(
        sock=ends.peer, ssl=certificates().client_context(), server_hostname="localhost"
    )


@on_streams(family="tcp")
async def test_a_connection_goes_over_to_tls(ends: Ends) -> None:
    ends.says(b"STARTTLS\n")
    assert await ends.reader.readline() == b"STARTTLS\n"
    connecting = asyncio.create_task(tls_client(ends))
    await ends.writer.start_tls(server_context())
    reader, writer = await connecting
    assert isinstance(ends.writer, asyncio.StreamWriter)
    assert ends.writer.get_extra_info("sslcontext") is not None
    assert ends.writer.get_extra_info("cipher") is not None
    writer.write(b"ping\n")
    assert await ends.reader.readline() == b"ping\n"
    ends.writer.write(BIG)
    assert await reader.readexactly(len(BIG)) == BIG
    await ends.writer.drain()
    ends.writer.writelines([b"po", b"ng"])
    ends.writer.close()
    assert ends.writer.is_closing()
    assert await reader.read() == b"pong"
    writer.close()
    await ends.writer.wait_closed()
    with pytest.raises(ConnectionResetError):
        await ends.writer.drain()
    with contextlib.suppress(ssl.SSLError):
        await writer.wait_closed()
    assert ends.closed == ["closed"]


@on_streams(family="tcp")
async def test_the_loop_starts_tls_on_a_transport(ends: Ends) -> None:
    transport = ends.writer.transport
    connecting = asyncio.create_task(tls_client(ends))
    secured = await ends.loop.start_tls(transport, transport.get_protocol(), server_context(), server_side=True)
    assert secured is not None
    reader, writer = await connecting
    writer.write(b"ping\n")
    assert await ends.reader.readline() == b"ping\n"
    secured.write(b"pong\n")
    assert await reader.readline() == b"pong\n"
    secured.abort()
    writer.transport.abort()
    await until(lambda: ends.closed)


@on_streams(family="tcp")
async def test_a_peer_that_does_not_speak_tls_is_an_error_of_start_tls(ends: Ends) -> None:
    ends.says(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await ends.writer.start_tls(server_context())
    await until(lambda: ends.closed)


@on_streams(family="tcp", places=LEAN)
async def test_a_handshake_that_came_with_the_last_plain_line_is_not_lost(ends: Ends) -> None:
    ends.says(b"PROXY\n")
    ends.reader._limit = 64
    connecting = asyncio.create_task(tls_client(ends))
    await until(lambda: ends.reader.at_eof() or len(ends.reader._buffer) > 6 or ends.reader._pull())
    assert await ends.reader.readline() == b"PROXY\n"
    await ends.writer.start_tls(server_context())
    _, writer = await connecting
    writer.write(b"ping\n")
    assert await ends.reader.readline() == b"ping\n"
    ends.writer.transport.abort()
    writer.transport.abort()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="asyncio's readuntil takes tuples since 3.13")
@on_streams(places=LEAN + NATIVE)
async def test_of_separators_that_end_together_the_shortest_counts(ends: Ends) -> None:
    ends.says(b"some dataA")
    assert await ends.reader.readuntil((b"A", b"ome dataA")) == b"some dataA"
