"""The exchanges of all interfaces as they are where there is an access log."""

from __future__ import annotations

from hybrid.workers.http.access_journal import Logged, LoggedSession
from hybrid.workers.http.exchange import Exchange
from hybrid.workers.interfaces.asgi import AsgiExchange
from hybrid.workers.interfaces.asgi_websocket import WebSocketExchange
from hybrid.workers.interfaces.wsgi import WsgiExchange
from hybrid.workers.interfaces.wsgi_socket import SocketExchange


class LoggedWsgi(Logged, WsgiExchange):
    """A request for a WSGI application."""

    __slots__ = ()


class LoggedSocket(Logged, SocketExchange):
    """A WebSocket for a WSGI application."""

    __slots__ = ()


class LoggedAsgi(Logged, AsgiExchange):
    """A request for an ASGI application."""

    __slots__ = ()


class LoggedWebSocket(LoggedSession, WebSocketExchange):
    """A WebSocket for an ASGI application."""

    __slots__ = ()


LOGGED: dict[type[Exchange], type[Exchange]] = {
    WsgiExchange: LoggedWsgi,
    SocketExchange: LoggedSocket,
    AsgiExchange: LoggedAsgi,
    WebSocketExchange: LoggedWebSocket,
}
"""Class of an exchange -> the one that is made in its place."""
