"""Messages between a supervisor and its workers and zygotes; `wire` defines their form.

`News` goes up, `Order` goes down, with its descriptors (SCM_RIGHTS, unix(7)). Both sides run the same version of this
package (`supervisor.children.snapshot`), so messages can be renamed freely.
"""

from __future__ import annotations

from hybrid.workers.contract.records import record
from hybrid.workers.contract.wire import Codec, UndecodableError

MAX_MESSAGE = 32 * 1024  # bytes; far below the default socket buffer (208 KiB), so an empty one always has room
# characters of a text field; a quarter if JSON's escapes (up to 12 bytes per character) need more
_MAX_TEXT = 4 * 1024


OFFLOAD_INTERFACE = "offload"
"""The interface of offload workers in `Ready`."""


class MessageError(ValueError):
    """A bad message: a bug or a hostile application; never fatal to the supervisor."""


@record(frozen=True, slots=True)
class Ready:
    """The worker has loaded the application, runs its loop and accepts connections."""

    loop: str
    """Name of the event loop in use (`epoll`, `gevent`, ...)."""
    interface: str
    """The detected interface of the application, e.g. `async stream`."""
    scheme: str = ""
    """`http` or `https` for a web application."""
    takes_orders: bool = False
    """True if it drains when it reads `Drain`; otherwise only at SIGTERM."""
    listens: bool = False
    """True if it runs no loop, and a thread reads `TellStacks`, `LogLevel`, `Reopened` and `Ping`."""


@record(frozen=True, slots=True)
class Draining:
    """The worker stops accepting, and ends with its last connection; the supervisor may not have asked for it."""


@record(frozen=True, slots=True)
class Broken:
    """A listening socket of the worker was closed or shut down: the worker drains, and needs a successor."""

    why: str
    """For a log line, e.g. `127.0.0.1:8000 was closed in this process`."""


@record(frozen=True, slots=True)
class BootFailed:
    """The worker cannot start, and would fail again: it ends with `code`."""

    code: int
    """A value of `Exit`."""
    reason: str
    """One or a few lines for the user: the problem, its place, the next command."""


@record(frozen=True, slots=True)
class Forked:
    """The first message of a worker forked by a zygote: it is the supervisor's child now, with this pid."""

    pid: int


@record(frozen=True, slots=True)
class Awake:
    """The worker accepted a connection while the supervisor did not watch for stalls."""


@record(frozen=True, slots=True)
class Readiness:
    """The result of the application's ready checks has changed."""

    reason: str
    """Why the worker is not ready; empty if it is."""


@record(frozen=True, slots=True)
class RecycleDue:
    """The worker has reached one of its limits: it serves until its successor does."""

    why: str
    """For a log line, e.g. `served 500 requests`."""


@record(frozen=True, slots=True)
class ReforkReady:
    """The worker has served enough for its memory to be worth sharing: it may become the next zygote."""


@record(frozen=True, slots=True)
class Warm:
    """A zygote has imported the application, or a worker has become one: it can fork workers."""


@record(frozen=True, slots=True)
class Unfit:
    """A zygote, or a worker told to become one, finds that its process must not be forked; it ends."""

    findings: str
    """For a log line, e.g. `2 live threads (Thread-1, Thread-2)`."""


@record(frozen=True, slots=True)
class CannotSpawn:
    """A zygote could not fork the worker of a slot."""

    slot: int
    reason: str


@record(frozen=True, slots=True)
class StacksTold:
    """The answer to `TellStacks`: the report is in the memory that came with the order."""

    id: int
    """That of the order."""
    size: int
    """Bytes of the report; 0: it could not be written."""


@record(frozen=True, slots=True)
class OffloadAsked:
    """The worker has calls for a pool of offload workers of its generation, and none of those listens."""

    pool: str
    """The name of the pool."""


@record(frozen=True, slots=True)
class CallOverdue:
    """An offloaded call was cancelled or timed out, and still runs a while later: its process must be killed."""

    key: int
    """Names the call; the offload worker that runs it has it in its record."""
    name: str
    """That of the function, for a log line."""


@record(frozen=True, slots=True)
class GatewayTold:
    """The state of a gateway to a Dask cluster; sent when it changes, and at most twice a second."""

    scheduler: str
    """The address of the cluster's scheduler."""
    trouble: str
    """Why the scheduler cannot be reached; empty: it is connected."""
    since: int
    """Since when that is so, UNIX seconds."""
    in_flight: int
    """Calls that it has passed on, and that have not ended."""


@record(frozen=True, slots=True)
class CallDied:
    """To a worker: the process that ran one of its offloaded calls has died. A gateway sends it by the supervisor."""

    key: int
    """Names the call."""
    how: str
    """For an error's text, e.g. `killed by SIGSEGV`."""


@record(frozen=True, slots=True)
class LabelsCounted:
    """What the requests of some labels have cost since the start of the worker; see `label_counts`."""

    labels: tuple[str, ...]
    numbers: tuple[int, ...]
    """`LabelCounts.numbers` of each label, in a row."""


@record(frozen=True, slots=True)
class Drain:
    """Drain. SIGTERM alone is not enough: the application may have changed its handler."""


@record(frozen=True, slots=True)
class Ping:
    """To a worker: note in the record that the loop turns."""


@record(frozen=True, slots=True)
class LogLevel:
    """To a worker: log records of this level and above, as `logging` numbers it."""

    level: int


@record(frozen=True, slots=True)
class TellStacks:
    """To a worker: write its stacks into the memory that comes as a descriptor, as `stack_report` has the form."""

    id: int
    """For the answer."""
    most: int
    """The maximum bytes of the report."""


@record(frozen=True, slots=True)
class Promote:
    """To a worker: drain, and become the zygote of a generation. Later messages on the channel are for the zygote."""

    generation: int


@record(frozen=True, slots=True)
class Adopt:
    """To a worker: serve the queues of exactly these other slots, besides its own."""

    slots: tuple[int, ...]


@record(frozen=True, slots=True)
class Stop:
    """The whole service stops: no successor serves the same clients. Sent before or after SIGTERM, maybe repeatedly.

    A worker that gets SIGTERM without this is replaced, for example by a reload, or its slot is given up.
    """

    at_a_terminal: bool
    """True if a user pressed Ctrl-C and waits."""
    waiting: tuple[int, ...]
    """Slots with queued connections: accept those too."""


@record(frozen=True, slots=True)
class Learn:
    """A slot was added; carries its listeners as descriptors, in the order of `addresses`."""

    slot: int
    addresses: tuple[str, ...]
    """As in `Listener.address`."""
    kinds: tuple[str, ...]
    """Values of `ListenerKind`, one for each address."""


@record(frozen=True, slots=True)
class Reopened:
    """The files of the log were reopened; carries one descriptor for each of the numbers that it replaces."""

    numbers: tuple[int, ...]


@record(frozen=True, slots=True)
class Spawn:
    """To a zygote: fork the child of a slot; carries its end of the channel and its dump file as descriptors."""

    slot: int
    generation: int
    place: int
    """The place of its record on the scoreboard."""
    companion: str = ""
    """The name of the companion; empty: it is a worker."""
    number: int = 0
    """The number of the companion among those of its name."""
    has_queue: bool = False
    """True if the queue of offloaded calls follows the other descriptors: it is an offload worker."""


News = (
    Ready
    | Draining
    | Broken
    | BootFailed
    | Forked
    | Awake
    | Readiness
    | RecycleDue
    | ReforkReady
    | Warm
    | Unfit
    | CannotSpawn
    | StacksTold
    | OffloadAsked
    | CallOverdue
    | LabelsCounted
    | GatewayTold
    | CallDied
)
"""Messages from a worker or a zygote to the supervisor."""
Order = Drain | Ping | LogLevel | TellStacks | Promote | Adopt | Stop | Learn | Reopened | Spawn | CallDied
"""Messages from the supervisor to a worker or a zygote."""
Message = News | Order
_CODEC: Codec[Message] = Codec(
    (
        *(Ready, Draining, Broken, BootFailed, Forked, Awake, RecycleDue, ReforkReady, Warm, Unfit, CannotSpawn),
        *(Readiness, StacksTold, OffloadAsked, CallOverdue, LabelsCounted, GatewayTold),
        *(Drain, Ping, LogLevel, TellStacks, Promote, Adopt, Stop, Learn, Reopened, Spawn, CallDied),
    ),
    _MAX_TEXT,
)


def encode(message: Message) -> bytes:
    """Return `message` as one datagram of at most `MAX_MESSAGE` bytes; long texts are cut."""
    encoded = _CODEC.encode(message)
    return encoded if len(encoded) <= MAX_MESSAGE else _CODEC.encode(message, _MAX_TEXT // 4)


def decode(datagram: bytes) -> Message:
    """Return the message in `datagram`.

    Raises `MessageError` for a bad message: the peer runs unknown code.
    """
    try:
        return _CODEC.decode(datagram)
    except UndecodableError as error:
        raise MessageError(f"not a control message: {error}") from error
