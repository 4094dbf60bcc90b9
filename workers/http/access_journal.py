"""What the access log hears of connections, and exchanges that know what it asks, in the place of the plain ones.

They are used only where there is an access log, so that nothing is kept where there is none.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from hybrid.workers.http.access_record import AccessRecord, End
from hybrid.workers.http.connection import HttpConnection
from hybrid.workers.http.conversation import Conversation, Phase
from hybrid.workers.http.exchange import Exchange
from hybrid.workers.http.head import Head
from hybrid.workers.http.reader import Asked
from hybrid.workers.http.refusals import Refused
from hybrid.workers.http.websocket import ABNORMAL


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


class Journal:
    """Makes records of what connections tell."""

    def __init__(
        self, write: Callable[[AccessRecord], object], is_ending: Callable[[], bool], wants_heads: bool = True
    ) -> None:
        self._write = write
        self.wants_heads = wants_heads
        """Whether records have to say `head`, which is slower."""
        self._is_ending = is_ending  # the worker closes the connections that are left

    def whole(self, exchange: Exchange) -> None:
        """An answer is whole."""
        self._ended(exchange, End.WHOLE)

    def lost(self, exchange: Exchange, *, was_cut: bool) -> None:
        """The connection of an exchange whose answer is not whole, or of a session of a WebSocket, is gone."""
        end = exchange.end_said if isinstance(exchange, LoggedSession) else None
        self._ended(exchange, end or (End.CUT if was_cut or self._is_ending() else End.GONE))

    def _ended(self, exchange: Exchange, end: End) -> None:
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

    def refused(self, connection: HttpConnection, at_fault: Exchange | Asked | None, refused: Refused) -> None:
        """The server has answered a request by itself."""
        request = at_fault or Asked("", b"", "", ())
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
