"""The states of a child process, the named sets of them, and the total transition table; the reasons for its start.

    BOOTING --READY--> READY --DRAIN--> DRAINING --KILL--> KILLED --EXIT--> GONE
       \\                  \\--ABORT--> ABORTED --KILL--/
        \\--FAILED--> FAILED (it reported that it cannot start, and is about to exit)

The table has every pair of state and news, including those that change nothing: a message may arrive late.
"""

from __future__ import annotations

import enum
import types
from collections.abc import Mapping


class State(enum.Enum):
    """The state of a child."""

    BOOTING = "booting"
    """Forked, loading the application; the boot deadline runs."""
    FAILED = "failed"
    """It reported that it cannot start; the boot deadline runs until it exits."""
    READY = "ready"
    """It serves. The only state without a deadline."""
    DRAINING = "draining"
    """Told to drain; the drain deadline runs."""
    ABORTED = "aborted"
    """It hangs: stack dump, then SIGABRT; its death is due within seconds."""
    KILLED = "killed"
    """SIGKILL sent; its death is due within milliseconds."""
    GONE = "gone"
    """Reaped, or given up."""


class News(enum.Enum):
    """The inputs of a child's state."""

    READY = "ready"
    FAILED = "failed"
    DRAIN = "drain"
    ABORT = "abort"
    KILL = "kill"
    EXIT = "exit"


class Reason(enum.Enum):
    """Why a worker or a companion is forked; the values are words of metrics and events."""

    START = "start"
    """The service starts."""
    UPGRADE = "upgrade"
    """The service starts in a successor of another supervisor. Only the shell knows that."""
    SCALE = "scale"
    """More workers are wanted."""
    DEATH = "death"
    """The one before died, or was ended because it hung or could not accept."""
    RELOAD = "reload"
    """It replaces one of an older generation, or tries out a new one."""
    REFORK = "refork"
    """A warm worker becomes the zygote: it takes its place, or is forked by it."""
    RECYCLE = "recycle"
    """The one before reached a limit."""
    RESTART = "restart"
    """An operator asked for it, or another process told the one before to drain."""


OCCUPYING = frozenset({State.BOOTING, State.FAILED, State.READY})
"""The child occupies its slot: no other is started there."""
LEAVING = frozenset({State.DRAINING, State.ABORTED, State.KILLED})
"""The child was told to end: its slot is free for a successor, and its death is no failure."""
ALIVE = OCCUPYING | LEAVING
"""There is a process."""
KILLABLE = ALIVE - {State.KILLED}
"""SIGKILL has not been sent."""
UNPROVEN = frozenset({State.BOOTING, State.FAILED})
"""Not ready yet; a death counts as a failed boot."""


def _table() -> dict[tuple[State, News], State]:
    s, n = State, News
    return {
        (s.BOOTING, n.ABORT): s.ABORTED,
        (s.FAILED, n.ABORT): s.ABORTED,
        (s.READY, n.ABORT): s.ABORTED,
        (s.DRAINING, n.ABORT): s.ABORTED,
        (s.KILLED, n.ABORT): s.KILLED,
        (s.GONE, n.ABORT): s.GONE,
        # its end is decided, whatever it sends
        (s.ABORTED, n.READY): s.ABORTED,
        (s.ABORTED, n.FAILED): s.ABORTED,
        (s.ABORTED, n.DRAIN): s.ABORTED,
        (s.ABORTED, n.ABORT): s.ABORTED,
        (s.ABORTED, n.KILL): s.KILLED,
        (s.ABORTED, n.EXIT): s.GONE,
        (s.BOOTING, n.READY): s.READY,
        (s.BOOTING, n.FAILED): s.FAILED,
        (s.BOOTING, n.DRAIN): s.DRAINING,
        (s.BOOTING, n.KILL): s.KILLED,
        (s.BOOTING, n.EXIT): s.GONE,
        # `Ready` after `BootFailed` is ignored
        (s.FAILED, n.READY): s.FAILED,
        (s.FAILED, n.FAILED): s.FAILED,
        (s.FAILED, n.DRAIN): s.DRAINING,
        (s.FAILED, n.KILL): s.KILLED,
        (s.FAILED, n.EXIT): s.GONE,
        # and the other way round: it serves until it exits
        (s.READY, n.READY): s.READY,
        (s.READY, n.FAILED): s.READY,
        (s.READY, n.DRAIN): s.DRAINING,
        (s.READY, n.KILL): s.KILLED,
        (s.READY, n.EXIT): s.GONE,
        # its `Ready` may have crossed our SIGTERM
        (s.DRAINING, n.READY): s.DRAINING,
        (s.DRAINING, n.FAILED): s.DRAINING,
        (s.DRAINING, n.DRAIN): s.DRAINING,
        (s.DRAINING, n.KILL): s.KILLED,
        (s.DRAINING, n.EXIT): s.GONE,
        (s.KILLED, n.READY): s.KILLED,
        (s.KILLED, n.FAILED): s.KILLED,
        (s.KILLED, n.DRAIN): s.KILLED,
        (s.KILLED, n.KILL): s.KILLED,
        (s.KILLED, n.EXIT): s.GONE,
        (s.GONE, n.READY): s.GONE,
        (s.GONE, n.FAILED): s.GONE,
        (s.GONE, n.DRAIN): s.GONE,
        (s.GONE, n.KILL): s.GONE,
        (s.GONE, n.EXIT): s.GONE,
    }


TRANSITIONS: Mapping[tuple[State, News], State] = types.MappingProxyType(_table())
"""(state, news) -> the state afterwards; total."""
