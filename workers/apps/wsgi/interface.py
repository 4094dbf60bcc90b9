"""A WSGI application in a worker: its requests, where they run, and the wait for their end."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hybrid.workers.apps import request_ids
from hybrid.workers.apps.web import Web, server_of
from hybrid.workers.apps.wsgi import call, socket
from hybrid.workers.apps.wsgi.file import FileWrapper
from hybrid.workers.apps.wsgi.input import EMPTY, Nowhere
from hybrid.workers.apps.wsgi.runners import GreenletRunner, Runner, ThreadRunner
from hybrid.workers.apps.wsgi.socket import MOST, SocketService
from hybrid.workers.common.connections import Connections
from hybrid.workers.http.exchange import Exchange, Peer
from hybrid.workers.http.settings import HttpSettings
from hybrid.workers.runtime import Runtime

if TYPE_CHECKING:
    from hybrid.workers.common.accounting import Accounting

THREADS = 8  # size of the thread pool, where requests run in threads and --threads is not given
_GREEN_LOOPS = frozenset({"select", "poll", "epoll", "gevent"})  # loops on which a WSGI request can wait in a greenlet
_MOST_FACTS = 64  # addresses of ours whose part of the environ is cached


class Wsgi(Web):
    """A WSGI application."""

    steps_tasks = False

    def __init__(
        self,
        application: Any,
        runtime: Runtime,
        connections: Connections,
        settings: HttpSettings,
        accounting: Accounting | None = None,
    ) -> None:
        """`accounting`: what the requests cost is counted there; None: nowhere."""
        super().__init__(runtime, connections, settings)
        self.application = application
        if settings.request_id_header is not None:
            self.application = request_ids.wsgi(application, settings.request_id_header)
        threads = settings.threads
        if threads is None:
            threads = 0 if runtime.name in _GREEN_LOOPS else THREADS
        self.runner: Runner = ThreadRunner(runtime.loop, threads) if threads else GreenletRunner(runtime)
        self.is_direct: bool = self.runner.is_direct
        self._facts: dict[tuple[Any, str], dict[str, Any]] = {}  # (server, scheme) -> the result of `_facts_of`
        self._errors = Nowhere() if sys.stderr is None else sys.stderr  # None: closed at the worker's start
        self.sockets = self._socket_service()
        """Runs the requests for WebSockets."""
        self._runners = list(dict.fromkeys((self.runner, self.sockets.runner)))
        self.accounting = accounting
        self.context = self._new_context(
            functools.partial(call.answer, self, self._calls()), functools.partial(socket.answer, self.sockets)
        )

    def _calls(self) -> type[call.WsgiCall]:
        if self.accounting is None:
            return call.WsgiCall
        from hybrid.workers.apps.wsgi.accounted import AccountedCall  # with --accounting only

        return AccountedCall

    def _socket_service(self) -> SocketService:
        runner, most = self.runner, None
        if self._runtime.name != "gevent" and runner.concurrent:  # --threads 1: no two requests at once
            runner, most = ThreadRunner(self._runtime.loop, MOST, spare=0), MOST
        return SocketService(self.application, self.facts, runner, most)

    def facts(self, connection: Peer) -> dict[str, Any]:
        """Return the part of the environ shared by all requests of a connection."""
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
        """Return the part of the environ shared by all connections to an address of ours."""
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
        """Notify requests that have taken over their connection; WSGI cannot notify others."""
        self._interrupt_preambles()
        for connection in self.served():
            connection.interrupt_upgraded()

    def end(self) -> None:
        """Kill the greenlets; threads see their client disconnected."""
        for runner in self._runners:
            for request in list(runner.running):
                runner.stop(request)

    def _exchanges(self) -> Iterable[Exchange]:
        running = [request.exchange for runner in self._runners for request in tuple(runner.running)]
        return dict.fromkeys((*super()._exchanges(), *running))

    async def wait_idle(self, timeout: float) -> bool:
        """Wait for applications that continue after their response."""
        ends = self._runtime.loop.time() + timeout
        idle = [await runner.wait_idle(ends - self._runtime.loop.time()) for runner in self._runners]
        return all(idle)

    async def shut_down(self, timeout: float) -> None:
        """Let the threads end."""
        for runner in self._runners:
            runner.close()
        await super().shut_down(timeout)
