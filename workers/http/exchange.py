"""The protocol between a wire and an application: one request and its response.

A wire reads requests and sends responses: HTTP/1 in `hybrid.workers.http.h1`, messages in memory in a test. It makes an
`Exchange` for each request and calls `HttpContext.answer` or `HttpContext.answer_websocket` when that request is next.
The application's side is a `Listener`: it keeps the exchange, responds through it, and knows no framing. The wire
notifies it of events. Everything happens in the loop's thread, except where a member says otherwise.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from hybrid.workers.http.context import HttpContext
    from hybrid.workers.http.forwarded import Forwarded
    from hybrid.workers.http.head import Head, Status
    from hybrid.workers.http.websocket.frames import Closed

Fields = list[tuple[bytes, bytes]]
NO_BODY_CAME: deque[bytes] = deque(maxlen=0)
"""Shared by all requests without a body."""
PERCENT = ord("%")  # as a number: searching bytes for an int costs a tenth of searching for bytes


class ResponseError(RuntimeError):
    """The application's response violates HTTP: too much body, a second head, a body before the head."""


class ClientGoneError(ConnectionResetError):
    """Raised in the application when it reads from or writes to a disconnected client (ASGI 2.4: an OSError)."""


class Refused(Exception):  # noqa: N818 - the fate of a request, not an error of ours
    """A request that is never passed to the application: the response status, and a reason for the client."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.head_only = False
        """True if the request is known to be a HEAD."""


_CLIENT_DISCONNECTS = frozenset(
    {"ClientDisconnect", "WebSocketDisconnect", "ClientDisconnectedError"}
)  # Starlette's, Quart's


def is_client_disconnect(error: BaseException, told: bool) -> bool:
    """Return True if `error` only reports that the client is gone, which is not the application's fault.

    It is a `ClientGoneError`, was raised from one or replaced one (`from None`), or is a group of such errors. Once the
    application has been `told` that its client is gone, the exceptions that frameworks raise for this count as well. An
    unrelated error that merely occurs after the client has left does not count.
    """
    if isinstance(error, BaseExceptionGroup):  # raised by a task group that was sending
        return all(is_client_disconnect(each, told) for each in error.exceptions)
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ClientGoneError):
            return True
        # `raise ... from None` replaces the error being handled
        seen = seen.__context__ if seen.__suppress_context__ and seen.__cause__ is None else seen.__cause__
    return told and (isinstance(error, asyncio.CancelledError) or type(error).__name__ in _CLIENT_DISCONNECTS)


class Stage(enum.Enum):
    """Progress of a response."""

    WAITING = "nothing is sent yet"
    SENDING = "the head is sent"
    WHOLE = "complete, or aborted: nothing more is sent"


class Request:
    """The head of a request, read-only. Consecutive identical requests of one connection share it."""

    __slots__ = ("forwarded", "headers", "method", "sent_target", "target", "version")

    forwarded: Forwarded
    """The values that the proxy sent for this request; set only if `Peer.trusts_proxy`."""

    def __init__(self, method: str, target: bytes, sent_target: bytes, version: str, headers: Fields) -> None:
        self.method = method
        self.target = target
        """The path with its query, as the client sent them."""
        self.sent_target = sent_target
        """The whole target as sent; includes scheme and authority if the target is a URL."""
        self.version = version
        """`1.0` or `1.1`."""
        self.headers = headers
        """Names in lower case. Do not modify."""


class Likeness(enum.Enum):
    """How much of the newest request repeats the previous one."""

    NONE = "nothing: it was parsed"
    FIELDS = "the header fields"
    ALL = "the header fields, method and target"


class Template:
    """An environ or scope built for a repeated request, to be copied for the next one.

    Immutable once made: where applications run in threads, the next request may run in another thread.
    """

    __slots__ = ("headers", "made", "target")

    def __init__(self, headers: Fields, target: bytes, made: dict[str, Any]) -> None:
        self.headers = headers
        """The list object itself: compared by identity."""
        self.target = target
        """The request's target, compared by identity too."""
        self.made = made


class Repetition(Protocol):
    """A request head that may be repeated: an interface keeps its template here for the next request.

    Used where the application runs, which may be a thread, and needs no lock: only one request of a connection is in
    progress at a time, its interface uses this before it responds, and the next request starts after that response.
    """

    likeness: Likeness
    """How much of this request repeats the previous one."""
    template: Template | None
    """From the last request that repeated the previous header fields; set by the interface."""


class Peer(Protocol):
    """The facts shared by all requests of a connection."""

    client: tuple[str, int] | None
    """Host and port; None for a UNIX socket."""
    server: tuple[str, int | None] | None
    """The address that the client connected to, if known."""
    scheme: str
    trusts_proxy: bool
    """True if the peer is a proxy whose forwarding headers are trusted."""
    facts: Any
    """An interface's cache for all requests of the connection; None until it is set. Also used by threads."""

    def get_extra_info(self, name: str) -> Any:
        """See `asyncio.BaseTransport.get_extra_info`."""
        ...


class Served(Protocol):
    """The worker's view of a connection: the steps of a stop."""

    def activity(self) -> tuple[int, int]:
        """Return the number of requests in progress, without WebSockets, and of open WebSockets."""
        ...

    deadline: float
    """In the clock's time, seconds. Of idle connections, that with the last deadline has asked last."""

    def drain(self) -> None:
        """Close after the next response; end responses that never end by themselves."""
        ...

    def leave(self) -> None:
        """Close with the next response, which announces that. Call it if `may_leave`."""
        ...

    @property
    def may_leave(self) -> bool:
        """True if it can announce its close, and does not do so already."""
        ...

    @property
    def is_leaving(self) -> bool:
        """True if it closes with its next response, and is no WebSocket."""
        ...

    def close_idle(self) -> None:
        """Close unless a request has begun, or a response is being sent."""
        ...

    def interrupt(self) -> None:
        """Tell the application that the client is gone; close if no application runs."""
        ...

    def interrupt_upgraded(self) -> None:
        """Call `interrupt` if the connection was taken over."""
        ...


class Upgraded(Peer, Protocol):
    """The connection of an exchange that has taken it over."""

    deadline: float
    """On the worker's clock; `expired` is called at that time. The wire uses it while the client reads nothing."""
    paused: bool
    """True if the client reads too slowly."""
    half_closed: bool
    """True if the client has closed its sending side."""
    context: HttpContext

    def is_closing(self) -> bool:
        """Return True if nothing more can be sent."""
        ...

    def write(self, data: Any) -> None:
        """Send bytes."""
        ...

    def take_rest(self) -> bytes:
        """Return the bytes received after the request and before it was started."""
        ...

    def pause_reading(self) -> None:
        """Stop reading for now."""
        ...

    def resume_reading(self) -> None:
        """Resume reading."""
        ...

    def close(self) -> None:
        """Close once everything is sent."""
        ...

    def linger(self) -> None:
        """Close once everything is sent, without a reset for a client that may still be sending."""
        ...

    def abort(self) -> None:
        """Close now, discarding unsent data."""
        ...


class Listener(Protocol):
    """The application's side of an exchange: callbacks for the wire. None of them may raise."""

    def body_arrived(self) -> None:
        """Called when more of the body has arrived, or `Exchange.complete` has become true."""
        ...

    def resumed(self) -> None:
        """Called when the client has read enough: wake the tasks that wait to send."""
        ...

    def disconnected(self) -> None:
        """Called when `Exchange.gone` has become true: wake all waiters."""
        ...

    def peer_done(self) -> bool:
        """Called when the client has closed its sending side: it may be gone, or wait for the response.

        Return True to keep an upgraded connection open; others stay open for their response.
        """
        ...

    def draining(self) -> None:
        """Called when the worker begins to stop. End responses that never end by themselves."""
        ...

    def interrupt(self) -> None:
        """Called shortly before the worker stops: tell the application that the client is gone."""
        ...


class UpgradedListener(Listener, Protocol):
    """A listener that takes the connection over: no request follows its own."""

    @property
    def owed(self) -> int:
        """Bytes still missing from the current frame; 0 if the application parses frames itself."""
        ...

    @property
    def ended_by(self) -> Closed | None:
        """How the session ended; None if neither side has closed it."""
        ...

    def data_received(self, data: bytes) -> None:
        """Called with bytes received after the request."""
        ...

    def expired(self) -> None:
        """Called when the deadline set by the listener has passed."""
        ...


class Exchange(Protocol):
    """The wire's side of one request: read its body, and respond."""

    connection: Any
    """The `Peer`; for an upgraded exchange, the `Upgraded` connection."""
    request: Request
    repeated: Repetition | None
    """Set if the request repeats the previous one, at least in part."""
    listener: Any
    """The application's side, a `Listener`; it sets itself. Of an upgrade an `UpgradedListener`.

    None before the application is called, and again once the wire has nothing more to tell it.
    """
    body: deque[bytes]
    """Body data received and not yet taken. A thread may pop from the left.

    `NO_BODY_CAME` itself if the request has no body: compared by identity.
    """
    buffered: int
    """Bytes in `body`."""
    complete: bool
    """True if the whole request body has arrived."""
    gone: bool
    """True if the client is gone or was refused: nothing more is received or sent."""
    stage: Stage
    sent: int
    """Bytes of the response body sent so far."""
    status: int
    """Status of the response; 0: none sent yet."""
    keep_alive: bool
    """True if the client would send further requests on this connection."""
    began: float
    """When the request arrived: `Counts.since`, or monotonic seconds set by `AccessEvents`. Set by the wire.

    At the end of the response the wire calls `Counts.ended` with it, or adds to `Counts.quick`; `Counts.refused` for a
    response of its own; and `Counts.upgraded` instead when the connection is taken over with status 101.
    """
    sent_head: bytes | None
    """The head of the response, if `keep_head` was called."""

    # -- the request body ------

    def take_body(self) -> bytes:
        """Return the body data received so far, b"" if there is none. Frees room for the client to send more."""
        ...

    def took(self, count: int) -> None:
        """Account for `count` bytes that a thread has popped from `body`."""
        ...

    def ask_for_body(self) -> None:
        """Tell the wire that the application waits for the body: send 100 Continue if the client expects it."""
        ...

    # -- the response

    def start(self, status: Status, fields: Head, body: Any, more: bool) -> None:
        """Send the head and the first piece of the body. The response ends here unless `more`.

        Raises `ResponseError` if the head was sent already, or if the length differs from the Content-Length in
        `fields`; nothing is sent then.
        """
        ...

    def write(self, body: Any, more: bool) -> None:
        """Send another piece of the body. The response ends here unless `more`. Raises `ResponseError`."""
        ...

    async def send_file(self, status: Status, fields: Head, fd: int, offset: int, count: int) -> None:
        """Send the head, and `count` bytes of a file as the whole body. Waits for the client.

        Raises `ResponseError` as `start` does, `OSError` if the file cannot be read, and `ClientGoneError`.
        """
        ...

    def send_informational(self, status: Status, fields: Head) -> None:
        """Send an informational response, such as 103 Early Hints, if the client's HTTP version has them."""
        ...

    def announce_trailers(self) -> None:
        """Announce trailers: the last piece of the body does not end the response. Call before `start`.

        Ignored if trailers are impossible: HTTP/1.0, HEAD, and bodies with a Content-Length.
        """
        ...

    def send_trailers(self, fields: Head) -> None:
        """End the response with trailer fields (RFC 9110, section 6.5). Raises `ResponseError` unless they are due."""
        ...

    def fail(self) -> None:
        """Send 500 for a failed application. Abort a response that has begun, so that it does not look complete."""
        ...

    def end_stream(self) -> bool:
        """End a response whose body has no end of its own: it has no length, and no file is being sent.

        The response is complete then, without trailers. Returns False, and does nothing, for other responses.
        """
        ...

    def abandon(self) -> None:
        """Accept nothing more from the application: to it, the client is gone from now on."""
        ...

    def leave(self) -> None:
        """End the exchange of an application that knows its client is gone: no error response is needed."""
        ...

    def keep_head(self) -> None:
        """Keep the head of the response in `sent_head`. Call before the application runs."""
        ...

    # -- waiting

    def is_held(self) -> bool:
        """Return True if the client reads too slowly or is gone: wait before sending more. Callable from any thread."""
        ...

    def news(self) -> asyncio.Future[None]:
        """Return a future that is resolved at the next event for the listener. Several may wait."""
        ...

    def forget(self, waiter: asyncio.Future[None]) -> None:
        """Drop `waiter`, a future returned by `news`."""
        ...

    def wake_waiters(self) -> None:
        """Resolve the waiters' futures."""
        ...

    # -- taking over the connection ----

    def upgrade(self, status: Status, fields: Head) -> Callable[[Any], None]:
        """Accept the requested upgrade; return the method that sends bytes from now on."""
        ...

    def take_over(self, status: int, head_size: int) -> None:
        """Let the listener write to the connection directly. Its bytes begin with a response of this status.

        `head_size`: bytes of its head, which do not count as sent.
        """
        ...

    @property
    def ended_by(self) -> Closed | None:
        """How the session of an upgraded connection ended; None if neither side has closed it."""
        ...

    def finish(self) -> None:
        """Close the connection of an upgraded exchange once everything is sent."""
        ...
