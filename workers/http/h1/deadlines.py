"""The timeouts of a connection, their expiry, and the minimum rate of a body."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybrid.workers.common import lingering
from hybrid.workers.common.connections import printable
from hybrid.workers.http.clock import NEVER
from hybrid.workers.http.h1.connection_state import ConnectionState
from hybrid.workers.http.h1.exchange import UPGRADE

if TYPE_CHECKING:
    from hybrid.workers.http.h1.connection import HttpConnection
    from hybrid.workers.http.h1.partial_head import PartialHead

BODY_GRACE = 5.0  # seconds before the rate of a body is checked
LINGER = lingering.SECONDS  # seconds to read from a client after its last response (RFC 9112, section 9.6)


class BodyRate:
    """The rate of a body. Made when the application begins to wait for the body."""

    __slots__ = ("_mark", "_since")

    def __init__(self, now: float, received: int) -> None:
        self._since = now
        self._mark = received

    def holds(self, now: float, received: int, least: float) -> bool:
        """Return True, and start a new interval, if at least `least` bytes per second arrived since the last check."""
        if received - self._mark < least * (now - self._since):
            return False
        self._since, self._mark = now, received
        return True


def await_head(connection: HttpConnection, partial: PartialHead) -> None:
    """Set the deadline for the end of a partial head, unless it has one."""
    if not (partial.timed or connection.paused):
        partial.timed = True
        connection.deadline = connection.context.header_deadline()


def await_begun_head(connection: HttpConnection) -> None:
    """Set the deadline of a head, if one has begun to arrive during the response that is complete now."""
    if connection.reader.partial is not None:
        await_head(connection, connection.reader.partial)


def patience(connection: HttpConnection) -> float:
    """Return the timeout in seconds for the next event, now that the client has read most of the data sent."""
    context, responses, partial = connection.context, connection.responses, connection.reader.partial
    if connection.transport.is_closing():
        return context.send_timeout  # for unsent data
    if connection.state is ConnectionState.LINGERING:
        return LINGER
    if responses is not None and responses.rate is not None:
        return BODY_GRACE
    if connection.current is not None or connection.has_more():
        return NEVER
    if partial is not None:
        partial.timed = True
        return context.header_timeout
    return context.keep_alive_timeout


def expire(connection: HttpConnection) -> None:
    """Handle an expired deadline: set another one, or end the connection."""
    connection.deadline = NEVER
    unsent = connection.transport.get_write_buffer_size()
    current = connection.current
    if unsent or connection.paused:
        _expire_sending(connection, unsent)
    elif connection.state is ConnectionState.LINGERING or (current is None and connection.upgraded):
        connection.abort()
    elif current is None:
        if connection.reader.is_within_request:
            connection.refuse(408, "the header fields did not arrive in time")
        else:
            connection.close()
    elif current.style is UPGRADE and current.listener is not None:
        current.listener.expired()
    else:
        _expire_receiving(connection)


def _expire_sending(connection: HttpConnection, unsent: int) -> None:
    """Spare a client that reads something, however little; cut one that reads nothing."""
    responses, context = connection.own_responses(), connection.context
    if unsent < responses.unsent or not responses.unsent:
        responses.unsent = unsent
        connection.deadline = connection.clock.now + context.send_timeout
    else:
        context.incidents.log("closing the connection of %s: it reads no data", printable(connection.client))
        connection.cut()


def _expire_receiving(connection: HttpConnection) -> None:
    rate = None if connection.responses is None else connection.responses.rate
    if rate is None:
        return
    now = connection.clock.now
    if rate.holds(now, connection.reader.received, connection.context.min_body_rate):
        connection.deadline = now + BODY_GRACE
    else:
        connection.refuse(408, "the body arrives too slowly")
