"""`TlsTransport`: TLS on the lean transport of the hub.

A small request costs about 5 us more than without TLS, over asyncio's transport about 20 (medians of 7 paired runs).
The connection below carries records, the protocol above sees plain bytes. OpenSSL works in memory (`ssl.MemoryBIO`):
one read(2) brings many records, where OpenSSL on a descriptor takes two for each of them. What it wants to send by
itself (handshakes, answers to key updates, alerts) goes out after each turn of reading. Benchmark: `python -m
benchmarks https`.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

from hybrid.workers.hub.watch import Watches
from hybrid.workers.runtime import Accepted
from hybrid.workers.streams.protocol_transport import ProtocolTransport
from hybrid.workers.streams.stream_socket import LINGER

SHUTDOWN = 2.0  # seconds that a peer gets to answer the end of the stream with its own
_RECORD = 16_384  # bytes of plain text, at most, in a record (RFC 8446, section 5.1)
_BLOCK = 65_536  # bytes that are encrypted and sent at once: they stay in the processor's cache, one MiB does not
_log = logging.getLogger("hybrid")


def open_transport(
    loop: asyncio.AbstractEventLoop,
    watches: Watches,
    protocol: Any,
    accepted: Accepted,
    closed: Callable[[], None],
    tls: ssl.SSLContext | None = None,
    tls_timeout: float = 60.0,
) -> Callable[[], object]:
    """Give an accepted connection to `protocol`; return what ends it early. `closed()` is called once.

    Without `tls` that is now, over a plain transport; else after the handshake, which may take `tls_timeout` seconds.
    """
    if tls is None:
        plain = ProtocolTransport(loop, watches, accepted.socket(), accepted.address, protocol, closed)
        plain.start()
        return plain.abort
    sock = accepted.socket()
    transport = TlsTransport(loop, watches, sock, accepted.address, protocol, closed, tls, loop.call_soon)
    transport.shake(tls_timeout)
    return transport.abort


class TlsTransport(ProtocolTransport):
    """`asyncio.Transport` of the server's end of a TLS connection. Belongs to the loop's thread.

    `_data_received`, which gets what was read, tells the state: `_shake`, then `_take`, then `_drop`. Like asyncio's
    it has no `write_eof`, and the peer's end of stream ends it.
    """

    shutdown = SHUTDOWN

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        watches: Watches,
        sock: socket.socket,
        peername: Any,
        protocol: Any,
        closed: Callable[[], None],
        context: ssl.SSLContext,
        soon: Callable[[Callable[[], object]], object],
    ) -> None:
        super().__init__(loop, watches, sock, peername, protocol, closed)
        self._soon = soon  # calls a function where the protocol's methods are called, later
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._decrypt = self._tls.read
        self._encrypt = self._tls.write
        self._receive = protocol.data_received
        self._data_received = self._shake
        self._ending = False  # nothing more is written or handed over
        self._made = False  # the protocol knows of the connection
        self._timer: asyncio.TimerHandle | None = None  # of the handshake, then of the end
        connection = self._connection
        connection.on_paused = connection.on_resumed = None

    # -- the handshake ---------------------------------------------------------------------------------------------

    def shake(self, timeout: float) -> None:
        """Begin the handshake, which may take `timeout` seconds."""
        if not self._connection.closing:
            self._timer = self._loop.call_later(timeout, self._too_slow)
            self._readable()

    def _too_slow(self) -> None:
        self._report("the handshake took too long")
        self.abort()

    def _shake(self, data: bytes) -> None:
        self._incoming.write(data)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send_own()
        except ssl.SSLError as error:
            self._report(error)
            self._send_own()  # the alert: it tells the peer's user what is wrong
            self._end()
        else:
            self._shaken()

    def _shaken(self) -> None:
        self._stop_timer()
        self._data_received = self._take
        connection, protocol = self._connection, self._protocol
        connection.on_paused = protocol.pause_writing
        connection.on_resumed = protocol.resume_writing
        self._made = True
        protocol.connection_made(self)
        if self._reading and not self.is_closing():
            self._take(b"")  # a client may send its first request with the end of its handshake
        self._send_own()

    def _report(self, reason: object) -> None:
        _log.debug("no connection with %s: %s", self._connection.get_extra_info("peername"), reason)

    # -- the hot path; benchmark: python -m benchmarks https -------------------------------------------------------

    def _take(self, data: bytes) -> None:
        """Hand over what the complete records hold, in one piece."""
        incoming = self._incoming
        incoming.write(data)
        end: Exception | None = None
        try:
            plain = self._decrypt(_RECORD)
        except ssl.SSLWantReadError:
            plain = b""
        except ssl.SSLError as error:
            plain, end = b"", error
        else:
            if not plain:
                end = EOFError()
            elif incoming.pending:
                plain, end = self._take_more(plain)
        if plain:
            self._receive(plain)
        if self._outgoing.pending:
            self._send_own()
        if end is not None and not self.is_closing():
            self._stopped(end)

    def _send(self, data: Any) -> None:
        if self._ending or self._connection.closing:
            return
        try:
            if type(data) is bytes and len(data) <= _BLOCK:
                if data:
                    self._encrypt(data)
            else:
                self._send_blocks(memoryview(data).cast("B"))
        except ssl.SSLError as error:  # also a wish to read first: only renegotiation has that, which is refused
            self._stopped(error)
        else:
            self._connection.write(self._outgoing.read())

    def write(self, data: Any) -> None:
        """Encrypt `data` and send it, or keep what does not fit; never blocks."""
        if self._held:
            self.flush()
        self._send(data)

    def write_end(self, data: Any) -> None:
        """Send the last bytes, encrypted: the closing alert follows them, so they are not the last of the stream."""
        self.write(data)

    def flush(self) -> None:
        """Send what was held."""
        held, self._held = self._held, b""
        if held:
            self._send(held)

    # -- less often ------------------------------------------------------------------------------------------------

    def _take_more(self, first: bytes) -> tuple[bytes, Exception | None]:
        """Return the plain text of all complete records, of which `first` is known, and what comes behind it."""
        parts = [first]
        end: Exception | None = None
        try:
            while part := self._decrypt(_RECORD):
                parts.append(part)
            end = EOFError()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            end = error
        return b"".join(parts), end

    def _send_blocks(self, data: memoryview) -> None:
        connection, outgoing = self._connection, self._outgoing
        for start in range(0, len(data), _BLOCK):
            self._encrypt(data[start : start + _BLOCK])
            connection.write(outgoing.read())
            if connection.closing:
                return

    def _send_own(self) -> None:
        """Send what OpenSSL wants to say."""
        if self._outgoing.pending:
            self._connection.write(self._outgoing.read())

    def pause_reading(self) -> None:
        """Leave what arrives in the kernel, which slows the peer down."""
        if not self._ending:
            super().pause_reading()

    def resume_reading(self) -> None:
        """Read again, from the next turn of the loop on."""
        if not self._reading and not self._ending:
            super().resume_reading()
            if self._incoming.pending:  # it came with the end of the handshake, and the protocol did not want it
                self._soon(self._take_late)

    def _take_late(self) -> None:
        if self._reading and not self.is_closing():
            try:
                self._take(b"")
            except Exception as error:  # noqa: BLE001 - logged; as where the poller calls
                _log.exception("a protocol failed; its connection is closed")
                self._connection.failed(OSError(errno.EPROTO, str(error)))

    # -- the end ---------------------------------------------------------------------------------------------------

    def _stopped(self, reason: Exception) -> None:
        """The peer ended its stream (`EOFError`), or something that is not TLS came: OpenSSL has an alert for it."""
        self._eof = True
        if isinstance(reason, EOFError):
            self._protocol.eof_received()
            self.close()
        else:
            self._connection.error = reason if isinstance(reason, OSError) else None
            self._ending = True
            self._send_own()
            self._end()

    def _ended(self) -> None:
        """The peer closed the TCP connection, perhaps without the end of its stream: HTTP knows what is missing."""
        self._reading = False
        if self._data_received == self._take and not self._eof:
            self._stopped(EOFError())
        self._connection.close()

    def close(self) -> None:
        """Send what is unsent and the end of the stream; then wait for that of the peer, for `shutdown` seconds."""
        self.flush()
        if self.is_closing():
            return
        self._ending = True
        try:
            self._tls.unwrap()
        except ssl.SSLError:  # nearly always: it wants to wait for the peer's
            self._send_own()
            self._end()
        else:
            self._send_own()
            self._connection.close()

    def _end(self) -> None:
        """Close as soon as the peer does: unread bytes at close(2) make a reset that overtakes what was sent."""
        self._ending = True
        self._data_received = self._drop
        self._stop_timer()
        connection = self._connection
        connection.write_eof()
        if connection.closing:
            return
        if not self._reading:
            self._reading = True
            self._watch.on_readable = self._resume
            self._arm()
        self._look_later(self.get_write_buffer_size(), self._loop.time())

    def _drop(self, data: bytes) -> None:
        """Read on for the end of the stream only."""
        if not self._made:
            return
        self._incoming.write(data)
        try:
            while self._decrypt(_RECORD):
                pass
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError:
            pass
        self._connection.close()

    def _look_later(self, unsent: int, since: float) -> None:
        self._timer = self._loop.call_later(self.shutdown, self._look, unsent, since)

    def _look(self, before: int, since: float) -> None:
        """`before` bytes were unsent at the last look, the first time at `since`: give up, or look again."""
        now, unsent = self._loop.time(), self.get_write_buffer_size()
        if not before:
            self._connection.close()
        elif unsent == before and now - since >= LINGER:
            self.abort()
        else:
            self._look_later(unsent, since if unsent == before else now)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _lost(self) -> None:
        self._stop_timer()
        super()._lost()

    def _tell_lost(self) -> None:
        if self._made:
            super()._tell_lost()
        else:
            self._let_go()

    def _let_go(self) -> None:
        super()._let_go()
        self._receive = self._data_received

    # -- facts -----------------------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        """Whether the connection is closed or about to be."""
        return self._ending or self._connection.closing

    def is_reading(self) -> bool:
        """Whether the protocol gets what arrives."""
        return self._reading and not self.is_closing()

    def can_write_eof(self) -> bool:
        """Always false: the end of the stream is that of the connection."""
        return False

    def write_eof(self) -> None:
        """Raises `NotImplementedError`."""
        raise NotImplementedError("TLS connections are not half closed")

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`ssl_object`, `sslcontext`, `peercert`, `cipher`, `compression`, and what plain transports know."""
        match name:
            case "ssl_object":
                return self._tls
            case "sslcontext":
                return self._tls.context
            case "peercert":
                return self._tls.getpeercert()
            case "cipher":
                return self._tls.cipher()
            case "compression":
                return self._tls.compression()
        return super().get_extra_info(name, default)
