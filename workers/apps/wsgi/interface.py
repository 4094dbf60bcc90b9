"""A WSGI application as the worker sees it: its requests, where they run, and the wait for their end."""

from __future__ import annotations

import functools
import sys
from typing import Any

from hybrid.workers.apps.web import Web, server_of
from hybrid.workers.apps.wsgi import call, socket
from hybrid.workers.apps.wsgi.file import FileWrapper
from hybrid.workers.apps.wsgi.input import EMPTY, Nowhere
from hybrid.workers.apps.wsgi.runners import GreenletRunner, Runner, ThreadRunner
from hybrid.workers.apps.wsgi.socket import MOST, SocketService
from hybrid.workers.common.connections import Connections
from hybrid.workers.http.exchange import Peer
from hybrid.workers.http.settings import HttpSettings
from hybrid.workers.runtime import Runtime

THREADS = 8  # of the pool for WSGI where requests run in threads and --threads is not given
_GREEN_LOOPS = frozenset({"select", "poll", "epoll", "gevent"})  # where a WSGI request can wait in a greenlet
_MOST_FACTS = 64  # addresses of ours whose part of the environ is kept


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
        self.site = self._new_site(functools.partial(call.answer, self), functools.partial(socket.answer, self.sockets))

    def _socket_service(self) -> SocketService:
        runner, most = self.runner, None
        if self._runtime.name != "gevent" and runner.concurrent:  # --threads 1: no two requests at once
            runner, most = ThreadRunner(self._runtime.loop, MOST, spare=0), MOST
        return SocketService(self.application, self.facts, runner, most)

    def facts(self, connection: Peer) -> dict[str, Any]:
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
        for connection in self.served():
            connection.interrupt_upgraded()

    def end(self) -> None:
        """Kill the greenlets; threads find their client gone."""
        for runner in self._runners:
            for request in list(runner.running):
                runner.stop(request)

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
