"""WSGI and ASGI applications as the worker sees them: connections go in, the start and the end are told."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from hybrid.workers import identity
from hybrid.workers.accepting import tls
from hybrid.workers.common.addresses import unmapped
from hybrid.workers.common.connections import Connection, Connections
from hybrid.workers.http.connection import HttpConnection
from hybrid.workers.http.exchange import Exchange
from hybrid.workers.http.proxy_protocol import Preamble
from hybrid.workers.http.settings import HttpSettings
from hybrid.workers.http.site import Site, address_of
from hybrid.workers.hub.connection import drained
from hybrid.workers.interfaces.adapter import Adapter
from hybrid.workers.interfaces.asgi import EXTENSIONS, PATHSEND, SPEC_VERSION, AsgiExchange
from hybrid.workers.interfaces.greetings import Greetings
from hybrid.workers.interfaces.lifespan import Lifespan
from hybrid.workers.interfaces.runners import GreenletRunner, Runner, ThreadRunner
from hybrid.workers.interfaces.wsgi import WsgiExchange
from hybrid.workers.interfaces.wsgi_file import FileWrapper
from hybrid.workers.interfaces.wsgi_input import EMPTY, Nowhere
from hybrid.workers.interfaces.wsgi_socket import MOST, SocketExchange, SocketService
from hybrid.workers.runtime import Accepted, Runtime
from hybrid.workers.tasks.request_tasks import RequestTasks

if TYPE_CHECKING:
    from hybrid.workers.http.access import AccessLog

THREADS = 8  # of the pool for WSGI where requests run in threads and --threads is not given
_GREEN_LOOPS = frozenset({"select", "poll", "epoll", "gevent"})  # where a WSGI request can wait in a greenlet
_MOST_FACTS = 64  # addresses of ours whose part of the environ is kept
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

    def _new_site(self, exchange: type[Exchange], websocket: type[Exchange] | None = None) -> Site:
        """Return the site of an interface with these exchanges; with an access log they are of a kind that tells it."""
        form = self._settings.access_log
        if form is not None:
            from hybrid.workers.interfaces import logged

            exchange, websocket = logged.LOGGED[exchange], websocket and logged.LOGGED[websocket]
        told = (self._connections.heartbeat, self._connections.incidents)
        site = Site(self._runtime.loop, self._settings, exchange, websocket, self, *told)
        if form is not None:
            self._open_access_log(site, form)
        return site

    def _open_access_log(self, site: Site, form: str) -> None:
        from hybrid.workers.http.access import AccessLog
        from hybrid.workers.http.access_journal import Journal

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

    def drain(self) -> None:
        """Answer what is asked, with `Connection: close`; end what has no end of its own."""
        self.site.draining = True
        if self._greetings is not None:
            self._greetings.drain(self._settings.limits.keep_alive_timeout)
        for connection in self.site.connections():
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
        for connection in self.site.connections():
            connection.close_idle()

    def interrupt(self) -> None:
        """Tell the applications that their clients are gone."""
        self._interrupt_greetings()
        for connection in self.site.connections():
            connection.interrupt()

    def _interrupt_greetings(self) -> None:
        if self._greetings is not None:
            self._greetings.interrupt()

    async def shut_down(self, timeout: float) -> None:
        """Close the access log. To be called last."""
        if self._access_log is not None:
            self._access_log.close()


def server_of(connection: HttpConnection) -> tuple[str, int | None]:
    """Return host and port that the client has connected to; for a UNIX socket its path and None."""
    if connection.server is not None:
        return connection.server
    name = connection.transport.get_extra_info("sockname")
    return unmapped(name)[:2] if isinstance(name, tuple) else (os.fsdecode(name or b""), None)


class Asgi(Web):
    """An ASGI application."""

    def __init__(self, application: Any, runtime: Runtime, connections: Connections, settings: HttpSettings) -> None:
        super().__init__(runtime, connections, settings)
        from hybrid.workers.interfaces.asgi_websocket import WebSocketExchange

        self.application = application
        self.root_path = settings.root_path
        self.state: dict[str, Any] | None = None
        self.ending = False
        """Whether what runs is being cancelled."""
        self.tasks = RequestTasks(runtime.loop)
        self.sent = drained(runtime.loop)
        """The awaitable that `send` returns if there is nothing to wait for."""
        self.site = self._new_site(AsgiExchange, WebSocketExchange)
        self._lifespan = Lifespan(application, settings.lifespan)
        self._working: set[asyncio.Task[None]] = set()  # requests that wait for something

    async def start_up(self) -> None:
        """Run the application's start-up."""
        await self._lifespan.start_up()
        self.state = self._lifespan.state

    def facts(self, connection: HttpConnection) -> dict[str, Any]:
        """Return the scope of a connection's requests, with room for what each of them has of its own."""
        offered = (*EXTENSIONS, PATHSEND) if self._settings.pathsend else EXTENSIONS
        extensions: dict[str, Any] = {name: {} for name in offered}
        ssl_object = connection.transport.get_extra_info("ssl_object")
        if ssl_object is not None:
            extensions["tls"] = tls.peer_certificate_facts(ssl_object)
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": SPEC_VERSION},
            "http_version": "1.1",
            "scheme": connection.scheme,
            "path": "",  # from here on each request puts in its own
            "raw_path": b"",
            "query_string": b"",
            "root_path": self.root_path,
            "headers": [],
            "client": connection.client,
            "server": server_of(connection),
            "extensions": extensions,
        }

    def works(self, task: asyncio.Task[None]) -> None:
        """A request waits for something: its task counts until it ends."""
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    def end(self) -> None:
        """Cancel what runs."""
        self.ending = True
        for task in list(self._working):
            task.cancel()

    async def wait_idle(self, timeout: float) -> bool:
        """Wait for requests whose answer is out and whose application goes on, such as background tasks."""
        if not self._working:
            return True
        await asyncio.wait(self._working, timeout=max(timeout, 0))
        return not self._working

    async def shut_down(self, timeout: float) -> None:
        """Run the application's shutdown."""
        await self._lifespan.shut_down(timeout)
        self.tasks.close()
        await super().shut_down(timeout)


class Wsgi(Web):
    """A WSGI application."""

    steps_tasks = False

    def __init__(self, application: Any, runtime: Runtime, connections: Connections, settings: HttpSettings) -> None:
        super().__init__(runtime, connections, settings)
        self.application = application
        threads = settings.threads
        if threads is None:
            threads = 0 if runtime.name in _GREEN_LOOPS else THREADS
        self.runner: Runner = ThreadRunner(runtime.loop, threads) if threads else GreenletRunner(runtime)
        self.is_direct: bool = self.runner.is_direct
        self._facts: dict[tuple[Any, str], dict[str, Any]] = {}  # (server, scheme) -> what `_facts_of` makes of it
        self._errors = Nowhere() if sys.stderr is None else sys.stderr  # None: closed at the worker's start
        self.sockets = self._socket_service()
        """What runs the requests for WebSockets."""
        self._runners = list(dict.fromkeys((self.runner, self.sockets.runner)))
        self.site = self._new_site(WsgiExchange, SocketExchange)

    def _socket_service(self) -> SocketService:
        runner, most = self.runner, None
        if self._runtime.name != "gevent" and runner.concurrent:  # --threads 1: no two requests at once
            runner, most = ThreadRunner(self._runtime.loop, MOST, spare=0), MOST
        return SocketService(self.application, self.facts, runner, most)

    def facts(self, connection: HttpConnection) -> dict[str, Any]:
        """Return what is the same in the environ of all requests of a connection."""
        place = (connection.server or server_of(connection), connection.scheme)
        known = self._facts.get(place)
        if known is None:
            if len(self._facts) >= _MOST_FACTS:  # a PROXY header can name any address
                self._facts.clear()
            known = self._facts[place] = self._facts_of(*place)
        facts = known.copy()
        client = connection.client
        if client is not None:
            facts["REMOTE_ADDR"] = client[0]
            facts["REMOTE_PORT"] = str(client[1])
        return facts

    def _facts_of(self, server: tuple[str, int | None], scheme: str) -> dict[str, Any]:
        """Return what is the same for all connections to an address of ours."""
        host, port = server
        if port is None:  # a UNIX socket
            host, port = "localhost", 443 if scheme == "https" else 80
        return {
            "SCRIPT_NAME": self._settings.root_path,
            "SERVER_NAME": host,
            "SERVER_PORT": str(port),
            "SERVER_SOFTWARE": "hybrid",
            "REMOTE_ADDR": "",
            "REMOTE_PORT": "",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.input": EMPTY,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": scheme,
            "wsgi.errors": self._errors,
            "wsgi.multithread": self.runner.concurrent,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
            "wsgi.input_terminated": True,
        }

    def interrupt(self) -> None:
        """Tell those that have taken over their connection; other requests of WSGI cannot be told."""
        self._interrupt_greetings()
        for connection in self.site.connections():
            current = connection.current
            if current is not None and current.is_websocket and current.started:
                current.interrupt()

    def end(self) -> None:
        """Kill the greenlets; threads find their client gone."""
        for runner in self._runners:
            for exchange in list(runner.running):
                runner.stop(exchange)

    async def wait_idle(self, timeout: float) -> bool:
        """Wait for applications that go on behind their answer."""
        ends = self._runtime.loop.time() + timeout
        idle = [await runner.wait_idle(ends - self._runtime.loop.time()) for runner in self._runners]
        return all(idle)

    async def shut_down(self, timeout: float) -> None:
        """Let the threads end."""
        for runner in self._runners:
            runner.close()
        await super().shut_down(timeout)


INTERFACES = {"wsgi": Wsgi, "asgi": Asgi}
