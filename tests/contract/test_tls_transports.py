"""The contract of the transport that `Runtime.opener()` gives to a protocol with a TLS context.

 1. `connection_made` comes after the handshake; then `data_received` with what the peer sent, in order.
 2. `write` encrypts and keeps the order, whatever the kernel takes; it never waits.
 3. More than the high-water mark unsent calls `pause_writing`, less than the low one `resume_writing`.
 4. After `pause_reading`, out of `connection_made` too, no data comes; `resume_reading` lets it come again.
 5. The peer's end of stream calls `eof_received` and closes. A TCP connection that just ends closes too, without error.
 6. There is no half-closed connection: `can_write_eof` is false.
 7. `close` sends what is unsent and the end of the stream, and waits for the peer's for a bounded time.
 8. `abort` closes now.
 9. `connection_lost` comes last, once; a reset is its error.
10. After the end nothing is done any more.
11. An exception of `data_received` closes the connection.
12. `get_extra_info` knows what asyncio's transports know of TLS.
13. A handshake that fails, or takes too long, closes: the protocol never hears of it, `closed()` is called once.
14. Where the transport is ours, the peer of a handshake that fails gets the alert.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from support.certificates import certificates
from support.handshakes import answer_to_client_hello, client_hello
from support.hub import DEADLINE, reset, tcp_pair
from support.loops import LOOPS
from support.records import logged
from support.tls_peer import TlsPeer

from hybrid.workers.accepting.tls import server_context
from hybrid.workers.loops import native_transport, registry
from hybrid.workers.loops.driver import run
from hybrid.workers.runtime import Accepted, Runtime
from hybrid.workers.streams.tls_transport import SHUTDOWN, TlsTransport

LEAN = tuple(loop for loop in ("epoll", "poll", "select", "gevent") if loop in LOOPS)
TRANSPORTS = (*LEAN, *(loop for loop in ("asyncio", "uvloop") if loop in LOOPS))
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
MANY = b"0123456789" * 2_000_000
DENIED = "alert"


class Protocol:
    """Records its calls, in order; a test sets its return values."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.received = bytearray()
        self.pieces = 0
        self.transport: Any = None
        self.error: BaseException | None = None
        self.on_made: Callable[[], object] = lambda: None
        self.on_data: Callable[[], object] = lambda: None
        self.is_paused = False

    def connection_made(self, transport: Any) -> None:
        self.told.append("made")
        self.transport = transport
        self.on_made()

    def data_received(self, data: bytes) -> None:
        assert self.told[0] == "made"
        assert "lost" not in self.told
        assert type(data) is bytes
        assert data
        self.received += data
        self.pieces += 1
        self.on_data()

    def eof_received(self) -> bool:
        self.told.append("eof")
        return False

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
    """A protocol on its transport, and the peer."""

    runtime: Runtime
    protocol: Protocol
    peer: TlsPeer
    closed: list[str]
    end: Callable[[], object] = lambda: None

    @property
    def transport(self) -> Any:
        return self.protocol.transport

    @property
    def told(self) -> list[str]:
        return self.protocol.told

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await asyncio.sleep(0.001)

    async def lost(self) -> None:
        await self.until(lambda: "lost" in self.told)

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function from a callback of the loop, as protocols do."""
        done: asyncio.Future[Any] = self.runtime.loop.create_future()
        self.runtime.loop.call_soon(lambda: done.set_result(function(*args)))
        return await done


Body = Callable[[Ends], Awaitable[None]]


def clause(
    loops: tuple[str, ...] = TRANSPORTS,
    *,
    shaken: bool = True,
    timeout: float = 10.0,
    clients: str = "none",
    versions: tuple[ssl.TLSVersion, ...] = VERSIONS[1:],
    shutdown: float = SHUTDOWN,
) -> Callable[[Body], Any]:
    """Make a test of `async def test(ends)` on each loop.

    `shaken`: the handshake is done when it begins. `shutdown`: seconds that a peer gets to answer the end.
    """

    def decorate(body: Body) -> Any:
        @pytest.mark.parametrize("version", versions)
        @pytest.mark.parametrize("loop", loops)
        def test(loop: str, version: ssl.TLSVersion) -> None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(TlsTransport, "shutdown", shutdown)
                patch.setattr(native_transport, "SHUTDOWN", shutdown)
                run(registry.load(loop), lambda runtime: _main(runtime, body, version, clients, timeout, shaken=shaken))

        test.__name__ = test.__qualname__ = body.__name__
        test.__doc__ = body.__doc__
        test.__module__ = body.__module__
        return test

    return decorate


async def _main(
    runtime: Runtime, body: Body, version: ssl.TLSVersion, clients: str, timeout: float, *, shaken: bool
) -> None:
    made = certificates()
    asked = {} if clients == "none" else {"client_ca": made.ca, "client_certificate": clients}
    context = server_context(made.tls(**asked))
    with tcp_pair() as (left, sock):
        sock.setblocking(False)
        protocol, peer = Protocol(), TlsPeer(runtime.loop, sock, made.client_context(version=version))
        ends = Ends(runtime, protocol, peer, [])
        accepted = Accepted(left.detach(), sock.getsockname(), sock)
        async with asyncio.timeout(DEADLINE):
            ends.end = await ends.call(_open, runtime, protocol, accepted, ends.closed, context, timeout)
            try:
                if shaken:
                    await peer.shakes()
                    await ends.until(lambda: protocol.told)
                await body(ends)
            finally:
                if not ends.closed:
                    await ends.call(ends.end)
                await ends.until(lambda: ends.closed)
                await asyncio.sleep(0.001)
    assert protocol.told.count("made") == protocol.told.count("lost") <= 1
    assert protocol.told[-1:] in (["lost"], [])
    assert ends.closed == ["closed"]


def _open(
    runtime: Runtime,
    protocol: Protocol,
    accepted: Accepted,
    closed: list[str],
    context: ssl.SSLContext,
    timeout: float,
) -> Callable[[], object]:
    open_transport = runtime.opener(steps_tasks=False)
    return open_transport(protocol, accepted, lambda: closed.append("closed"), context, timeout)


# --- 1, 2: reading and writing


@clause(versions=VERSIONS)
async def test_1_data_comes_in_order(ends: Ends) -> None:
    await ends.peer.says(MANY[:3_000_000])
    await ends.until(lambda: len(ends.protocol.received) == 3_000_000)
    assert ends.protocol.received == MANY[:3_000_000]
    assert ends.told == ["made"]


@clause(shaken=False, versions=VERSIONS)
async def test_1_data_may_come_with_the_end_of_the_handshake(ends: Ends) -> None:
    ends.protocol.on_data = lambda: ends.transport.write(b"answer")
    await ends.peer.shakes(with_data=b"early")
    assert await ends.peer.hears(6) == b"answer"
    assert ends.protocol.received == b"early"


@clause(LEAN)
async def test_1_records_that_come_together_are_handed_over_together(ends: Ends) -> None:
    for _ in range(5):
        ends.peer.tls.write(b"record")
    await ends.peer.says(b"last")
    await ends.until(lambda: ends.protocol.received == b"record" * 5 + b"last")
    assert ends.protocol.pieces == 1


@clause(versions=VERSIONS)
async def test_2_written_bytes_arrive_in_order(ends: Ends) -> None:
    def write() -> None:
        for start in range(0, len(MANY), 1_000_000):
            ends.transport.write(MANY[start : start + 1_000_000])
        ends.transport.write(b"the end")

    await ends.call(write)
    assert ends.transport.get_write_buffer_size() > 0
    assert await ends.peer.hears(len(MANY) + 7) == MANY + b"the end"
    await ends.until(lambda: ends.transport.get_write_buffer_size() == 0)


@clause()
async def test_2_any_kind_of_bytes_can_be_written(ends: Ends) -> None:
    await ends.call(ends.transport.write, bytearray(b"a"))
    await ends.call(ends.transport.write, memoryview(b"b"))
    await ends.call(ends.transport.write, b"")
    await ends.call(ends.transport.write, b"c")
    assert await ends.peer.hears(3) == b"abc"


# --- 3, 4: back-pressure both ways


@clause()
async def test_3_too_much_unsent_pauses_and_little_resumes(ends: Ends) -> None:
    """The transports of asyncio and uvloop count a write late, and pause above their own 512 KiB."""
    size = 0
    while "pause" not in ends.told:
        assert size < 10 * len(MANY)
        await ends.call(ends.transport.write, MANY[:2_000_000])
        size += 2_000_000
        await asyncio.sleep(0)
    assert ends.transport.get_write_buffer_size() > 0
    assert len(await ends.peer.hears(size)) == size
    await ends.until(lambda: not ends.protocol.is_paused)
    assert ends.told == ["made", "pause", "resume"]


@clause(LEAN)
async def test_3_one_large_write_pauses(ends: Ends) -> None:
    await ends.call(ends.transport.write, MANY)
    assert ends.told == ["made", "pause"]
    assert ends.transport.get_write_buffer_limits() == (16_384, 65_536)


@clause()
async def test_4_nothing_comes_while_reading_is_paused(ends: Ends) -> None:
    await ends.call(ends.transport.pause_reading)
    assert not ends.transport.is_reading()
    await ends.peer.says(b"early")
    await asyncio.sleep(0.02)
    assert ends.protocol.received == b""
    await ends.call(ends.transport.resume_reading)
    await ends.until(lambda: ends.protocol.received == b"early")


@clause(LEAN, shaken=False)
async def test_4_reading_may_be_paused_before_the_first_data(ends: Ends) -> None:
    ends.protocol.on_made = lambda: ends.transport.pause_reading()
    await ends.peer.shakes(with_data=b"early")
    await ends.until(lambda: ends.told)
    await asyncio.sleep(0.02)
    assert ends.protocol.received == b""
    await ends.call(ends.transport.resume_reading)
    await ends.until(lambda: ends.protocol.received == b"early")


@clause(LEAN, shaken=False)
async def test_4_late_data_may_meet_a_protocol_that_fails(ends: Ends) -> None:
    def fail() -> None:
        raise LookupError("in data_received")

    ends.protocol.on_made = lambda: ends.transport.pause_reading()
    ends.protocol.on_data = fail
    await ends.peer.shakes(with_data=b"early")
    await ends.until(lambda: ends.told)
    with logged():
        await ends.call(ends.transport.resume_reading)
        await ends.lost()


@clause()
async def test_4_pausing_within_data_received_holds_the_rest_back(ends: Ends) -> None:
    ends.protocol.on_data = lambda: ends.transport.pause_reading()
    speaking = asyncio.ensure_future(ends.peer.says(MANY))
    await ends.until(lambda: ends.protocol.received)
    await asyncio.sleep(0.02)
    assert len(ends.protocol.received) <= 524_288
    assert not speaking.done()
    ends.protocol.on_data = lambda: None
    await ends.call(ends.transport.resume_reading)
    await ends.until(lambda: len(ends.protocol.received) == len(MANY))
    assert ends.protocol.received == MANY
    await speaking


# --- 5, 6: ends of streams


@clause(versions=VERSIONS)
async def test_5_the_peers_end_of_stream_closes(ends: Ends) -> None:
    await ends.peer.says(b"last")
    await ends.peer.ends()
    await ends.lost()
    assert ends.protocol.received == b"last"
    assert ends.told == ["made", "eof", "lost"]
    assert ends.protocol.error is None
    assert await ends.peer.hears(1) == b""


@clause(LEAN)
async def test_5_data_and_end_may_come_together(ends: Ends) -> None:
    ends.peer.tls.write(b"last")
    await ends.peer.ends()
    await ends.lost()
    assert ends.protocol.received == b"last"
    assert ends.told == ["made", "eof", "lost"]


@clause(versions=VERSIONS)
async def test_5_a_connection_that_just_ends_is_no_error(ends: Ends) -> None:
    await ends.peer.says(b"last")
    await ends.until(lambda: ends.protocol.received)
    ends.peer.sock.shutdown(1)
    await ends.lost()
    assert ends.protocol.error is None


@clause(LEAN)
async def test_5_input_that_is_not_tls_is_an_error(ends: Ends) -> None:
    ends.peer.tls.write(b"right")
    await ends.peer.says(b"")
    await ends.runtime.loop.sock_sendall(ends.peer.sock, b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(ssl.SSLError, match=DENIED):
        await ends.peer.hears(1)
    ends.peer.sock.shutdown(1)
    await ends.lost()
    assert isinstance(ends.protocol.error, ssl.SSLError)


@clause()
async def test_6_connections_are_not_half_closed(ends: Ends) -> None:
    assert not ends.transport.can_write_eof()
    with pytest.raises(NotImplementedError):
        ends.transport.write_eof()


# --- 7 to 10: closing


@clause(versions=VERSIONS)
async def test_7_close_sends_unsent_bytes_and_the_end(ends: Ends) -> None:
    def close() -> None:
        ends.transport.write(MANY)
        ends.transport.close()
        ends.transport.close()
        assert ends.transport.is_closing()
        assert "lost" not in ends.told

    await ends.call(close)
    assert await ends.peer.hears(len(MANY) + 1) == MANY
    await ends.peer.ends()
    await ends.lost()
    assert ends.protocol.error is None


@clause(LEAN)
async def test_7_no_data_comes_after_close_and_it_does_no_harm(ends: Ends) -> None:
    def close() -> None:
        ends.transport.pause_reading()
        ends.transport.write(MANY)
        ends.transport.close()

    await ends.call(close)
    await ends.peer.says(b"too late" * 100_000)
    assert await ends.peer.hears(len(MANY) + 1) == MANY
    ends.peer.sock.shutdown(1)
    await ends.lost()
    assert ends.protocol.received == b""


@clause(shutdown=0.1)
async def test_7_a_peer_that_does_not_answer_the_end_is_not_waited_for(ends: Ends) -> None:
    began = ends.runtime.loop.time()
    await ends.call(ends.transport.close)
    await ends.lost()
    assert ends.runtime.loop.time() - began > 0.09


@clause(versions=VERSIONS, shutdown=100.0)
async def test_7_the_peers_end_of_stream_is_enough(ends: Ends) -> None:
    """Otherwise it would wait for longer than a test may take."""
    await ends.call(ends.transport.close)
    assert await ends.peer.hears(1) == b""
    await ends.peer.ends()
    await ends.lost()


@clause()
async def test_8_abort_drops_unsent_bytes(ends: Ends) -> None:
    def abort() -> None:
        ends.transport.write(MANY)
        ends.transport.abort()
        assert ends.transport.is_closing()
        assert "lost" not in ends.told

    await ends.call(abort)
    await ends.lost()
    with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
        await ends.peer.hears(len(MANY))


@clause(LEAN)
async def test_8_a_transport_can_be_aborted_while_it_closes(ends: Ends) -> None:
    def close() -> None:
        ends.transport.write(MANY)
        ends.transport.close()
        ends.transport.abort()

    await ends.call(close)
    await ends.lost()


@clause()
async def test_9_a_reset_is_told(ends: Ends) -> None:
    reset(ends.peer.sock)
    await ends.lost()
    assert ends.told[0] == "made"


@clause()
async def test_9_a_peer_that_is_gone_is_found_by_writing(ends: Ends) -> None:
    await ends.call(ends.transport.pause_reading)
    reset(ends.peer.sock)
    while "lost" not in ends.told:
        await ends.call(ends.transport.write, b"x")
        await asyncio.sleep(0.001)


@clause(LEAN, shaken=False)
async def test_9_a_protocol_may_close_immediately(ends: Ends) -> None:
    ends.protocol.on_made = lambda: ends.transport.close()
    await ends.peer.shakes()
    assert await ends.peer.hears(1) == b""
    await ends.peer.ends()
    await ends.lost()
    assert ends.told == ["made", "lost"]


@clause()
async def test_9_a_protocol_may_abort_out_of_data_received(ends: Ends) -> None:
    ends.protocol.on_data = lambda: ends.transport.abort()
    await ends.peer.says(b"abc")
    await ends.lost()
    assert ends.told == ["made", "lost"]


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


# --- 11, 12


@clause()
async def test_11_a_protocol_that_fails_loses_its_connection_alone(ends: Ends) -> None:
    def fail() -> None:
        raise LookupError("in data_received")

    ends.protocol.on_data = fail
    ends.runtime.loop.set_exception_handler(lambda loop, context: None)
    with logged():
        await ends.peer.says(b"abc")
        await ends.lost()


@clause(versions=VERSIONS)
async def test_12_it_knows_the_facts_of_tls(ends: Ends) -> None:
    ask = ends.transport.get_extra_info
    assert ask("ssl_object").version() == ends.peer.tls.version()
    assert ask("cipher") == ends.peer.tls.cipher()
    assert not ask("peercert")
    assert ask("compression") is None
    assert isinstance(ask("sslcontext"), ssl.SSLContext)
    assert tuple(ask("peername")) == ends.peer.sock.getsockname()
    assert tuple(ask("sockname")) == ends.peer.sock.getpeername()
    assert ask("socket").fileno() >= 0
    assert ask("nothing", "default") == "default"


# --- 13, 14: handshakes that fail


@clause(shaken=False, timeout=0.05)
async def test_13_a_handshake_that_takes_too_long_is_cut(ends: Ends) -> None:
    await ends.peer.is_gone()
    await ends.until(lambda: ends.closed)
    assert ends.told == []


@clause(shaken=False)
async def test_13_a_peer_may_leave_within_the_handshake(ends: Ends) -> None:
    await ends.runtime.loop.sock_sendall(ends.peer.sock, b"\x16\x03\x01\x02\x00\x01")
    ends.peer.sock.shutdown(1)
    await ends.until(lambda: ends.closed)
    assert ends.told == []


@clause(shaken=False)
async def test_13_a_peer_may_reset_within_the_handshake(ends: Ends) -> None:
    await ends.runtime.loop.sock_sendall(ends.peer.sock, b"\x16\x03\x01\x02\x00\x01")
    await asyncio.sleep(0.01)
    reset(ends.peer.sock)
    await ends.until(lambda: ends.closed)
    assert ends.told == []


@clause(shaken=False)
async def test_13_its_owner_can_end_a_handshake(ends: Ends) -> None:
    await ends.runtime.loop.sock_sendall(ends.peer.sock, b"\x16\x03\x01\x02\x00\x01")
    await asyncio.sleep(0.01)
    await ends.call(ends.end)
    await ends.until(lambda: ends.closed)
    with suppress(ConnectionResetError):
        await ends.peer.is_gone()
    assert ends.told == []


@clause(shaken=False)
async def test_13_input_that_is_not_tls_is_refused(ends: Ends) -> None:
    await ends.runtime.loop.sock_sendall(ends.peer.sock, b"GET / HTTP/1.1\r\n\r\n")
    with suppress(ConnectionResetError):
        await ends.peer.is_gone()
    ends.peer.sock.shutdown(1)
    await ends.until(lambda: ends.closed)
    assert ends.told == []


@clause(LEAN, shaken=False, clients="required", versions=VERSIONS)
async def test_14_a_client_without_a_certificate_gets_an_alert(ends: Ends) -> None:
    """In TLS 1.3 the client thinks the handshake done, and has sent its first request."""

    async def ask() -> None:
        await ends.peer.shakes(with_data=b"x" * 100_000)
        await ends.peer.hears(1)

    with pytest.raises(ssl.SSLError, match=DENIED):
        await ask()
    ends.peer.sock.shutdown(1)
    await ends.until(lambda: ends.closed)
    assert ends.told == []


@clause(LEAN, shaken=False)
async def test_14_a_client_of_tls_1_1_gets_an_alert(ends: Ends) -> None:
    answer = answer_to_client_hello(server_context(certificates().tls()), 0x0302)
    await ends.runtime.loop.sock_sendall(ends.peer.sock, client_hello(0x0302))
    assert await ends.runtime.loop.sock_recv(ends.peer.sock, 100) == answer
    await ends.peer.is_gone()
    ends.peer.sock.shutdown(1)
    await ends.until(lambda: ends.closed)
    assert ends.told == []
