"""The phases of a `RequestReader`, and the total table of what each event makes of them.

    HEAD --REQUEST_WITH_BODY--> BODY --END_OF_BODY--> HEAD
      \\--IGNORED_UPGRADE--> REPLAYING --END_OF_BODY--> HEAD
       \\--WEBSOCKET--> UPGRADED          END leads from all of these but UPGRADED to ENDED

Every pair stands in the table, also where the event changes nothing: bytes that look like a head may be part of a body.
The reader assigns its phase without this table, which would cost as much as the parsing; a test compares the two.
"""

from __future__ import annotations

import enum
import types
from collections.abc import Mapping


class ReaderPhase(enum.Enum):
    """How a reader interprets the next bytes."""

    HEAD = "head"
    """The request line and header fields, or a part of them."""
    BODY = "body"
    """A request body."""
    REPLAYING = "replaying"
    """The body of a request with an ignored upgrade: llhttp has skipped it, so it is parsed after a stand-in head."""
    UPGRADED = "upgraded"
    """Not HTTP: they belong to a WebSocket."""
    ENDED = "ended"
    """They are counted and dropped."""


class Event(enum.Enum):
    """A parsing result, or a decision of the reader's owner."""

    REQUEST = "request"
    """A complete head without a body."""
    REQUEST_WITH_BODY = "request with body"
    """A complete head, followed by a body."""
    IGNORED_UPGRADE = "ignored upgrade"
    """A complete head, followed by a body, that asks for an unsupported protocol."""
    WEBSOCKET = "websocket"
    """A complete head that asks for a WebSocket, where they are supported."""
    END_OF_BODY = "end of body"
    END = "end"
    """A request is refused, or no further request is wanted."""


def _table() -> dict[tuple[ReaderPhase, Event], ReaderPhase]:
    p, e = ReaderPhase, Event
    return {
        (p.HEAD, e.REQUEST): p.HEAD,
        (p.HEAD, e.REQUEST_WITH_BODY): p.BODY,
        (p.HEAD, e.IGNORED_UPGRADE): p.REPLAYING,
        (p.HEAD, e.WEBSOCKET): p.UPGRADED,
        (p.HEAD, e.END_OF_BODY): p.HEAD,
        (p.HEAD, e.END): p.ENDED,
        # bytes that look like a head are part of the body
        (p.BODY, e.REQUEST): p.BODY,
        (p.BODY, e.REQUEST_WITH_BODY): p.BODY,
        (p.BODY, e.IGNORED_UPGRADE): p.BODY,
        (p.BODY, e.WEBSOCKET): p.BODY,
        (p.BODY, e.END_OF_BODY): p.HEAD,
        (p.BODY, e.END): p.ENDED,
        (p.REPLAYING, e.REQUEST): p.REPLAYING,
        (p.REPLAYING, e.REQUEST_WITH_BODY): p.REPLAYING,
        (p.REPLAYING, e.IGNORED_UPGRADE): p.REPLAYING,
        (p.REPLAYING, e.WEBSOCKET): p.REPLAYING,
        (p.REPLAYING, e.END_OF_BODY): p.HEAD,
        (p.REPLAYING, e.END): p.ENDED,
        # the reader ignores the frames of a WebSocket, however it ends
        (p.UPGRADED, e.REQUEST): p.UPGRADED,
        (p.UPGRADED, e.REQUEST_WITH_BODY): p.UPGRADED,
        (p.UPGRADED, e.IGNORED_UPGRADE): p.UPGRADED,
        (p.UPGRADED, e.WEBSOCKET): p.UPGRADED,
        (p.UPGRADED, e.END_OF_BODY): p.UPGRADED,
        (p.UPGRADED, e.END): p.UPGRADED,
        (p.ENDED, e.REQUEST): p.ENDED,
        (p.ENDED, e.REQUEST_WITH_BODY): p.ENDED,
        (p.ENDED, e.IGNORED_UPGRADE): p.ENDED,
        (p.ENDED, e.WEBSOCKET): p.ENDED,
        (p.ENDED, e.END_OF_BODY): p.ENDED,
        (p.ENDED, e.END): p.ENDED,
    }


TRANSITIONS: Mapping[tuple[ReaderPhase, Event], ReaderPhase] = types.MappingProxyType(_table())
"""(phase, event) -> next phase; total."""
