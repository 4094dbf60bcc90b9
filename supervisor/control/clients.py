"""One client of the control line: its lines, its requests in progress, and the bytes that it has not read yet."""

from __future__ import annotations

import contextlib
import enum
import logging
import select
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from hybrid.supervisor.control import requests as known
from hybrid.supervisor.control.lines import Encoded, Lines, LineTooLong, UnencodableError, encode, encode_result
from hybrid.supervisor.control.requests import BadRequestError, Id, RequestKind
from hybrid.supervisor.control.rights import Peer, Rights
from hybrid.workers.contract.log import LOGGER_NAME

MOST_UNSENT: Final = 1024 * 1024
"""Bytes. A client is dropped when more than this waits for it."""
LONGEST_PART: Final = 5.0
"""Seconds from the first bytes of a line to its end."""
MOST_OPEN: Final = 64
"""Requests in progress."""
LINES_AT_ONCE: Final = 16
"""Lines read of one client before the others have their turn."""
_READ = 65536  # bytes at once
_MOST_READS = 8  # when the rest is thrown away; more than a socket buffer holds

logger = logging.getLogger(LOGGER_NAME)


class Request:
    """A request in progress. It holds its client: if that is gone, an answer goes nowhere."""

    __slots__ = ("client", "id", "name", "parameters")

    def __init__(self, client: Client, request_id: Id, kind: RequestKind, parameters: dict[str, Any]) -> None:
        self.client = client
        self.id = request_id
        self.name = kind.name
        """A name in `requests.REQUESTS`."""
        self.parameters = parameters
        """Those that the client gave, with the types of the table."""

    @property
    def is_open(self) -> bool:
        """False once it is answered, or the client is gone: no more work for it then."""
        return self in self.client.open

    @property
    def peer(self) -> Peer:
        """The process that sent it, for the log."""
        return self.client.peer

    def __repr__(self) -> str:
        return f"Request({self.name}, {self.parameters}, id={self.id!r}, uid={self.peer.uid})"


class Phase(enum.Enum):
    """The life of a client."""

    OPEN = "open"
    HALF = "half closed"  # the client sends no more; it may wait for answers and events
    OVER = "over"  # to be closed


class Client:
    """A connection that was accepted. No method blocks, and none raises because of what the client does.

    Close it when `is_over`; after that its methods have no effect.
    """

    def __init__(
        self,
        sock: socket.socket,
        peer: Peer,
        rights: Rights,
        recent: Callable[[], Sequence[Mapping[str, object]]] = tuple,
    ) -> None:
        """`recent` returns the last events, for a client that subscribes."""
        sock.setblocking(False)
        self.sock = sock
        self.peer = peer
        self.rights = rights
        self._recent = recent
        self.open: set[Request] = set()  # its requests that are not answered yet
        self.is_subscriber = False
        self._phase = Phase.OPEN
        self._lines = Lines()
        self._begun: float | None = None  # when the last line began, if its end is missing
        self._unsent = bytearray()
        self._is_mute = False  # it reads no more: what is for it is thrown away

    @property
    def is_over(self) -> bool:
        """True if nothing is left to do but to close it."""
        return self._phase is Phase.OVER

    @property
    def unsent(self) -> int:
        """The bytes that wait for it."""
        return len(self._unsent)

    @property
    def size(self) -> int:
        """The bytes that are kept of it and for it."""
        return len(self._unsent) + self._lines.size

    @property
    def has_line(self) -> bool:
        """True if `take` has something to do without a further byte of the client."""
        return self._phase is not Phase.OVER and self._lines.has_line

    @property
    def interest(self) -> tuple[bool, bool]:
        """Whether to wait for bytes of it, and for room to send. A hang-up is to be reported in any case."""
        return self._phase is Phase.OPEN, bool(self._unsent)

    @property
    def due(self) -> float | None:
        """When a line that it has begun must have ended, in monotonic seconds."""
        return None if self._begun is None else self._begun + LONGEST_PART

    def receive(self, now: float) -> None:
        """Send what is unsent, and read once. Call it when the kernel reports the descriptor."""
        self.flush()
        if self._phase is Phase.HALF and self._has_hung_up():
            self._phase = Phase.OVER
        if self._phase is not Phase.OPEN or self._lines.has_line:
            return
        try:
            data = self.sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError:  # ECONNRESET: it closed with something unread
            self._phase = Phase.OVER
            return
        if data:
            self._lines.feed(data)
            if not self._lines.has_part:
                self._begun = None
            elif self._begun is None or b"\n" in data:
                self._begun = now
        else:
            self._phase = Phase.HALF
            self._begun = None
            self._lines.cut()

    def take(self) -> list[Request]:
        """Return the requests in the next few lines. What is none is answered with an error."""
        taken = []
        for _ in range(LINES_AT_ONCE):
            if self._phase is Phase.OVER:
                break
            try:
                line = self._lines.take()
            except LineTooLong as error:
                self.end(known.BAD_REQUEST, str(error))
                break
            if line is None:
                break
            request = self._request_of(line)
            if request is not None:
                taken.append(request)
        self._end_if_idle()
        return taken

    def _request_of(self, line: bytes) -> Request | None:
        try:
            request_id, kind, parameters = known.parse(line)
        except BadRequestError as error:
            self._send_error(error.request_id, known.BAD_REQUEST, str(error))
            return None
        if self.rights is not Rights.FULL and not kind.is_for_lookers:
            reason = f"{kind.name} is for root and for the account of the supervisor; uid {self.peer.uid} may only look"
            self._send_error(request_id, known.REFUSED, reason)
        elif kind is known.PING:
            self._send({"id": request_id, "result": {}})
        elif kind is known.SUBSCRIBE:
            self._send_result(request_id, {"recent": list(self._recent())})
            self.is_subscriber = True
        elif len(self.open) >= MOST_OPEN:
            self._send_error(request_id, known.BUSY, f"{MOST_OPEN} requests of this client are in progress")
        else:
            request = Request(self, request_id, kind, parameters)
            self.open.add(request)
            return request
        return None

    # --- answers

    def answer(self, request: Request, result: Mapping[str, object] | Encoded) -> None:
        """Answer a request for good; no effect if it is not open."""
        if request in self.open:
            self.open.discard(request)
            self._send_result(request.id, result)
            self._end_if_idle()

    def refuse(self, request: Request, code: str, reason: str) -> None:
        """Answer a request with an error; no effect if it is not open."""
        if request in self.open:
            self.open.discard(request)
            self._send_error(request.id, code, reason)
            self._end_if_idle()

    def progress(self, request: Request, fields: Mapping[str, object]) -> None:
        """Report how far a request is; no effect if it is not open, or if it is no JSON."""
        if request in self.open:
            try:
                line = encode({"id": request.id, "progress": fields})
            except UnencodableError:
                logger.exception("control: the progress of %s cannot be encoded", request.name)
            else:
                self.send(line)

    def greet(self, fields: Mapping[str, object]) -> None:
        """Send the first line."""
        self._send(fields)

    def end(self, code: str, reason: str) -> None:
        """Send a last error, which belongs to no request, and be over."""
        self._send_error(None, code, reason)
        self._phase = Phase.OVER

    def expire(self) -> None:
        """End a client that has not ended its line in time."""
        self.end(known.BAD_REQUEST, f"the end of a line must follow its beginning within {LONGEST_PART:g} seconds")

    def drop(self) -> None:
        """Be over without a further word."""
        self._phase = Phase.OVER

    def send(self, line: bytes) -> None:
        """Send a line, now or as soon as there is room; drop the client if too much waits for it."""
        if self._is_mute or self._phase is Phase.OVER:
            return
        self._unsent += line
        self.flush()
        if len(self._unsent) > MOST_UNSENT:
            self._phase = Phase.OVER
            logger.debug("control: dropped uid %d (pid %d), which does not read", self.peer.uid, self.peer.pid)

    def flush(self) -> None:
        """Send as much as there is room for."""
        while self._unsent:
            try:
                sent = self.sock.send(self._unsent, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except ConnectionError:  # EPIPE: it reads no more. What it has sent is still to be read
                self._is_mute = True
                self._unsent.clear()
                break
            except OSError:  # ENOBUFS, ENOMEM
                self._phase = Phase.OVER
                return
            del self._unsent[:sent]
        self._end_if_idle()

    def close(self) -> None:
        """Close the connection: the other end gets what was sent, then EOF. May be called twice."""
        self._phase = Phase.OVER
        self.open.clear()
        with contextlib.suppress(OSError):  # gone already
            # a child that was just forked may have a copy of the descriptor; EOF must not wait for it
            self.sock.shutdown(socket.SHUT_RDWR)
            # with unread bytes in the buffer, close(2) would make it ECONNRESET
            for _ in range(_MOST_READS):
                if not self.sock.recv(_READ):
                    break
        self.sock.close()
        self._unsent.clear()
        self._lines.clear()

    def _end_if_idle(self) -> None:
        """Be over if the client sends no more, and nothing is left to send."""
        if self._phase is not Phase.HALF or self._lines.has_line:
            return
        if self._is_mute or not (self.open or self._unsent or self.is_subscriber):
            self._phase = Phase.OVER

    def _has_hung_up(self) -> bool:
        """Return True if the other end is closed, and not only shut down for writing."""
        poll = select.poll()
        poll.register(self.sock, 0)
        return bool(poll.poll(0))

    def _send_result(self, request_id: Id, result: Mapping[str, object] | Encoded) -> None:
        """Send a result that others have made; an error in its place if it is no JSON or too long."""
        try:
            line = encode_result(request_id, result)
        except UnencodableError as error:
            logger.exception("control: an answer cannot be encoded")
            self._send_error(request_id, known.FAILED, f"the answer cannot be encoded: {error}")
            return
        if len(line) > MOST_UNSENT:
            reason = f"the answer has {len(line)} bytes, and {MOST_UNSENT} is the limit: ask for one service or slot"
            self._send_error(request_id, known.FAILED, reason)
        else:
            self.send(line)

    def _send_error(self, request_id: Id, code: str, reason: str) -> None:
        self._send({"id": request_id, "error": {"code": code, "reason": reason}})

    def _send(self, fields: Mapping[str, object]) -> None:
        self.send(encode(fields))
