"""WSGI and ASGI applications as the worker sees them: connections go in, the start and the end are told."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hybrid.workers import identity
from hybrid.workers.accepting import tls
from hybrid.workers.apps.adapter import Adapter
from hybrid.workers.apps.greetings import Greetings
from hybrid.workers.common.addresses import unmapped
from hybrid.workers.common.connections import Connection, Connections
from hybrid.workers.http.exchange import Exchange, Peer, Served
from hybrid.workers.http.h1.connection import HttpConnection
from hybrid.workers.http.proxy_protocol import Preamble
from hybrid.workers.http.settings import HttpSettings
from hybrid.workers.http.site import Site, address_of
from hybrid.workers.runtime import Accepted, Runtime

if TYPE_CHECKING:
    from hybrid.workers.http.access.log import AccessLog

_log = logging.getLogger("hybrid")


class Web(Adapter):
    """What the two interfaces share: connections, TLS, the drain."""

    site: Site
    steps_tasks = True
    """See `Transports.opener`."""

    def __init__(self, runtime: Runtime, connections: Connections, settings: HttpSettings) -> None:
        self._runtime = runtime
        self._open_transport = runtime.opener(self.steps_tasks)
        self._connections = connections
        self._settings = settings
        self._tls = None if settings.tls is None else tls.server_context(settings.tls)
        self._names: dict[int, Any] = {}  # descriptor of a listener -> the address its connections have, if known
        self._access_log: AccessLog | None = None
        limits = settings.limits
        self._greetings: Greetings | None = None
        if settings.proxy_protocol:
            self._greetings = Greetings(runtime.loop, limits.header_timeout, self._trusts, self._greeted)

    def _new_site(
        self, answer: Callable[[Exchange], None], answer_websocket: Callable[[Exchange], None] | None
    ) -> Site:
        """Return the site of an interface that calls its application by these two."""
        told = (self._connections.heartbeat, self._connections.incidents)
        site = Site(self._runtime.loop, self._settings, answer, answer_websocket, *told)
        if self._settings.access_log is not None:
            self._open_access_log(site, self._settings.access_log)
        return site

    def _open_access_log(self, site: Site, form: str) -> None:
        from hybrid.workers.http.access.journal import Journal
        from hybrid.workers.http.access.log import AccessLog

        me, connections = identity.current(), self._connections
        labels = {"service": me.service, "slot": me.slot, "generation": me.generation}
        self._access_log = AccessLog(form, labels)
        site.journal = Journal(self._access_log.write, lambda: connections.ending, self._access_log.wants_heads)

    def connected(self, accepted: Accepted) -> None:
        """Serve a connection. Called from the loop."""
        entry = self._connections.add(accepted.address)
        if self._greetings is not None:
            self._greetings.receive(accepted, entry)
        else:
            self._open(accepted, entry, self._server(accepted))

    def _open(self, accepted: Accepted, entry: Connection, server: tuple[str, int | None] | None) -> None:
        """Speak HTTP from now on."""
        protocol = HttpConnection(self.site)
        protocol.client = address_of(accepted.address)
        protocol.server = server
        protocol.scheme = "http" if self._tls is None else "https"
        proxies = self.site.proxies
        if proxies is not None:
            protocol.believes = proxies.trusts(protocol.client[0] if protocol.client else None)
        timeout = self._settings.limits.tls_handshake_timeout or 86_400.0
        try:
            entry.end = self._open_transport(protocol, accepted, entry.closed, self._tls, timeout)
        except BaseException:
            entry.closed()
            raise

    def _trusts(self, accepted: Accepted) -> bool:
        """Whether a peer's word about who its client is counts, as far as anybody was named."""
        proxies, peer = self.site.proxies, address_of(accepted.address)
        return proxies is None or proxies.trusts(peer[0] if peer else None)

    def _greeted(self, accepted: Accepted, entry: Connection, preamble: Preamble) -> None:
        """The PROXY header has come."""
        self._open(accepted, entry, preamble.server or self._server(accepted))

    def _server(self, accepted: Accepted) -> tuple[str, int | None] | None:
        """The address the connection came to; None where only the connection itself knows."""
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
        """Return the connections that are open."""
        return self.site.connections()

    def drain(self) -> None:
        """Answer what is asked, with `Connection: close`; end what has no end of its own."""
        self.site.draining = True
        if self._greetings is not None:
            self._greetings.drain(self._settings.limits.keep_alive_timeout)
        for connection in self.served():
            connection.drain()

    def close_idle(self, *, at_once: bool) -> None:
        """Close connections that wait for a request, after a moment in which one that is on its way arrives."""
        delay = self._settings.limits.idle_close_delay
        self.site.idle_close_delay = delay
        if at_once:
            self._interrupt_greetings()
            self._close_idle_now()
        elif delay:
            if self._greetings is not None:
                self._greetings.drain(delay)
            self._runtime.loop.call_later(delay, self._close_idle_now)

    def _close_idle_now(self) -> None:
        for connection in self.served():
            connection.close_idle()

    def interrupt(self) -> None:
        """Tell the applications that their clients are gone."""
        self._interrupt_greetings()
        for connection in self.served():
            connection.interrupt()

    def _interrupt_greetings(self) -> None:
        if self._greetings is not None:
            self._greetings.interrupt()

    async def shut_down(self, timeout: float) -> None:
        """Close the access log. To be called last."""
        if self._access_log is not None:
            self._access_log.close()


def server_of(connection: Peer) -> tuple[str, int | None]:
    """Return host and port that the client has connected to; for a UNIX socket its path and None."""
    if connection.server is not None:
        return connection.server
    name = connection.get_extra_info("sockname")
    return unmapped(name)[:2] if isinstance(name, tuple) else (os.fsdecode(name or b""), None)
