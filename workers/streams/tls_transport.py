"""`TlsTransport`: TLS on the lean transport.

TLS adds about 5 us to a small request; with asyncio's transport it adds about 20 (medians of 7 paired runs). The stream
socket carries records, and the protocol gets plain bytes. OpenSSL works in memory (`ssl.MemoryBIO`): one read(2)
returns many records, whereas OpenSSL on a descriptor needs two calls per record. OpenSSL's own output (handshakes,
responses to key updates, alerts) is sent after each read. Benchmark: `python -m benchmarks https`.
"""

from __future__ import annotations

import _socket
import asyncio
import errno
import logging
import ssl
from collections.abc import Callable
from typing import Any

from hybrid.workers.hub.watch import Watches
from hybrid.workers.runtime import Accepted
from hybrid.workers.streams.protocol_transport import ProtocolTransport
from hybrid.workers.streams.stream_socket import LINGER

SHUTDOWN = 2.0  # seconds for a peer to answer the end of the stream with its own
_RECORD = 16_384  # bytes of plain text, at most, in a record (RFC 8446, section 5.1)
_BLOCK = 65_536  # bytes that are encrypted and sent at once: they fit into the processor's cache, 1 MiB does not
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
    """Give an accepted connection to `protocol`; return a function that ends it early. `closed()` is called once.

    Without `tls`, calls the protocol now, over a plain transport; otherwise after the handshake, which may take
    `tls_timeout` seconds.
    """
    if tls is None:
        plain = ProtocolTransport(loop, watches, accepted.bare_socket(), accepted.address, protocol, closed)
        plain.start()
        return plain.abort
    sock = accepted.bare_socket()
    transport = TlsTransport(loop, watches, sock, accepted.address, protocol, closed, tls, loop.call_soon)
    transport.shake(tls_timeout)
    return transport.abort


class TlsTransport(ProtocolTransport):
    """`asyncio.Transport` of the server side of a TLS connection. Belongs to the loop's thread.

    `_data_received`, which gets the input, is the state: `_shake`, then `_take`, then `_drop`. As in asyncio there is
    no `write_eof`, and the peer's end of stream ends the connection.
    """

    shutdown = SHUTDOWN

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        watches: Watches,
        sock: _socket.socket,
        peername: Any,
        protocol: Any,
        closed: Callable[[], None],
        context: ssl.SSLContext,
        soon: Callable[[Callable[[], object]], object],
    ) -> None:
        super().__init__(loop, watches, sock, peername, protocol, closed)
        self._soon = soon  # calls a function later, in the greenlet that calls the protocol's methods
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._decrypt = self._tls.read
        self._encrypt = self._tls.write
        self._receive = protocol.data_received
        self._data_received = self._shake
        self._ending = False  # no more writes or input
        self._made = False  # `connection_made` was called
        self._timer: asyncio.TimerHandle | None = None  # of the handshake, then of the close
        self._connection.protocol = None  # until `connection_made`

    # -- the handshake ---------------------------------------------------------------------------------------------

    def shake(self, timeout: float) -> None:
        """Start the handshake, which may take `timeout` seconds."""
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
            self._send_own()  # the alert, which tells the peer's user the reason
            self._end()
        else:
            self._shaken()

    def _shaken(self) -> None:
        self._stop_timer()
        self._data_received = self._take
        self._connection.protocol = protocol = self._protocol
        self._made = True
        protocol.connection_made(self)
        if self._reading and not self.is_closing():
            self._take(b"")  # a client may send its first request with the end of its handshake
        self._send_own()

    def _report(self, reason: object) -> None:
        _log.debug("no connection with %s: %s", self._connection.get_extra_info("peername"), reason)

    # -- the hot path; benchmark: python -m benchmarks https -------------------------------------------------------

    def _take(self, data: bytes) -> None:
        """Pass on the plain text of all complete records in one call."""
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
        except ssl.SSLError as error:  # also SSLWantReadError, which only renegotiation raises, and that is refused
            self._stopped(error)
        else:
            self._connection.write(self._outgoing.read())

    def write(self, data: Any) -> None:
        """Encrypt `data` and send it, or keep the part that does not fit; never blocks."""
        if self._held:
            self.flush()
        self._send(data)

    def write_end(self, data: Any) -> None:
        """Send the last bytes, encrypted. The closing alert follows, so they are not the last bytes on the wire."""
        self.write(data)

    def flush(self) -> None:
        """Send the held response."""
        held, self._held = self._held, b""
        if held:
            self._send(held)

    # -- rare paths ------------------------------------------------------------------------------------------------

    def set_protocol(self, protocol: Any) -> None:
        """Call `protocol` from now on, which does not get `connection_made`. Not before the handshake."""
        self._protocol = self._connection.protocol = protocol
        self._receive = protocol.data_received

    def _take_more(self, first: bytes) -> tuple[bytes, Exception | None]:
        """Return the plain text of all complete records, beginning with `first`, and the end or error, if any."""
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
        """Send OpenSSL's own output."""
        if self._outgoing.pending:
            self._connection.write(self._outgoing.read())

    def pause_reading(self) -> None:
        """Stop reading: input stays in the kernel, and TCP slows the peer down."""
        if not self._ending:
            super().pause_reading()

    def resume_reading(self) -> None:
        """Resume reading in the next turn of the loop."""
        if not self._reading and not self._ending:
            super().resume_reading()
            if self._incoming.pending:  # it came with the end of the handshake, while the protocol had paused reading
                self._soon(self._take_late)

    def _take_late(self) -> None:
        if self._reading and not self.is_closing():
            try:
                self._take(b"")
            except Exception as error:  # noqa: BLE001 - logged, as in `_readable`
                _log.exception("a protocol failed; its connection is closed")
                self._connection.failed(OSError(errno.EPROTO, str(error)))

    # -- the end ---------------------------------------------------------------------------------------------------

    def _stopped(self, reason: Exception) -> None:
        """The peer ended its stream (`EOFError`), or sent something other than TLS, for which OpenSSL has an alert."""
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
        """The peer closed the TCP connection, perhaps without a TLS end of stream: HTTP detects truncation itself."""
        self._reading = False
        if self._data_received == self._take and not self._eof:
            self._stopped(EOFError())
        self._connection.close()

    def close(self) -> None:
        """Send unsent bytes and the end of the stream; then wait for the peer's, at most `shutdown` seconds."""
        self.flush()
        if self.is_closing():
            return
        self._ending = True
        try:
            self._tls.unwrap()
        except ssl.SSLError:  # the usual case: the peer's is still missing
            self._send_own()
            self._end()
        else:
            self._send_own()
            self._connection.close()

    def _end(self) -> None:
        """Close once the peer has closed: unread input at close(2) causes a reset, which may destroy sent bytes."""
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
        """Read only to find the end of the stream."""
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
        """Close, give up, or check again. At the last check `before` bytes were unsent, and first so at `since`."""
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
        """Return True if the connection is closed or closing."""
        return self._ending or self._connection.closing

    def is_reading(self) -> bool:
        """Return True if the protocol receives input."""
        return self._reading and not self.is_closing()

    def can_write_eof(self) -> bool:
        """Return False: the end of the stream ends the connection."""
        return False

    def write_eof(self) -> None:
        """Raises `NotImplementedError`."""
        raise NotImplementedError("TLS connections are not half closed")

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return `ssl_object`, `sslcontext`, `peercert`, `cipher`, `compression`, or a name of plain transports."""
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
