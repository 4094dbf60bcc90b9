"""A random world around a machine: what may happen to it, as rules for hypothesis, over a model of the kernel.

What must hold all the while is the test's to say: it fills in the two methods at the end.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.machine import MAX_WORKERS, Machine, Phase
from hybrid.supervisor.core.policy import Intensity, Policy
from hybrid.supervisor.core.roles import companion_slot
from hybrid.supervisor.core.table import Table
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed, Broken, Draining, RecycleDue, ReforkReady, Unfit, Warm
from support.model_kernel import ModelKernel, Process
from support.play import roster_of
from support.said import READY, said

HOWS = st.sampled_from([ev.How(code=0), ev.How(code=3), ev.How(signal="SIGKILL"), ev.How(signal="SIGSEGV"), ev.How()])
KILLED = ev.How(signal="SIGKILL")
OVER = (Phase.STOPPING, Phase.ENDED)

KINDS: dict[str, Callable[[ModelKernel], list[Process]]] = {
    "any": lambda kernel: list(kernel.processes.values()),
    "worker": lambda kernel: kernel.workers(),
    "serving": lambda kernel: [one for one in kernel.workers() if one.serves],
    "companion": lambda kernel: kernel.attendants(),
    "turning": lambda kernel: [one for one in kernel.processes.values() if one.serves],
    "zygote": lambda kernel: [one for one in kernel.processes.values() if one.is_zygote],
    "heir": lambda kernel: [one for one in kernel.processes.values() if one.heir_of is not None],
    "new": lambda kernel: [one for one in kernel.processes.values() if not one.is_up and not one.is_leaving],
}


def there_is(kind: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return the precondition that there is a child of a kind, in a world that goes on."""
    return precondition(lambda self: self.kernel.code is None and bool(KINDS[kind](self.kernel)))


policies = st.builds(
    Policy,
    graceful_timeout=st.just(3.0),
    boot_timeout=st.just(5.0),
    backoff=st.just(0.5),
    backoff_max=st.just(4.0),
    healthy_after=st.just(1.0),
    boot_attempts=st.just(4),
    surge=st.integers(1, 3),
    avoids_stalled=st.booleans(),
    stall_report=st.sampled_from([0.0, 1.0]),
    stall_timeout=st.sampled_from([0.0, 0.5, 4.0]),
    upgrade_timeout=st.just(6.0),
    reforks=st.booleans(),
    intensity=st.sampled_from([None, None, Intensity(5, 10.0)]),
)


class World(RuleBasedStateMachine):
    """Forks are answered now, later or never; children send messages, stall, die or hang; people ask; time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.answers_at_once = True
        self.connections_wait = False

    @initialize(
        policy=policies,
        workers=st.integers(1, 4),
        companions=st.integers(0, 2),
        inherited=st.integers(0, 5),
        preload=st.booleans(),
        starts=st.sampled_from([True, True, True, False]),
        ends_calmly=st.booleans(),
    )
    def begin(
        self,
        policy: Policy,
        workers: int,
        inherited: int,
        preload: bool,
        starts: bool,
        ends_calmly: bool,
        companions: int = 0,
    ) -> None:
        self.policy, self.preload, self.ends_calmly = policy, preload, ends_calmly
        slots = tuple(companion_slot(number) for number in range(companions))
        self.machine = self.made(policy, workers, preload=preload, companions=slots)
        self.kernel = ModelKernel(workers, overlaps=policy.overlaps, companions=slots)
        self.kernel.existing = max(workers, inherited)
        self.feed(ev.SlotsInherited(inherited))
        self.feed(ev.Started())
        if starts:
            self.everything_calms_down()

    def made(self, policy: Policy, workers: int, *, preload: bool, companions: tuple[int, ...]) -> Machine:
        """Return the machine; a test may put something in its place."""
        return Machine(policy, workers, preload=preload, roster=roster_of(companions), companions=companions)

    @property
    def table(self) -> Table:
        """The machine's own: what must hold is about it."""
        return self.machine._table

    def feed(self, event: ev.Event) -> None:
        """Step the machine, and perform its actions as the shell does: all actions of a step, then their answers."""
        events = [event]
        for one in events:
            assert len(events) < 100, "the answers to forks bring about forks without end"
            if isinstance(one, ev.StopAsked | ev.Interrupted):
                self.kernel.is_stopping = True
            if one == ev.StopAsked(False) or (one == ev.Interrupted() and self.machine.phase is Phase.STOPPING):
                self.kernel.is_in_haste = True
            actions = self.machine.step(one, self.kernel.now)
            self.kernel.is_stopping = self.kernel.is_stopping or self.machine.phase in OVER
            for action in actions:
                self.kernel.perform(action)
            self.all_invariants_hold()
            if self.kernel.is_asked_for_queues:
                self.kernel.is_asked_for_queues = False
                self.kernel.queues_are_empty = not self.connections_wait
                events.append(ev.QueuesChecked(self.connections_wait))
            if self.answers_at_once and self.kernel.forks and one is events[-1]:  # the machine hears of it at once
                events.append(self.kernel.answer(min(self.kernel.forks), succeeds=True))

    def draw(self, data: st.DataObject, kind: str) -> Process:
        """Return some living child of a kind."""
        return data.draw(st.sampled_from(KINDS[kind](self.kernel)))

    # --- forks

    @rule(at_once=st.booleans())
    def forks_take(self, at_once: bool) -> None:
        self.answers_at_once = at_once

    @precondition(lambda self: self.kernel.forks)
    @rule(data=st.data(), succeeds=st.booleans())
    def fork_is_answered(self, data: st.DataObject, succeeds: bool) -> None:
        slot = data.draw(st.sampled_from(sorted(self.kernel.forks)))
        self.feed(self.kernel.answer(slot, succeeds=succeeds))

    # --- children

    @there_is("serving")
    @rule(data=st.data())
    def worker_is_refork_ready(self, data: st.DataObject) -> None:
        self.feed(said(self.draw(data, "serving").pid, ReforkReady()))

    @there_is("heir")
    @rule(data=st.data())
    def heir_can_fork(self, data: st.DataObject) -> None:
        self.inherits(self.draw(data, "heir"))

    def inherits(self, one: Process) -> None:
        one.becomes_zygote()
        self.feed(said(one.pid, Warm()))

    @there_is("heir")
    @rule(data=st.data())
    def heir_is_unfit(self, data: st.DataObject) -> None:
        one = self.draw(data, "heir")
        one.heir_of = None
        self.feed(said(one.pid, Unfit("a live thread")))

    def becomes_ready(self, one: Process) -> None:
        if not one.is_leaving and not one.has_failed:
            one.is_up = True
            self.kernel.has_served = self.kernel.has_served or not (one.is_zygote or one.is_companion)
        one.says_ready = one.is_leaving and not one.is_zygote
        self.feed(said(one.pid, Warm()) if one.is_zygote else said(one.pid, READY))
        one.says_ready = False

    @there_is("new")
    @rule(data=st.data())
    def child_says_ready(self, data: st.DataObject) -> None:
        self.becomes_ready(self.draw(data, "new"))

    @there_is("new")
    @rule(data=st.data(), reason=st.sampled_from(["no module", "no loop"]))
    def child_says_failed(self, data: st.DataObject, reason: str) -> None:
        one = self.draw(data, "new")
        one.has_failed = one.has_failed or not one.is_up
        self.feed(said(one.pid, BootFailed(Exit.TARGET, reason)))

    @there_is("zygote")
    @rule(data=st.data())
    def zygote_says_unfit(self, data: st.DataObject) -> None:
        self.feed(said(self.draw(data, "zygote").pid, Unfit("a live thread")))

    @there_is("turning")
    @rule(data=st.data())
    def worker_says_it_drains(self, data: st.DataObject) -> None:
        one = self.draw(data, "turning")
        one.is_leaving = one.is_unconfirmed = True
        self.feed(said(one.pid, Draining()))
        assert not one.is_unconfirmed, "a worker was believed that it drains, and not told to"

    @there_is("serving")
    @rule(data=st.data())
    def worker_says_its_listener_is_broken(self, data: st.DataObject) -> None:
        one = self.draw(data, "serving")
        one.is_leaving = one.is_unconfirmed = True
        self.feed(said(one.pid, Broken("127.0.0.1:80 was shut down")))
        assert not one.is_unconfirmed, "a worker that cannot accept was not told to leave"

    @there_is("companion")
    @rule(data=st.data(), how=HOWS)
    def companion_dies(self, data: st.DataObject, how: ev.How) -> None:
        self.die(self.draw(data, "companion").pid, how)

    @there_is("companion")
    @rule(data=st.data(), message=st.sampled_from([ReforkReady(), Broken("it has none")]))
    def companion_says_what_only_workers_say(self, data: st.DataObject, message: ReforkReady | Broken) -> None:
        self.feed(said(self.draw(data, "companion").pid, message))

    @there_is("companion")
    @rule(data=st.data())
    def restart_of_a_companion_is_asked_for(self, data: st.DataObject) -> None:
        self.feed(ev.RestartAsked(self.draw(data, "companion").slot))

    @there_is("turning")
    @rule(data=st.data())
    def worker_is_due_for_recycling(self, data: st.DataObject) -> None:
        self.feed(said(self.draw(data, "turning").pid, RecycleDue("served 5 requests")))

    @there_is("turning")
    @rule(data=st.data(), ago=st.floats(0, 6))
    def worker_stalls(self, data: st.DataObject, ago: float) -> None:
        one = self.draw(data, "turning")
        since = self.kernel.now - ago
        if one.serves and one.stalled_since is None:
            one.stalled_since, one.is_dumped = since, False
        self.feed(ev.Stalled(one.pid, since))

    @there_is("worker")
    @rule(data=st.data())
    def worker_turns_again(self, data: st.DataObject) -> None:
        self.recovers(self.draw(data, "worker"))

    def recovers(self, one: Process) -> None:
        one.stalled_since = None
        self.feed(ev.Recovered(one.pid))

    @there_is("any")
    @rule(data=st.data(), how=HOWS)
    def child_dies(self, data: st.DataObject, how: ev.How) -> None:
        self.die(self.draw(data, "any").pid, how)

    def die(self, pid: int, how: ev.How) -> None:
        del self.kernel.processes[pid]
        self.feed(ev.Exited(pid, how))

    @there_is("any")
    @rule(data=st.data())
    def child_says_what_does_not_become_it(self, data: st.DataObject) -> None:
        """A message of a child may cross an order, or be nonsense."""
        one = self.draw(data, "any")
        if not one.is_zygote and not one.serves:
            nonsense = [
                ev.Stalled(one.pid, self.kernel.now),
                said(one.pid, RecycleDue("old")),
                said(one.pid, ReforkReady()),
            ]
            self.feed(data.draw(st.sampled_from(nonsense)))
        elif one.is_up or one.is_leaving:
            self.becomes_ready(one)
            self.feed(said(one.pid, BootFailed(Exit.TARGET, "confused")))

    @there_is("new")
    @rule()
    def all_that_boot_get_ready(self) -> None:
        for one in KINDS["new"](self.kernel):
            if one.pid in self.kernel.processes:
                self.becomes_ready(one)

    @rule(data=st.data())
    def somebody_unknown_speaks(self, data: st.DataObject) -> None:
        strangers = [
            *(
                said(999, READY),
                said(999, Draining()),
                said(999, Broken("who?")),
                said(999, BootFailed(3, "who?")),
                said(999, RecycleDue("who?")),
            ),
            *(said(999, ReforkReady()), said(999, Warm()), said(999, Unfit("who?")), ev.Exited(999, ev.How(code=0))),
            *(ev.Stalled(999, self.kernel.now), ev.Recovered(999)),
        ]
        self.feed(data.draw(st.sampled_from(strangers)))

    @rule(waiting=st.booleans())
    def queues_fill_or_empty(self, waiting: bool) -> None:
        self.connections_wait = waiting

    # --- time

    @rule(seconds=st.one_of(st.floats(0, 8), st.just(1000.0)))
    def time_passes(self, seconds: float) -> None:
        self.kernel.now += seconds
        self.tick()

    def tick(self) -> None:
        self.feed(ev.Tick())
        after = self.machine.deadline()
        if not self.answers_at_once:
            assert after is None or after > self.kernel.now, "the deadline has passed and is due still: it would spin"

    @rule(count=st.integers(1, 20))
    def deadlines_pass(self, count: int) -> None:
        for _ in range(count):
            deadline = self.machine.deadline()
            if deadline is None:
                return
            self.kernel.now = max(self.kernel.now, deadline)
            self.tick()

    # --- people

    @rule(workers=st.integers(-1, 5))
    def scale(self, workers: int) -> None:
        self.resize(workers, ev.ScaleAsked(workers))

    @rule(step=st.sampled_from([-1, 1]))
    def scale_by(self, step: int) -> None:
        self.resize(self.kernel.wanted + step, ev.ScaleByAsked(step))

    def resize(self, workers: int, event: ev.Event) -> None:
        if 1 <= workers <= MAX_WORKERS and self.machine.phase not in OVER:
            self.kernel.wanted = workers
            self.kernel.existing = max(self.kernel.existing, workers)
        self.feed(event)

    @rule()
    def reload(self) -> None:
        self.feed(ev.ReloadAsked())

    @rule()
    def upgrade(self) -> None:
        self.feed(ev.UpgradeAsked())

    @precondition(lambda self: self.kernel.has_successor_starting)
    @rule(outcome=st.sampled_from(["started", "failed", "serves"]))
    def successor(self, outcome: str) -> None:
        if outcome == "started":
            self.feed(ev.SuccessorStarted(500))
            return
        self.kernel.has_successor_starting = False
        self.kernel.is_stopping = self.kernel.is_stopping or outcome == "serves"
        self.feed(ev.SuccessorServes() if outcome == "serves" else ev.SuccessorFailed("killed by SIGKILL"))

    @rule(event=st.sampled_from([ev.StopAsked(True), ev.StopAsked(False), ev.Interrupted()]), really=st.integers(0, 9))
    def stop(self, event: ev.Event, really: int) -> None:
        if really == 9:  # now and then: little else happens afterwards
            self.feed(event)

    # --- quiescence

    @rule()
    def everything_calms_down(self) -> None:
        """All forks are answered, all children get ready or leave as told, and back-offs end."""
        for _ in range(500):
            if not self.something_calms_down():
                break
        else:
            raise AssertionError("it never calms down")
        if self.machine.phase is Phase.ENDED:
            return
        assert self.machine.phase is Phase.SERVING
        self.all_is_as_it_should_be()

    def something_calms_down(self) -> bool:
        """Let one thing happen that must; False if there is none."""
        kernel = self.kernel
        for slot in kernel.forks:
            self.feed(kernel.answer(slot, succeeds=True))
            return True
        for one in kernel.processes.values():
            if one.heir_of is not None:
                self.inherits(one)
            elif one.is_leaving or one.has_failed:
                self.die(one.pid, ev.How(code=0) if one.killed_at is None else KILLED)
            elif not one.is_up:
                self.becomes_ready(one)
            elif one.stalled_since is not None:
                self.recovers(one)
            else:
                continue
            return True
        if kernel.has_successor_starting:
            self.successor("failed")
            return True
        deadline = self.machine.deadline()
        if deadline is None:
            return False
        kernel.now = max(kernel.now, deadline)
        self.tick()
        return True

    # --- to be overridden by the test

    def all_is_as_it_should_be(self) -> None:
        """Check a calm world with a serving supervisor."""
        raise NotImplementedError

    def all_invariants_hold(self) -> None:
        """Check the world after a step of the machine, before anything else happens."""
        raise NotImplementedError
