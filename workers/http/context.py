"""State shared by all HTTP connections of a worker: limits in the form the hot path wants, the clock, the interface."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from hybrid.workers.common.fairness import turn_of
from hybrid.workers.common.heartbeat import Heartbeat
from hybrid.workers.common.incidents import Incidents
from hybrid.workers.http.clock import NEVER, Clock
from hybrid.workers.http.exchange import Refused
from hybrid.workers.http.h1.rules import Rules
from hybrid.workers.http.settings import HttpSettings, Limits

if TYPE_CHECKING:
    from hybrid.workers.http.access.events import AccessEvents
    from hybrid.workers.http.exchange import Exchange, Request
    from hybrid.workers.http.forwarded import Proxies
    from hybrid.workers.http.h1.connection import HttpConnection
    from hybrid.workers.http.h2.connection import Http2Connection
    from hybrid.workers.http.request_ids import RequestIds

    Wire: TypeAlias = HttpConnection | Http2Connection

_log = logging.getLogger("hybrid")


class HttpContext:
    """One per worker. `answer` calls the application; `answer_websocket` does so for WebSockets, if supported.

    Both get an `Exchange`, set its listener, and raise nothing.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: HttpSettings,
        answer: Callable[[Exchange], None],
        answer_websocket: Callable[[Exchange], None] | None = None,
        heartbeat: Heartbeat | None = None,
        incidents: Incidents | None = None,
    ) -> None:
        limits = settings.limits
        self.heartbeat = heartbeat or Heartbeat()
        """Counts requests."""
        self.counts = self.heartbeat.counts
        """Counts responses and bytes. The wires tell it: see `Exchange.began`."""
        self.counts.soon = loop.call_soon
        self.heartbeat.gauges = self._gauges
        self.incidents = incidents or Incidents()
        """Rate-limits log lines that clients can trigger at will."""
        self.loop = loop
        self.settings = settings
        self.answer = answer
        self.answer_websocket = answer_websocket
        self.call_soon = loop.call_soon
        self.turn = turn_of(loop)
        self.rules = Rules(settings, offers_websocket=answer_websocket is not None)
        self.max_pipelined = limits.max_pipelined or NEVER
        self.min_body_rate = limits.min_body_rate
        self.header_timeout = limits.header_timeout or NEVER
        self.keep_alive_timeout = limits.keep_alive_timeout or NEVER
        self.send_timeout = limits.send_timeout or NEVER
        self.clock = Clock(loop, _shortest(limits), server=settings.server_header, date=settings.date_header)
        self.proxies = _proxies_of(settings)
        self.draining = False
        """True while the worker stops: each connection closes after its next response."""
        self.idle_close_delay = 0.0
        """Idle connections opened during a stop are closed after this many seconds; 0: they are kept."""
        self.active: set[Wire] = set()
        """The connections with bytes that are not counted yet, or with requests in progress at the last count.

        Also HTTP/2 connections with open WebSockets.
        """
        self.taken_over: set[Wire] = set()
        """The open connections that another protocol has taken over as a whole (status 101)."""
        self.multiplexed: set[Http2Connection] = set()
        """The open connections with any number of requests at a time."""
        self.request_ids: RequestIds | None = None
        """Gives ids to requests; None: they have none."""
        self.access_events: AccessEvents | None = None
        """Notified of requests and responses; None without an access log."""

    def header_deadline(self) -> float:
        """Return the deadline for the header fields of a request that begins now."""
        return self.clock.now + self.header_timeout

    def apply_forwarded(self, connection: Wire, request: Request) -> None:
        """Apply the header fields of a trusted proxy to a request. Raises `Refused` if they cannot be parsed."""
        assert self.proxies is not None
        headers = request.headers
        forwarded = self.proxies.resolve(connection.client, connection.scheme, None, headers)
        if forwarded.error is not None:
            raise Refused(400, forwarded.error)
        if forwarded.host is not None:
            request.headers = [(b"host", forwarded.host), *(item for item in headers if item[0] != b"host")]
        request.forwarded = forwarded

    def opened(self, connection: Wire) -> None:
        """Register a new connection: start the clock if it stood still, then set the first deadline."""
        clock = self.clock
        clock.watch(connection)
        connection.deadline = clock.now + self.header_timeout
        if self.draining:
            connection.drain()
            if self.idle_close_delay:
                self.loop.call_later(self.idle_close_delay, connection.close_idle)

    def closed(self, connection: Wire) -> None:
        """Unregister a connection that has ended."""
        self.clock.forget(connection)
        self.count_bytes(connection)
        self.active.discard(connection)
        self.taken_over.discard(connection)

    def count_bytes(self, connection: Wire) -> None:
        """Count the bytes of a connection since the last time: at its end, and at each ping."""
        counts = self.counts
        if connection.bytes_in:
            counts.received(connection.bytes_in)
            connection.bytes_in = 0
        if connection.bytes_out:
            counts.sent(connection.bytes_out)
            connection.bytes_out = 0

    def in_progress(self) -> list[Exchange]:
        """Return the exchanges that their applications answer now."""
        found: list[Exchange] = [current for one in self.connections() if (current := one.current) is not None]
        for other in self.multiplexed:
            found += other.in_progress()
        return found

    def connections(self) -> list[Wire]:
        """Return the open connections."""
        return list(cast("set[Wire]", self.clock.watched))

    def _gauges(self) -> tuple[int, int]:
        """Return the requests in progress and the open WebSockets, and count bytes.

        Idle connections cost nothing: a look at each of 15,000 took a worker 50 ms of every second.
        """
        in_flight, websockets = 0, len(self.taken_over)
        active = self.active
        for connection in list(active):
            self.count_bytes(connection)
            requests, sessions = (0, 0) if connection in self.taken_over else connection.activity()
            if requests or sessions:
                in_flight += requests
                websockets += sessions
            else:
                active.remove(connection)
        return in_flight, websockets

    @staticmethod
    def refused(connection: Wire, refused: Refused) -> None:
        """Log a refused request at DEBUG: the application never sees it."""
        _log.debug("refused a request from %s with %d: %s", connection.client, refused.status, refused.reason)


def _shortest(limits: Limits) -> float:
    """Return the shortest time limit of a connection, in seconds. It determines the resolution of the clock."""
    times = (
        limits.header_timeout,
        limits.keep_alive_timeout,
        limits.send_timeout,
        limits.websocket_ping_interval,
        limits.websocket_ping_timeout,
    )
    return min((time for time in times if time), default=NEVER)


def _proxies_of(settings: HttpSettings) -> Proxies | None:
    """Return the trusted proxies; None if there are none."""
    if not settings.forwarded_allow_ips:
        return None
    from hybrid.workers.http.forwarded import Proxies

    return Proxies(settings.forwarded_allow_ips, settings.forwarded_headers, trusts_host=settings.forwarded_host)


def address_of(value: Any) -> tuple[str, int] | None:
    """Return the host and port of a TCP address, without IPv6 scope and flow; None for a UNIX socket."""
    return (value[0], value[1]) if isinstance(value, tuple) else None
