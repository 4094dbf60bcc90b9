"""WebSockets for WSGI applications, by libraries that implement the protocol over the connection's socket.

simple-websocket (for Flask-SocketIO and flask-sock) looks for `werkzeug.socket` in the environ. WebSocket requests have
a socket there (see `bridge`). Once the application has sent something through it, its WSGI response is dropped, and the
connection closes when the application returns.

These libraries block: on sockets, on events, in threads of their own. So each such request gets a thread, where other
requests run in greenlets or in a pool; on gevent, which patches these primitives, it gets a greenlet.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Any

from hybrid.workers.apps.wsgi.bridge import Bridge
from hybrid.workers.apps.wsgi.call import ExcInfo, WsgiCall
from hybrid.workers.apps.wsgi.runners import Runner
from hybrid.workers.http.exchange import NO_BODY_CAME, Exchange, Stage
from hybrid.workers.http.head import UNKNOWN, status_of
from hybrid.workers.http.websocket.frames import Closed

KEY = "werkzeug.socket"
"""The environ key of the socket."""
MOST = 1000
"""Maximum number of WebSockets with threads per worker."""
LAST_WORDS = 0.1
"""Seconds for a library's thread to send after the application has returned."""
_TEXT = b"content-type: text/plain; charset=utf-8\r\n"
_log = logging.getLogger("hybrid")


class SocketService:
    """The `interface` of `SocketCall`: one per worker."""

    is_direct = False

    def __init__(
        self, application: Any, facts: Callable[[Any], dict[str, Any]], runner: Runner, most: int | None
    ) -> None:
        self.application = application
        self.facts = facts
        self.runner = runner
        self._most = most

    @property
    def is_full(self) -> bool:
        """True if no thread is left for another request."""
        return self._most is not None and len(self.runner.running) >= self._most


def answer(service: SocketService, exchange: Exchange) -> None:
    """Have the runner call the application. See `HttpContext.answer_websocket`."""
    SocketCall(service, exchange).start()


class SocketCall(WsgiCall):
    """A WebSocket request to a WSGI application, until the end of its connection."""

    __slots__ = ("_bridge", "_connection", "_held")

    def __init__(self, service: SocketService, exchange: Exchange) -> None:
        super().__init__(service, exchange)
        self._connection = exchange.connection
        self._bridge: Bridge | None = None
        self._held = False  # reading is paused

    def start(self) -> None:
        """Let the runner call `run`."""
        connection, service = self._connection, self.interface
        if self.exchange.body is not NO_BODY_CAME:
            self._refuse(400, b"a WebSocket handshake has no body\n")
        elif service.is_full:
            _log.warning(
                "refused a WebSocket: this worker has %d of them, each in a thread", len(service.runner.running)
            )
            self._refuse(503, b"there are too many WebSockets\n")
        elif (bridge := self._open_bridge()) is None:
            self._refuse(503, b"no socket is available for a WebSocket\n")
        else:
            self._bridge = bridge
            self.data_received(connection.take_rest())
            if connection.half_closed:
                bridge.end()
            service.runner.start(self)

    def _open_bridge(self) -> Bridge | None:
        connection = self._connection
        own = connection.server or connection.get_extra_info("sockname") or ""
        try:
            return Bridge(connection.context.loop, self, connection.client or "", own)
        except (OSError, ValueError) as error:
            _log.error("cannot open a socket pair for a WebSocket: %s", error)
            return None

    def _refuse(self, status: int, text: bytes) -> None:
        self.exchange.start(status_of(status), (_TEXT, UNKNOWN, 0), text, more=False)

    # -- the application's side: in a thread, or in a greenlet on gevent ---------------------------------------------

    def run(self) -> None:
        """Call the application; close the socket afterwards."""
        bridge = self._bridge
        assert bridge is not None
        try:
            super().run()
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                self._connection.context.loop.call_soon_threadsafe(self._returned)

    def _environ(self, exchange: Exchange) -> dict[str, Any]:
        environ = super()._environ(exchange)
        assert self._bridge is not None
        environ[KEY] = self._bridge.far
        return environ

    def _is_taken(self) -> bool:
        """Return True if the application has taken the connection over."""
        return self._bridge is not None and self._bridge.is_used()

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """See PEP 3333; no effect once the socket was used."""
        return self._write if self._is_taken() else super().start_response(status, headers, exc_info)

    def _answer(self, result: Iterable[bytes]) -> None:
        if not self._is_taken():
            super()._answer(result)

    def _give(self, piece: bytes, more: bool) -> None:
        if not self._is_taken():
            super()._give(piece, more)

    def _failed(self, error: BaseException) -> None:
        if not self._is_taken():
            super()._failed(error)
        elif not (self.ending or self._is_usual(error)):
            self.failed(error)

    def _is_usual(self, error: BaseException) -> bool:
        """Return True for an error by which an application normally ends after it has taken the connection over.

        flask-sock raises StopIteration for gunicorn, Engine.IO a bare ConnectionError for Werkzeug, to suppress their
        responses. When the client has left, the socket itself raises errors.
        """
        if type(error) in (StopIteration, ConnectionError):
            return True
        return self._is_over() and isinstance(error, (BrokenPipeError, ConnectionResetError))

    # -- the loop's side -----------------------------------------------------------------------------------------------

    def _returned(self) -> None:
        """Close soon, as the application has returned.

        simple-websocket reports the client's close to the application before its thread has answered it.
        """
        bridge = self._bridge
        assert bridge is not None
        if bridge.is_used() and not self._is_over():
            self._connection.context.loop.call_later(LAST_WORDS, self._close_up)
        else:
            bridge.close()

    def _close_up(self) -> None:
        """Send queued data, then close, unless the library has closed its socket meanwhile."""
        bridge = self._bridge
        assert bridge is not None
        if not self._is_over():
            self.closed()
        bridge.close()

    def forward(self, data: bytes) -> bool:
        """See `bridge.BridgeOwner`."""
        connection, exchange = self._connection, self.exchange
        if self._is_over() or connection.is_closing():
            return True
        if exchange.stage is Stage.WAITING:
            self._take_over(data)
        exchange.sent += len(data)
        connection.write(data)
        return not connection.paused

    def _is_over(self) -> bool:
        return self.exchange.gone or self.exchange.stage is Stage.WHOLE

    def _take_over(self, data: bytes) -> None:
        """Record status and length for the access log: `data` begins with the head of the response."""
        status = data[9:12]
        exchange = self.exchange
        number = int(status) if data.startswith(b"HTTP/1.1 ") and status.isdigit() else 101
        exchange.take_over(number, data.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in data else 0)

    def closed(self) -> None:
        """Close the connection once everything is sent: the application has closed its socket or returned."""
        bridge = self._bridge
        assert bridge is not None
        bridge.drain()
        bridge.close()
        if not self._is_over():
            self.has_room()
            self.exchange.finish()

    def data_received(self, data: bytes) -> None:
        """Called by the connection."""
        connection = self._connection
        if self._bridge is not None and data and not self._bridge.feed(data) and not connection.is_closing():
            self._held = True
            connection.pause_reading()

    @property
    def owed(self) -> int:
        """Return 0: the application parses the frames."""
        return 0

    @property
    def ended_by(self) -> Closed | None:
        """Return None: only the application knows."""
        return None

    def has_room(self) -> None:
        """See `bridge.BridgeOwner`."""
        connection = self._connection
        if self._held and not connection.is_closing():
            self._held = False
            connection.resume_reading()

    def resumed(self) -> None:
        """Resume forwarding: the client reads again."""
        if self._bridge is not None:
            self._bridge.start_forwarding()
        self.body_arrived()

    def disconnected(self) -> None:
        """Close the bridge: the connection is lost."""
        if self._bridge is not None:
            self._bridge.close()
        self.body_arrived()

    def peer_done(self) -> bool:
        """Let the application read the end of the stream; it may still send."""
        if self._bridge is not None:
            self._bridge.end()
        return True

    def interrupt(self) -> None:
        """Let the application read the end of the stream: the worker stops soon."""
        self.peer_done()

    def expired(self) -> None:
        """Do nothing: the only deadline is for clients that read nothing, and the connection handles it."""
