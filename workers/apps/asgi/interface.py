"""An ASGI application in a worker: its requests, its lifespan, and the wait for its end."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

from hybrid.workers.accepting import tls
from hybrid.workers.apps import request_ids
from hybrid.workers.apps.asgi import call, websocket
from hybrid.workers.apps.asgi.call import EXTENSIONS, PATHSEND, SPEC_VERSION
from hybrid.workers.apps.asgi.lifespan import Lifespan
from hybrid.workers.apps.web import Web, server_of
from hybrid.workers.common.connections import Connections
from hybrid.workers.http.exchange import Peer
from hybrid.workers.http.settings import HttpSettings
from hybrid.workers.runtime import Runtime
from hybrid.workers.streams.drained import drained
from hybrid.workers.tasks.request_tasks import RequestTasks

if TYPE_CHECKING:
    from hybrid.workers.common.accounting import Accounting


class Asgi(Web):
    """An ASGI application."""

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
            self.application = request_ids.asgi(application, settings.request_id_header)
        self.loop = runtime.loop
        self.root_path = settings.root_path
        self.state: dict[str, Any] | None = None
        self.ending = False
        """True while running requests are being cancelled."""
        self.accounting = accounting
        self.tasks = self._request_tasks()
        self.sent = drained(runtime.loop)
        """The awaitable returned by `send` if there is nothing to wait for."""
        self.context = self._new_context(
            functools.partial(call.answer, self, self._calls()),
            functools.partial(websocket.answer, self, self._websocket_calls()),
        )
        self._lifespan = Lifespan(application, settings.lifespan)
        self._facts = self._shared_facts()
        self._working: set[asyncio.Task[None]] = set()  # tasks of requests that wait for something

    def _request_tasks(self) -> RequestTasks:
        loop, accounting = self.loop, self.accounting
        if accounting is None:
            return RequestTasks(loop)

        def factory_of_the_application() -> object:
            factory = loop.get_task_factory()
            return None if accounting.is_own_factory(factory) else factory

        return RequestTasks(loop, factory_of_the_application)

    def _calls(self) -> type[call.AsgiCall]:
        if self.accounting is None:
            return call.AsgiCall
        from hybrid.workers.apps.asgi.accounted import AccountedCall  # with --accounting only

        return AccountedCall

    def _websocket_calls(self) -> type[websocket.WebSocketCall]:
        if self.accounting is None:
            return websocket.WebSocketCall
        from hybrid.workers.apps.asgi.accounted import AccountedWebSocketCall

        return AccountedWebSocketCall

    async def start_up(self) -> None:
        """Run the application's start-up."""
        await self._lifespan.start_up()
        self.state = self._lifespan.state

    def facts(self, connection: Peer) -> dict[str, Any]:
        """Return the scope shared by a connection's requests; each request fills in its own values.

        The dicts in it are shared by all connections: a request gets copies.
        """
        facts = self._facts.copy()
        facts["scheme"] = connection.scheme
        facts["client"] = connection.client
        facts["server"] = connection.server or server_of(connection)
        if connection.scheme == "https":
            ssl_object = connection.get_extra_info("ssl_object")
            if ssl_object is not None:
                facts["extensions"] = {**facts["extensions"], "tls": tls.peer_certificate_facts(ssl_object)}
        return facts

    def _shared_facts(self) -> dict[str, Any]:
        """Return the scope shared by all connections without TLS, but for their addresses."""
        offered = (*EXTENSIONS, PATHSEND) if self._settings.pathsend else EXTENSIONS
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": SPEC_VERSION},
            "http_version": "1.1",
            "scheme": "http",  # this, client and server are set for each connection
            "path": "",  # from here on, set by each request
            "raw_path": b"",
            "query_string": b"",
            "root_path": self.root_path,
            "headers": [],
            "client": None,
            "server": None,
            "extensions": {name: {} for name in offered},
        }

    def works(self, task: asyncio.Task[None]) -> None:
        """Track the task of a request that waits for something, until it ends."""
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    def end(self) -> None:
        """Cancel running requests."""
        self.ending = True
        for task in list(self._working):
            task.cancel()

    async def wait_idle(self, timeout: float) -> bool:
        """Wait for applications that continue after their response, such as background tasks."""
        if not self._working:
            return True
        await asyncio.wait(self._working, timeout=max(timeout, 0))
        return not self._working

    async def shut_down(self, timeout: float) -> None:
        """Run the application's shutdown."""
        await self._lifespan.shut_down(timeout)
        self.tasks.close()
        await super().shut_down(timeout)
