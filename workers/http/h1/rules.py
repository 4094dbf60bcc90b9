"""The rules for requests: limits and valid hosts, in the form that `RequestReader` needs. One per worker."""

from __future__ import annotations

import math

from hybrid.workers.http.h1 import refusals
from hybrid.workers.http.settings import HttpSettings

_MOST_HOSTS = 256
_MOST_REPEATED = 4096


class Rules:
    """Sizes are bytes; a disabled limit is infinite."""

    __slots__ = (
        "hosts",
        "max_body_size",
        "max_header_bytes",
        "max_headers",
        "max_request_line",
        "max_requests",
        "most_repeated",
        "offers_websocket",
        "underscore_headers",
    )

    def __init__(self, settings: HttpSettings, *, offers_websocket: bool) -> None:
        limits = settings.limits
        self.max_request_line = limits.max_request_line or math.inf
        self.max_header_bytes = limits.max_header_bytes or math.inf
        self.max_headers = limits.max_headers or math.inf
        self.most_repeated = min(self.max_request_line, self.max_header_bytes, _MOST_REPEATED)
        """Size of the largest head that is remembered for repeated requests."""
        self.max_body_size = limits.max_body_size or math.inf
        self.max_requests = limits.max_requests_per_connection or math.inf
        self.underscore_headers = settings.underscore_headers
        self.offers_websocket = offers_websocket
        self.hosts: set[bytes] = set()
        """Values of Host that `is_host` has found valid. Most requests have one of them: this saves a call."""

    def is_host(self, value: bytes) -> bool:
        """Return True if `value` is valid in a Host field."""
        if not refusals.is_host(value):
            return False
        if len(self.hosts) >= _MOST_HOSTS:  # a client can fill it with names of its own; the real ones come again
            self.hosts.clear()
        self.hosts.add(value)
        return True
