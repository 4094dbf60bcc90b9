"""Uncommon parts of a request head: a chunked body, an expectation, an upgrade, an absolute URL, fields to drop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hybrid.workers.http.h1 import checks
from hybrid.workers.http.h1.rules import Rules

UNDERSCORE = ord("_")  # as a number: searching bytes for an int costs a tenth of searching for bytes
Fields = list[tuple[bytes, bytes]]


class Extras:
    """Made only for a request with such a part. Takes the fields in their order."""

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
        self._protocols: Sequence[bytes] = ()  # the protocols that the client would rather use
        self._drops = False  # some fields must not reach the application
        self.continues = False
        """True if the client waits for 100 Continue."""
        self.sent_target: bytes | None = None
        """The target as sent, if it is an absolute URL; None: the request's own."""
        self.websocket = False
        """True if a WebSocket follows the head; valid after `settle`."""

    @property
    def chunked(self) -> bool:
        """True if the body is chunked; valid after `settle`."""
        return bool(self._codings)

    @property
    def are_over(self) -> bool:
        """True if nothing special remains; valid after `settle`."""
        return not (self._codings or self._protocols or self.continues or self.sent_target is not None)

    def take(self, name: bytes, value: bytes, version: str) -> None:
        """Process a field. Raises `Refused`."""
        if name == b"expect":
            self.continues = checks.expects_continue(value, version)
        elif name == b"transfer-encoding":
            self._codings = (*self._codings, value.lower())
        elif name == b"upgrade":
            self._protocols = (*self._protocols, value.lower())
        else:
            self._drops = True

    def settle(self, fields: Fields, parser: Any, method: str, version: str, rules: Rules) -> Fields:
        """Check the fields together; return those for the application. Raises `Refused`."""
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
        # it would become HTTP_PROXY and redirect the application's own requests (httpoxy)
        kept = [item for item in fields if item[0] != b"proxy"]
        return kept if rules.underscore_headers else [item for item in kept if UNDERSCORE not in item[0]]
