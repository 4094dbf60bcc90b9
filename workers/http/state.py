"""What an HTTP connection knows: everything that `intake`, `turns` and `connection` share, in one place."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import httptools

from hybrid.workers import lingering
from hybrid.workers.http.chunks import Chunks
from hybrid.workers.http.clock import NEVER
from hybrid.workers.http.exchange import Exchange
from hybrid.workers.http.refusals import Refused
from hybrid.workers.http.site import Site

BODY_WATER = 65_536  # bytes of request body that wait for the application before reading pauses
BODY_GRACE = 5.0  # seconds before the rate of a body is looked at
LINGER = lingering.SECONDS  # to read what a client still sends after its last answer (RFC 9112, section 9.6)


class Template:
    """What an interface made of a request that repeated the fields of the one before, to be copied for the next.

    Never changed once it is made: where applications run in threads, the next request may be in another one.
    """

    __slots__ = ("headers", "made", "target")

    def __init__(self, headers: list[tuple[bytes, bytes]], target: bytes, made: dict[str, Any]) -> None:
        self.headers = headers
        """The very list: it is told by identity."""
        self.target = target
        """That of the request, told by identity too."""
        self.made = made


class State:
    """The state of one connection, and what its parts ask of each other. All of it belongs to the loop's thread.

    But `facts` and `template` are made and read where the application runs, which may be a thread, and need no lock:
    only one exchange of a connection is under way at a time, it uses them before it answers, and the next one starts
    when that answer is out. `repeats` and `identical` may become False meanwhile, when more bytes come, which only
    costs a template; they become True with the start of a request alone.
    """

    __slots__ = (
        "_advancing",
        "_awaited",
        "_block",
        "_block_fields",
        "_body_mark",
        "_body_since",
        "_chunks",
        "_closed",
        "_dropped",
        "_extra",
        "_fed",
        "_fields",
        "_head_timed",
        "_last",
        "_last_method",
        "_last_simple",
        "_last_target",
        "_left",
        "_line",
        "_lingering",
        "_odd",
        "_parser",
        "_queue",
        "_reading",
        "_received",
        "_receiving",
        "_refusal",
        "_replaying",
        "_rest",
        "_served",
        "_tail",
        "_trailers",
        "_unsent",
        "_url",
        "_waits_for_body",
        "believes",
        "client",
        "clock",
        "current",
        "deadline",
        "facts",
        "half_closed",
        "identical",
        "no_body",
        "paused",
        "persistent",
        "repeats",
        "scheme",
        "server",
        "site",
        "template",
        "transport",
        "upgraded",
        "write",
        "write_end",
        "write_last",
    )

    def __init__(self, site: Site) -> None:
        self.site = site
        self.clock = site.clock
        self.transport: Any = None
        self.write: Callable[[Any], None]
        """Sends bytes, or keeps them: the transport's own method."""
        self.write_end: Callable[[Any], None]
        """Sends the last bytes to a client that has asked for the close, which follows at once."""
        self.write_last: Callable[[bytes], None]
        """Sends the end of an answer, perhaps a moment later, together with those of other connections."""
        self.client: tuple[str, int] | None = None
        self.server: tuple[str, int | None] | None = None
        self.scheme = "http"
        self.believes = False
        """Whether the peer is a proxy whose forwarding headers count."""
        self.facts: Any = None
        """What an interface keeps for all requests of the connection; made by it."""
        self.repeats = False
        """Whether the header fields of the newest request are those of the one before."""
        self.identical = False
        """Whether its method and target are so, too."""
        self.template: Template | None = None
        """Of the last request that repeated the fields of the one before; made by an interface."""
        self.no_body: deque[bytes] = site.no_body
        self.current: Exchange | None = None
        """The exchange that is being answered."""
        self.half_closed = False
        """Whether the client has sent its end of stream."""
        self.persistent = True
        """Whether another request may follow the current one."""
        self.paused = False
        """Whether the client takes too little: applications wait before they send more."""
        self.upgraded = False
        """Whether the bytes are no longer HTTP: the current exchange gets them."""
        self.deadline = NEVER
        self._queue: deque[Exchange] = site.no_queue  # parsed, and waiting for earlier answers
        self._receiving: Exchange | None = None  # the exchange whose body is being parsed
        self._refusal: Refused | None = None  # answered after all exchanges; nothing is parsed after it
        self._parser: Any = httptools.HttpRequestParser(self)
        self._block: bytes | None = None  # the header section of the last request, if it is worth to be kept
        # what it says. After a refusal it may be that of an earlier request: nothing more is parsed then, or repeated
        self._block_fields: list[tuple[bytes, bytes]] | None = None
        self._last = b""  # the last head that was taken without the parser, and what its first line says
        self._last_method = ""
        self._last_simple = True
        self._last_target = b""
        # `_block` where the next bytes may be a request that repeats it, which `_repeat` then starts without a look at
        # anything else. So while it is set there is no current exchange, no queue, no refusal, nothing of a head has
        # come, the client takes what is sent, and the connection is not closing: whatever changes that clears it
        self._awaited: bytes | None = None
        self._url = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._fed = 0  # bytes of the head that is being received, and of empty lines before it; 0: none has begun
        self._line = b""  # the head so far, until its first line is complete
        self._odd = False  # `on_headers_complete` has to look at more than the fields
        self._tail = b""  # the last bytes before a cut: an empty line may go on behind it
        self._left = 0  # bytes that the body still has; UNKNOWN: it is chunked
        self._received = 0  # bytes of the body that is being received
        self._chunks: Chunks | None = None  # where in a chunked body we are
        self._trailers = 0
        self._served = 0  # requests
        self._reading = True
        self._advancing = False
        self._closed = False
        self._lingering = False
        self._head_timed = True  # the deadline for the head of a request is set
        self._replaying = False  # a stand-in head is parsed, see `_resume_after_upgrade`
        self._rest = b""  # bytes for the next owner of the connection, after an upgrade
        self._waits_for_body = False
        self._body_since = 0.0
        self._body_mark = 0
        self._unsent = 0
        self._dropped = 0  # bytes that came while it lingered
        self._extra = False  # the client sent more than it should have before the end

    # -- what the parts ask of each other ----------------------------------------------------------------------------

    def _advance(self) -> None:
        raise NotImplementedError

    def _refuse(self, refused: Refused) -> None:
        raise NotImplementedError

    def _pause_reading(self) -> None:
        raise NotImplementedError

    def _close(self, exchange: Exchange) -> None:
        raise NotImplementedError

    def linger(self) -> None:
        """See `connection`."""
        raise NotImplementedError

    def abort(self) -> None:
        """See `connection`."""
        raise NotImplementedError
