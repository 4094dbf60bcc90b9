"""The contract of the transport that `Runtime.opener()` gives to a protocol, clause by clause.

 1. `connection_made(transport)` comes first, once; then `data_received` with what the peer sent, in order.
 2. `write` sends at once what the kernel takes, keeps the rest in order, and never waits.
 3. More than the high-water mark unsent calls `pause_writing`, less than the low one `resume_writing`; in turns.
 4. After `pause_reading`, which may be called from `data_received` on, no data comes; `resume_reading` lets it come
    again. Both may be called twice. (uvloop forgets a pause out of `connection_made`.) A protocol that is slow with
    what comes gets less of it before others have their turn.
 5. The peer's end calls `eof_received` once: true keeps the connection open for writing, false closes it.
 6. `write_eof` ends the stream behind what is unsent; reading goes on.
 7. `close` sends what is unsent, then closes; no data comes any more.
 8. `abort` closes now; what is unsent is lost.
 9. `connection_lost` comes last, once, never out of `close` or `abort` themselves; with the error if one broke it.
10. Between the end and `connection_lost`, `write`, `close`, `abort` and `resume_reading` do nothing. Afterwards nobody
    may call them: asyncio and uvloop raise what they like.
11. An exception of `data_received` closes this connection and no other.
12. `get_extra_info` knows `peername`, `sockname` and `socket`; `is_closing` tells the end from `close` on.
13. `closed()` is called once, and what the opener returned ends the connection like `abort`.
14. `write_last`, where there is one, is `write`, perhaps at the end of the turn of the loop: whatever follows comes
    behind it, and only `abort` loses it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from support.hub import DEADLINE, reset, tcp_pair
from support.loops import LOOPS
from support.records import logged

from hybrid.workers.loops import registry
from hybrid.workers.loops.driver import run
from hybrid.workers.runtime import Accepted, Runtime
from hybrid.workers.streams import read_size


class Protocol:
    """Records its calls, in order; a test sets its return values."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.received = bytearray()
        self.transport: Any = None
        self.error: BaseException | None = None
        self.stays_open = False
        self.is_paused = False
        self.on_made: Callable[[Any], object] = lambda transport: None
        self.on_data: Callable[[bytes], object] = lambda data: None

    def connection_made(self, transport: Any) -> None:
        self.told.append("made")
        self.transport = transport
        self.on_made(transport)

    def data_received(self, data: bytes) -> None:
        assert self.told[0] == "made"
        assert "lost" not in self.told
        assert type(data) is bytes
        self.received += data
        self.on_data(data)

    def eof_received(self) -> bool:
        self.told.append("eof")
        return self.stays_open

    def pause_writing(self) -> None:
        self.told.append("pause")
        self.is_paused = True

    def resume_writing(self) -> None:
        self.told.append("resume")
        self.is_paused = False

    def connection_lost(self, error: Exception | None) -> None:
        self.told.append("lost")
        self.error = error


@dataclasses.dataclass
class Ends:
    """A protocol on its transport, and the peer's socket with verbs."""

    runtime: Runtime
    protocol: Protocol
    peer: socket.socket
    closed: list[str]
    end: Callable[[], object] = lambda: None

    @property
    def transport(self) -> Any:
        return self.protocol.transport

    @property
    def told(self) -> list[str]:
        return self.protocol.told

    async def hears(self, size: int) -> bytes:
        """Return the next `size` bytes that reach the peer, fewer at the end."""
        received = bytearray()
        while len(received) < size and (part := await self.runtime.loop.sock_recv(self.peer, 1 << 20)):
            received += part
        return bytes(received)

    async def says(self, data: bytes) -> None:
        await self.runtime.loop.sock_sendall(self.peer, data)

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await asyncio.sleep(0.001)

    async def lost(self) -> None:
        await self.until(lambda: "lost" in self.told)

    def write_last(self, data: bytes) -> None:
        """Write the end of a response, as HTTP connections do."""
        getattr(self.transport, "write_last", self.transport.write)(data)

    async def in_turn(self, function: Callable[[], object]) -> None:
        """Call a function in a turn of the loop that holds answers back until its end, where the loop does that."""
        outbox = getattr(getattr(self.runtime, "watches", None), "outbox", None)

        def turn() -> None:
            if outbox is not None:
                outbox.begin()
            try:
                function()
            finally:
                if outbox is not None:
                    outbox.end()

        await self.call(turn)

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function from a callback of the loop, as protocols do."""
        done: asyncio.Future[Any] = self.runtime.loop.create_future()

        def call() -> None:
            try:
                done.set_result(function(*args))
            except Exception as error:  # noqa: BLE001 - raised in the test
                done.set_exception(error)

        self.runtime.loop.call_soon(call)
        return await done


Body = Callable[[Ends], Awaitable[None]]
TRANSPORTS = [loop for loop in ("epoll", "select", "gevent", "asyncio", "uvloop") if loop in LOOPS]


def clause(prepare: Callable[[Protocol], object] = lambda protocol: None) -> Callable[[Body], Any]:
    """Make a test of `async def test(ends)`, run on every transport; `prepare` sees the protocol before."""

    def decorate(body: Body) -> Any:
        @pytest.mark.parametrize("loop", TRANSPORTS)
        def test(loop: str) -> None:
            run(registry.load(loop), lambda runtime: _main(runtime, prepare, body))

        test.__name__ = test.__qualname__ = body.__name__
        test.__doc__ = body.__doc__
        test.__module__ = body.__module__
        return test

    return decorate


async def _main(runtime: Runtime, prepare: Callable[[Protocol], object], body: Body) -> None:
    with tcp_pair() as (left, peer):
        peer.setblocking(False)
        protocol = Protocol()
        prepare(protocol)
        ends = Ends(runtime, protocol, peer, [])
        accepted = Accepted(left.detach(), peer.getsockname(), peer)
        async with asyncio.timeout(DEADLINE):
            ends.end = await ends.call(_open, runtime, protocol, accepted, ends.closed)
            try:
                await ends.until(lambda: protocol.told)
                await body(ends)
            finally:
                if "lost" not in protocol.told:
                    await ends.call(ends.end)
                await ends.until(lambda: ends.closed)
                await asyncio.sleep(0.001)
    assert protocol.told.count("made") == protocol.told.count("lost") == len(ends.closed) == 1
    assert protocol.told[-1] == "lost"


def _open(runtime: Runtime, protocol: Protocol, accepted: Accepted, closed: list[str]) -> Callable[[], object]:
    return runtime.opener(steps_tasks=False)(protocol, accepted, lambda: closed.append("closed"))


MANY = b"0123456789" * 2_000_000


# --- 1, 2: reading and writing


@clause()
async def test_1_data_comes_in_order(ends: Ends) -> None:
    data = MANY[:3_000_000]
    await ends.says(data)
    await ends.until(lambda: len(ends.protocol.received) == len(data))
    assert ends.protocol.received == data
    assert ends.told == ["made"]


@clause()
async def test_2_written_bytes_arrive_in_order(ends: Ends) -> None:
    def write() -> None:
        for start in range(0, len(MANY), 1_000_000):
            ends.transport.write(MANY[start : start + 1_000_000])

    await ends.call(write)
    assert ends.transport.get_write_buffer_size() > 0
    assert await ends.hears(len(MANY)) == MANY
    await ends.until(lambda: ends.transport.get_write_buffer_size() == 0)


@clause()
async def test_2_any_kind_of_bytes_can_be_written(ends: Ends) -> None:
    await ends.call(ends.transport.write, bytearray(b"a"))
    await ends.call(ends.transport.write, memoryview(b"b"))
    await ends.call(ends.transport.write, b"")
    await ends.call(ends.transport.write, b"c")
    assert await ends.hears(3) == b"abc"


@clause(lambda protocol: setattr(protocol, "on_data", lambda data: protocol.transport.write(bytes(data).upper())))
async def test_2_an_answer_may_be_written_out_of_data_received(ends: Ends) -> None:
    for _ in range(3):
        await ends.says(b"abc")
        assert await ends.hears(3) == b"ABC"


# --- 3: back-pressure


@clause()
async def test_3_too_much_unsent_pauses_and_little_resumes(ends: Ends) -> None:
    await ends.call(ends.transport.write, MANY)
    assert ends.told == ["made", "pause"]
    await ends.call(ends.transport.write, b"more")
    assert ends.told == ["made", "pause"]
    assert len(await ends.hears(len(MANY) + 4)) == len(MANY) + 4
    await ends.until(lambda: not ends.protocol.is_paused)
    assert ends.told == ["made", "pause", "resume"]
    await ends.call(ends.transport.write, MANY)
    assert ends.told == ["made", "pause", "resume", "pause"]


@clause()
async def test_3_the_marks_can_be_set(ends: Ends) -> None:
    ends.transport.set_write_buffer_limits(high=10_000, low=2_000)
    assert ends.transport.get_write_buffer_limits() == (2_000, 10_000)
    with pytest.raises(ValueError, match="must be"):
        ends.transport.set_write_buffer_limits(high=1, low=2)


@clause()
async def test_3_resume_writing_may_write(ends: Ends) -> None:
    left = [MANY] * 2  # each more than the kernel takes in one call
    resume = ends.protocol.resume_writing

    def go_on() -> None:
        resume()
        while left and not ends.protocol.is_paused:
            ends.transport.write(left.pop())

    ends.protocol.resume_writing = go_on  # type: ignore[method-assign]
    await ends.call(ends.transport.write, MANY)
    assert len(await ends.hears(3 * len(MANY))) == 3 * len(MANY)


# --- 4: pausing reading


@clause()
async def test_4_nothing_comes_while_reading_is_paused(ends: Ends) -> None:
    await asyncio.sleep(0.001)
    await ends.call(ends.transport.pause_reading)
    await ends.says(b"early")
    await asyncio.sleep(0.02)
    assert ends.protocol.received == b""
    await ends.call(ends.transport.resume_reading)
    await ends.until(lambda: ends.protocol.received == b"early")


@clause()
async def test_4_pausing_within_data_received_holds_the_rest_back(ends: Ends) -> None:
    ends.protocol.on_data = lambda data: ends.transport.pause_reading()
    await ends.says(MANY[:100_000])
    await ends.until(lambda: ends.protocol.received)
    await asyncio.sleep(0.02)
    assert len(ends.protocol.received) <= 262_144
    seen = len(ends.protocol.received)
    while seen < 100_000:
        await ends.call(ends.transport.resume_reading)
        await ends.until(lambda before=seen: len(ends.protocol.received) > before)  # type: ignore[misc]
        seen = len(ends.protocol.received)
    assert ends.protocol.received == MANY[:100_000]


@clause()
async def test_4_pausing_and_resuming_twice_is_once(ends: Ends) -> None:
    def twice() -> None:
        for method in ("pause_reading", "pause_reading", "resume_reading", "resume_reading"):
            getattr(ends.transport, method)()

    await ends.call(twice)
    await ends.says(b"abc")
    await ends.until(lambda: ends.protocol.received == b"abc")


@clause()
async def test_4_others_have_their_turn_while_a_protocol_is_slow_with_much(ends: Ends) -> None:
    """A microsecond for each byte, as tiny WebSocket frames cost."""
    taken: Counter[int] = Counter()  # turn of the loop -> bytes
    turn = 0

    def burn(data: bytes) -> None:
        taken[turn] += len(data)
        until = time.monotonic() + len(data) / 1_000_000
        while time.monotonic() < until:
            pass

    ends.protocol.on_data = burn
    speaking = asyncio.ensure_future(ends.says(MANY[:300_000]))
    while len(ends.protocol.received) < 300_000:
        await asyncio.sleep(0)
        turn += 1
    await speaking
    assert max(taken.values()) <= 4 * read_size.DEFAULT
    assert ends.protocol.received == MANY[:300_000]


@clause()
async def test_4_a_protocol_that_pauses_after_each_read_gets_large_reads(ends: Ends) -> None:
    """As HTTP does while an upload is taken."""
    sizes = []

    def take(data: bytes) -> None:
        sizes.append(len(data))
        ends.transport.pause_reading()

    ends.protocol.on_data = take
    speaking = asyncio.ensure_future(ends.says(MANY[:4_000_000]))
    while len(ends.protocol.received) < 4_000_000:
        await ends.call(ends.transport.resume_reading)
        await asyncio.sleep(0)
    await speaking
    assert max(sizes) > 4 * read_size.DEFAULT


# --- 5, 6: ends of streams


@clause()
async def test_5_the_peers_end_closes_unless_the_protocol_says_otherwise(ends: Ends) -> None:
    await ends.says(b"last")
    ends.peer.shutdown(socket.SHUT_WR)
    await ends.lost()
    assert ends.protocol.received == b"last"
    assert ends.told == ["made", "eof", "lost"]
    assert ends.protocol.error is None


@clause(lambda protocol: setattr(protocol, "stays_open", True))
async def test_5_writing_continues_after_the_peers_end(ends: Ends) -> None:
    ends.peer.shutdown(socket.SHUT_WR)
    await ends.until(lambda: "eof" in ends.told)
    await ends.call(ends.transport.write, b"answer")
    assert await ends.hears(6) == b"answer"
    await ends.call(ends.transport.close)
    assert await ends.hears(1) == b""
    await ends.lost()
    assert ends.told == ["made", "eof", "lost"]


@clause()
async def test_6_the_end_comes_after_unsent_bytes_and_reading_continues(ends: Ends) -> None:
    def end() -> None:
        ends.transport.write(MANY)
        ends.transport.write_eof()

    assert ends.transport.can_write_eof()
    await ends.call(end)
    assert await ends.hears(len(MANY) + 1) == MANY
    await ends.says(b"still")
    await ends.until(lambda: ends.protocol.received == b"still")
    assert "lost" not in ends.told


# --- 7, 8, 9: closing


@clause()
async def test_7_close_sends_unsent_bytes(ends: Ends) -> None:
    def close() -> None:
        ends.transport.write(MANY)
        ends.transport.close()
        ends.transport.close()
        assert ends.transport.is_closing()
        assert "lost" not in ends.told

    await ends.call(close)
    assert await ends.hears(len(MANY) + 1) == MANY
    await ends.lost()
    assert ends.protocol.error is None


@clause()
async def test_7_no_data_comes_after_close(ends: Ends) -> None:
    def close() -> None:
        ends.transport.write(MANY)
        ends.transport.close()

    await ends.call(close)
    await ends.says(b"too late")
    await asyncio.sleep(0.02)
    assert ends.protocol.received == b""


@clause()
async def test_8_abort_drops_unsent_bytes(ends: Ends) -> None:
    def abort() -> None:
        ends.transport.write(MANY)
        ends.transport.abort()
        assert ends.transport.is_closing()
        assert "lost" not in ends.told

    await ends.call(abort)
    await ends.lost()
    with suppress(ConnectionResetError):
        assert len(await ends.hears(len(MANY))) < len(MANY)


@clause()
async def test_8_a_transport_can_be_aborted_while_it_closes(ends: Ends) -> None:
    def close() -> None:
        ends.transport.write(MANY)
        ends.transport.close()
        ends.transport.abort()

    await ends.call(close)
    await ends.lost()


@clause()
async def test_9_a_reset_is_told_as_the_error(ends: Ends) -> None:
    reset(ends.peer)
    await ends.lost()
    assert isinstance(ends.protocol.error, ConnectionResetError)
    assert ends.told == ["made", "lost"]


@clause()
async def test_9_a_peer_that_is_gone_is_found_by_writing(ends: Ends) -> None:
    await asyncio.sleep(0.001)
    await ends.call(ends.transport.pause_reading)
    reset(ends.peer)
    while "lost" not in ends.told:
        await ends.call(ends.transport.write, b"x")
        await asyncio.sleep(0.001)
    assert isinstance(ends.protocol.error, OSError)
    assert ends.protocol.error.errno in (errno.EPIPE, errno.ECONNRESET)


@clause(lambda protocol: setattr(protocol, "on_made", lambda transport: transport.close()))
async def test_9_a_protocol_may_close_immediately(ends: Ends) -> None:
    await ends.lost()
    assert ends.told == ["made", "lost"]


@clause(lambda protocol: setattr(protocol, "on_data", lambda data: protocol.transport.abort()))
async def test_9_a_protocol_may_abort_out_of_data_received(ends: Ends) -> None:
    await ends.says(b"abc")
    await ends.lost()
    assert ends.told == ["made", "lost"]


# --- 10 to 13


@clause()
async def test_10_input_after_the_end_is_ignored(ends: Ends) -> None:
    def everything() -> None:
        ends.transport.abort()
        ends.transport.write(b"x")
        for method in ("resume_reading", "close", "abort"):
            getattr(ends.transport, method)()

    await ends.call(everything)
    await ends.lost()
    await asyncio.sleep(0.01)
    assert ends.told == ["made", "lost"]


@clause()
async def test_11_a_protocol_that_fails_loses_its_connection_alone(ends: Ends) -> None:
    def fail(data: bytes) -> None:
        raise LookupError("in data_received")

    ends.protocol.on_data = fail
    ends.runtime.loop.set_exception_handler(lambda loop, context: None)
    with logged():
        await ends.says(b"abc")
        await ends.lost()
    assert await ends.hears(1) == b""


@clause()
async def test_12_it_knows_addresses_and_socket(ends: Ends) -> None:
    assert tuple(ends.transport.get_extra_info("peername")) == ends.peer.getsockname()
    assert tuple(ends.transport.get_extra_info("sockname")) == ends.peer.getpeername()
    assert ends.transport.get_extra_info("socket").fileno() >= 0
    assert ends.transport.get_extra_info("nothing", "default") == "default"
    assert not ends.transport.is_closing()


@clause()
async def test_13_its_owner_can_end_it(ends: Ends) -> None:
    await ends.call(ends.transport.write, MANY)
    await ends.call(ends.end)
    await ends.lost()
    await ends.until(lambda: ends.closed)
    assert ends.closed == ["closed"]


# --- 14: the end of a response may wait for the end of the turn


@clause()
async def test_14_later_writes_are_sent_after_it(ends: Ends) -> None:
    def write() -> None:
        for number in range(0, 8, 4):
            ends.write_last(b"%d" % number)
            ends.transport.write(b"%d" % (number + 1))
            ends.write_last(b"%d" % (number + 2))
            ends.write_last(b"%d" % (number + 3))

    await ends.in_turn(write)
    assert await ends.hears(8) == b"01234567"


@clause()
async def test_14_it_goes_out_although_nothing_else_happens(ends: Ends) -> None:
    await ends.in_turn(lambda: ends.write_last(b"answer"))
    assert await ends.hears(6) == b"answer"


@clause()
async def test_14_it_goes_out_of_turns_of_the_loop_with_several_events(ends: Ends) -> None:
    """Two connections are readable at the same time, and both answer."""
    with tcp_pair() as (left, peer):
        peer.setblocking(False)
        other = Ends(ends.runtime, Protocol(), peer, [])
        accepted = Accepted(left.detach(), peer.getsockname(), peer)
        other.end = await ends.call(_open, ends.runtime, other.protocol, accepted, other.closed)
        await ends.until(lambda: other.told)
        for each in (ends, other):
            each.protocol.on_data = each.write_last
        for question in (b"first", b"second"):
            for each in (ends, other):
                assert each.peer.send(question) == len(question)
            for each in (ends, other):
                assert await each.hears(len(question)) == question
        await ends.call(other.end)
        await ends.until(lambda: other.closed)


@clause()
async def test_14_closing_sends_it(ends: Ends) -> None:
    def close() -> None:
        ends.write_last(b"answer")
        ends.transport.close()

    await ends.in_turn(close)
    assert await ends.hears(10) == b"answer"
    await ends.lost()
    assert ends.protocol.error is None


@clause()
async def test_14_the_end_of_the_stream_comes_behind_it(ends: Ends) -> None:
    def end() -> None:
        ends.write_last(b"answer")
        ends.transport.write_eof()

    await ends.in_turn(end)
    assert await ends.hears(10) == b"answer"
    assert "lost" not in ends.told


@clause()
async def test_14_the_peers_end_does_not_lose_it(ends: Ends) -> None:
    """Even in the turn of the response, as after a full read."""
    size = read_size.DEFAULT

    def answer(data: bytes) -> None:
        if len(ends.protocol.received) == size:
            ends.write_last(b"answer")

    ends.protocol.on_data = answer
    await asyncio.sleep(0.001)
    await ends.call(ends.transport.pause_reading)
    await ends.says(MANY[:size])
    ends.peer.shutdown(socket.SHUT_WR)
    with tcp_pair() as (left, peer):
        left.setblocking(False)
        ends.runtime.loop.add_reader(left.fileno(), left.recv, 10)
        await ends.call(lambda: (peer.send(b"x"), ends.transport.resume_reading()))  # two events, so answers are held
        assert await ends.hears(10) == b"answer"
        ends.runtime.loop.remove_reader(left.fileno())
        await ends.lost()


@clause()
async def test_14_aborting_may_lose_it_and_nothing_fails(ends: Ends) -> None:
    def abort() -> None:
        ends.write_last(b"answer")
        ends.transport.abort()
        ends.write_last(b"more")
        ends.transport.close()

    await ends.in_turn(abort)
    await ends.lost()
    assert await ends.hears(10) in (b"", b"answer")


@clause()
async def test_14_it_counts_as_unsent_only_if_the_kernel_did_not_take_it(ends: Ends) -> None:
    def write() -> None:
        ends.write_last(b"answer")
        assert ends.transport.get_write_buffer_size() == 0
        assert ends.peer.recv(10) == b"answer"

    await ends.in_turn(write)


@clause()
async def test_14_it_is_sent_after_the_backlog(ends: Ends) -> None:
    def write() -> None:
        ends.transport.write(MANY)
        ends.write_last(b"answer")
        assert ends.transport.get_write_buffer_size() >= 6

    await ends.in_turn(write)
    assert ends.told == ["made", "pause"]
    assert await ends.hears(len(MANY) + 6) == MANY + b"answer"


@clause()
async def test_14_much_is_not_held(ends: Ends) -> None:
    size = 65_536

    def write() -> None:
        ends.write_last(MANY[:size])
        assert ends.peer.recv(1)

    await ends.in_turn(write)
    assert len(await ends.hears(size - 1)) == size - 1


@clause()
async def test_14_behind_the_end_of_the_stream_it_is_an_error_of_the_caller_alone(ends: Ends) -> None:
    """Raised where it is made, not at the end of the turn, which is the loop's."""

    def write() -> None:
        ends.transport.write_eof()
        with pytest.raises(RuntimeError):
            ends.write_last(b"too late")

    await ends.in_turn(write)
    assert await ends.hears(1) == b""


@clause()
async def test_14_a_peer_that_is_gone_is_no_error_at_the_end_of_the_turn(ends: Ends) -> None:
    await asyncio.sleep(0.001)
    await ends.call(ends.transport.pause_reading)
    reset(ends.peer)
    while "lost" not in ends.told:
        await ends.in_turn(lambda: ends.write_last(b"x"))
        await asyncio.sleep(0.001)
    assert isinstance(ends.protocol.error, OSError)
