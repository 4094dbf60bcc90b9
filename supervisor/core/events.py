"""The inputs of the machine (events) and its outputs (actions); plain frozen data.

`machine.step` takes events and returns actions. Children are identified by pid, places by slot. Times are seconds of a
monotonic clock, which the caller reads.
"""

from __future__ import annotations

import dataclasses
import enum

from hybrid.workers.contract.messages import BootFailed, Broken, Draining, Ready, RecycleDue, ReforkReady, Unfit, Warm
from hybrid.workers.contract.records import record


@record(frozen=True, slots=True)
class How:
    """How a process ended: with an exit code, by a signal, or unseen (both None: other code reaped it)."""

    code: int | None = None
    signal: str | None = None
    """The signal's name, e.g. `SIGKILL`."""

    def __str__(self) -> str:
        if self.signal is not None:
            return f"killed by {self.signal}"
        if self.code is not None:
            return f"exited with code {self.code}"
        return "ended unseen"


# --- events -------------------------------------------------------------------------------------------------------


@record(frozen=True, slots=True)
class Started:
    """The sockets are open: start."""


@record(frozen=True, slots=True)
class Spawned:
    """The answer to `Fork` and `ForkZygote`: `slot` has a child."""

    slot: int
    pid: int


@record(frozen=True, slots=True)
class ForkFailed:
    """The other answer to `Fork` and `ForkZygote`: no child, because of `reason`."""

    slot: int
    reason: str


ChildMessage = Ready | Draining | Broken | BootFailed | RecycleDue | ReforkReady | Warm | Unfit
"""The messages of children that the machine handles. The shell handles the others."""


@record(frozen=True, slots=True)
class ChildSaid:
    """A worker or a zygote sent a message, which may be late or untrue."""

    pid: int
    message: ChildMessage


@record(frozen=True, slots=True)
class Stalled:
    """The loop of a worker has stalled, since `since` (monotonic seconds)."""

    pid: int
    since: float


@record(frozen=True, slots=True)
class Recovered:
    """The loop of a worker turns again."""

    pid: int


@record(frozen=True, slots=True)
class Looked:
    """The result of one look at the workers; many of them may stall and recover at once."""

    news: tuple[Stalled | Recovered, ...]


@record(frozen=True, slots=True)
class CompanionsAsked:
    """A worker has work for companions that do not run yet: these slots are wanted from now on."""

    slots: tuple[int, ...]


@record(frozen=True, slots=True)
class CallOverdue:
    """An offload worker still runs a call that was cancelled or timed out a while ago."""

    pid: int
    name: str
    """That of the function."""


@record(frozen=True, slots=True)
class Exited:
    """A child is dead and reaped."""

    pid: int
    how: How


@record(frozen=True, slots=True)
class Tick:
    """The deadline has passed, or nearly; both are fine."""


@record(frozen=True, slots=True)
class ScaleAsked:
    """A request for `workers` workers."""

    workers: int


@record(frozen=True, slots=True)
class ScaleByAsked:
    """A request for `step` more workers (fewer if negative)."""

    step: int


@record(frozen=True, slots=True)
class StopAsked:
    """A request to stop: draining, or at once."""

    graceful: bool


@record(frozen=True, slots=True)
class Interrupted:
    """Ctrl-C: the first one drains, the second one ends at once."""


@record(frozen=True, slots=True)
class QueuesChecked:
    """The answer to `CheckQueues`."""

    waiting: bool
    """True if a connection is queued on a socket that ends with this supervisor."""


@record(frozen=True, slots=True)
class ReloadAsked:
    """A request to load new code, by HUP or a client."""


@record(frozen=True, slots=True)
class RestartAsked:
    """A request to replace the worker of one slot."""

    slot: int


@record(frozen=True, slots=True)
class UpgradeAsked:
    """A request to replace the supervisor itself, by USR2."""


@record(frozen=True, slots=True)
class SuccessorStarted:
    """The answer to `StartSuccessor`: another supervisor is starting on the same sockets."""

    pid: int


@record(frozen=True, slots=True)
class SuccessorServes:
    """The other supervisor reported that all its workers serve."""


@record(frozen=True, slots=True)
class SlotsInherited:
    """Another supervisor passed listeners for `slots` slots; each may have queued connections."""

    slots: int


@record(frozen=True, slots=True)
class SuccessorFailed:
    """The other supervisor could not be started, or ended."""

    reason: str


ChildEvent = Spawned | ForkFailed | ChildSaid | Stalled | Recovered | Looked | CompanionsAsked | CallOverdue | Exited
Wish = ScaleAsked | ScaleByAsked | StopAsked | Interrupted | ReloadAsked | RestartAsked | UpgradeAsked
SuccessorEvent = SuccessorStarted | SuccessorServes | SuccessorFailed
Event = ChildEvent | Wish | SuccessorEvent | Started | Tick | QueuesChecked | SlotsInherited

# --- actions ------------------------------------------------------------------------------------------------------


class Level(enum.Enum):
    """The level of a report, with the names of `logging`."""

    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


@record(frozen=True, slots=True)
class Fork:
    """Start a worker in `slot`; answered by `Spawned` or `ForkFailed`."""

    slot: int
    generation: int
    zygote: int | None = None
    """Pid of the zygote that forks it; None: the supervisor forks it, and the worker imports the application itself."""


@record(frozen=True, slots=True)
class ForkZygote:
    """Start a process that imports the application for the workers of a generation; answered as `Fork` is."""

    generation: int


@record(frozen=True, slots=True)
class CallOff:
    """Cancel the fork into `slot`; if the child exists, it is ended."""

    slot: int


@record(frozen=True, slots=True)
class Drain:
    """Tell a child to drain and exit (SIGTERM)."""

    pid: int


@record(frozen=True, slots=True)
class Promote:
    """Tell a worker to drain, as `Drain` does, and then to become the zygote of a generation."""

    pid: int
    generation: int


@record(frozen=True, slots=True)
class Dump:
    """Dump the stacks of a child, and log them."""

    pid: int
    since: float
    """When it began to hang, monotonic seconds."""


@record(frozen=True, slots=True)
class Abort:
    """End a hanging child with SIGABRT, after a dump of its stacks."""

    pid: int
    since: float


@record(frozen=True, slots=True)
class Kill:
    """End a child at once (SIGKILL)."""

    pid: int


@record(frozen=True, slots=True)
class Steer:
    """Direct new connections to these slots only."""

    slots: tuple[int, ...]
    datagrams: tuple[int, ...]
    """The slots for datagrams: including those of stalled workers, as a sender keeps its worker."""


@record(frozen=True, slots=True)
class Adopt:
    """Have a worker serve the queues of exactly these other slots, besides its own."""

    pid: int
    slots: tuple[int, ...]


@record(frozen=True, slots=True)
class StartSuccessor:
    """Execute the program again with our sockets; answered by `SuccessorStarted` or `SuccessorFailed`."""


@record(frozen=True, slots=True)
class EndSuccessor:
    """Give up the successor: it does not serve in time, or this supervisor must stop."""


@record(frozen=True, slots=True)
class TellStop:
    """Tell workers that the whole service stops, and to accept the connections queued in all slots now."""

    pids: tuple[int, ...]
    at_a_terminal: bool
    """True if a user pressed Ctrl-C and waits."""


@record(frozen=True, slots=True)
class MendListeners:
    """Repair listening sockets that were shut down; answered by `ReloadAsked` if new ones had to be made."""


@record(frozen=True, slots=True)
class HoldConnections:
    """Begin no further TCP handshake, but complete those in progress: workers still serve the queues."""


@record(frozen=True, slots=True)
class CheckQueues:
    """Check for queued connections; answered by `QueuesChecked`."""


@record(frozen=True, slots=True)
class RefuseConnections:
    """Refuse new TCP connections, so that clients try another server at once."""


@record(frozen=True, slots=True)
class News:
    """What a report says, for programs that listen to events."""

    name: str
    """`death`, `reload`, `scale`, `upgrade`, `stop`, `failure`, `recovered`."""
    details: tuple[tuple[str, object], ...] = ()
    """Names and JSON values."""


@record(frozen=True, slots=True)
class Report:
    """A log record; with slot, generation and pid if it is about a worker."""

    level: Level
    text: str
    slot: int | str | None = None
    """A number, or `zygote`."""
    generation: int | None = None
    pid: int | None = None
    news: News | None = dataclasses.field(default=None, compare=False)
    """The same for programs, if they get it."""


@record(frozen=True, slots=True)
class Finish:
    """End the supervisor with exit code `code`. The last action."""

    code: int


Action = (
    Fork
    | ForkZygote
    | CallOff
    | Drain
    | Promote
    | Dump
    | Abort
    | Kill
    | Steer
    | Adopt
    | MendListeners
    | TellStop
    | HoldConnections
    | CheckQueues
    | RefuseConnections
    | StartSuccessor
    | EndSuccessor
    | Report
    | Finish
)
