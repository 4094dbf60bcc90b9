"""Shared state of the parts of the machine: the table, the limits, the phase, the actions of the step.

And a few operations that several parts use. No decisions.
"""

from __future__ import annotations

import enum

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core import policy as rules
from hybrid.supervisor.core.events import Level
from hybrid.supervisor.core.policy import Policy
from hybrid.supervisor.core.roles import Roster
from hybrid.supervisor.core.states import News, State
from hybrid.supervisor.core.table import Child, Table
from hybrid.workers.contract.exits import Exit


class Phase(enum.Enum):
    """The phase of the supervisor's life."""

    NEW = "new"
    """Nothing has been started."""
    STARTING = "starting"
    """No worker has been ready: failures probably come from the configuration, and end the start."""
    SERVING = "serving"
    """At least one worker has been ready: failed workers are restarted."""
    STOPPING = "stopping"
    """All workers must end."""
    ENDED = "ended"
    """`Finish` was issued."""


OVER = frozenset({Phase.STOPPING, Phase.ENDED})
BEFORE_SERVING = frozenset({Phase.NEW, Phase.STARTING})


class Core:
    """The shared state. All methods return at once."""

    def __init__(self, policy: Policy, workers: int, roster: Roster, companions: tuple[int, ...]) -> None:
        self.policy = policy
        self.roster = roster
        self.table = Table(workers, companions=companions)
        self.phase = Phase.NEW
        self.actions: list[ev.Action] = []
        """The actions of the current step, in order."""
        self.verdict: Exit | None = None
        """The exit code, if the supervisor ends because of a failure."""
        self.killed = False
        """True if a worker was killed while stopping."""

    def do(self, action: ev.Action) -> None:
        """Add an action to the step."""
        self.actions.append(action)

    def due(self, state: State, now: float) -> float | None:
        """Return the deadline of a child that enters `state` now; None: no deadline."""
        patience = rules.patience(self.policy, state)
        return None if patience is None else now + patience

    def drain(self, child: Child, now: float) -> ev.Action:
        """Mark a child as draining; return the action that tells it. A zygote has nothing to drain."""
        due = now + rules.ABORT_PATIENCE if child.is_zygote else self.due(State.DRAINING, now)
        self.table.move(child.pid, News.DRAIN, due)
        return ev.Drain(child.pid)

    def abort(self, child: Child, since: float, now: float) -> None:
        """End a child that has hung since `since`, after a dump of its stacks."""
        self.table.move(child.pid, News.ABORT, self.due(State.ABORTED, now))
        self.do(ev.Abort(child.pid, since))

    def kill(self, child: Child, now: float) -> None:
        """End a child at once."""
        self.table.move(child.pid, News.KILL, self.due(State.KILLED, now))
        self.killed = self.killed or (self.phase is Phase.STOPPING and not child.is_zygote)
        self.do(ev.Kill(child.pid))

    def fail(self, code: Exit, reason: str) -> None:
        """Stop because of a failure: the workers end, and the exit code will be `code`."""
        self.verdict = code
        self.say(Level.ERROR, reason, news=ev.News("failure", (("reason", reason),)))
        self.phase = Phase.STOPPING
        self.table.want(0)

    def say(self, level: Level, text: str, slot: int | None = None, news: ev.News | None = None) -> None:
        """Report something about the service, or about a slot; `news`: the same for programs."""
        self.do(ev.Report(level, text, slot, None if slot is None else self.table.generation, news=news))

    def say_of(self, child: Child, level: Level, text: str, news: ev.News | None = None) -> None:
        """Report something about a child; `news`: the same for programs."""
        slot = "zygote" if child.is_zygote else child.slot
        self.do(ev.Report(level, text, slot, child.generation, child.pid, news))


def count_of(number: int, what: str = "worker") -> str:
    """Return `1 worker`, `2 workers`, ..."""
    return f"1 {what}" if number == 1 else f"{number} {what}s"
