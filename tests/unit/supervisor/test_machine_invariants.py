"""What holds for the machine whatever happens, found out by random worlds."""

from __future__ import annotations

import dataclasses

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hybrid.supervisor import events as ev
from hybrid.supervisor.machine import Machine, Phase
from hybrid.supervisor.policy import Policy
from hybrid.workers.contract.exits import Exit

POLICY = Policy(graceful_timeout=3, boot_timeout=5, backoff=0.5, backoff_max=4, healthy_after=1, boot_attempts=4)
HOWS = st.sampled_from([ev.How(code=0), ev.How(code=3), ev.How(signal="SIGKILL"), ev.How(signal="SIGSEGV"), ev.How()])


@dataclasses.dataclass
class Process:
    """A child as the world sees it."""

    slot: int
    told_to_leave: bool = False


class AnyWorld(RuleBasedStateMachine):
    """Forks succeed or fail, now or later; children speak, die or hang; people scale and stop; time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.forks: list[int] = []  # slots whose fork is under way
        self.processes: dict[int, Process] = {}  # pid -> living child
        self.killed: set[int] = set()  # pids that were sent SIGKILL and are not reported dead yet
        self.pids = 0
        self.codes: list[int] = []  # of every Finish
        self.steered: tuple[int, ...] = ()

    @initialize(workers=st.integers(1, 4))
    def begin(self, workers: int) -> None:
        self.machine = Machine(POLICY, workers)
        self.steered = tuple(range(workers))
        self.feed(ev.Started())

    def feed(self, event: ev.Event) -> None:
        for action in self.machine.step(event, self.now):
            self.perform(action)

    def perform(self, action: ev.Action) -> None:
        assert not self.codes, "an action after the end"
        match action:
            case ev.Fork(slot):
                assert slot not in self.forks, "two forks into one slot"
                self.forks.append(slot)
            case ev.Drain(pid):
                self.processes[pid].told_to_leave = True
            case ev.Kill(pid):
                self.processes[pid].told_to_leave = True
                self.killed.add(pid)
            case ev.Steer(slots):
                assert slots, "connections sent nowhere"
                self.steered = slots
            case ev.Finish(code):
                self.codes.append(code)

    # --- what may happen

    @precondition(lambda self: self.forks)
    @rule(succeeds=st.booleans())
    def fork_is_answered(self, succeeds: bool) -> None:
        slot = self.forks.pop(0)
        if not succeeds:
            self.feed(ev.ForkFailed(slot, "no room"))
            return
        self.pids += 1
        self.processes[self.pids] = Process(slot)
        self.feed(ev.Spawned(slot, self.pids))

    @precondition(lambda self: self.processes)
    @rule(data=st.data())
    def child_says_ready(self, data: st.DataObject) -> None:
        self.feed(ev.WorkerReady(data.draw(st.sampled_from(sorted(self.processes)))))

    @precondition(lambda self: self.processes)
    @rule(data=st.data(), reason=st.sampled_from(["no module", "no loop"]))
    def child_says_failed(self, data: st.DataObject, reason: str) -> None:
        self.feed(ev.WorkerFailed(data.draw(st.sampled_from(sorted(self.processes))), Exit.TARGET, reason))

    @precondition(lambda self: self.processes)
    @rule(data=st.data(), how=HOWS)
    def child_dies(self, data: st.DataObject, how: ev.How) -> None:
        self.bury(data.draw(st.sampled_from(sorted(self.processes))), how)

    def bury(self, pid: int, how: ev.How) -> None:
        del self.processes[pid]
        self.killed.discard(pid)
        self.feed(ev.Exited(pid, how))

    @rule(seconds=st.floats(0, 8))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.feed(ev.Tick())

    @precondition(lambda self: self.machine.deadline() is not None)
    @rule()
    def deadline_passes(self) -> None:
        deadline = self.machine.deadline()
        assert deadline is not None
        self.now = max(self.now, deadline)
        self.feed(ev.Tick())
        after = self.machine.deadline()
        assert after is None or after > self.now, "the deadline has passed and is still due: the shell would spin"

    @rule(workers=st.integers(-1, 5))
    def scale(self, workers: int) -> None:
        self.feed(ev.ScaleAsked(workers))

    @rule(step=st.sampled_from([-1, 1]))
    def scale_by(self, step: int) -> None:
        self.feed(ev.ScaleByAsked(step))

    @rule(event=st.sampled_from([ev.ReloadAsked(), ev.WorkerReady(999), ev.Exited(999, ev.How(code=0))]))
    def something_without_effect(self, event: ev.Event) -> None:
        self.feed(event)

    @rule(event=st.sampled_from([ev.StopAsked(True), ev.StopAsked(False), ev.Interrupted()]))
    def stop(self, event: ev.Event) -> None:
        self.feed(event)

    # --- what always holds

    @invariant()
    def at_most_one_child_that_is_to_stay_sits_in_a_slot(self) -> None:
        slots = [process.slot for process in self.processes.values() if not process.told_to_leave] + self.forks
        assert len(slots) == len(set(slots))

    @invariant()
    def nothing_waits_without_a_deadline(self) -> None:
        if self.machine.phase is Phase.ENDED:
            return
        waiting = [row for row in self.machine.workers(self.now) if row.state != "ready"]
        assert not waiting or self.machine.deadline() is not None

    @invariant()
    def nobody_is_forgotten_who_was_not_killed_first(self) -> None:
        known = {row.pid for row in self.machine.workers(self.now)}
        assert set(self.processes) - known <= self.killed

    @invariant()
    def connections_go_to_wanted_slots(self) -> None:
        if self.machine.phase in (Phase.STARTING, Phase.SERVING):
            rows = self.machine.workers(self.now)
            staying = {row.slot for row in rows if row.state not in ("draining", "killed")} | set(self.forks)
            assert set(self.steered) <= staying

    @invariant()
    def the_end_comes_once(self) -> None:
        assert len(self.codes) == (self.machine.phase is Phase.ENDED)

    def teardown(self) -> None:
        """After a stop every child is gone in the end, or the kernel has not done its part."""
        if not hasattr(self, "machine"):
            return
        self.feed(ev.StopAsked(graceful=True))
        for _ in range(1000):
            if self.codes:
                break
            self.advance()
        assert len(self.codes) == 1
        assert set(self.processes) <= self.killed
        assert not self.forks

    def advance(self) -> None:
        """Let happen what must: forks return, the killed die, deadlines pass."""
        if self.forks:
            self.fork_is_answered(succeeds=True)
        elif self.killed:
            self.bury(min(self.killed), ev.How(signal="SIGKILL"))
        else:
            self.deadline_passes()


class TestAnyWorld(AnyWorld.TestCase):  # type: ignore[name-defined,misc]
    """Runs it."""

    settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
