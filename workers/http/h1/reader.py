"""Parses bytes into requests with llhttp (httptools). Independent of transport, deadlines and application.

Input that llhttp accepts and HTTP forbids is refused here. Parts that most connections never need are made on demand:
the previous head (`Repeated`), heads received in pieces (`PartialHead`), bodies (`BodyFraming`).
"""

from __future__ import annotations

import logging
from typing import Any, Protocol

import httptools

from hybrid.workers.http.exchange import Refused, Request
from hybrid.workers.http.h1 import checks, refusals
from hybrid.workers.http.h1.body_framing import BodyFraming
from hybrid.workers.http.h1.extras import UNDERSCORE, Extras, Fields
from hybrid.workers.http.h1.partial_head import PartialHead
from hybrid.workers.http.h1.phases import ReaderPhase
from hybrid.workers.http.h1.repeated import METHODS, Repeated
from hybrid.workers.http.h1.rules import Rules

HEAD, BODY, REPLAYING, UPGRADED, ENDED = ReaderPhase
_CONNECTION = frozenset({b"connection", b"proxy-connection"})  # the fields that llhttp determines keep-alive from
_SPECIAL = _CONNECTION | {b"host", b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"proxy"}
_VERSIONS = frozenset({"1.0", "1.1"})
_HASH = ord("#")
_is_plain = refusals.PLAIN_REQUEST_LINE.match
_log = logging.getLogger("hybrid")


class Sink(Protocol):
    """Receives the requests in order, during `RequestReader.feed`. It may call `end`."""

    def on_request(
        self,
        method: str,
        target: bytes,
        version: str,
        fields: Fields,
        keep_alive: bool,
        has_body: bool,
        extras: Extras | None,
        /,
    ) -> None:
        """Called for a complete head: the request is complete unless it `has_body`. May raise `Refused`."""

    def on_body(self, data: bytes, /) -> None:
        """Called for a piece of the newest request's body."""

    def on_end(self) -> None:
        """Called at the end of the newest request's body."""

    def on_refused(self, refused: Refused, /) -> None:
        """Called when a request, or malformed input, is refused. Nothing follows. `asked` returns the request."""

    def on_upgraded(self, data: bytes, /) -> None:
        """Called with the bytes after a WebSocket request."""

    def on_surplus(self, total: int, /) -> None:
        """Called when bytes were dropped, `total` of them so far."""

    def on_failure(self) -> None:
        """Called after an internal error, which was logged. Nothing follows."""


class _Deaf:
    """The sink of a reader whose connection is closed."""

    def on_request(self, *_: object) -> None:
        """Ignore it."""

    on_body = on_refused = on_upgraded = on_surplus = on_request

    def on_end(self) -> None:
        """Ignore it."""

    on_failure = on_end


_DEAF = _Deaf()


class RequestReader:
    """Reads the requests of one connection."""

    __slots__ = (
        "_fields",
        "_framing",
        "_kept",
        "_parser",
        "_rules",
        "_sink",
        "_url",
        "partial",
        "phase",
        "repeated",
        "served",
        "surplus",
    )

    def __init__(self, rules: Rules, sink: Sink) -> None:
        self._rules = rules
        self._sink = sink
        self.phase = HEAD
        self.served = 0
        """Requests passed to the sink or recognised by `repeated`."""
        self.surplus = 0
        """Bytes dropped because reading has ended."""
        self.partial: PartialHead | None = None
        """An incomplete head."""
        self.repeated: Repeated | None = None
        """The newest head, if the next request may repeat it."""
        self._framing: BodyFraming | None = None  # of the body being read
        self._kept: Fields | None = None  # the fields of the newest head, if the next request may repeat them
        self._url = b""
        self._fields: Fields = []
        self._parser: Any = httptools.HttpRequestParser(self)

    # -- the hot path; benchmarks: python -m benchmarks wsgi asgi ----------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Parse received bytes."""
        if (
            self.phase is HEAD  # first: pieces of a body are not searched for the end of a head
            and self.partial is None
            and 4 <= (end := data.find(b"\r\n\r\n") + 4) <= self._rules.max_header_bytes
            and _is_plain(data)
        ):  # nearly always: the head of one request, mostly with nothing after it
            if end == len(data):
                self._parse(data)
                fields = self._kept
                if fields is not None:
                    block = data[data.find(b"\n") + 1 :]
                    if self.repeated is None:
                        self.repeated = Repeated(self._rules.most_repeated, block, fields)
                    else:
                        self.repeated.renew(block, fields)
                    return
            else:
                self._parse(data[:end])
                self._take_apart(data[end:])
        else:
            self._take_apart(data)
        self.repeated = None

    def on_url(self, url: bytes) -> None:
        """Called by the parser, possibly with a part of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser for header fields and trailers."""
        if self._framing is None:
            self._fields.append((name.lower(), value.rstrip(b" \t")))
        else:
            self._framing.take_trailer(name)

    def on_headers_complete(self) -> None:
        """Pass the request on, or raise `Refused`, which ends the parsing. Called by the parser."""
        if self.phase is not HEAD:  # a stand-in, see `_replay`
            return
        if self.partial is not None:
            self.partial.check_line()
        parser, rules = self._parser, self._rules
        fields, target = self._fields, self._url
        name = parser.get_method()
        method = METHODS.get(name) or checks.rare_method(name)
        keep_alive = parser.should_keep_alive()
        version = "1.1" if keep_alive else parser.get_http_version()  # slow; 1.0 keeps alive by a field
        hosts = 0
        length = -1
        extras = None
        for name, value in fields:
            if name in _SPECIAL:
                if name == b"host":
                    hosts += 1
                    if value not in rules.hosts and not rules.is_host(value):
                        raise Refused(400, "the Host header field is invalid")
                    continue
                if name in _CONNECTION:
                    if keep_alive:
                        version = parser.get_http_version()
                    continue
                if name == b"content-length":
                    length = checks.length_of(value)
                    continue
            elif UNDERSCORE not in name or rules.underscore_headers:
                continue
            extras = extras or Extras()
            extras.take(name, value, version)
        self._begin(method, target, version, fields, keep_alive, hosts, length, extras)

    def _begin(
        self,
        method: str,
        target: bytes,
        version: str,
        fields: Fields,
        keep_alive: bool,
        hosts: int,
        length: int,
        extras: Extras | None,
    ) -> None:
        """Check the head as a whole, and notify the sink."""
        rules = self._rules
        if target[:1] != b"/" or _HASH in target:
            target, fields, extras = _split(method, target, fields, extras)
        if hosts != 1:
            checks.check_hosts(hosts, version)
        if extras is not None:
            fields = extras.settle(fields, self._parser, method, version, rules)
            if extras.are_over:
                extras = None
        if len(fields) > rules.max_headers or len(target) > rules.max_request_line:
            raise checks.beyond_limits(rules, len(fields))
        self.served = served = self.served + 1
        if extras is None and length <= 0:
            if served > 1:
                self._kept = fields if length < 0 and keep_alive and version == "1.1" else None
            self._sink.on_request(method, target, version, fields, keep_alive, False, None)
        else:
            self._begin_special(method, target, version, fields, keep_alive, length, extras)
        self.partial = None
        self._url = b""
        self._fields = []

    def _begin_special(
        self,
        method: str,
        target: bytes,
        version: str,
        fields: Fields,
        keep_alive: bool,
        length: int,
        extras: Extras | None,
    ) -> None:
        """Begin a request with a body or `Extras`."""
        self._kept = None
        framing = None
        if length > 0 or (extras is not None and extras.chunked):
            framing = BodyFraming(self._rules, length, keep_alive)
            if length > self._rules.max_body_size:
                raise checks.too_long(self._rules)
        self._sink.on_request(method, target, version, fields, keep_alive, framing is not None, extras)
        if extras is not None and extras.websocket:
            self.phase = UPGRADED
        elif framing is not None and self.phase is HEAD:
            self.phase = BODY
            self._framing = framing

    def on_body(self, data: bytes) -> None:
        """Called by the parser."""
        framing = self._framing
        if framing is None:
            return
        framing.received = received = framing.received + len(data)
        if received > self._rules.max_body_size:
            raise checks.too_long(self._rules)
        self._sink.on_body(data)

    def on_message_complete(self) -> None:
        """Called by the parser after the trailers."""
        if self._framing is not None:
            if self.phase is BODY and self._parser.should_upgrade():
                return  # llhttp mistakes the body of a request with Upgrade for another protocol: see `_replay`
            self.phase = HEAD
            self._framing = None
            self._sink.on_end()
        if self.served >= self._rules.max_requests:
            self.end()  # drops the rest of a pipeline

    # -- for the owner of the reader ---------------------------------------------------------------------------------

    @property
    def is_within_request(self) -> bool:
        """True if a request has begun and is incomplete."""
        return self.partial is not None or self._framing is not None

    @property
    def received(self) -> int:
        """Bytes received of the current body."""
        return 0 if self._framing is None else self._framing.received

    def asked(self) -> Request | None:
        """Return the known part of the request whose head is being read; None before its target is known."""
        parser = self._parser
        if parser is None or not self._url:
            return None
        version = parser.get_http_version()
        version = version if version in _VERSIONS else ""
        return Request(parser.get_method().decode("ascii"), self._url, self._url, version, self._fields)

    def forget(self) -> None:
        """Do not recognise the newest head when it is repeated: its fields were changed."""
        self._kept = None

    def drop(self, data: bytes) -> None:
        """Count dropped bytes."""
        self.surplus += len(data)
        self._sink.on_surplus(self.surplus)

    def end(self) -> None:
        """Read no further request. Idempotent."""
        self._parser = self.partial = self._framing = None
        if self.phase is not UPGRADED:
            self.phase = ENDED

    def let_go(self) -> None:
        """End, and drop the reference to the sink."""
        self._sink = _DEAF
        if self._parser is not None:
            self.end()

    # -- less often ----------------------------------------------------------------------------------------------------

    def _take_apart(self, data: bytes) -> None:
        """Parse input other than a single head, cut at the ends of messages.

        An empty line ends a head, and the length of a body is known (RFC 9112, sections 2.1, 6.3 and 7.1). So no piece
        contains parts of two messages: each request line is seen as it was sent, and no limit depends on how the
        network split the input.
        """
        position = 0
        while position < len(data) and self._parser is not None:
            framing = self._framing
            if framing is None:
                position = self._take_head(data, position)
            elif framing.chunks is None:
                piece = data[position : position + framing.left]
                position += len(piece)
                framing.left -= len(piece)
                if framing.is_passed_by and self.phase is BODY:
                    self._pass_by(framing, piece)
                else:
                    self._parse(piece)
            else:
                end = framing.chunks.follow(data, position)
                self._parse(data[position:end])
                position = end
                if framing.chunks.fault is not None and framing is self._framing:
                    self._refuse(framing.chunks.fault)
        if position < len(data):
            rest = data[position:]
            if self.phase is UPGRADED:
                self._sink.on_upgraded(rest)
            else:
                self.drop(rest)  # refused, or closing: read and discarded, so that the kernel sends no reset

    def _pass_by(self, framing: BodyFraming, piece: bytes) -> None:
        """Pass on a piece of a long body of known length, which the parser would only copy. Benchmark: upload."""
        self.on_body(piece)
        if not framing.left and framing is self._framing:
            self._parser = httptools.HttpRequestParser(self)  # the one before still waits for the body
            self.on_message_complete()

    def _take_head(self, data: bytes, position: int) -> int:
        """Parse more of a head; return where it ends in `data`."""
        partial = self.partial
        if partial is None:  # the deadline for the first one began with the connection
            partial = self.partial = PartialHead(timed=not self.served)
        room = self._rules.max_header_bytes - partial.size
        if room <= 0:
            self._refuse(checks.too_large(self._rules, self._url))
            return position
        end = partial.cut(data, position, room)
        piece = data[position:end]
        partial.add(piece)
        self._parse(piece)
        return end

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._upgrade()
        except httptools.HttpParserInvalidMethodError:
            self._parser = refusals.UnknownMethod()
            self._parse(data if self.partial is None else self.partial.line)
        except httptools.HttpParserError as error:
            self._malformed(error, data)
        except Refused as refused:  # raised by `UnknownMethod`
            self._url = self._parser.target
            self._refuse(refused)

    def _upgrade(self) -> None:
        """Handle the parser's stop after a head that asks for another protocol."""
        if self.phase is UPGRADED:
            self._parser = None
        elif self._framing is not None:
            self._replay(self._framing)

    def _replay(self, framing: BodyFraming) -> None:
        """Continue with HTTP: an unsupported upgrade is ignored (RFC 9110, section 7.8).

        The body is parsed after a stand-in head, because llhttp has skipped it.
        """
        self.phase = REPLAYING
        self._framing = None
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(framing.stand_in())
        self._framing = framing
        self._url = b""
        self._fields = []

    def _malformed(self, error: Exception, data: bytes) -> None:
        cause = error.__context__
        if isinstance(cause, Refused):
            if self._parser is not None:
                cause.head_only = self._parser.get_method() == b"HEAD"
            self._refuse(cause)
        elif isinstance(error, httptools.HttpParserCallbackError):
            _log.error("parsing a request failed", exc_info=cause or error)
            self.end()
            self._sink.on_failure()
        elif "Data after" in str(error):  # after Connection: close
            self.end()
            self.drop(data)
        else:
            status = 505 if "Invalid HTTP version" in str(error) else 400
            self._refuse(Refused(status, f"malformed request: {error}"))

    def _refuse(self, refused: Refused) -> None:
        """Notify the sink, then end; the sink may call `asked` in between."""
        self._sink.on_refused(refused)
        self.end()


def _split(method: str, target: bytes, fields: Fields, extras: Extras | None) -> tuple[bytes, Fields, Extras | None]:
    """Split a target that may be an absolute URL: its authority overrides Host (RFC 9112, section 3.2.2)."""
    path, authority = refusals.split_target(method, target)
    if authority is None:
        return path, fields, extras
    extras = extras or Extras()
    extras.sent_target = target
    return path, [(b"host", authority), *(item for item in fields if item[0] != b"host")], extras
