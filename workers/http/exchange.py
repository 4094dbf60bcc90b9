"""One request and its answer: what a wire and an application are to each other, whatever the two are.

A wire reads requests and sends answers: HTTP/1 in `hybrid.workers.http.h1`, messages in memory in a test. It makes an
`Exchange` for each request and calls `Site.answer` or `Site.answer_websocket` when it is that request's turn. The
application's side is a `Listener`: it keeps the exchange, answers through it, and knows no framing. The wire tells it
of what happens. All of it happens in the loop's thread, except where a member says otherwise.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from hybrid.workers.http.forwarded import Forwarded
    from hybrid.workers.http.head import Head, Status
    from hybrid.workers.http.site import Site
    from hybrid.workers.http.websocket.frames import Closed

Fields = list[tuple[bytes, bytes]]
NO_BODY_CAME: deque[bytes] = deque(maxlen=0)
"""The body of requests that have none: one for all."""
PERCENT = ord("%")  # as a number: to look for one in bytes costs a tenth of what looking for bytes does


class AnswerError(RuntimeError):
    """The application answers in a way that HTTP does not allow: too much body, a second head, a body before a head."""


class ClientGoneError(ConnectionResetError):
    """Raised in the application when it writes to, or reads from, a client that is gone (ASGI 2.4: an OSError)."""


class Refused(Exception):  # noqa: N818 - what happened to a request, not an error of ours
    """A request that no application gets: the status of the answer and what to tell the client."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.head_only = False
        """True if the request is known to be a HEAD."""


_DEPARTURES = frozenset({"ClientDisconnect", "WebSocketDisconnect", "ClientDisconnectedError"})  # Starlette's, Quart's


def is_departure(error: BaseException, told: bool) -> bool:
    """Return True if `error` only reports that the client is gone, which is no fault of the application.

    It is a `ClientGoneError`, was raised from one or in the place of one (`from None`), or is a group of such errors.
    Once the application has been `told` that its client is gone, the errors by which frameworks pass that on count as
    well. An error that merely came up after the client had left does not: it has a reason of its own.
    """
    if isinstance(error, BaseExceptionGroup):  # of a task group in which something was sent
        return all(is_departure(each, told) for each in error.exceptions)
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ClientGoneError):
            return True
        # `raise ... from None` puts an error in the place of the one that is being handled
        seen = seen.__context__ if seen.__suppress_context__ and seen.__cause__ is None else seen.__cause__
    return told and (isinstance(error, asyncio.CancelledError) or type(error).__name__ in _DEPARTURES)


class Stage(enum.Enum):
    """How far an answer is."""

    WAITING = "nothing of it is sent"
    SENDING = "its head is sent"
    WHOLE = "it is complete, or was cut: nothing more is sent"


class Request:
    """The head of a request: facts. Requests of one connection that repeat each other share it."""

    __slots__ = ("headers", "method", "said", "sent_target", "target", "version")

    said: Forwarded
    """What the proxy says about the request; set only where `Peer.believes`."""

    def __init__(self, method: str, target: bytes, sent_target: bytes, version: str, headers: Fields) -> None:
        self.method = method
        self.target = target
        """The path with its query, as the client wrote them."""
        self.sent_target = sent_target
        """The whole target: of a URL it has scheme and authority too."""
        self.version = version
        """`1.0` or `1.1`."""
        self.headers = headers
        """Names in lower case. Not to be changed."""


class Likeness(enum.Enum):
    """How much of the newest request repeats the one before."""

    NONE = "it was parsed"
    FIELDS = "its header fields"
    ALL = "its header fields, method and target"


class Template:
    """What an interface made of a request that repeated the fields of the one before, to be copied for the next.

    Never changed once it is made: where applications run in threads, the next request may be in another one.
    """

    __slots__ = ("headers", "made", "target")

    def __init__(self, headers: Fields, target: bytes, made: dict[str, Any]) -> None:
        self.headers = headers
        """The very list: it is told by identity."""
        self.target = target
        """That of the request, told by identity too."""
        self.made = made


class Repetition(Protocol):
    """The head of a request that may come again: where an interface keeps what it made of it, for the next one.

    Also used where the application runs, which may be a thread, and needs no lock: only one request of a connection is
    under way at a time, its interface uses this before it answers, and the next one starts when that answer is out.
    """

    likeness: Likeness
    """How much of this request repeats the one before."""
    template: Template | None
    """Of the last request that repeated the fields of the one before; made by an interface."""


class Peer(Protocol):
    """What all requests of a connection have in common."""

    client: tuple[str, int] | None
    """Host and port; None of a UNIX socket."""
    server: tuple[str, int | None] | None
    """Where the client has connected to, if that is known."""
    scheme: str
    believes: bool
    """True if the peer is a proxy whose forwarding headers count."""
    facts: Any
    """What an interface keeps for all requests of the connection; None until it does. Also used by threads."""

    def get_extra_info(self, name: str) -> Any:
        """As `asyncio.BaseTransport.get_extra_info`."""
        ...


class Served(Protocol):
    """A connection as the worker sees it, which tells it of the stop."""

    def drain(self) -> None:
        """Answer what is asked, and then close; what has no end of its own ends now."""
        ...

    def close_idle(self) -> None:
        """Close unless a request has begun, or an answer is on its way."""
        ...

    def interrupt(self) -> None:
        """Tell the application that the client is gone; close if there is none."""
        ...

    def interrupt_upgraded(self) -> None:
        """The same, but only if the connection was taken over."""
        ...


class Upgraded(Peer, Protocol):
    """The connection of an exchange that takes it over."""

    deadline: float
    """By the worker's clock; `expired` is called then. The wire uses it while the client takes nothing."""
    paused: bool
    """True if the client takes too little."""
    half_closed: bool
    """True if the client has ended its stream."""
    site: Site

    def is_closing(self) -> bool:
        """Return True if nothing more can be sent."""
        ...

    def write(self, data: Any) -> None:
        """Send bytes."""
        ...

    def take_rest(self) -> bytes:
        """Return what arrived behind the request before it was begun."""
        ...

    def pause_reading(self) -> None:
        """Read nothing more for now."""
        ...

    def resume_reading(self) -> None:
        """Go on reading."""
        ...

    def close(self) -> None:
        """Close once everything is sent."""
        ...

    def linger(self) -> None:
        """The same, for a client that may still be sending: it is to get what was sent."""
        ...

    def abort(self) -> None:
        """Close now: this side breaks off."""
        ...


class Listener(Protocol):
    """The application's side of an exchange: what a wire tells it. None of it may raise."""

    def body_arrived(self) -> None:
        """More of the body is there, or `Exchange.complete` has become true."""
        ...

    def resumed(self) -> None:
        """The client has taken enough: wake those that wait to send."""
        ...

    def disconnected(self) -> None:
        """`Exchange.gone` has become true: wake all that wait."""
        ...

    def peer_done(self) -> bool:
        """The client sends no more: it may be gone, or wait for the answer with its writing half closed.

        Return True to keep an upgraded connection open; others are kept open for their answer.
        """
        ...

    def draining(self) -> None:
        """The worker stops. What has no end of its own ends now."""
        ...

    def interrupt(self) -> None:
        """The worker stops soon: what is still under way is told that the client is gone."""
        ...


class UpgradedListener(Listener, Protocol):
    """One that takes the connection over: no request follows its own."""

    @property
    def owed(self) -> int:
        """Bytes of the current frame that have not come yet; 0 where the application parses frames itself."""
        ...

    @property
    def ended_by(self) -> Closed | None:
        """How the session ended, if one of the sides has said so."""
        ...

    def data_received(self, data: bytes) -> None:
        """Bytes that came behind the request."""
        ...

    def expired(self) -> None:
        """The deadline that the listener has set has passed."""
        ...


class Exchange(Protocol):
    """The wire's side of one request: what the application reads, and what it answers through."""

    connection: Any
    """The `Peer`; of an upgraded exchange the `Upgraded` connection."""
    request: Request
    repeated: Repetition | None
    """Set if the request repeats the one before, at least in part."""
    listener: Any
    """The application's side; None before it was called. It sets itself."""
    body: deque[bytes]
    """The part of the request's body that has arrived and was not taken. A thread may take from its left side.

    `NO_BODY_CAME` itself where the request has no body: that is told by identity.
    """
    buffered: int
    """Bytes in it."""
    complete: bool
    """True if all of the request's body has arrived."""
    gone: bool
    """True if the client is gone, or refused: nothing more comes, nothing can be sent."""
    stage: Stage
    sent: int
    """Bytes of the answer's body that are sent."""
    status: int
    """Of the answer; 0: none is sent."""
    keep_alive: bool
    """True if the client would send further requests."""
    began: float
    """When the request came, by `time.perf_counter`; the journal sets it, where there is one."""
    sent_head: bytes | None
    """The head of the answer, if `keep_head` was called."""

    # -- the body of the request

    def take_body(self) -> bytes:
        """Return what has arrived; b"" if nothing has. The client may send as much again."""
        ...

    def took(self, count: int) -> None:
        """A thread has taken `count` bytes out of `body` by itself."""
        ...

    def ask_for_body(self) -> None:
        """The application waits for the body: let a client that waits for 100 Continue begin."""
        ...

    # -- the answer

    def start(self, status: Status, fields: Head, body: Any, more: bool) -> None:
        """Send the head and the first piece of the body. Without `more` it is the last.

        Raises `AnswerError` if the head is sent already, or if the length differs from the Content-Length of
        `fields`; nothing is sent then.
        """
        ...

    def write(self, body: Any, more: bool) -> None:
        """Send another piece. Without `more` it is the last. Raises `AnswerError`."""
        ...

    async def send_file(self, status: Status, fields: Head, fd: int, offset: int, count: int) -> None:
        """Send the head, and `count` bytes of a file as the whole body. Waits for the client.

        Raises `AnswerError` as `start` does, `OSError` for a file that cannot be read, and `ClientGoneError`.
        """
        ...

    def inform(self, status: Status, fields: Head) -> None:
        """Send an informational answer, such as 103 Early Hints, to clients that know them."""
        ...

    def promise_trailers(self) -> None:
        """Trailers follow: the last piece of the body does not end the answer. Called before `start`.

        Forgotten where trailers have no place: HTTP/1.0, HEAD, and bodies with a Content-Length.
        """
        ...

    def send_trailers(self, fields: Head) -> None:
        """End the answer with trailer fields (RFC 9110, section 6.5). Raises `AnswerError` unless they are due."""
        ...

    def fail(self) -> None:
        """Answer 500 for an application that failed; cut an answer that has begun: it must not be taken for whole."""
        ...

    def abandon(self) -> None:
        """Take nothing more from the application: for it the client is gone from now on."""
        ...

    def leave(self) -> None:
        """The application was told that its client is gone, and has given up: end the answer without one of ours."""
        ...

    def keep_head(self) -> None:
        """Keep the head of the answer in `sent_head`. Called before the application is."""
        ...

    # -- waiting

    def is_held(self) -> bool:
        """Return True if the client takes too little, or nothing any more: wait before sending more.

        Threads may ask.
        """
        ...

    def news(self) -> asyncio.Future[None]:
        """Return what a coroutine waits for until a listener would be told of something. Several may wait."""
        ...

    def forget(self, waiter: asyncio.Future[None]) -> None:
        """`waiter`, which `news` returned, is no longer of interest."""
        ...

    def wake_waiters(self) -> None:
        """There is news."""
        ...

    # -- a connection that is taken over

    def upgrade(self, status: Status, fields: Head) -> Callable[[Any], None]:
        """Accept the upgrade that the request asks for; return the method that sends bytes from now on."""
        ...

    def take_over(self, status: int, head_size: int) -> None:
        """The listener writes to the connection by itself from now on, an answer of this status first.

        `head_size`: bytes of its head, which do not count as sent.
        """
        ...

    @property
    def ended_by(self) -> Closed | None:
        """How the session of an upgraded connection ended, if one of the sides has said so."""
        ...

    def finish(self) -> None:
        """Close the connection of an upgraded exchange once everything is sent."""
        ...
