"""The memory of a connection's previous head. Clients send the same fields with each request of a connection."""

from __future__ import annotations

from hybrid.workers.http.exchange import Fields, Likeness, Request, Template
from hybrid.workers.http.h1 import refusals

METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")}
"""Methods as llhttp names them -> as applications get them; rare ones are not here."""
_is_common = refusals.COMMON_REQUEST_LINE.fullmatch


NONE, FIELDS, ALL = Likeness


class Repeated:
    """The head of the newest request, if the next one may repeat its fields.

    `template` and `likeness` are also used where the application runs, which may be a thread, and need no lock: only
    one request of a connection is under way at a time, its interface uses them before it responses, and the next one
    starts when that answer is out. If more bytes come meanwhile, that only costs a template.
    """

    __slots__ = ("_block", "_last", "_most", "fields", "is_head", "likeness", "request", "template")

    def __init__(self, most: float, block: bytes, fields: Fields) -> None:
        self._most = most  # bytes of a head that is recognised
        self._last: bytes | None = None  # the last head that was taken without the parser
        self.request: Request
        """What that head says. Set by `takes`."""
        self.is_head = False
        """True if its method is HEAD."""
        self.likeness = NONE
        self.template: Template | None = None
        """Of the last request that repeated the fields of the one before; made by an interface."""
        self._block = block
        self.fields = fields
        """What the header section says."""

    def renew(self, block: bytes, fields: Fields) -> None:
        """Remember another header section instead."""
        self._block = block
        self.fields = fields
        self._last = None  # it ends with a header section that is no longer the newest
        self.likeness = NONE

    # -- the hot path; benchmarks: python -m benchmarks wsgi asgi ----------------------------------------------------

    def takes(self, data: bytes) -> bool:
        """Read a request whose header section is the remembered one; return whether it is one.

        Only the first line is read anew: if it is of the form that nearly all have, and nothing in it could be refused.
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
