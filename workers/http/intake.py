"""From bytes to exchanges: how a connection takes requests in. llhttp (by httptools) parses.

What it lets through and HTTP does not is refused here. A request is handed over once the bytes at hand are parsed, so
that an application never sees one whose body is malformed in the same packet.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

import httptools

from hybrid.workers import lingering
from hybrid.workers.http import checks, refusals
from hybrid.workers.http.chunks import Chunks
from hybrid.workers.http.clock import NEVER
from hybrid.workers.http.exchange import Exchange
from hybrid.workers.http.head import UNKNOWN
from hybrid.workers.http.refusals import Refused
from hybrid.workers.http.state import BODY_WATER, State

_METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")}
_CONNECTION = frozenset({b"connection", b"proxy-connection"})  # what llhttp reads keep-alive and close from
_SPECIAL = _CONNECTION | {b"host", b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"proxy"}
_NOT_TRAILERS = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect", b"te", b"trailer"}
)  # they say how the message is to be read, which is done by then (RFC 9110, section 6.5.1); llhttp would obey some
_UNDERSCORE, _HASH = b"_#"  # as numbers: to look for one costs a tenth of what looking for bytes does
_is_plain = refusals.PLAIN_REQUEST_LINE.match
_is_common = refusals.COMMON_REQUEST_LINE.fullmatch
_log = logging.getLogger("hybrid")


class Intake(State):
    """The part of a connection that reads requests."""

    __slots__ = ()

    # -- the hot path; benchmarks: python -m benchmarks wsgi asgi ----------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived and start what it completes."""
        awaited = self._awaited
        if awaited is not None:
            self._awaited = None
            if data.endswith(awaited) and self._repeat(data, len(data) - len(awaited)):
                return
        self.repeats = self.identical = False
        self._last = b""  # it ends with a header section that is no longer the newest
        if (
            self._receiving is None  # first: pieces of a body are not searched for the end of a head
            and self._fed == 0
            and self._parser is not None
            and 4 <= (end := data.find(b"\r\n\r\n") + 4) <= self.site.max_header_bytes
            and _is_plain(data)
        ):  # nearly always: the head of a request, mostly with nothing behind it
            self._fed = end
            if end == len(data):
                self._feed(data)
                if self._block_fields is not None:
                    self._block = data[data.find(b"\n") + 1 :]
            else:
                self._feed(data[:end])
                self._take_apart(data[end:])
                self._block_fields = self._block = None
        else:
            self._take_apart(data)
            self._block_fields = self._block = None
        exchange = self.current
        if exchange is not None:
            if not exchange.started:
                if self._queue or self._refusal is not None:
                    self._advance()
                else:  # nearly always
                    exchange.started = True
                    exchange.start()
        elif self._refusal is not None:
            self._advance()

    def _repeat(self, data: bytes, end: int) -> bool:
        """Take a request whose header section is that of the one before; tell whether that could be done.

        Clients send the same fields with each request of a connection, so only the first line, which goes to `end`, is
        read anew: if it is of the form that nearly all have, and nothing in it could be refused.
        """
        site = self.site
        self.identical = True
        if data != self._last:
            self.identical = False
            match = _is_common(data, 0, end)
            if match is None or len(data) > site.most_repeated:
                return False
            name, self._last_target = match.groups()
            method = _METHODS.get(name)
            if method is None:
                return False
            self._last = data
            self._last_method = method
            self._last_simple = method != "HEAD"
        self.repeats = True
        try:
            next(site.heartbeat.tally)
        except StopIteration:
            site.heartbeat.counts_last_request()
        self._served = served = self._served + 1
        if served >= site.max_requests:
            self.persistent = False
            self._parser = None
        self.current = exchange = site.make_exchange(
            self, self._last_method, self._last_target, "1.1", self._block_fields, True
        )
        exchange.complete = exchange.started = True
        exchange.simple = self._last_simple
        self.deadline = NEVER
        exchange.start()
        return True

    def on_url(self, url: bytes) -> None:
        """Called by the parser, perhaps in pieces."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser for header fields, and for trailers."""
        if self._receiving is not None:
            self._trailer(name, value)
        else:
            self._fields.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """Called by the parser: make the exchange, or refuse. Raises `Refused`, which ends the parsing."""
        if self._odd and self._is_stand_in():
            return
        parser = self._parser
        site = self.site
        fields = self._fields
        self._fields = []
        target, self._url = self._url, b""
        name = parser.get_method()
        method = _METHODS.get(name)
        if method is None:
            method = checks.rare_method(name)
        keep_alive = parser.should_keep_alive()
        version = "1.1" if keep_alive else parser.get_http_version()  # asking is slow, and 1.0 asks to be kept alive
        hosts = 0
        length = -1
        special = dropped = continues = False
        for field, value in fields:
            if field in _SPECIAL:
                if field == b"host":
                    hosts += 1
                    if not site.is_host(value):
                        raise Refused(400, "the Host header field is invalid")
                elif field == b"content-length":
                    length = checks.length_of(value)
                elif field == b"expect":
                    continues = checks.expects_continue(value, version)
                elif field in _CONNECTION:
                    version = parser.get_http_version()
                elif field == b"proxy":
                    dropped = True  # as HTTP_PROXY it would redirect what the application itself asks for (httpoxy)
                else:
                    special = True
            elif _UNDERSCORE in field and not site.underscore_headers:
                dropped = True
        authority = None
        sent_target = target
        if target[:1] != b"/" or _HASH in target:
            target, authority = refusals.split_target(method, target)
            if authority is not None:  # it overrides Host (RFC 9112, section 3.2.2)
                fields = [item for item in fields if item[0] != b"host"]
                fields.insert(0, (b"host", authority))
        if hosts != 1:
            checks.check_hosts(hosts, version)
        chunked = special and checks.is_chunked(fields, version)
        if dropped:
            kept = [item for item in fields if item[0] != b"proxy"]
            fields = kept if site.underscore_headers else [item for item in kept if _UNDERSCORE not in item[0]]
        if len(fields) > site.max_headers:
            raise Refused(431, "there are too many header fields")
        if len(target) > site.max_request_line:
            raise Refused(414, "the request target is too long")
        if length > site.max_body_size > 0:
            raise Refused(413, f"the body is larger than {site.max_body_size} bytes")
        try:
            next(site.heartbeat.tally)
        except StopIteration:
            site.heartbeat.counts_last_request()
        self._served = served = self._served + 1
        if served >= site.max_requests:
            self.persistent = False
        repeatable = served > 1 and keep_alive and version == "1.1" and not (special or length >= 0 or continues)
        if repeatable and authority is None and not self.believes:  # an authority has changed what the fields say
            self._block_fields = fields
        else:
            self._block_fields = self._block = None
        make = site.make_exchange
        if special and site.make_websocket is not None and checks.asks_for_websocket(parser, method, version, fields):
            make = site.make_websocket
        exchange = make(self, method, target, version, fields, keep_alive)
        if authority is not None:
            exchange.sent_target = sent_target
        if method != "HEAD":
            if not exchange.keep_alive:
                exchange.closing = True
            elif version == "1.1":
                exchange.simple = True
        if self.believes:
            site.believe(exchange)
        if length > 0 or chunked:
            exchange.continues = continues and version == "1.1"
            exchange.body = deque()
            self._received = 0
            self._left = length
            if chunked:
                self._chunks = Chunks(site.max_header_bytes)
                self._trailers = 0
        self._receiving = exchange
        if self.paused:  # the client has to take something first, and is given no more time for that
            self._enqueue(exchange)
            return
        self.deadline = NEVER
        if self.current is None and not self._queue:  # the next of the queue may not have been made current yet
            self.current = exchange
        else:
            self._enqueue(exchange)

    def on_body(self, data: bytes) -> None:
        """Called by the parser."""
        exchange = self._receiving
        if exchange is None:
            return
        self._received += len(data)
        if self._received > self.site.max_body_size > 0:
            raise Refused(413, f"the body is larger than {self.site.max_body_size} bytes")
        exchange.body.append(data)
        exchange.buffered += len(data)
        if exchange.buffered >= BODY_WATER:
            self._pause_reading()
        if exchange is self.current:
            exchange.body_arrived()

    def on_message_complete(self) -> None:
        """Called by the parser, after the trailers."""
        exchange = self._receiving
        self._fed = 0
        self._head_timed = False
        if exchange is None:
            return
        if exchange.body is not self.no_body and self._parser.should_upgrade() and not self._replaying:
            return  # llhttp takes the body of a request with Upgrade for another protocol: see `_resume_after_upgrade`
        self._receiving = None
        self._replaying = False
        exchange.complete = True
        if exchange.body is not self.no_body:
            self._waits_for_body = False
            if self.paused:
                self._pause_reading()
            if exchange is self.current:
                exchange.body_arrived()
        if not self.persistent and self._served >= self.site.max_requests:
            self._parser = None  # the rest of a pipeline is dropped

    # -- less often ----------------------------------------------------------------------------------------------------

    def _take_apart(self, data: bytes) -> None:
        """Parse what is not just the head of one request, cut where a message may end.

        A head ends with an empty line, of a body is known how far it goes (RFC 9112, sections 2.1, 6.3 and 7.1). So no
        piece holds parts of two messages: each request line is seen as it was sent, and no limit depends on how the
        network cut it.
        """
        position = 0
        while position < len(data) and self._parser is not None:
            if self._receiving is None:
                position = self._take_head(data, position)
            elif self._left != UNKNOWN:
                piece = data[position : position + self._left]
                position += len(piece)
                self._left -= len(piece)
                self._feed(piece)
            else:
                position = self._take_chunks(data, position)
        if position < len(data):
            self._data_without_parser(data[position:])
        elif self._fed and not (self._head_timed or self.paused) and self._receiving is None and self.current is None:
            self._head_timed = True
            self.deadline = self.site.header_deadline()

    def _take_head(self, data: bytes, position: int) -> int:
        """Parse what there is of a head; return where it ends in `data`."""
        room = self.site.max_header_bytes - self._fed
        if room <= 0:
            self._refuse(checks.too_large(self.site, self._url))
            return position
        end = self._cut(data, position)
        if end - position > room:
            end = position + int(room)
            self._tail = b""
        piece = data[position:end]
        if not self._odd:
            self._line += piece
            while self._line.startswith(b"\r\n"):  # RFC 9112, section 2.2
                self._line = self._line[2:]
            if b"\r\n" in self._line:
                self._odd = True
        self._fed += len(piece)
        self._feed(piece)
        return end

    def _take_chunks(self, data: bytes, position: int) -> int:
        """Parse what there is of a chunked body; return where it ends in `data`."""
        chunks = self._chunks
        assert chunks is not None
        end = chunks.follow(data, position)
        self._feed(data[position:end])
        if chunks.fault is not None and self._receiving is not None:
            self._refuse(chunks.fault)
        return end

    def _cut(self, data: bytes, position: int) -> int:
        """Return where the next empty line ends, which may have begun before `data`; else the end of `data`."""
        tail = self._tail
        if tail:
            end = (tail + data[position : position + 3]).find(b"\r\n\r\n")
            if end >= 0:
                self._tail = b""
                return position + end + 4 - len(tail)
        end = data.find(b"\r\n\r\n", position)
        if end >= 0:
            self._tail = b""
            return end + 4
        self._tail = (tail + data[max(position, len(data) - 3) :])[-3:]
        return len(data)

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._upgrade()
        except httptools.HttpParserInvalidMethodError:
            self._parser = refusals.UnknownMethod()
            self._feed(self._line or data)
        except httptools.HttpParserError as error:
            self._malformed(error)
        except Refused as refused:
            self._url = self._parser.target
            self._refuse(refused)

    def _is_stand_in(self) -> bool:
        """Whether the head that is complete is one of ours. Raises `Refused` for a request line of doubtful form."""
        self._odd = False
        if self._replaying:
            self._fields = []
            return True
        line, self._line = self._line, b""
        refusals.check_request_line(line)
        return False

    def _data_without_parser(self, data: bytes) -> None:
        if self.upgraded and (self.current is not None or self._queue):
            exchange: Any = self.current
            if exchange is None or not (exchange.is_websocket and exchange.started):  # earlier answers first
                self._rest += data
                if len(self._rest) > BODY_WATER:
                    self._pause_reading()
            else:
                exchange.data_received(data)
        else:
            self._extra = True  # refused, or closing: read and dropped, so that the kernel sends no reset
            self._dropped += len(data)
            if self._dropped >= lingering.MOST_BYTES:
                self.abort()

    def _enqueue(self, exchange: Exchange) -> None:
        if self._queue is self.site.no_queue:
            self._queue = deque()
        self._queue.append(exchange)
        if len(self._queue) >= self.site.max_pipelined:
            self._pause_reading()

    def _trailer(self, name: bytes, value: bytes) -> None:
        """Drop a trailer field, which no interface has a place for; `Chunks` bounds their size."""
        if name.lower() in _NOT_TRAILERS:
            raise Refused(400, "a field of the trailer section belongs into the header")
        self._trailers += 1
        if self._trailers > self.site.max_headers:
            raise Refused(431, "there are too many trailer fields")

    def _upgrade(self) -> None:
        """The parser stopped behind the head of a request that asks for another protocol."""
        exchange = self._receiving or (self._queue[-1] if self._queue else self.current)
        if exchange is not None and exchange.is_websocket:
            self.upgraded = True
            self._parser = None
        else:
            self._resume_after_upgrade(exchange)

    def _resume_after_upgrade(self, exchange: Exchange | None) -> None:
        """Go on with HTTP: an upgrade that is not offered is ignored (RFC 9110, section 7.8).

        A body that follows is parsed behind a stand-in head, because llhttp has skipped it.
        """
        if self._receiving is not None and exchange is self._receiving:
            self._replaying = self._odd = True
            self._parser = httptools.HttpRequestParser(self)
            coding = b"transfer-encoding: chunked" if self._left == UNKNOWN else b"content-length: %d" % self._left
            if not exchange.keep_alive:
                coding += b"\r\nconnection: close"  # so that nothing behind the body is taken for a request
            self._receiving = None
            self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % coding)
            self._receiving = exchange
            self._url = b""

    def take_rest(self) -> bytes:
        """Return what arrived behind an upgrade request."""
        rest, self._rest = self._rest, b""
        return rest

    def _malformed(self, error: Exception) -> None:
        cause = error.__context__
        if isinstance(cause, Refused):
            if self._parser is not None:
                cause.head_only = self._parser.get_method() == b"HEAD"
            self._refuse(cause)
        elif not isinstance(error, httptools.HttpParserCallbackError):
            if "Data after" in str(error):  # of Connection: close
                self._parser = None
                self._extra = True
            else:
                status = 505 if "Invalid HTTP version" in str(error) else 400
                self._refuse(Refused(status, f"malformed request: {error}"))
        else:
            _log.error("parsing a request failed", exc_info=cause or error)
            self.abort()
