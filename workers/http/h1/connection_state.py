"""The states of a connection."""

from __future__ import annotations

import enum


class ConnectionState(enum.Enum):
    """The states of a connection."""

    OPEN = "both sides may send"
    HALF_CLOSED = "the client has ended its stream"
    LINGERING = "this side has ended its stream, and reads what the client still sends"
    CUT = "this side breaks it off"
    CLOSED = "the transport is gone"
