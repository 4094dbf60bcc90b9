"""What seldom stands in the head of a request: a chunked body, an expectation, an upgrade, a URL, fields to drop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hybrid.workers.http.h1 import checks
from hybrid.workers.http.h1.rules import Rules

UNDERSCORE = ord("_")  # as a number: to look for one in bytes costs a tenth of what looking for bytes does
Fields = list[tuple[bytes, bytes]]


class Extras:
    """Made only for a request that has one of these. Its fields are taken in the order in which they stand."""

    __slots__ = (
        "_codings",
        "_drops",
        "_protocols",
        "continues",
        "sent_target",
        "websocket",
    )

    def __init__(self) -> None:
        self._codings: Sequence[bytes] = ()
        self._protocols: Sequence[bytes] = ()  # that the client would rather speak
        self._drops = False  # there are fields that no application gets
        self.continues = False
        """True if the client waits for 100 Continue."""
        self.sent_target: bytes | None = None
        """The target as it was sent, if it is a URL; None: the request's own."""
        self.websocket = False
        """True if a WebSocket begins behind the head; known once the fields are settled."""

    @property
    def chunked(self) -> bool:
        """True if the body is chunked; the fields are settled."""
        return bool(self._codings)

    @property
    def are_over(self) -> bool:
        """True if nothing special is left of the request once its fields are settled."""
        return not (self._codings or self._protocols or self.continues or self.sent_target is not None)

    def take(self, name: bytes, value: bytes, version: str) -> None:
        """Take a field. Raises `Refused`."""
        if name == b"expect":
            self.continues = checks.expects_continue(value, version)
        elif name == b"transfer-encoding":
            self._codings = (*self._codings, value.lower())
        elif name == b"upgrade":
            self._protocols = (*self._protocols, value.lower())
        else:
            self._drops = True

    def settle(self, fields: Fields, parser: Any, method: str, version: str, rules: Rules) -> Fields:
        """Judge the fields together; return those that the application gets. Raises `Refused`."""
        if self._codings:
            checks.check_codings(self._codings, version)
        self.continues = self.continues and version == "1.1"
        self.websocket = (
            rules.offers_websocket
            and b"websocket" in self._protocols
            and method == "GET"
            and version == "1.1"
            and parser.should_upgrade()
        )  # RFC 6455, section 4.1
        if not self._drops:
            return fields
        # as HTTP_PROXY it would redirect what the application itself asks for (httpoxy)
        kept = [item for item in fields if item[0] != b"proxy"]
        return kept if rules.underscore_headers else [item for item in kept if UNDERSCORE not in item[0]]
