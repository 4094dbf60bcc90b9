"""What the access log hears of connections: exchanges and connections that tell it, in the place of the plain ones.

They are used only where there is an access log, so that nothing is asked or kept where there is none.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from hybrid.workers.http.access_record import AccessRecord, End, Pairs
from hybrid.workers.http.connection import HttpConnection
from hybrid.workers.http.conversation import Conversation, Phase
from hybrid.workers.http.exchange import Exchange
from hybrid.workers.http.head import Head
from hybrid.workers.http.refusals import Refused
from hybrid.workers.http.site import Site
from hybrid.workers.http.websocket import ABNORMAL

_VERSIONS = frozenset({"1.0", "1.1"})


class Logged(Exchange):
    """A request that knows when it came, and which head its answer had. To be mixed with an interface's exchange."""

    began: float
    """When its header fields were complete, by `time.perf_counter`."""
    sent_head: bytes
    """Of the answer; kept only where `Journal.wants_heads`."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.began = time.perf_counter()
        self.sent_head = b""

    def write(self, body: Any, more: bool) -> None:
        """Send a piece of the body; where the head is asked for, always in the way that makes it in one piece."""
        journal = self.connection.site.journal
        if journal is not None and journal.wants_heads:
            self._write_slowly(self.head, body, more)
        else:
            super().write(body, more)

    def _open(self, fields: Head, size: int, more: bool) -> bytes:
        self.sent_head = head = super()._open(fields, size, more)
        return head


class LoggedSession(Logged, Conversation):
    """The same of a WebSocket, which counts what is sent after its handshake."""

    def start(self) -> None:
        """Count from now on."""
        self.sent_frames = 0  # bytes
        connection = self.connection
        write = connection.write

        def counting(data: Any) -> None:
            if self.status == 101:
                if self.phase is Phase.ASKED:
                    self.sent_head = bytes(data)
                else:
                    self.sent_frames += len(data)
            write(data)

        connection.write = counting
        super().start()

    @property
    def sent(self) -> int:
        """Bytes after the head."""
        return self.sent_frames if self.status == 101 else super().sent

    @property
    def end_said(self) -> End | None:
        """How it ended, if one of the sides has said so before the connection was gone."""
        closed = self.wire.closed if self.status == 101 else None
        if closed is None or closed.code == ABNORMAL:
            return None
        return End.CUT if closed.failed else End.WHOLE


class Request(NamedTuple):
    """What was parsed of a request that was refused."""

    method: str
    target: bytes
    version: str
    headers: Pairs


class LoggedConnection(HttpConnection):
    """A connection that tells `site.journal` of each answer that has ended, however it did."""

    __slots__ = ("_asked", "_at_fault", "_was_cut")

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._asked: Request | None = None  # the request whose header fields are being looked at
        self._at_fault: Exchange | Request | None = None  # what is refused
        self._was_cut = False

    def on_headers_complete(self) -> None:
        """Called by the parser: keep what it has found for the case that it is refused."""
        if not self._replaying:
            self._asked = self._parsed()
        super().on_headers_complete()
        self._asked = None

    def exchange_ended(self, exchange: Exchange) -> None:
        """The answer is whole."""
        self._journal.ended(exchange, End.WHOLE)
        super().exchange_ended(exchange)

    def _refuse(self, refused: Refused) -> None:
        if self._refusal is None:
            self._at_fault = self._receiving or self._asked or self._parsed()
        super()._refuse(refused)

    def _answer_refusal(self) -> None:
        refused = self._refusal
        assert refused is not None
        super()._answer_refusal()
        self._journal.refused(self, self._at_fault, refused)

    def abort(self) -> None:
        """Close now."""
        self._was_cut = True
        super().abort()

    def connection_lost(self, error: Exception | None) -> None:
        """An answer that is not whole, and a session of a WebSocket, end here."""
        current = self.current
        super().connection_lost(error)
        if current is not None:
            end = current.end_said if isinstance(current, LoggedSession) else None
            was_cut = self._was_cut or self._journal.is_ending()
            self._journal.ended(current, end or (End.CUT if was_cut else End.GONE))

    @property
    def _journal(self) -> Journal:
        journal = self.site.journal
        assert journal is not None
        return journal

    def _parsed(self) -> Request | None:
        """Return what the parser knows of the request whose head it is in; None before it knows the target."""
        parser = self._parser
        if parser is None or not self._url:
            return None
        version = parser.get_http_version()
        return Request(
            parser.get_method().decode("ascii"), self._url, version if version in _VERSIONS else "", self._fields
        )


class Journal:
    """Makes records of what connections tell."""

    def __init__(
        self, write: Callable[[AccessRecord], object], is_ending: Callable[[], bool], wants_heads: bool = True
    ) -> None:
        self._write = write
        self.wants_heads = wants_heads
        """Whether records have to say `head`, which is slower."""
        self.is_ending = is_ending
        """Whether the worker closes the connections that are left."""

    def ended(self, exchange: Exchange, end: End) -> None:
        """An answer has ended, or there will be none."""
        assert isinstance(exchange, Logged)
        connection = exchange.connection
        said = exchange.said if connection.believes else connection
        self._write(
            AccessRecord(
                said.client,
                exchange.method,
                exchange.sent_target,
                exchange.version,
                exchange.status if exchange.answered else 0,
                exchange.sent,
                time.perf_counter() - exchange.began,
                exchange.headers,
                exchange.sent_head,
                said.scheme,
                time.time(),
                end,
            )
        )

    def refused(self, connection: HttpConnection, at_fault: Exchange | Request | None, refused: Refused) -> None:
        """The server has answered a request by itself."""
        request = at_fault or Request("", b"", "", ())
        began = request.began if isinstance(request, Logged) else None
        said = request.said if isinstance(request, Exchange) and connection.believes else connection
        self._write(
            AccessRecord(
                said.client,
                request.method,
                request.sent_target if isinstance(request, Exchange) else request.target,
                request.version,
                refused.status,
                0 if refused.head_only else len(refused.reason) + 1,  # see `refusals.answer`
                0.0 if began is None else time.perf_counter() - began,
                request.headers,
                b"",
                said.scheme,
                time.time(),
                End.REFUSED,
            )
        )
