"""What supervisor, workers and zygotes tell each other. `wire` says how it travels.

`News` goes up, `Order` goes down; descriptors that belong to an order travel beside it (SCM_RIGHTS, unix(7)).
"""

from __future__ import annotations

from hybrid.workers.contract.records import record
from hybrid.workers.contract.wire import Codec, UndecodableError

MAX_MESSAGE = 32 * 1024  # bytes; far below a socket buffer's default (208 KiB): one always fits when it is empty
# characters of a text field; a quarter of it where JSON's escapes (up to 12 bytes a character) need more
_MAX_TEXT = 4 * 1024


class MessageError(ValueError):
    """A datagram that is no message of ours: a bug or a hostile application; never fatal to the supervisor."""


@record(frozen=True, slots=True)
class Ready:
    """The worker has loaded the application, runs its loop and accepts connections."""

    loop: str
    """Name of the event loop in use (`epoll`, `gevent`, ...)."""
    interface: str
    """What the application turned out to be, e.g. `async stream`."""
    scheme: str = ""
    """`http` or `https` for a web application."""
    takes_orders: bool = False
    """It drains when it reads `Drain`; otherwise at SIGTERM only."""


@record(frozen=True, slots=True)
class Draining:
    """The worker accepts no more and ends once its connections have; the supervisor may not have asked for it."""


@record(frozen=True, slots=True)
class Broken:
    """A listening socket of the worker's was closed or shut down: it drains, and needs a successor."""

    why: str
    """For a log line, e.g. `127.0.0.1:8000 was closed in this process`."""


@record(frozen=True, slots=True)
class BootFailed:
    """The worker cannot start, and a second try would fail alike: it ends with `code`."""

    code: int
    """A value of `Exit`."""
    reason: str
    """One or a few lines for a person: what happened, where, what to type next."""


@record(frozen=True, slots=True)
class Forked:
    """The first message of a worker that a zygote has forked: it is the supervisor's child now, and has this pid."""

    pid: int


@record(frozen=True, slots=True)
class Awake:
    """A connection was accepted while the supervisor did not watch for stalls."""


@record(frozen=True, slots=True)
class RecycleDue:
    """The worker has reached one of its limits: it serves on until its successor does."""

    why: str
    """For a log line, e.g. `served 500 requests`."""


@record(frozen=True, slots=True)
class ReforkReady:
    """The worker has served so much that its memory is worth sharing: it may become the next zygote."""


@record(frozen=True, slots=True)
class Warm:
    """A zygote has imported the application, or a worker has become one: it can fork workers."""


@record(frozen=True, slots=True)
class Unfit:
    """A zygote has imported the application, or a worker was to become one: its memory must not be forked; it ends."""

    findings: str
    """For a log line, e.g. `2 live threads (Thread-1, Thread-2)`."""


@record(frozen=True, slots=True)
class CannotSpawn:
    """A zygote could not fork the worker of a slot."""

    slot: int
    reason: str


@record(frozen=True, slots=True)
class Drain:
    """Drain. SIGTERM alone would not do: application code may have changed its handler."""


@record(frozen=True, slots=True)
class Ping:
    """Note in your record that your loop turns."""


@record(frozen=True, slots=True)
class Promote:
    """To a worker: drain, and become the zygote of a generation. What follows on the channel is for the zygote."""

    generation: int


@record(frozen=True, slots=True)
class Adopt:
    """Accept what waits at the listeners of these slots too, and of no others but your own."""

    slots: tuple[int, ...]


@record(frozen=True, slots=True)
class Stop:
    """The whole service stops: no successor serves the same clients. SIGTERM follows, or has come; may be said again.

    A worker that gets SIGTERM without this is replaced, by a reload for instance, or its slot is given up.
    """

    at_a_terminal: bool
    """A person has pressed Ctrl-C, and waits."""
    waiting: tuple[int, ...]
    """Slots in whose queues connections wait now: accept those too."""


@record(frozen=True, slots=True)
class Learn:
    """A slot was added; its listeners travel beside this, in the order of `addresses`."""

    slot: int
    addresses: tuple[str, ...]
    """As in `Listener.address`."""
    kinds: tuple[str, ...]
    """Values of `ListenerKind`, one for each address."""


@record(frozen=True, slots=True)
class Spawn:
    """To a zygote: fork the worker of a slot; its end of the channel and its dump file travel beside this."""

    slot: int
    generation: int
    place: int
    """Of its record on the scoreboard."""


News = Ready | Draining | Broken | BootFailed | Forked | Awake | RecycleDue | ReforkReady | Warm | Unfit | CannotSpawn
"""What a worker or a zygote tells the supervisor."""
Order = Drain | Ping | Promote | Adopt | Stop | Learn | Spawn
"""What the supervisor tells a worker or a zygote."""
Message = News | Order
_CODEC: Codec[Message] = Codec(
    (
        *(Ready, Draining, Broken, BootFailed, Forked, Awake, RecycleDue, ReforkReady, Warm, Unfit, CannotSpawn),
        *(Drain, Ping, Promote, Adopt, Stop, Learn, Spawn),
    ),
    _MAX_TEXT,
)


def encode(message: Message) -> bytes:
    """Return `message` as one datagram of at most `MAX_MESSAGE` bytes; long texts are cut."""
    encoded = _CODEC.encode(message)
    return encoded if len(encoded) <= MAX_MESSAGE else _CODEC.encode(message, _MAX_TEXT // 4)


def decode(datagram: bytes) -> Message:
    """Return the message in `datagram`.

    Raises `MessageError` when it is none: the peer runs code we do not know.
    """
    try:
        return _CODEC.decode(datagram)
    except UndecodableError as error:
        raise MessageError(f"not a control message: {error}") from error
