"""The timeouts of a connection and of its streams, and their expiry. The limits are those of HTTP/1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybrid.workers.common.connections import printable
from hybrid.workers.http.clock import NEVER
from hybrid.workers.http.exchange import Refused, Stage
from hybrid.workers.http.h1.connection_state import ConnectionState
from hybrid.workers.http.h1.deadlines import BODY_GRACE
from hybrid.workers.http.h2.session import ErrorCode

if TYPE_CHECKING:
    from hybrid.workers.http.h2.connection import Http2Connection


def expire(connection: Http2Connection) -> None:
    """Handle an expired deadline: end what is too slow, and set the next one."""
    connection.deadline = NEVER
    transport = connection.transport
    if connection.state is ConnectionState.LINGERING:
        connection.abort()
    elif connection.paused or transport.is_closing():
        _look_at_transport(connection)
    else:
        _look_at_bodies(connection)
        _look_at_responses(connection)
        for exchange in connection.tunnels():
            exchange.tunnel.expire(connection.clock.now)
        _look_at_end(connection)


def _look_at_transport(connection: Http2Connection) -> None:
    """Spare a client that reads something, however little; cut one that reads nothing."""
    context = connection.context
    unsent = connection.transport.get_write_buffer_size()
    if unsent < connection.unsent or not connection.unsent:
        connection.unsent = unsent
        connection.look_at(connection.clock.now + context.send_timeout)
    else:
        context.incidents.log("closing the connection of %s: it reads no data", printable(connection.client))
        connection.cut()


def _look_at_bodies(connection: Http2Connection) -> None:
    """Refuse requests whose body arrives too slowly."""
    now = connection.clock.now
    for exchange in list(connection.awaiting):
        if exchange.rate is not None and now >= exchange.rate_at:
            if not exchange.rate.holds(now, exchange.received, connection.context.min_body_rate):
                connection.refuse(exchange, Refused(408, "the body arrives too slowly"))
                continue
            exchange.rate_at = now + BODY_GRACE
        connection.look_at(exchange.rate_at)


def _look_at_responses(connection: Http2Connection) -> None:
    """End responses for which their client has opened no window since the last look, however small."""
    now, session = connection.clock.now, connection.session
    if now < connection.responses_at:
        connection.look_at(connection.responses_at)
        return
    connection.responses_at = NEVER
    for exchange in list(connection.streams.values()):
        queued = session.queued(exchange.stream)
        if queued and queued == exchange.mark:
            exchange.was_cut = exchange.stage is not Stage.WHOLE  # its application is told when the stream is closed
            session.reset(exchange.stream, ErrorCode.CANCEL)
            connection.flush_soon()
        exchange.mark = queued
    if session.queued():
        connection.responses_wait()


def _look_at_end(connection: Http2Connection) -> None:
    """End a connection without requests, and one whose client does not answer to the announcement of the end."""
    if connection.streams and connection.persistent:
        return
    if connection.clock.now >= connection.idle_until:
        connection.end()
    else:
        connection.look_at(connection.idle_until)
