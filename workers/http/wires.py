"""The wires of HTTP: which of them a service speaks, and how a new connection gets its own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hybrid.workers.http.h1.connection import HttpConnection
from hybrid.workers.http.settings import HttpSettings


class Wire(NamedTuple):
    """How the connections of a worker begin."""

    alpn: Sequence[str]
    """The protocols offered by ALPN, the preferred one first."""
    protocol: Callable[[HttpConnection], Any]
    """Returns the protocol of a new connection; gets the one for HTTP/1, with the facts about the peer."""


HTTP1 = Wire(("http/1.1",), lambda http1: http1)


def wire_of(settings: HttpSettings) -> Wire:
    """Return the wire of a service."""
    if settings.http == "1":
        return HTTP1
    from hybrid.workers.http.h2.choice import Choice  # it needs a package that may not be installed

    if settings.http == "2":
        return Wire(("h2",), functools.partial(Choice, only_http2=True))
    return Wire(("h2", "http/1.1"), functools.partial(Choice, only_http2=False))
