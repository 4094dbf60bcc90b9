"""What can happen to a supervisor (events) and what it can do about it (actions); plain frozen data.

Events go into `machine.step`, actions come out. Children are named by pid, places by slot, times are seconds of a
monotonic clock that the caller brings along.
"""

from __future__ import annotations

import dataclasses
import enum


@dataclasses.dataclass(frozen=True, slots=True)
class How:
    """How a process ended: by an exit code, by a signal, or unseen (both None: somebody else reaped it)."""

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


@dataclasses.dataclass(frozen=True, slots=True)
class Started:
    """The sockets are open: begin."""


@dataclasses.dataclass(frozen=True, slots=True)
class Spawned:
    """The answer to `Fork`: a child sits in `slot`."""

    slot: int
    pid: int


@dataclasses.dataclass(frozen=True, slots=True)
class ForkFailed:
    """The other answer to `Fork`: no child, because of `reason`."""

    slot: int
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerReady:
    """A child said that it serves."""

    pid: int


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerDraining:
    """A child said that it accepts no more: because of `Drain`, or because somebody else sent it SIGTERM."""

    pid: int


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerFailed:
    """A child said that it cannot start and will end with `code`."""

    pid: int
    code: int
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Exited:
    """A child is dead and reaped."""

    pid: int
    how: How


@dataclasses.dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: the deadline, or a little less; both are fine."""


@dataclasses.dataclass(frozen=True, slots=True)
class ScaleAsked:
    """Run `workers` workers from now on."""

    workers: int


@dataclasses.dataclass(frozen=True, slots=True)
class ScaleByAsked:
    """Run `step` workers more (less, if negative)."""

    step: int


@dataclasses.dataclass(frozen=True, slots=True)
class StopAsked:
    """Stop: draining, or at once."""

    graceful: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Interrupted:
    """Ctrl-C: the first one drains, the second one ends at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class ReloadAsked:
    """Somebody asked to load new code."""


Event = (
    Started
    | Spawned
    | ForkFailed
    | WorkerReady
    | WorkerDraining
    | WorkerFailed
    | Exited
    | Tick
    | ScaleAsked
    | ScaleByAsked
    | StopAsked
    | Interrupted
    | ReloadAsked
)

# --- actions ------------------------------------------------------------------------------------------------------


class Level(enum.Enum):
    """How loud a report is; the names are those of `logging`."""

    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


@dataclasses.dataclass(frozen=True, slots=True)
class Fork:
    """Start a worker in `slot`; answered by `Spawned` or `ForkFailed`."""

    slot: int
    generation: int


@dataclasses.dataclass(frozen=True, slots=True)
class Drain:
    """Ask a child to finish what it has and exit (SIGTERM)."""

    pid: int


@dataclasses.dataclass(frozen=True, slots=True)
class Kill:
    """End a child at once (SIGKILL)."""

    pid: int


@dataclasses.dataclass(frozen=True, slots=True)
class Steer:
    """Let new connections go to these slots only."""

    slots: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class HoldConnections:
    """Let no further TCP handshake begin, and those under way be completed: workers still serve what is queued."""


@dataclasses.dataclass(frozen=True, slots=True)
class RefuseConnections:
    """Refuse new TCP connections, so that clients turn to somebody else at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """One line for the log; with slot, generation and pid if it is about a worker."""

    level: Level
    text: str
    slot: int | None = None
    generation: int | None = None
    pid: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Finish:
    """Nothing is left to do: end the supervisor with exit code `code`. The last action ever."""

    code: int


Action = Fork | Drain | Kill | Steer | HoldConnections | RefuseConnections | Report | Finish
