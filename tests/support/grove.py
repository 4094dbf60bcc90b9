"""Several machines under a tree, and a world that answers them: events in, deeds out, without process and clock.

Forks are answered at once unless the play says otherwise; pids count from 1, over all services.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.machine import Machine
from hybrid.supervisor.core.policy import Policy
from hybrid.supervisor.core.roles import ZYGOTE
from hybrid.supervisor.core.tree import ALL, Deed, Rules, Tree
from hybrid.workers.contract.messages import Warm
from support.play import POLICY
from support.said import READY, said


class Grove:
    """See above."""

    def __init__(
        self,
        services: Mapping[str, Rules],
        *,
        workers: int = 1,
        policies: Mapping[str, Policy] | None = None,
        preload: Sequence[str] = (),
    ) -> None:
        """`preload`: the services with a zygote."""
        self.tree = Tree()
        for name, rules in services.items():
            policy = (policies or {}).get(name, POLICY)
            self.tree.add(name, Machine(policy, workers, preload=name in preload), rules)
        self.now = 0.0
        self.pids = 0
        self.owners: dict[int, str] = {}
        """pid -> service, for all that were ever forked."""
        self.zygotes_answer = True
        """True if a zygote forks on order."""
        self.orders: list[tuple[str, int]] = []
        """Service and slot of the orders that no zygote has answered."""

    def step(self, event: ev.Event, service: str | None = None) -> list[Deed]:
        """Feed an event, and the answers to forks; return all deeds in order."""
        deeds: list[Deed] = []
        queue = [(event, service)]
        for one, name in queue:
            done = self.tree.step(one, self.now, name)
            for owner, action in done:
                answer = self._answer(owner, action)
                if answer is not None:
                    queue.append((answer, owner))
            deeds += done
        return deeds

    def later(self, seconds: float) -> list[Deed]:
        """Let time pass, with a tick at its end."""
        self.now += seconds
        return self.step(ev.Tick())

    def _answer(self, owner: str, action: ev.Action) -> ev.Event | None:
        match action:
            case ev.Fork(slot, _, zygote):
                if zygote is not None and not self.zygotes_answer:
                    self.orders.append((owner, slot))
                    return None
            case ev.ForkZygote():
                slot = ZYGOTE
            case ev.CheckQueues():
                return ev.QueuesChecked(False)
            case _:
                return None
        return self.born(owner, slot)

    def born(self, owner: str, slot: int) -> ev.Event:
        """Return the event for a new child."""
        self.pids += 1
        self.owners[self.pids] = owner
        return ev.Spawned(slot, self.pids)

    def answer_orders(self) -> list[Deed]:
        """Let the zygotes fork what they were asked for."""
        orders, self.orders = self.orders, []
        return [deed for owner, slot in orders for deed in self.step(self.born(owner, slot), owner)]

    def ready(self, *pids: int) -> list[Deed]:
        """Let workers say that they serve."""
        return [deed for pid in pids for deed in self.step(said(pid, READY), self.owners[pid])]

    def warm(self, pid: int) -> list[Deed]:
        """Let a zygote say that it can fork."""
        return self.step(said(pid, Warm()), self.owners[pid])

    def dies(self, pid: int, how: ev.How) -> list[Deed]:
        """Let a child die."""
        return self.step(ev.Exited(pid, how), self.owners[pid])


def growing(services: Mapping[str, Rules], **fields: object) -> Grove:
    """Return a grove in which every service of one worker serves; pids are 1, 2, ... in the order of the starts."""
    grove = Grove(services, **fields)  # type: ignore[arg-type]
    grove.step(ev.Started())
    pid = 1
    while not grove.tree.has_started:
        grove.ready(pid)
        pid += 1
        assert pid < 100, "it never starts"
    return grove


def begun(deeds: Sequence[Deed]) -> list[str]:
    """Return the services that forked a worker, in order."""
    return [name for name, action in deeds if isinstance(action, ev.Fork)]


def told(deeds: Sequence[Deed]) -> list[str]:
    """Return the services of which workers were told to drain, in order."""
    return [name for name, action in deeds if isinstance(action, ev.Drain)]


def of_all(deeds: Sequence[Deed]) -> list[ev.Action]:
    """Return the actions of the tree itself, but reports."""
    return [action for name, action in deeds if name == ALL and not isinstance(action, ev.Report)]


def lines(deeds: Sequence[Deed]) -> list[str]:
    """Return the lines for the log."""
    return [action.text for _, action in deeds if isinstance(action, ev.Report)]
