"""What can happen to a supervisor (events) and what it can do about it (actions); plain frozen data.

Events go into `machine.step`, actions come out. Children are named by pid, places by slot, times are seconds of a
monotonic clock that the caller brings along.
"""

from __future__ import annotations

import enum

from hybrid.workers.contract.messages import BootFailed, Broken, Draining, Ready, RecycleDue, ReforkReady, Unfit, Warm
from hybrid.workers.contract.records import record


@record(frozen=True, slots=True)
class How:
    """How a process ended: by an exit code, by a signal, or unseen (both None: other code reaped it)."""

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
    """The sockets are open: begin."""


@record(frozen=True, slots=True)
class Spawned:
    """The answer to `Fork` and `ForkZygote`: a child sits in `slot`."""

    slot: int
    pid: int


@record(frozen=True, slots=True)
class ForkFailed:
    """The other answer to `Fork`: no child, because of `reason`."""

    slot: int
    reason: str


ChildMessage = Ready | Draining | Broken | BootFailed | RecycleDue | ReforkReady | Warm | Unfit
"""The messages of children that the machine takes in. What else they say is between them and the shell."""


@record(frozen=True, slots=True)
class ChildSaid:
    """A worker or a zygote sent a message; it may be late, or untrue."""

    pid: int
    message: ChildMessage


@record(frozen=True, slots=True)
class Stalled:
    """The loop of a worker does not turn, since a time in seconds."""

    pid: int
    since: float


@record(frozen=True, slots=True)
class Recovered:
    """The loop of a worker turns again."""

    pid: int


@record(frozen=True, slots=True)
class Looked:
    """What one look at the workers has shown; many of them may stall and recover at a time."""

    news: tuple[Stalled | Recovered, ...]


@record(frozen=True, slots=True)
class Exited:
    """A child is dead and reaped."""

    pid: int
    how: How


@record(frozen=True, slots=True)
class Tick:
    """Time has passed: the deadline, or a little less; both are fine."""


@record(frozen=True, slots=True)
class ScaleAsked:
    """Run `workers` workers from now on."""

    workers: int


@record(frozen=True, slots=True)
class ScaleByAsked:
    """Run `step` workers more (less, if negative)."""

    step: int


@record(frozen=True, slots=True)
class StopAsked:
    """Stop: draining, or at once."""

    graceful: bool


@record(frozen=True, slots=True)
class Interrupted:
    """Ctrl-C: the first one drains, the second one ends at once."""


@record(frozen=True, slots=True)
class QueuesChecked:
    """The answer to `CheckQueues`."""

    waiting: bool
    """Whether a connection waits in some queue that ends with this supervisor."""


@record(frozen=True, slots=True)
class ReloadAsked:
    """Load new code, by HUP or a request."""


@record(frozen=True, slots=True)
class UpgradeAsked:
    """Replace the supervisor itself, by USR2."""


@record(frozen=True, slots=True)
class SuccessorStarted:
    """The answer to `StartSuccessor`: another supervisor is starting on the same sockets."""

    pid: int


@record(frozen=True, slots=True)
class SuccessorServes:
    """The other supervisor said that all its workers serve."""


@record(frozen=True, slots=True)
class SlotsInherited:
    """There are listeners for so many slots, from another supervisor: connections may wait at all of them."""

    slots: int


@record(frozen=True, slots=True)
class SuccessorFailed:
    """There is no other supervisor, or no longer."""

    reason: str


ChildEvent = Spawned | ForkFailed | ChildSaid | Stalled | Recovered | Looked | Exited
Wish = ScaleAsked | ScaleByAsked | StopAsked | Interrupted | ReloadAsked | UpgradeAsked
SuccessorEvent = SuccessorStarted | SuccessorServes | SuccessorFailed
Event = ChildEvent | Wish | SuccessorEvent | Started | Tick | QueuesChecked | SlotsInherited

# --- actions ------------------------------------------------------------------------------------------------------


class Level(enum.Enum):
    """How loud a report is; the names are those of `logging`."""

    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


@record(frozen=True, slots=True)
class Fork:
    """Start a worker in `slot`; answered by `Spawned` or `ForkFailed`."""

    slot: int
    generation: int
    zygote: int | None = None
    """Pid of the zygote that forks it; None: the supervisor does, and the worker imports the application itself."""


@record(frozen=True, slots=True)
class ForkZygote:
    """Start a process that imports the application for the workers of a generation; answered as `Fork` is."""

    generation: int


@record(frozen=True, slots=True)
class CallOff:
    """Wait no longer for the child that is being forked into `slot`; if there is one, it is not wanted."""

    slot: int


@record(frozen=True, slots=True)
class Drain:
    """Ask a child to finish what it has and exit (SIGTERM)."""

    pid: int


@record(frozen=True, slots=True)
class Promote:
    """Ask a worker to finish what it has, as `Drain` does, and to become the zygote of a generation then."""

    pid: int
    generation: int


@record(frozen=True, slots=True)
class Dump:
    """Have a child write down its stacks, and log where it stands."""

    pid: int
    since: float
    """When it began to hang, seconds."""


@record(frozen=True, slots=True)
class Abort:
    """End a child that hangs, with SIGABRT, after it has written down its stacks."""

    pid: int
    since: float


@record(frozen=True, slots=True)
class Kill:
    """End a child at once (SIGKILL)."""

    pid: int


@record(frozen=True, slots=True)
class Steer:
    """Let new connections go to these slots only."""

    slots: tuple[int, ...]
    datagrams: tuple[int, ...]
    """The slots that datagrams go to: those of stalled workers too, for a sender keeps its worker."""


@record(frozen=True, slots=True)
class Adopt:
    """Have a worker accept what waits at these slots too, and at no others but its own."""

    pid: int
    slots: tuple[int, ...]


@record(frozen=True, slots=True)
class StartSuccessor:
    """Execute the program anew, with our sockets; answered by `SuccessorStarted` or `SuccessorFailed`."""


@record(frozen=True, slots=True)
class EndSuccessor:
    """Give up the other supervisor: it has not begun to serve in time, or we are to stop."""


@record(frozen=True, slots=True)
class TellStop:
    """Tell workers that the whole service stops, and to accept what waits in the queues of all slots now."""

    pids: tuple[int, ...]
    at_a_terminal: bool
    """A person has pressed Ctrl-C, and waits."""


@record(frozen=True, slots=True)
class MendListeners:
    """Have listening sockets that were shut down listen again, or make new ones; answered by `ReloadAsked` then."""


@record(frozen=True, slots=True)
class HoldConnections:
    """Let no further TCP handshake begin, and those under way be completed: workers still serve what is queued."""


@record(frozen=True, slots=True)
class CheckQueues:
    """Look whether a connection waits to be accepted; answered by `QueuesChecked`."""


@record(frozen=True, slots=True)
class RefuseConnections:
    """Refuse new TCP connections, so that clients turn to another server at once."""


@record(frozen=True, slots=True)
class Report:
    """One line for the log; with slot, generation and pid if it is about a worker."""

    level: Level
    text: str
    slot: int | str | None = None
    """A number, or `zygote`."""
    generation: int | None = None
    pid: int | None = None


@record(frozen=True, slots=True)
class Finish:
    """Nothing is left to do: end the supervisor with exit code `code`. The last action ever."""

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
