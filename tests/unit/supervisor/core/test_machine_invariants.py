"""What holds for the machine whatever happens, found out by random worlds over a model of the kernel."""

from __future__ import annotations

import collections

from hypothesis import settings
from support.loops import MATRIX
from support.world import KILLED, World

from hybrid.supervisor.core import attendance
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.machine import Phase
from hybrid.supervisor.core.rollout import MOST_DRAINING
from hybrid.workers.contract.exits import Exit


class AnyWorld(World):
    """See `World` for what happens in it."""

    def all_is_as_it_should_be(self) -> None:
        kernel, wanted = self.kernel, tuple(range(self.kernel.wanted))
        assert self.machine.is_settled()
        assert not self.machine.is_reloading
        assert kernel.ready_slots() == wanted
        assert len(kernel.workers()) == len(wanted)
        assert kernel.steered == ev.Steer(wanted, wanted), "a slot stays unsteered"
        for slot in kernel.companions:
            assert len(kernel.attending(slot, self.table.generation)) == 1
        assert len(kernel.attendants()) == len(kernel.companions)
        unwanted = tuple(range(kernel.wanted, kernel.existing))
        assert {one.adopted for one in kernel.workers()} == {unwanted}
        assert {one.generation for one in kernel.processes.values()} == {self.table.generation}
        assert self.machine.has_started

    # --- what holds after each step

    def all_invariants_hold(self) -> None:
        self.the_table_is_what_the_kernel_knows()
        self.nobody_shares_a_slot_but_one_who_comes_and_one_who_serves()
        self.successors_are_few_while_all_slots_are_served()
        self.at_most_one_worker_tries_a_generation_out()
        self.every_queue_has_somebody_unless_nobody_turns()
        self.nothing_waits_without_a_deadline()
        self.no_slot_waits_for_nothing()
        self.a_reload_fails_at_most_once()
        self.the_end_comes_once_and_leaves_nobody_behind_who_can_die()

    def the_table_is_what_the_kernel_knows(self) -> None:
        if self.machine.phase is Phase.ENDED:
            return
        known = {(child.pid, child.slot, child.generation) for child in self.table.children()}
        real = {(one.pid, one.slot, one.generation) for one in self.kernel.processes.values()}
        assert known <= real
        left_behind = {pid for pid, _, _ in real - known}
        assert all(self.kernel.processes[pid].killed_at is not None for pid in left_behind)
        assert not left_behind or self.kernel.is_stopping
        assert set(self.table.forks()) == set(self.kernel.forks)

    def nobody_shares_a_slot_but_one_who_comes_and_one_who_serves(self) -> None:
        for slot in range(self.kernel.existing):
            assert self.kernel.booting(slot) <= 1
            assert len(self.kernel.serving(slot)) <= 1

    def successors_are_few_while_all_slots_are_served(self) -> None:
        kernel = self.kernel
        if kernel.ready_slots() == tuple(range(kernel.wanted)):
            assert sum(kernel.booting(slot) for slot in range(kernel.wanted)) <= self.policy.surge

    def at_most_one_worker_tries_a_generation_out(self) -> None:
        tried = [one for one in self.kernel.workers() if one.boots and one.generation == self.table.next]
        forks = [fork for slot, fork in self.kernel.forks.items() if slot >= 0 and fork.generation == self.table.next]
        assert len(tried) + len(forks) <= 1

    def every_queue_has_somebody_unless_nobody_turns(self) -> None:
        """Connections go to healthy workers; each of them serves all other queues, neither less nor more."""
        kernel = self.kernel
        if self.machine.phase not in (Phase.STARTING, Phase.SERVING):
            return
        healthy = kernel.healthy(avoids_stalled=self.policy.avoids_stalled)
        own = {one.slot for one in healthy}
        ready = kernel.ready_slots() or tuple(range(kernel.wanted))
        assert kernel.steered == ev.Steer(tuple(sorted(own)) or ready, ready)
        orphaned = tuple(slot for slot in range(kernel.existing) if slot not in own)
        assert all(one.adopted == orphaned for one in healthy)

    def nothing_waits_without_a_deadline(self) -> None:
        if self.machine.phase in (Phase.NEW, Phase.ENDED):
            return
        waits = any(not one.is_up or one.is_leaving for one in self.kernel.processes.values()) or self.kernel.forks
        vacant = [row for row in self.machine.workers(self.kernel.now) if row.pid is None]
        assert not (waits or vacant or self.kernel.has_successor_starting) or self.machine.deadline() is not None

    def no_slot_waits_for_nothing(self) -> None:
        """A slot is vacant while it pauses, its zygote imports, or many of its workers drain; else a worker starts."""
        if self.preload or self.machine.phase not in (Phase.STARTING, Phase.SERVING):
            return
        draining = collections.Counter(child.slot for child in self.table.leaving())
        vacant = [slot for slot in self.table.vacant() if draining[slot.index] < MOST_DRAINING]
        companions = attendance.vacant(self.table) if self.machine.phase is Phase.SERVING else ()
        assert all(slot.not_before > self.kernel.now for slot in (*vacant, *companions))

    def a_reload_fails_at_most_once(self) -> None:
        assert self.kernel.failed_reloads <= self.kernel.reloads

    def the_end_comes_once_and_leaves_nobody_behind_who_can_die(self) -> None:
        kernel = self.kernel
        assert (kernel.code is not None) == (self.machine.phase is Phase.ENDED)
        if kernel.code is not None:
            assert all(one.killed_at is not None for one in kernel.processes.values())
            assert not kernel.forks
            assert kernel.code != Exit.KILLED or kernel.has_killed_worker_while_stopping

    def teardown(self) -> None:
        """After a stop the end comes, in the middle of whatever, though everybody hangs that is not killed."""
        if not hasattr(self, "machine"):
            return
        if self.ends_calmly:
            self.everything_calms_down()
        self.answers_at_once = False
        self.feed(ev.StopAsked(graceful=True))
        for _ in range(1000):
            if self.kernel.code is not None:
                break
            self.something_must_happen()
        assert self.kernel.code is not None, "the end does not come"
        self.the_end_comes_once_and_leaves_nobody_behind_who_can_die()

    def something_must_happen(self) -> None:
        """Let happen what must also if everybody hangs: the killed die, deadlines pass."""
        for one in self.kernel.processes.values():
            if one.killed_at is not None:
                self.die(one.pid, KILLED)
                return
        self.deadlines_pass(1)


class TestAnyWorld(AnyWorld.TestCase):  # type: ignore[name-defined,misc]
    """Runs it."""

    settings = settings(max_examples=100 if MATRIX else 25, stateful_step_count=50, deadline=None)
