"""Events of the connections for the access log: the start of a request, and the end of its response."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from hybrid.workers.http.access.record import AccessRecord, End
from hybrid.workers.http.exchange import Exchange, Peer, Refused, Request
from hybrid.workers.http.websocket.frames import ABNORMAL


class AccessEvents:
    """Turns events into records of the access log."""

    def __init__(
        self, write: Callable[[AccessRecord], object], is_ending: Callable[[], bool], wants_heads: bool = True
    ) -> None:
        self._write = write
        self.wants_heads = wants_heads
        """True if records need `head`, which is slower."""
        self._is_ending = is_ending  # the worker closes the remaining connections

    def started(self, exchange: Exchange) -> None:
        """The header fields of a request are complete."""
        exchange.began = time.perf_counter()
        if self.wants_heads:
            exchange.keep_head()

    def completed(self, exchange: Exchange) -> None:
        """A response is complete."""
        self._ended(exchange, End.WHOLE)

    def lost(self, exchange: Exchange, *, was_cut: bool) -> None:
        """The connection of an incomplete response, or of a WebSocket session, is gone."""
        self._ended(exchange, _end_of_websocket(exchange) or (End.CUT if was_cut or self._is_ending() else End.GONE))

    def _ended(self, exchange: Exchange, end: End) -> None:
        request, connection = exchange.request, exchange.connection
        source = request.forwarded if connection.trusts_proxy else connection
        self._write(
            AccessRecord(
                source.client,
                request.method,
                request.sent_target,
                request.version,
                exchange.status,
                exchange.sent,
                time.perf_counter() - exchange.began,
                request.headers,
                exchange.sent_head or b"",
                source.scheme,
                time.time(),
                end,
            )
        )

    def refused(self, connection: Peer, at_fault: Exchange | Request | None, refused: Refused) -> None:
        """The server has answered a request without the application."""
        if at_fault is None or isinstance(at_fault, Request):
            request, took = at_fault or Request("", b"", b"", "", []), 0.0
            source: Any = connection
        else:
            request, took = at_fault.request, time.perf_counter() - at_fault.began
            source = request.forwarded if connection.trusts_proxy else connection
        self._write(
            AccessRecord(
                source.client,
                request.method,
                request.sent_target,
                request.version,
                refused.status,
                0 if refused.head_only else len(refused.reason) + 1,  # see `refusals.response`
                took,
                request.headers,
                b"",
                source.scheme,
                time.time(),
                End.REFUSED,
            )
        )


def _end_of_websocket(exchange: Exchange) -> End | None:
    """Return how a WebSocket ended; None if neither side closed it before the connection was lost."""
    closed = exchange.ended_by
    if closed is None or closed.code == ABNORMAL:
        return None
    return End.CUT if closed.failed else End.WHOLE
