"""The id of each request: kept if a trusted proxy sends a sane one, made otherwise.

It is the value of a header field. `RequestIds` puts it into the request before the application is called, so that the
application and the access log find it there. The part of each interface is in `hybrid.workers.apps.request_ids`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from hybrid.workers.http.exchange import Exchange, Request
from hybrid.workers.http.head import Head

_SANE = re.compile(rb"[!-~]{1,128}")  # visible ASCII: it goes into log lines and into the response
_BYTES = 16  # of a new id, as hexadecimal digits


class RequestIds:
    """Gives ids to requests. `name`: of the header field, as it is sent."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.key = name.lower().encode("ascii")
        """The name in lower case, as in `Request.headers`."""

    def before(self, answer: Callable[[Exchange], None]) -> Callable[[Exchange], None]:
        """Return a function that gives a request its id, and then calls `answer`."""

        def answer_with_id(exchange: Exchange) -> None:
            self._give(exchange)
            answer(exchange)

        return answer_with_id

    def _give(self, exchange: Exchange) -> None:
        """Replace the request by one whose only header field of this name is its id. The old one may be shared."""
        old, key = exchange.request, self.key
        others = [field for field in old.headers if field[0].replace(b"_", b"-") != key]  # CGI does not tell them apart
        sent = [value for name, value in old.headers if name == key]
        is_kept = exchange.connection.trusts_proxy and len(sent) == 1 and _SANE.fullmatch(sent[0]) is not None
        given = sent[0] if is_kept else os.urandom(_BYTES).hex().encode("ascii")
        request = Request(old.method, old.target, old.sent_target, old.version, [*others, (key, given)])
        if exchange.connection.trusts_proxy:
            request.forwarded = old.forwarded
        exchange.request = request
        exchange.repeated = None  # what an interface keeps for the next request would have this id

    def of(self, request: Request) -> str | None:
        """Return the id of a request; None if it has none yet, because it was refused before."""
        given = [value for name, value in request.headers if name == self.key]
        return given[0].decode("ascii") if len(given) == 1 and _SANE.fullmatch(given[0]) else None

    def with_id(self, fields: Head, request: Request) -> Head:
        """Return the fields of a response with the id of its request."""
        given = self.of(request)
        if given is None:
            return fields
        block, length, flags = fields
        return block + f"{self.name}: {given}\r\n".encode("ascii"), length, flags
