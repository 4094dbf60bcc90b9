"""The state machine of HTTP/2: bytes in, events out; responses in, bytes out. Without IO. The only user of `ngh2`.

The contract of a `Session`, which `tests/contract/workers/test_h2_sessions.py` holds it to. None of it blocks.

 1. `receive` takes what the client sent, however it is cut, and returns events in the order of the frames. It never
    raises for what a client sends: a violation becomes a GOAWAY or RST_STREAM, which `take` returns.
 2. `take` returns at most so many bytes for the client, b"" if there are none now. Its own events follow by `events`.
 3. A violation that concerns one stream ends that stream; `Closed` tells it, and the others go on.
 4. One that concerns the connection ends it: the last bytes say why, and then `is_over` is true.
 5. What is sent to a stream that is gone is dropped.
 6. `respond` and `send` keep any amount of a body, and `take` gives as much of it as the client's windows allow;
    `queued` tells how much waits.
 7. A client may send as much of a body as its windows allow, and gets more with `consumed`, on a closed stream too.
 8. Streams whose responses `share` the connection take turns, frame by frame; others come one after the other.
 9. `Requested` has fields that the grammar allows, names in lower case, the pseudo-header fields first, each once.
10. More streams than allowed at once are refused, also before the client knows the limit.
11. After `announce_end` the client opens no stream, and answers by `Answered` once it knows; `end` tells it the last
    stream that is served.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import ngh2
from ngh2 import ConnectionClosed as Over
from ngh2 import DataReceived as Arrived
from ngh2 import ErrorCode as ErrorCode
from ngh2 import GoAwayReceived as Leaving
from ngh2 import PingAcknowledged as Answered
from ngh2 import PingReceived as Pinged
from ngh2 import PriorityUpdateReceived as Prioritised
from ngh2 import RequestReceived as Requested
from ngh2 import SettingsReceived as Configured
from ngh2 import StreamClosed as Closed
from ngh2 import StreamReset as Reset
from ngh2 import TrailersReceived as Trailed
from ngh2 import WindowUpdated as Widened

__all__ = [
    "Answered",
    "Arrived",
    "Closed",
    "Configured",
    "ErrorCode",
    "Leaving",
    "Over",
    "Pinged",
    "Prioritised",
    "Requested",
    "Reset",
    "Session",
    "Trailed",
    "Widened",
]

Fields = Iterable[tuple[bytes, bytes]]
STREAM_WINDOW = 65_535
"""Bytes of a request body that a client may send before the application takes any: those of RFC 9113, section 6.9.2."""
CONNECTION_WINDOW = 1 << 20
"""The same for all requests of a connection together."""
_MOST_RESETS = 1000  # of the client at once
_RESETS_PER_SECOND = 33  # of the client, in the long run; nginx and nghttp2 have limits of this size
_UNASKED, _SHARING = ngh2.Priority(), ngh2.Priority(incremental=True)  # RFC 9218, sections 4.1 and 4.2
_MOST_ACKS = 256  # replies to PING and SETTINGS that wait for a client that does not read
_GONE = (ngh2.StreamProtocolError, ngh2.ConnectionStateError, ngh2.ConnectionClosingError)
_NO_LIMIT = 1 << 24
_OVERHEAD = 32  # bytes that each field counts in addition (RFC 9113, section 6.5.2)


class Session:
    """One connection, from the server's side."""

    __slots__ = ("_engine", "_last", "events", "is_over", "newest", "queued")

    def __init__(self, max_streams: int, max_header_bytes: int, max_headers: int) -> None:
        """`max_header_bytes`, `max_headers`: more than twice as much ends the connection. 0: no limit."""
        max_streams = min(max_streams or _NO_LIMIT, _NO_LIMIT)
        max_header_bytes = min(max_header_bytes or _NO_LIMIT, _NO_LIMIT)
        max_headers = min(max_headers or _NO_LIMIT, _NO_LIMIT)
        most = 2 * max_header_bytes + _OVERHEAD * max_headers
        self._engine: Any = ngh2.Connection(
            ngh2.Role.SERVER,
            ngh2.Configuration(
                auto_window_update=False,
                max_outbound_ack=_MOST_ACKS,
                max_send_header_block_length=1 << 20,
                stream_reset_rate_limit=(min(2 * max_streams + 100, _MOST_RESETS), _RESETS_PER_SECOND),
                max_inbound_header_list_size=most,
                max_inbound_header_count=2 * max_headers + 8,
            ),
        )
        setting = ngh2.Setting
        self._engine.initiate_connection(
            {
                setting.MAX_CONCURRENT_STREAMS: max_streams,
                setting.MAX_HEADER_LIST_SIZE: max_header_bytes,
                setting.ENABLE_CONNECT_PROTOCOL: 1,
                setting.NO_RFC7540_PRIORITIES: 1,
            }
        )
        self._engine.set_local_window_size(CONNECTION_WINDOW)
        self._last = b""  # bytes of ours, behind those of an engine that has failed
        self.newest = 0
        """The newest stream whose request was served or refused; set by the owner."""
        self.is_over = False
        """True if nothing more is read or sent, once `take` has returned everything."""
        self.events = self._engine.events
        """Returns the events that have not been returned yet."""
        self.queued = self._engine.queued_body_size
        """Returns the bytes of the bodies that wait, of one stream if its number is given."""

    # -- the hot path; benchmark: python -m benchmarks h2 --------------------------------------------------------------

    def receive(self, data: bytes) -> Sequence[Any]:
        """Clause 1."""
        engine = self._engine
        try:
            engine.receive_data(data)
        except ngh2.DenialOfServiceError:
            self._fail(ErrorCode.ENHANCE_YOUR_CALM)
        except ngh2.ProtocolError:
            self._fail(ErrorCode.PROTOCOL_ERROR)
        except ngh2.ConnectionStateError:  # it is over: a client may go on sending for a while
            self.is_over = True
        return engine.events()  # type: ignore[no-any-return]

    def take(self, most: int) -> bytes:
        """Clause 2."""
        try:
            return self._engine.data_to_send(most)  # type: ignore[no-any-return]
        except ngh2.NGH2Error:
            self.is_over = True
            last, self._last = self._last, b""
            return last

    def respond(self, stream: int, fields: Sequence[tuple[bytes, bytes]], body: bytes, more: bool) -> None:
        """Send the head, and the first piece of the body."""
        engine = self._engine
        try:
            if body or more:
                engine.send_response(stream, fields)
                engine.send_data(stream, body, end_stream=not more)
            else:
                engine.send_response(stream, fields, end_stream=True)
        except _GONE:
            pass

    # -- less often ----------------------------------------------------------------------------------------------------

    def send(self, stream: int, body: bytes, more: bool) -> None:
        """Send another piece of the body. The response ends here unless `more`."""
        with suppress(*_GONE):
            self._engine.send_data(stream, body, end_stream=not more)

    def send_trailers(self, stream: int, fields: Fields) -> None:
        """End a response whose body has been sent."""
        with suppress(*_GONE):
            self._engine.send_trailers(stream, list(fields))

    def inform(self, stream: int, fields: Fields) -> None:
        """Send an informational response."""
        with suppress(*_GONE):
            self._engine.send_informational_response(stream, list(fields))

    def reset(self, stream: int, code: ErrorCode) -> None:
        """End a stream at once, without the rest of its response."""
        with suppress(*_GONE):
            self._engine.reset_stream(stream, code)

    def share(self, stream: int) -> None:
        """Clause 8; a client that has asked for another order gets that."""
        engine = self._engine
        with suppress(*_GONE):
            if engine.get_stream_priority(stream) == _UNASKED:
                engine.set_stream_priority(stream, _SHARING)

    def consumed(self, stream: int, count: int) -> None:
        """Clause 7."""
        with suppress(*_GONE):
            self._engine.acknowledge_received_data(count, stream)

    def widen(self, stream: int, size: int) -> None:
        """Let the client send so many bytes of this body ahead of the application."""
        with suppress(*_GONE):
            self._engine.set_local_window_size(size, stream_id=stream)

    def announce_end(self) -> None:
        """Clause 11: a GOAWAY that names no stream, and a PING behind it (RFC 9113, section 6.8)."""
        with suppress(*_GONE):
            self._engine.send_shutdown_notice()
            self._engine.ping(b"goodbye!")

    def end(self, code: ErrorCode = ErrorCode.NO_ERROR) -> None:
        """Tell the client the newest stream that is served: `newest`. The streams up to it go on."""
        with suppress(*_GONE):
            self._engine.send_goaway(code, last_stream_id=self.newest)

    def terminate(self, code: ErrorCode) -> None:
        """End the connection: streams are not finished."""
        with suppress(*_GONE):
            self._engine.terminate_connection(code, last_stream_id=self.newest)

    @property
    def has_output(self) -> bool:
        """True if `take` would return something, windows permitting."""
        return bool(self._engine.want_write)

    def _fail(self, code: ErrorCode) -> None:
        """The engine has failed, and sends nothing more: say why in its place."""
        self.is_over = True
        self._last = struct.pack(">HBBBIII", 0, 8, 7, 0, 0, self.newest, code)  # RFC 9113, sections 4.1 and 6.8
