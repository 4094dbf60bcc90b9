"""What all parts of the machine work on: the table, the limits, how far the supervisor is, the actions of the step.

And the few moves that several of them make. No decisions.
"""

from __future__ import annotations

import enum

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core import policy as rules
from hybrid.supervisor.core.events import Level
from hybrid.supervisor.core.policy import Policy
from hybrid.supervisor.core.states import News, State
from hybrid.supervisor.core.table import Child, Table
from hybrid.workers.contract.exits import Exit


class Phase(enum.Enum):
    """How far the supervisor is in its life."""

    NEW = "new"
    """Nothing was started yet."""
    STARTING = "starting"
    """No worker was ready yet: failures are likely to be the configuration's, and end the start."""
    SERVING = "serving"
    """At least one worker was ready: failures are met with patience."""
    STOPPING = "stopping"
    """All workers are to leave."""
    ENDED = "ended"
    """`Finish` was said."""


OVER = frozenset({Phase.STOPPING, Phase.ENDED})
BEFORE_SERVING = frozenset({Phase.NEW, Phase.STARTING})


class Core:
    """See above. All methods return at once."""

    def __init__(self, policy: Policy, workers: int) -> None:
        self.policy = policy
        self.table = Table(workers)
        self.phase = Phase.NEW
        self.actions: list[ev.Action] = []
        """Of the step under way, in order."""
        self.verdict: Exit | None = None
        """Why the supervisor ends, if not because it was asked to."""
        self.killed = False
        """Whether a worker was killed while stopping."""

    def do(self, action: ev.Action) -> None:
        """Add an action to the step."""
        self.actions.append(action)

    def due(self, state: State, now: float) -> float | None:
        """Return when a child that enters `state` now has been in it for too long."""
        patience = rules.patience(self.policy, state)
        return None if patience is None else now + patience

    def drain(self, child: Child, now: float) -> ev.Action:
        """Move a child on its way out; return what tells it. A zygote has nothing to drain."""
        due = now + rules.ABORT_PATIENCE if child.is_zygote else self.due(State.DRAINING, now)
        self.table.move(child.pid, News.DRAIN, due)
        return ev.Drain(child.pid)

    def abort(self, child: Child, since: float, now: float) -> None:
        """End a child that has hung since `since`, and have it say where."""
        self.table.move(child.pid, News.ABORT, self.due(State.ABORTED, now))
        self.do(ev.Abort(child.pid, since))

    def kill(self, child: Child, now: float) -> None:
        """End a child at once."""
        self.table.move(child.pid, News.KILL, self.due(State.KILLED, now))
        self.killed = self.killed or (self.phase is Phase.STOPPING and not child.is_zygote)
        self.do(ev.Kill(child.pid))

    def fail(self, code: Exit, reason: str) -> None:
        """Stop because of a failure: the workers leave, and the exit code will be `code`."""
        self.verdict = code
        self.say(Level.ERROR, reason)
        self.phase = Phase.STOPPING
        self.table.want(0)

    def say(self, level: Level, text: str, slot: int | None = None) -> None:
        """Report something about the service, or about a slot."""
        self.do(ev.Report(level, text, slot, None if slot is None else self.table.generation))

    def say_of(self, child: Child, level: Level, text: str) -> None:
        """Report something about a child."""
        slot = "zygote" if child.is_zygote else child.slot
        self.do(ev.Report(level, text, slot, child.generation, child.pid))


def count_of(workers: int) -> str:
    """Return a number of workers in words."""
    return "1 worker" if workers == 1 else f"{workers} workers"
