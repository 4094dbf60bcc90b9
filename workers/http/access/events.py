"""Events of the connections for the access log: the start of a request, and the end of its response."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from hybrid.workers.http.access.record import AccessRecord, End
from hybrid.workers.http.exchange import Exchange, Peer, Refused, Request
from hybrid.workers.http.request_ids import RequestIds
from hybrid.workers.http.websocket.frames import ABNORMAL

Skips = Callable[[bytes], bool]
"""Returns True for the target of a request that is not logged."""


class AccessEvents:
    """Turns events into records of the access log."""

    def __init__(
        self,
        write: Callable[[AccessRecord], object],
        is_ending: Callable[[], bool],
        wants_heads: bool = True,
        request_ids: RequestIds | None = None,
        skips: Skips | None = None,
    ) -> None:
        """`request_ids`: if requests have ids; `skips`: if some are not logged."""
        self._write = write
        self._request_ids = request_ids
        self._skips = skips
        self.wants_heads = wants_heads
        """True if records need `head`, which is slower."""
        self._is_ending = is_ending  # the worker closes the remaining connections

    def started(self, exchange: Exchange) -> None:
        """The header fields of a request are complete."""
        exchange.began = time.monotonic()
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
        if self._skips is not None and self._skips(request.target):
            return
        source = request.forwarded if connection.trusts_proxy else connection
        self._write(
            AccessRecord(
                source.client,
                request.method,
                request.sent_target,
                request.version,
                exchange.status,
                exchange.sent,
                time.monotonic() - exchange.began,
                request.headers,
                exchange.sent_head or b"",
                source.scheme,
                time.time(),
                end,
                None if self._request_ids is None else self._request_ids.of(request),
            )
        )

    def refused(self, connection: Peer, at_fault: Exchange | Request | None, refused: Refused) -> None:
        """The server has answered a request without the application."""
        if at_fault is None or isinstance(at_fault, Request):
            request, took = at_fault or Request("", b"", b"", "", []), 0.0
            source: Any = connection
        else:
            request, took = at_fault.request, time.monotonic() - at_fault.began
            source = request.forwarded if connection.trusts_proxy else connection
        if self._skips is not None and self._skips(request.target):
            return
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


def skips(paths: Sequence[str]) -> Skips | None:
    """Return a function that finds these paths, which are as in `HttpSettings.access_log_skip`; None if there are none.

    Paths are compared as clients send them: not decoded, without the query.
    """
    exact = frozenset(path.encode("latin-1") for path in paths if not path.endswith("/"))
    prefixes = tuple(path.encode("latin-1") for path in paths if path.endswith("/"))
    if not paths:
        return None

    def is_skipped(target: bytes) -> bool:
        path = target.partition(b"?")[0]
        return path in exact or path.startswith(prefixes)

    return is_skipped
