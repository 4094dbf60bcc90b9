"""The part shared by WSGI and ASGI applications: accepting connections, start-up and the steps of a stop."""

from __future__ import annotations

import heapq
import logging
import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from hybrid.workers import identity
from hybrid.workers.accepting import tls
from hybrid.workers.apps.adapter import Adapter
from hybrid.workers.apps.preambles import PendingPreambles
from hybrid.workers.common.addresses import unmapped
from hybrid.workers.common.connections import Connection, Connections
from hybrid.workers.common.requests import RequestInProgress
from hybrid.workers.http.clock import NEVER
from hybrid.workers.http.context import HttpContext, address_of
from hybrid.workers.http.exchange import Exchange, Peer, Served
from hybrid.workers.http.h1.connection import HttpConnection
from hybrid.workers.http.proxy_protocol import Preamble
from hybrid.workers.http.request_ids import RequestIds
from hybrid.workers.http.settings import HttpSettings
from hybrid.workers.http.wires import wire_of
from hybrid.workers.runtime import Accepted, Runtime

if TYPE_CHECKING:
    from hybrid.workers.http.access.log import AccessLog

_log = logging.getLogger("hybrid")


class Web(Adapter):
    """The base of the two interfaces: connections, TLS, the drain."""

    context: HttpContext
    steps_tasks = True
    """See `Transports.opener`."""

    def __init__(self, runtime: Runtime, connections: Connections, settings: HttpSettings) -> None:
        self._runtime = runtime
        self._open_transport = runtime.opener(self.steps_tasks)
        self._connections = connections
        self._settings = settings
        wire = wire_of(settings)
        self._protocol = wire.protocol
        self._tls = None if settings.tls is None else tls.server_context(settings.tls, wire.alpn)
        self._tls_timeout = settings.limits.tls_handshake_timeout or 86_400.0
        self._scheme = "http" if self._tls is None else "https"
        self._names: dict[int, Any] = {}  # descriptor of a listener -> the address of its connections, if known
        self._access_log: AccessLog | None = None
        limits = settings.limits
        self._preambles: PendingPreambles | None = None
        if settings.proxy_protocol:
            self._preambles = PendingPreambles(runtime.loop, limits.header_timeout, self._trusts, self._preamble_came)

    def _new_context(
        self, answer: Callable[[Exchange], None], answer_websocket: Callable[[Exchange], None] | None
    ) -> HttpContext:
        """Return the context of an interface that calls its application through these two."""
        told = (self._connections.heartbeat, self._connections.incidents)
        ids = None
        if self._settings.request_id_header is not None:
            ids = RequestIds(self._settings.request_id_header)
            answer = ids.before(answer)
            answer_websocket = None if answer_websocket is None else ids.before(answer_websocket)
        context = HttpContext(self._runtime.loop, self._settings, answer, answer_websocket, *told)
        context.request_ids = ids
        if self._settings.access_log is not None:
            self._open_access_log(context, self._settings.access_log)
        return context

    def _open_access_log(self, context: HttpContext, form: str) -> None:
        from hybrid.workers.http.access.events import AccessEvents, skips
        from hybrid.workers.http.access.log import AccessLog

        me, connections = identity.current(), self._connections
        labels = {"service": me.service, "slot": me.slot, "generation": me.generation}
        self._access_log = AccessLog(form, labels, self._settings.access_fd)
        context.access_events = AccessEvents(
            self._access_log.write,
            lambda: connections.ending,
            self._access_log.wants_heads,
            context.request_ids,
            skips(self._settings.access_log_skip),
        )

    def connected(self, accepted: Accepted) -> None:
        """Serve a connection. Called from the loop."""
        entry = self._connections.add(accepted.address)
        if self._preambles is not None:
            self._preambles.receive(accepted, entry)
        else:
            self._open(accepted, entry, self._server(accepted))

    def _open(self, accepted: Accepted, entry: Connection, server: tuple[str, int | None] | None) -> None:
        """Speak HTTP from now on."""
        protocol = HttpConnection(self.context)
        protocol.client = address_of(accepted.address)
        protocol.server = server
        protocol.scheme = self._scheme
        proxies = self.context.proxies
        if proxies is not None:
            protocol.trusts_proxy = proxies.trusts(protocol.client[0] if protocol.client else None)
        try:
            entry.end = self._open_transport(
                self._protocol(protocol), accepted, entry.closed, self._tls, self._tls_timeout
            )
        except BaseException:
            entry.closed()
            raise

    def _trusts(self, accepted: Accepted) -> bool:
        """Return True if a peer is a trusted proxy, or if no proxies are configured."""
        proxies, peer = self.context.proxies, address_of(accepted.address)
        return proxies is None or proxies.trusts(peer[0] if peer else None)

    def _preamble_came(self, accepted: Accepted, entry: Connection, preamble: Preamble) -> None:
        """Open the connection: its PROXY header is complete."""
        self._open(accepted, entry, preamble.server or self._server(accepted))

    def _server(self, accepted: Accepted) -> tuple[str, int | None] | None:
        """Return the address that the connection came to; None if only the connection itself knows."""
        listener = accepted.listener
        try:
            return self._names[listener.fileno()]  # type: ignore[no-any-return]
        except KeyError:
            name = listener.getsockname()
            known: tuple[str, int | None] | None
            known = (name[0], name[1]) if isinstance(name, tuple) else (os.fsdecode(name), None)
            if known[0] in ("0.0.0.0", "::", ""):
                known = None
            self._names[listener.fileno()] = known
            return known

    def served(self) -> Sequence[Served]:
        """Return the open connections."""
        return self.context.connections()

    def in_progress(self) -> Sequence[RequestInProgress]:
        """Return the requests in progress, also those whose client is gone if their application is known to run."""
        ids = self.context.request_ids
        return [
            RequestInProgress(
                one.request.method,
                one.request.target,
                getattr(one, "began", None),
                None if ids is None else ids.of(one.request),
            )
            for one in self._exchanges()
        ]

    def _exchanges(self) -> Iterable[Exchange]:
        return self.context.in_progress()

    def drain(self) -> None:
        """Send `Connection: close` with further responses; end responses that never end by themselves."""
        self.context.draining = True
        if self._preambles is not None:
            self._preambles.drain(self._settings.limits.keep_alive_timeout)
        for connection in self.served():
            try:
                connection.drain()
            except Exception:  # noqa: BLE001 - logged; one connection must not keep the others from draining
                _log.exception("draining a connection failed")

    def move(self, due: Callable[[int], int]) -> int:
        """Have clients leave with their next response, the most recently active ones first: idle ones cost nothing."""
        connections = self.served()
        number = due(sum(one.is_leaving for one in connections))
        chosen = heapq.nlargest(number, (one for one in connections if one.may_leave), key=_recency)
        for one in chosen:
            one.leave()
        return len(chosen)

    def close_idle(self, *, at_once: bool) -> None:
        """Close connections that wait for a request, after a moment for requests that are on their way."""
        delay = self._settings.limits.idle_close_delay
        self.context.idle_close_delay = delay
        if at_once:
            self._interrupt_preambles()
            self._close_idle_now()
        elif delay:
            if self._preambles is not None:
                self._preambles.drain(delay)
            self._runtime.loop.call_later(delay, self._close_idle_now)

    def _close_idle_now(self) -> None:
        for connection in self.served():
            connection.close_idle()

    def interrupt(self) -> None:
        """Tell the applications that their clients are gone."""
        self._interrupt_preambles()
        for connection in self.served():
            connection.interrupt()

    def _interrupt_preambles(self) -> None:
        if self._preambles is not None:
            self._preambles.interrupt()

    async def shut_down(self, timeout: float) -> None:
        """Close the access log. Call last."""
        if self._access_log is not None:
            self._access_log.close()


def _recency(connection: Served) -> float:
    """Return a higher figure for a client that has asked later; the lowest for one whose request is in progress."""
    return -math.inf if connection.deadline == NEVER else connection.deadline


def server_of(connection: Peer) -> tuple[str, int | None]:
    """Return the host and port that the client connected to; for a UNIX socket its path and None."""
    if connection.server is not None:
        return connection.server
    name = connection.get_extra_info("sockname")
    return unmapped(name)[:2] if isinstance(name, tuple) else (os.fsdecode(name or b""), None)
