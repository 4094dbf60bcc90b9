"""A tree of one service takes exactly the actions of its machine."""

from __future__ import annotations

import typing

from hypothesis import settings
from support.loops import MATRIX
from support.play import roster_of
from support.world import World

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.machine import Machine, Phase
from hybrid.supervisor.core.policy import Policy
from hybrid.supervisor.core.tree import ALL, Rules, Tree

OF_ALL = (
    *(*typing.get_args(ev.SuccessorEvent), ev.Started, ev.Tick),
    *(wish for wish in typing.get_args(ev.Wish) if wish is not ev.RestartAsked),
)
"""Events about all services, if no service is named."""


class Twins(Machine):
    """A machine in a tree, which checks that another one alone takes the same actions."""

    def __init__(self, policy: Policy, workers: int, *, preload: bool, companions: tuple[int, ...]) -> None:
        roster = roster_of(companions)
        super().__init__(policy, workers, preload=preload, roster=roster, companions=companions)
        self._tree = Tree()
        other = Machine(policy, workers, preload=preload, roster=roster, companions=companions)
        self._tree.add("web", other, Rules())

    def step(self, event: ev.Event, now: float) -> list[ev.Action]:
        """Return the actions of both."""
        if isinstance(event, ev.SlotsInherited) and self.phase is Phase.NEW:  # the shell tells the machine itself
            self._tree.machine("web").step(event, now)
        deeds = self._tree.step(event, now, None if isinstance(event, OF_ALL) else "web")
        actions = super().step(event, now)
        assert [action for name, action in deeds if name == "web"] == _without(
            actions, ev.StartSuccessor, ev.EndSuccessor
        )
        assert [action for name, action in deeds if name == ALL] == _only(
            actions, ev.StartSuccessor, ev.EndSuccessor, ev.Finish
        )
        assert (self._tree.deadline(), self._tree.phase) == (self.deadline(), self.phase)
        assert self._tree.has_successor == self.has_successor
        assert self._tree.is_settled() == self.is_settled()
        if self.phase is not Phase.ENDED:
            assert (self._tree.is_reloading, self._tree.is_upgrading) == (self.is_reloading, self.is_upgrading)
        return actions


def _only(actions: list[ev.Action], *kinds: type[ev.Action]) -> list[ev.Action]:
    return [action for action in actions if isinstance(action, kinds)]


def _without(actions: list[ev.Action], *kinds: type[ev.Action]) -> list[ev.Action]:
    return [action for action in actions if not isinstance(action, kinds)]


class AloneInATree(World):
    """See `World` for what happens in it."""

    def made(self, policy: Policy, workers: int, *, preload: bool, companions: tuple[int, ...]) -> Machine:
        return Twins(policy, workers, preload=preload, companions=companions)

    def all_is_as_it_should_be(self) -> None:
        """`test_machine_invariants.py` checks this."""

    def all_invariants_hold(self) -> None:
        """The same."""


class TestAloneInATree(AloneInATree.TestCase):  # type: ignore[name-defined,misc]
    """Runs it."""

    settings = settings(max_examples=100 if MATRIX else 25, stateful_step_count=50, deadline=None)
