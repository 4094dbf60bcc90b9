"""Remembers a connection's previous head: clients send the same fields with each request of a connection."""

from __future__ import annotations

from hybrid.workers.http.exchange import Fields, Likeness, Request, Template
from hybrid.workers.http.h1 import refusals

METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")}
"""Methods as llhttp names them -> as applications get them; without rare ones."""
_is_common = refusals.COMMON_REQUEST_LINE.fullmatch


NONE, FIELDS, ALL = Likeness


class Repeated:
    """The head of the newest request, if the next one may repeat its fields.

    `template` and `likeness` are also used where the application runs, which may be a thread, and need no lock: only
    one request of a connection is in progress at a time, its interface uses them before it responds, and the next one
    starts after that response. More bytes in the meantime only cost a template.
    """

    __slots__ = ("_block", "_last", "_most", "fields", "is_head", "likeness", "request", "template")

    def __init__(self, most: float, block: bytes, fields: Fields) -> None:
        self._most = most  # bytes of the longest head that is recognised
        self._last: bytes | None = None  # the last head recognised without the parser
        self.request: Request
        """The request of that head. Set by `takes`."""
        self.is_head = False
        """True if its method is HEAD."""
        self.likeness = NONE
        self.template: Template | None = None
        """From the last request that repeated the previous header fields; set by the interface."""
        self._block = block
        self.fields = fields
        """The parsed header section."""

    def renew(self, block: bytes, fields: Fields) -> None:
        """Remember another header section."""
        self._block = block
        self.fields = fields
        self._last = None  # it ends with an outdated header section
        self.likeness = NONE

    # -- the hot path; benchmarks: python -m benchmarks wsgi asgi ----------------------------------------------------

    def takes(self, data: bytes) -> bool:
        """Return True if `data` is a request with the remembered header section; then `request` is set.

        Only the first line is parsed: it must have the common form, of which every match is valid.
        """
        if data == self._last:
            self.likeness = ALL
            return True
        block = self._block
        if not data.endswith(block):
            return False
        match = _is_common(data, 0, len(data) - len(block))
        if match is None or len(data) > self._most:
            return False
        name, target = match.groups()
        method = METHODS.get(name)
        if method is None:
            return False
        self._last = data
        self.request = Request(method, target, target, "1.1", self.fields)
        self.is_head = method == "HEAD"
        self.likeness = FIELDS
        return True
