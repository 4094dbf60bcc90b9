"""Chooses the wire of a connection: HTTP/2 if its client negotiates that by ALPN, or begins with its preface.

RFC 9113, sections 3.2 and 3.3. A connection without TLS is one of HTTP/1 until its first bytes say otherwise, with the
deadline for these. Then the choice is made, and the transport calls the chosen protocol without a detour.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hybrid.workers.http.h1.connection import HttpConnection
from hybrid.workers.http.h2.connection import Http2Connection

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""The first bytes of each client of HTTP/2 (RFC 9113, section 3.4)."""
_FIRST = PREFACE[0]
_BEGINNING = PREFACE[:4]  # no request of HTTP/1 begins like this: its method would be PRI


class Choice:
    """The protocol of a new connection, until its wire is chosen."""

    __slots__ = ("_begun", "_http1", "_only_http2", "_transport")

    def __init__(self, http1: HttpConnection, *, only_http2: bool) -> None:
        """`http1`: the protocol for HTTP/1, with the facts about the peer."""
        self._http1 = http1
        self._only_http2 = only_http2
        self._begun = b""  # received bytes that may be the beginning of the preface
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        """Called once, first."""
        self._transport = transport
        http1 = self._http1
        is_tls = http1.scheme == "https"
        if self._only_http2 or (is_tls and _speaks_http2(transport)):
            http2 = self._http2()
            self._hand_over(http2)
            http2.connection_made(transport)
        else:
            if is_tls:
                self._hand_over(http1)
            http1.connection_made(transport)

    # -- the hot path; benchmark: python -m benchmarks fairness ------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Choose by the first bytes, and pass them on."""
        http1 = self._http1
        if not self._begun and (data[0] != _FIRST or (data[:4] != _BEGINNING and len(data) >= len(_BEGINNING))):
            self._hand_over(http1)  # nearly always
            http1.data_received(data)
            return
        begun = self._begun = self._begun + data
        if begun.startswith(PREFACE):
            self._become_http2(begun)
        elif not PREFACE.startswith(begun):
            self._hand_over(http1)
            http1.data_received(begun)
        # else more is to come, until the deadline

    # -- less often --------------------------------------------------------------------------------------------------

    def _become_http2(self, data: bytes) -> None:
        http1, http2 = self._http1, self._http2()
        http1.connection_lost(None)
        self._hand_over(http2)
        http2.connection_made(self._transport)
        http2.data_received(data)

    def _http2(self) -> Http2Connection:
        """Return the protocol for HTTP/2, with the facts about the peer."""
        http1 = self._http1
        http2 = Http2Connection(http1.context)
        http2.client, http2.server = http1.client, http1.server
        http2.scheme, http2.trusts_proxy = http1.scheme, http1.trusts_proxy
        return http2

    def _hand_over(self, protocol: Any) -> None:
        """Let the transport call `protocol` from now on."""
        transport = self._transport
        holder = transport.get_protocol()  # asyncio's transports have `BoundedReads` in between
        (transport if holder is self else holder).set_protocol(protocol)

    def eof_received(self) -> bool:
        """Let HTTP/1 refuse what there is."""
        self._hand_over(self._http1)
        if self._begun:
            self._http1.data_received(self._begun)
        return self._http1.eof_received()

    def takes_cork(self, cork: Callable[[], None]) -> None:
        """See `HttpConnection.takes_cork`."""
        self._http1.takes_cork(cork)

    def pause_writing(self) -> None:
        """Called by the transport."""
        self._http1.pause_writing()

    def resume_writing(self) -> None:
        """Called by the transport."""
        self._http1.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the transport, if no byte came."""
        self._http1.connection_lost(error)


def _speaks_http2(transport: Any) -> bool:
    """Return True if the client has negotiated HTTP/2."""
    return bool(transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2")
