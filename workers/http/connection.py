"""One HTTP/1.1 connection: from bytes to exchanges in their order, and when it closes. Knows no loop.

It has the methods of `asyncio.Protocol`, called by whatever transport the loop has. llhttp (by httptools) parses; what
it lets through and HTTP does not is refused here. A request is handed over once the bytes at hand are parsed, so that
an application never sees one whose body is malformed in the same packet.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

import httptools

from hybrid.workers.http import refusals
from hybrid.workers.http.chunks import Chunks
from hybrid.workers.http.clock import NEVER
from hybrid.workers.http.exchange import Exchange
from hybrid.workers.http.head import UNKNOWN
from hybrid.workers.http.refusals import Refused
from hybrid.workers.http.site import Site

BODY_WATER = 65_536  # bytes of request body that wait for the application before reading pauses
BODY_GRACE = 5.0  # seconds before the rate of a body is looked at
LINGER = 2.0  # seconds to read what a client still sends after its last answer (RFC 9112, section 9.6)
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER without a wait (socket(7))
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


class HttpConnection:
    """The protocol of one connection. All methods belong to the loop's thread."""

    __slots__ = (
        "_advancing",
        "_awaited",
        "_block",
        "_block_fields",
        "_body_mark",
        "_body_since",
        "_chunks",
        "_closed",
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
        "write_last",
    )

    def __init__(self, site: Site) -> None:
        self.site = site
        self.clock = site.clock
        self.transport: Any = None
        self.write: Callable[[Any], None]
        """Sends bytes, or keeps them: the transport's own method."""
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
        self.template: tuple[list[tuple[bytes, bytes]], str, bytes, Any] | None = None
        """Header fields, method and target of a request that repeated the fields of the one before, and what an
        interface made of them."""
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
        self._block_fields: list[tuple[bytes, bytes]] | None = None  # what it says
        self._last = b""  # the last head that was taken without the parser, and what its first line says
        self._last_method = ""
        self._last_simple = True
        self._last_target = b""
        self._awaited: bytes | None = None  # the same while no request is under way
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
        self._rest = b""  # bytes for whoever gets the connection after an upgrade
        self._waits_for_body = False
        self._body_since = 0.0
        self._body_mark = 0
        self._unsent = 0
        self._extra = False  # the client sent more than it should have before the end

    # -- the transport's side ------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """Called once, first."""
        self.transport = transport
        self.write = transport.write
        self.write_last = getattr(transport, "write_last", transport.write)
        site = self.site
        self.deadline = site.header_deadline()
        site.opened(self)

    # -- the hot path; benchmarks: python -m benchmarks wsgi asgi --------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived and start what it completes."""
        awaited = self._awaited
        if awaited is not None:
            self._awaited = None
            if data.endswith(awaited) and self._repeat(data, len(data) - len(awaited)):
                return
        self.repeats = self.identical = False
        self._last = b""  # it ends with a header section that is no longer the newest
        end = data.find(b"\r\n\r\n") + 4
        if (
            self._fed == 0
            and self._receiving is None
            and self._parser is not None
            and 4 <= end <= self.site.max_header_bytes
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
        self._served = served = self._served + 1
        if served >= site.max_requests:
            self.persistent = False
            self._parser = None
        self.current = exchange = site.make_exchange(
            self, self._last_method, self._last_target, "1.1", self._block_fields, True
        )
        exchange.complete = exchange.started = True
        exchange.simple = self._last_simple
        if not self.paused:
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
            method = self._rare_method(name)
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
                    length = self._length(value)
                elif field == b"expect":
                    continues = self._expectation(value, version)
                elif field in _CONNECTION:
                    version = parser.get_http_version()
                elif field == b"proxy":
                    dropped = True  # as HTTP_PROXY it would redirect what the application itself asks for (httpoxy)
                else:
                    special = True
            elif _UNDERSCORE in field and not site.underscore_headers:
                dropped = True
        authority = None
        if target[:1] != b"/" or _HASH in target:
            target, authority = refusals.split_target(method, target)
            if authority is not None:  # it overrides Host (RFC 9112, section 3.2.2)
                fields = [item for item in fields if item[0] != b"host"]
                fields.insert(0, (b"host", authority))
        if hosts != 1:
            self._check_hosts(hosts, version)
        chunked = special and self._check_coding(fields, version)
        if dropped:
            kept = [item for item in fields if item[0] != b"proxy"]
            fields = kept if site.underscore_headers else [item for item in kept if _UNDERSCORE not in item[0]]
        if len(fields) > site.max_headers:
            raise Refused(431, "there are too many header fields")
        if len(target) > site.max_request_line:
            raise Refused(414, "the request target is too long")
        if length > site.max_body_size > 0:
            raise Refused(413, f"the body is larger than {site.max_body_size} bytes")
        self._served = served = self._served + 1
        if served >= site.max_requests:
            self.persistent = False
        repeatable = served > 1 and keep_alive and version == "1.1" and not (special or length >= 0 or continues)
        if repeatable and authority is None and not self.believes:  # an authority has changed what the fields say
            self._block_fields = fields
        else:
            self._block_fields = self._block = None
        make = site.make_exchange
        if special and site.make_websocket is not None and self._is_websocket(parser, method, version, fields):
            make = site.make_websocket
        exchange = make(self, method, target, version, fields, keep_alive)
        exchange.simple = exchange.keep_alive and version == "1.1" and method != "HEAD"
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
        if self.current is None and not self._queue:  # the next of the queue may not have been made current yet
            self.current = exchange
        else:
            self._enqueue(exchange)
        if not self.paused:  # else the client has to take something first, and is given no more time for that
            self.deadline = NEVER

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
            if exchange is self.current:
                exchange.body_arrived()
        if not self.persistent and self._served >= self.site.max_requests:
            self._parser = None  # the rest of a pipeline is dropped

    def _advance(self) -> None:
        """Start exchanges until one is under way. Never nested: an answer may be complete before `start` returns."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while not self._closed:
                exchange = self.current
                if exchange is None:
                    if not self._queue:
                        break
                    self.current = exchange = self._queue.popleft()
                    self._may_read()
                if exchange.started:
                    break
                exchange.started = True
                exchange.start()
                if self.current is exchange:
                    break
        finally:
            self._advancing = False
        if self._refusal is not None and self.current is None and not self._closed and not self._lingering:
            self._answer_refusal()

    def exchange_ended(self, exchange: Exchange) -> None:
        """The answer is whole. Called by the exchange."""
        site = self.site
        if exchange is not self.current:
            return
        self.current = None
        if not (exchange.keep_alive and (self.persistent or self.has_more())):
            self._close(exchange)
        elif self._queue or self._refusal is not None:
            if not self._advancing:  # not here: this may be the turn of the application that has just answered
                site.call_soon(self._advance)
        else:
            if not self.paused:
                self.deadline = self.clock.now + site.keep_alive_timeout
            self._head_timed = False
            if not self._fed:
                self._awaited = self._block
            if not self._reading:
                self._resume_reading()

    def has_more(self) -> bool:
        """Whether answers follow the current one, although no further request is taken."""
        return bool(self._queue) or self._refusal is not None

    # -- less often ----------------------------------------------------------------------------------------------

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
            self._refuse(self._too_large(self._url))
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
        except httptools.HttpParserError as error:
            self._malformed(error)

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

    @staticmethod
    def _rare_method(name: bytes) -> str:
        if name == b"CONNECT":
            raise Refused(501, "this server is no proxy: CONNECT is not supported")
        return name.decode("ascii")

    def _enqueue(self, exchange: Exchange) -> None:
        if self._queue is self.site.no_queue:
            self._queue = deque()
        self._queue.append(exchange)
        if len(self._queue) >= self.site.max_pipelined:
            self._pause_reading()

    @staticmethod
    def _length(value: bytes) -> int:
        """Return a Content-Length, which llhttp has found to be digits; others may not count as far as it does."""
        if len(value) > 18:
            raise Refused(400, "the Content-Length has too many digits")
        return int(value)

    def _expectation(self, value: bytes, version: str) -> bool:
        if value.lower() != b"100-continue":
            raise Refused(417, "the only expectation this server can meet is 100-continue")
        return version == "1.1"

    def _too_large(self, target: bytes) -> Refused:
        if len(target) > self.site.max_request_line:
            return Refused(414, "the request target is too long")
        return Refused(431, "the header fields are too large")

    @staticmethod
    def _check_hosts(count: int, version: str) -> None:
        if count > 1:
            raise Refused(400, "there is more than one Host header field")
        if version == "1.1":
            raise Refused(400, "the Host header field is missing")

    @staticmethod
    def _check_coding(fields: list[tuple[bytes, bytes]], version: str) -> bool:
        """Whether the body is chunked; nothing else is known here (RFC 9112, section 6.1)."""
        codings = [value.lower() for name, value in fields if name == b"transfer-encoding"]
        if not codings:
            return False
        if version == "1.0":
            raise Refused(400, "Transfer-Encoding is not part of HTTP/1.0")
        if codings != [b"chunked"]:
            raise Refused(400, "the only transfer coding this server knows is chunked")
        return True

    @staticmethod
    def _is_websocket(parser: Any, method: str, version: str, fields: list[tuple[bytes, bytes]]) -> bool:
        return (
            method == "GET"
            and version == "1.1"
            and bool(parser.should_upgrade())
            and any(name == b"upgrade" and value.lower() == b"websocket" for name, value in fields)
        )

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

    # -- refusing ------------------------------------------------------------------------------------------------

    def _malformed(self, error: Exception) -> None:
        cause = error.__context__
        if isinstance(cause, Refused):
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

    def _refuse(self, refused: Refused) -> None:
        """Take no more from this client; answer it once the earlier answers are out."""
        if self._refusal is not None:
            return
        self._parser = None
        self._refusal = refused
        self.persistent = False
        broken, self._receiving = self._receiving, None
        if broken is None:
            return
        broken.gone = True
        if broken is self.current:
            self._take_over(broken)
        elif broken in self._queue:
            self._queue.remove(broken)

    def _take_over(self, broken: Exchange) -> None:
        """The body of the current exchange is broken: nobody but us answers it now."""
        if broken.answered:
            self.abort()
        else:
            self.current = None
        if broken.started:
            broken.disconnected()

    def _answer_refusal(self) -> None:
        refused = self._refusal
        assert refused is not None
        if self.transport.is_closing():  # the answer before it has closed the connection
            return
        self.site.refused(self, refused)
        self.write(refusals.answer(refused.status, refused.reason, self.clock.fields))
        self.linger()

    def refuse(self, status: int, reason: str) -> None:
        """Answer `status` and close, if nothing of an answer is out; else cut the connection."""
        if self.current is not None and self.current.answered:
            self.abort()
            return
        current, self.current = self.current, None
        self._queue.clear()
        self._receiving = current  # whatever it is: it gets no more
        self._refusal = None
        self._refuse(Refused(status, reason))
        if current is not None and current.started:
            current.disconnected()
        self._advance()

    # -- reading and writing ----------------------------------------------------------------------------------------

    def awaits_body(self, exchange: Exchange) -> None:
        """The application waits for the body: from now on it must come at some rate."""
        if exchange.complete or self._waits_for_body:
            return
        self._waits_for_body = True
        self._body_since = self.clock.now
        self._body_mark = self._received
        self.deadline = self.clock.now + BODY_GRACE
        self._resume_reading()

    def took_body(self) -> None:
        """The application has taken what had arrived."""
        if not self._reading:
            self._may_read()

    def _may_read(self) -> None:
        """Go on reading if neither a body nor requests pile up."""
        receiving = self._receiving
        if len(self._queue) < self.site.max_pipelined and (receiving is None or receiving.buffered < BODY_WATER):
            self._resume_reading()

    def _pause_reading(self) -> None:
        if self._reading and not self._closed:
            self._reading = False
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._reading and not self._closed:
            self._reading = True
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        """Called by the transport: too much is unsent."""
        self.paused = True
        self._unsent = self.transport.get_write_buffer_size()
        self.deadline = self.clock.now + self.site.send_timeout

    def resume_writing(self) -> None:
        """Called by the transport: there is room again."""
        self.paused = False
        if self._closed:
            return
        self._unsent = 0
        self.deadline = self.clock.now + self._patience()
        if self.current is not None:
            self.current.resumed()

    def _patience(self) -> float:
        """How many seconds the connection waits for whatever is next, now that the client has taken most of it."""
        if self.transport.is_closing():
            return self.site.send_timeout  # for what is still unsent
        if self._lingering:
            return LINGER
        if self._waits_for_body:
            return BODY_GRACE
        if self.current is not None or self.has_more():
            return NEVER
        if self._fed:
            self._head_timed = True
            return self.site.header_timeout
        return self.site.keep_alive_timeout

    # -- the end -----------------------------------------------------------------------------------------------------

    def expired(self) -> None:
        """The deadline has passed. Called by the clock."""
        self.deadline = NEVER
        unsent = self.transport.get_write_buffer_size()
        if unsent or self.paused:
            self._expired_sending(unsent)
        elif self._lingering or (self.upgraded and self.current is None):
            self.abort()
        elif self.current is not None and self.current.is_websocket:
            current: Any = self.current
            current.expired()
        elif self.current is not None:
            if self._waits_for_body:
                self._expired_receiving()
        elif self._fed or not self._served:
            if self._fed:
                self.refuse(408, "the header fields did not come in time")
            else:
                self.close()
        else:
            self.close()

    def _expired_sending(self, unsent: int) -> None:
        """A client that takes something, however little, goes on; one that takes nothing is cut."""
        if unsent < self._unsent or not self._unsent:
            self._unsent = unsent
            self.deadline = self.clock.now + self.site.send_timeout
        else:
            _log.info("closing the connection of %s: it takes no data", self.client)
            self.cut()

    def _expired_receiving(self) -> None:
        now = self.clock.now
        elapsed = now - self._body_since
        if self._received - self._body_mark < self.site.min_body_rate * elapsed:
            self.refuse(408, "the body comes too slowly")
            return
        self._body_since, self._body_mark = now, self._received
        self.deadline = now + BODY_GRACE

    def _close(self, exchange: Exchange) -> None:
        """Close after the last answer."""
        self.persistent = False
        self._queue.clear()
        if exchange.complete and not self._extra and self._refusal is None:
            self.close()
        else:
            self.linger()

    def linger(self) -> None:
        """Close without a reset: it could overtake the answer if unread bytes were there at close(2)."""
        self._parser = None
        self.persistent = False
        self._awaited = None
        if self._closed or self._lingering:
            return
        if self.half_closed or not self.transport.can_write_eof():
            self.close()
            return
        self._lingering = True
        self.deadline = self.clock.now + LINGER
        self.transport.write_eof()
        self._resume_reading()

    def close(self) -> None:
        """Close once everything is sent."""
        self._parser = None
        self.persistent = False
        self._awaited = None  # a transport may still hand over what it has read already
        if not self._closed:
            self.transport.close()
            if self.transport.get_write_buffer_size():
                self._unsent = 0
                self.deadline = self.clock.now + self.site.send_timeout

    def abort(self) -> None:
        """Close now."""
        self._parser = None
        self.persistent = False
        self._awaited = None
        if not self._closed:
            self.transport.abort()

    def cut(self) -> None:
        """Close now, with a reset: for a client that reads nothing the kernel would keep megabytes for many minutes."""
        sock = None if self._closed else self.transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):  # it is closed
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.abort()

    def drain(self) -> None:
        """The worker stops: answer what is asked with `Connection: close`, and keep idle connections for that.

        A client must not lose a request that crosses a close: an idle connection goes at its keep-alive deadline.
        """
        self.persistent = False
        if self.current is None:
            self.deadline = min(self.deadline, self.clock.now + self.site.keep_alive_timeout)
        elif self.current.started:
            self.current.draining()

    def interrupt(self) -> None:
        """The grace period is nearly over: the application is told that the client is gone; idle ones are closed."""
        if self.current is None:
            self.close()
        elif self.current.started:
            self.current.interrupt()

    def eof_received(self) -> bool:
        """The client sends no more. An answer under way goes on; keeps the transport open for it."""
        self.half_closed = True
        self.persistent = False
        if self._receiving is not None:
            self._refuse(Refused(400, "the connection ended within the body"))
        if self.current is not None and self.current.is_websocket and self.current.started:
            self.current.peer_done()
            return False
        if self._lingering or not self.transport.can_write_eof():
            return False  # TLS has no half-closed connections
        if self.current is None and not self.has_more():
            return False
        self._advance()
        if self.current is not None and self.current.started:
            self.current.peer_done()
        return not self._closed

    def connection_lost(self, error: Exception | None) -> None:
        """Called once, last."""
        self._closed = True
        self._parser = None
        self.persistent = False
        self._receiving = None
        self.site.closed(self)
        current = self.current
        self._queue.clear()
        if current is not None and not current.ended:
            current.gone = True
            if current.started:
                current.disconnected()
        self.current = None
