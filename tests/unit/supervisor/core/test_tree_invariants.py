"""What holds for a tree of one to four services whatever happens, over a model of the kernel for each."""

from __future__ import annotations

import typing

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from support.loops import MATRIX
from support.model_kernel import ModelKernel, Process
from support.play import roster_of
from support.said import READY, said

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.base import OVER, Phase
from hybrid.supervisor.core.machine import Machine
from hybrid.supervisor.core.policy import Intensity, Policy, Restart
from hybrid.supervisor.core.roles import companion_slot
from hybrid.supervisor.core.tree import ALL, OnFailure, Rules, Stage, Tree
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed, Warm

NAMES = ("a", "b", "c", "d")
HOWS = st.sampled_from([ev.How(code=0), ev.How(code=3), ev.How(signal="SIGKILL")])
CHILD_EVENTS = typing.get_args(ev.ChildEvent)
STARTING = (ev.Fork, ev.ForkZygote, ev.Promote, ev.MendListeners)
HARMFUL = (ev.Drain, ev.Kill, ev.Abort, ev.Promote, ev.RefuseConnections, ev.HoldConnections)

policies = st.builds(
    Policy,
    graceful_timeout=st.just(3.0),
    boot_timeout=st.just(5.0),
    upgrade_timeout=st.just(20.0),
    backoff=st.just(0.5),
    boot_attempts=st.just(3),
    intensity=st.sampled_from([None, None, Intensity(2, 10.0)]),
    restart=st.sampled_from([Restart.PERMANENT, Restart.PERMANENT, Restart.TRANSIENT]),
    overlaps=st.just(True),
)


@st.composite
def rules_of(draw: st.DrawFn, number: int) -> Rules:
    """Return rules that name services before this one only."""
    depends = draw(st.lists(st.sampled_from(NAMES[:number]), unique=True, max_size=2)) if number else []
    return Rules(tuple(depends), draw(st.sampled_from(OnFailure)))


class Forest(RuleBasedStateMachine):
    """Children get ready, fail and die; time passes; people ask for things, of one service and of all."""

    @initialize(data=st.data(), count=st.integers(1, 4))
    def begin(self, data: st.DataObject, count: int) -> None:
        self.tree, self.now, self.pids = Tree(), 0.0, 0
        self.kernels: dict[str, ModelKernel] = {}
        self.finished: list[str] = []
        self.has_successor_starting = False
        self.code: int | None = None
        for number, name in enumerate(NAMES[:count]):
            policy, workers = data.draw(policies), data.draw(st.integers(1, 2))
            slots = tuple(map(companion_slot, range(data.draw(st.integers(0, 1)))))
            preload = data.draw(st.booleans())
            machine = Machine(policy, workers, preload=preload, roster=roster_of(slots), companions=slots)
            self.tree.add(name, machine, data.draw(rules_of(number)))
            self.kernels[name] = ModelKernel(workers, companions=slots)
        self.answers_at_once = True
        self.feed(ev.Started())

    # --- a step

    def feed(self, event: ev.Event, service: str | None = None) -> None:
        queue = [(event, service)]
        for one, name in queue:
            assert len(queue) < 300, "answers bring about forks without end"
            self.take(one, name)
            for owner, kernel in self.kernels.items():
                if kernel.is_asked_for_queues:
                    kernel.is_asked_for_queues, kernel.queues_are_empty = False, True
                    queue.append((ev.QueuesChecked(False), owner))
                elif self.answers_at_once and kernel.forks and one is queue[-1][0]:
                    queue.append((self.answer(owner, min(kernel.forks), succeeds=True), owner))

    def take(self, event: ev.Event, service: str | None) -> None:
        before = {name: self.tree.stage(name) for name in self.kernels}
        was_calm = self.tree.phase not in OVER and not self.tree.is_reloading
        deeds = self.tree.step(event, self.now, service)
        for kernel in self.kernels.values():
            kernel.now = self.now
        for number, (name, action) in enumerate(deeds):
            if name != ALL and not any(one == name and isinstance(two, STARTING) for one, two in deeds[number:]):
                # one step may start a worker, and stop its service because another one has failed
                self.kernels[name].is_stopping |= self.tree.machine(name).phase in OVER
            self.perform(name, action)
        for name, stage in before.items():
            if stage is Stage.WAITING and self.tree.stage(name) is Stage.RUNNING:
                self.only_starts_after_its_dependencies(name)
        if isinstance(event, CHILD_EVENTS) and was_calm and self.tree.phase not in OVER:
            others = [action for name, action in deeds if name not in (service, ALL)]
            assert not any(isinstance(action, HARMFUL) for action in others), "a child of one service harmed another"
        self.all_invariants_hold()

    def perform(self, name: str, action: ev.Action) -> None:
        assert self.code is None, "a deed after the end"
        match action:
            case ev.StartSuccessor():
                assert name == ALL
                assert not self.has_successor_starting, "two successors"
                running = [one for one in self.kernels if self.tree.stage(one) is Stage.RUNNING]
                pending = [fork for one in running for fork in self.kernels[one].forks.values() if fork.zygote]
                assert not pending, "a successor was started while a zygote forks"
                self.has_successor_starting = True
            case ev.EndSuccessor():
                assert name == ALL
                assert self.has_successor_starting, "there is none to end"
                self.has_successor_starting = False
            case ev.Finish(code) if name == ALL:
                self.code = code
            case ev.Finish():
                assert name not in self.finished, "a service ended twice"
                self.finished.append(name)
                self.kernels[name].perform(action)
            case ev.Report() if name == ALL or name in self.finished:
                pass
            case _:
                self.kernels[name].perform(action)

    def answer(self, name: str, slot: int, *, succeeds: bool) -> ev.Event:
        kernel = self.kernels[name]
        kernel.pids = self.pids = max(kernel.pids, self.pids)
        event = kernel.answer(slot, succeeds=succeeds)
        self.pids = kernel.pids
        return event

    # --- what holds

    def only_starts_after_its_dependencies(self, name: str) -> None:
        for other in self.tree.rules(name).depends:
            is_up = self.tree.stage(other) is Stage.ENDED or self.tree.machine(other).has_started
            assert is_up, f"{name} started before {other}"

    def all_invariants_hold(self) -> None:
        stages = {name: self.tree.stage(name) for name in self.kernels}
        ended = [name for name, stage in stages.items() if stage is Stage.ENDED]
        assert set(self.finished) <= set(ended)
        assert (self.code is not None) == (len(ended) == len(stages)) == (self.tree.phase is Phase.ENDED)
        if self.code is not None:
            return
        running = [self.tree.machine(name) for name, stage in stages.items() if stage is Stage.RUNNING]
        assert running, "services wait, and none runs that they could wait for"
        deadlines = [one for machine in running if (one := machine.deadline()) is not None]
        assert self.tree.deadline() == min(deadlines, default=None)
        if self.has_successor_starting:
            assert self.tree.is_upgrading
            assert self.tree.deadline() is not None, "a successor may hang forever"
        if not self.tree.is_upgrading:
            assert not any(machine.is_upgrading for machine in running), "a service waits for a successor of none"

    # --- what happens

    def living(self) -> list[tuple[str, Process]]:
        return [(name, one) for name, kernel in self.kernels.items() for one in kernel.processes.values()]

    @precondition(lambda self: self.living())
    @rule(data=st.data(), what=st.sampled_from(["ready", "ready", "ready", "dies", "fails"]), how=HOWS)
    def child_does_something(self, data: st.DataObject, what: str, how: ev.How) -> None:
        name, one = data.draw(st.sampled_from(self.living()))
        if what == "dies":
            self.die(name, one, how)
        elif what == "ready":
            self.get_ready(name, one)
        elif not one.is_up and not one.is_leaving:
            one.has_failed = True
            self.feed(said(one.pid, BootFailed(Exit.TARGET, "no module")), name)

    def die(self, name: str, one: Process, how: ev.How) -> None:
        del self.kernels[name].processes[one.pid]
        self.feed(ev.Exited(one.pid, how), name)

    def get_ready(self, name: str, one: Process) -> None:
        if not one.is_leaving and not one.has_failed and not one.is_up:
            one.is_up = True
            self.kernels[name].has_served |= not (one.is_zygote or one.is_companion)
            self.feed(said(one.pid, Warm() if one.is_zygote else READY), name)

    @rule(at_once=st.booleans())
    def forks_take(self, at_once: bool) -> None:
        self.answers_at_once = at_once

    @rule(succeeds=st.sampled_from([True, True, False]))
    def forks_are_answered(self, succeeds: bool) -> None:
        for name, kernel in self.kernels.items():
            for slot in tuple(kernel.forks):
                if slot in kernel.forks:
                    self.feed(self.answer(name, slot, succeeds=succeeds), name)

    @rule(count=st.integers(1, 5))
    def deadlines_pass(self, count: int) -> None:
        for _ in range(count):
            deadline = self.tree.deadline()
            if deadline is None:
                return
            self.now = max(self.now, deadline)
            self.feed(ev.Tick())

    @rule(event=st.sampled_from([ev.ReloadAsked(), ev.UpgradeAsked(), ev.ScaleByAsked(0)]))
    def all_are_asked(self, event: ev.Event) -> None:
        self.feed(event)

    @rule(data=st.data(), event=st.sampled_from([ev.ReloadAsked(), ev.RestartAsked(0), ev.StopAsked(True)]))
    def one_is_asked(self, data: st.DataObject, event: ev.Event) -> None:
        self.feed(event, data.draw(st.sampled_from(sorted(self.kernels))))

    @rule(event=st.sampled_from([ev.StopAsked(True), ev.StopAsked(False), ev.Interrupted()]), really=st.integers(0, 9))
    def stop(self, event: ev.Event, really: int) -> None:
        if really == 9:  # now and then: little else happens afterwards
            for kernel in self.kernels.values():
                kernel.is_in_haste |= event != ev.StopAsked(True)  # a second Ctrl-C is
            self.feed(event)

    @precondition(lambda self: self.has_successor_starting)
    @rule(outcome=st.sampled_from(["started", "failed", "serves"]))
    def successor(self, outcome: str) -> None:
        if outcome == "started":
            self.feed(ev.SuccessorStarted(500))
            return
        self.has_successor_starting = False
        self.feed(ev.SuccessorServes() if outcome == "serves" else ev.SuccessorFailed("killed by SIGKILL"))

    @rule()
    def all_get_ready(self) -> None:
        for name, one in self.living():
            if one.pid in self.kernels[name].processes:
                self.get_ready(name, one)

    def teardown(self) -> None:
        """After a stop the end comes, though everybody hangs that is not killed."""
        if not hasattr(self, "tree"):
            return
        self.answers_at_once = False
        self.feed(ev.StopAsked(graceful=True))
        for _ in range(1000):
            if self.code is not None:
                return
            killed = [(name, one) for name, one in self.living() if one.killed_at is not None]
            if killed:
                self.die(*killed[0], ev.How(signal="SIGKILL"))
            else:
                self.deadlines_pass(1)
        raise AssertionError("the end does not come")


class TestForest(Forest.TestCase):  # type: ignore[name-defined,misc]
    """Runs it."""

    settings = settings(max_examples=100 if MATRIX else 25, stateful_step_count=50, deadline=None)
