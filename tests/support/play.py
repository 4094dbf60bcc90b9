"""A machine and a world that answers it, for tests of the supervisor's decisions: events in, actions out.

No process, no clock. Forks are answered at once unless the play says otherwise; pids count from 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.machine import Machine
from hybrid.supervisor.core.policy import Policy
from hybrid.supervisor.core.roles import ZYGOTE, Roster
from hybrid.supervisor.core.states import State
from hybrid.supervisor.core.table import Child, Table
from hybrid.workers.contract.messages import Warm
from support.said import READY, said

POLICY = Policy(
    graceful_timeout=30,
    boot_timeout=60,
    backoff=0.1,
    backoff_max=1.0,
    healthy_after=1.0,
    boot_attempts=3,
    surge=1,
    stall_report=1.0,
    stall_timeout=0.0,
    upgrade_timeout=90.0,
)
KILLED = ev.How(signal="SIGKILL")
ENDED = ev.How(code=0)
RELOAD_FAILED = "reload failed, generation 1 goes on: generation 2 cannot start: "


class Play:
    """See above."""

    def __init__(
        self, workers: int = 2, *, policy: Policy = POLICY, preload: bool = False, companions: int = 0
    ) -> None:
        """`companions`: their number; all are called `mailer`."""
        self.roster = Roster()
        slots = self.roster.slots_of([("mailer", companions)])
        self.machine = Machine(policy, workers, preload=preload, roster=self.roster, companions=slots)
        self.now = 0.0
        self.pids = 0
        self.forks_fail = False
        self.zygotes_answer = True
        """True if a zygote forks on order."""
        self.connections_wait = False
        """True if a connection is queued."""

    def step(self, *events: ev.Event) -> list[ev.Action]:
        """Feed events, and the answers to forks; return all actions in order."""
        actions: list[ev.Action] = []
        for event in events:
            queue = [event]
            for one in queue:
                done = self.machine.step(one, self.now)
                queue += [answer for answer in map(self._answer, done) if answer is not None]
                actions += done
        return actions

    def at(self, now: float, *events: ev.Event) -> list[ev.Action]:
        """Do what `step` does, at another time."""
        self.now = now
        return self.step(*events)

    def later(self, seconds: float, *events: ev.Event) -> list[ev.Action]:
        """Let time pass, with a tick at its end, and feed events then."""
        return self.at(self.now + seconds, ev.Tick(), *events)

    def _answer(self, action: ev.Action) -> ev.Event | None:
        match action:
            case ev.Fork(slot, _, zygote):
                if zygote is not None and not self.zygotes_answer:
                    return None
            case ev.ForkZygote():
                slot = ZYGOTE
            case ev.CheckQueues():
                return ev.QueuesChecked(self.connections_wait)
            case _:
                return None
        if self.forks_fail:
            return ev.ForkFailed(slot, "no room")
        self.pids += 1
        return ev.Spawned(slot, self.pids)

    def states(self) -> dict[int | None, str]:
        """Return the state of each worker by its pid."""
        return {row.pid: row.state for row in self.machine.workers(self.now)}

    def generations(self) -> list[tuple[int, int]]:
        """Return slot and generation of each worker that is ready."""
        return [(row.slot, row.generation) for row in self.machine.workers(self.now) if row.state == "ready"]


def serving(workers: int = 2, *, policy: Policy = POLICY, preload: bool = False) -> Play:
    """Return a play in which all workers are ready at second 0.

    Their pids are 1, 2, ... in slots 0, 1, ...; with `preload` pid 1 is the zygote's, and theirs are 2, 3, ...
    """
    play = Play(workers, policy=policy, preload=preload)
    play.step(ev.Started())
    if preload:
        play.step(said(1, Warm()))
    for pid in itertools.islice(itertools.count(2 if preload else 1), workers):
        play.step(said(pid, READY))
    assert play.machine.is_settled()
    return play


def roster_of(companions: Sequence[int]) -> Roster:
    """Return a roster in which the companions of these slots, the first ones, are called `mailer`."""
    roster = Roster()
    assert roster.slots_of([("mailer", len(companions))]) == tuple(companions)
    return roster


def texts(actions: Sequence[ev.Action]) -> list[str]:
    """Return the lines for the log."""
    return [action.text for action in actions if isinstance(action, ev.Report)]


def deeds(actions: Sequence[ev.Action]) -> list[ev.Action]:
    """Return all actions but the lines for the log."""
    return [action for action in actions if not isinstance(action, ev.Report)]


def moves(actions: Sequence[ev.Action]) -> list[ev.Action]:
    """Return what happens to processes: neither lines for the log nor where connections go."""
    return [action for action in deeds(actions) if not isinstance(action, ev.Steer | ev.Adopt)]


def stop(*pids: int, at_a_terminal: bool = False) -> list[ev.Action]:
    """Return how a stop begins for workers that serve or drain."""
    return [ev.HoldConnections(), ev.TellStop(pids, at_a_terminal)]


def steer(*slots: int) -> ev.Steer:
    """Return the action that lets connections and datagrams go to the same slots."""
    return ev.Steer(slots, slots)


# --- tables


def child(
    pid: int,
    slot: int,
    state: State = State.READY,
    *,
    deadline: float | None = None,
    generation: int = 1,
    forked_at: float = 0.0,
    recycle_reason: str | None = None,
) -> Child:
    """Return a child as a table keeps it."""
    return Child(pid, slot, generation, state, forked_at=forked_at, deadline=deadline, recycle_reason=recycle_reason)


def table_with(wanted: int, *children: Child) -> Table:
    """Return a table of so many wanted slots in which these children sit."""
    table = Table(wanted)
    for one in children:
        table.add(one)
    return table
