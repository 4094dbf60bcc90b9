"""Programs as workers: none beside another one in a slot, and jobs that may end for good."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule
from support.loops import MATRIX
from support.play import ENDED, KILLED, Play, child, deeds, moves, serving, table_with, texts
from support.rows import for_each
from support.said import READY, said
from support.world import World

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core import rollout
from hybrid.supervisor.core.machine import Phase
from hybrid.supervisor.core.policy import Intensity, Policy, Restart, stays_ended
from hybrid.supervisor.core.rollout import Start
from hybrid.supervisor.core.states import State
from hybrid.supervisor.core.table import Fork
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import RecycleDue

ALONE = Policy(overlaps=False, ending_signal="SIGTERM")
JOB = Policy(overlaps=False, ending_signal="SIGTERM", restart=Restart.TRANSIENT)
FAILED = ev.How(code=1)


# --- which workers get no successor


@for_each(
    ("restart", "code", "expected"),
    [
        (Restart.PERMANENT, 0, False),
        (Restart.PERMANENT, 1, False),
        (Restart.TRANSIENT, 0, True),
        (Restart.TRANSIENT, 1, False),
        (Restart.TRANSIENT, None, False),
        (Restart.TEMPORARY, 0, True),
        (Restart.TEMPORARY, 1, True),
        (Restart.TEMPORARY, None, True),
    ],
)
def test_the_rule_decides_by_the_exit_code(restart: Restart, code: int | None, expected: bool) -> None:
    assert stays_ended(Policy(restart=restart), code) is expected


def test_a_job_that_is_done_is_not_started_again() -> None:
    play = serving(2, policy=JOB)
    actions = play.at(5, ev.Exited(1, ENDED))
    assert texts(actions) == ["worker ended: exited with code 0 after 5.0 s; not restarted (restart = transient)"]
    assert moves(actions) == []
    assert {row.slot: row.state for row in play.machine.workers(5)} == {0: "done", 1: "ready"}
    assert play.machine.is_settled()


def test_a_job_that_fails_is_started_again() -> None:
    assert moves(serving(1, policy=JOB).at(5, ev.Exited(1, FAILED))) == [ev.Fork(0, 1)]


def test_a_temporary_worker_that_is_killed_is_told_of_as_a_warning() -> None:
    play = serving(2, policy=Policy(restart=Restart.TEMPORARY))
    (report,) = [action for action in play.step(ev.Exited(1, KILLED)) if isinstance(action, ev.Report)]
    assert report.level is ev.Level.WARNING


def test_the_last_job_that_is_done_ends_the_service_with_code_0() -> None:
    play = serving(2, policy=JOB)
    play.step(ev.Exited(2, ENDED))
    assert deeds(play.step(ev.Exited(1, ENDED)))[-1] == ev.Finish(Exit.OK)


def test_the_last_job_that_is_scaled_away_ends_the_service() -> None:
    play = serving(2, policy=JOB)
    play.step(ev.Exited(1, ENDED))
    play.step(ev.ScaleByAsked(-1))
    assert deeds(play.step(ev.Exited(2, ENDED)))[-1] == ev.Finish(Exit.OK)


def test_a_job_that_ends_before_another_is_ready_counts_as_started() -> None:
    play = Play(2, policy=JOB)
    play.step(ev.Started(), said(1, READY), ev.Exited(1, ENDED))
    assert not play.machine.has_started
    play.step(said(2, READY))
    assert play.machine.has_started


def test_more_workers_mean_a_job_anew() -> None:
    play = serving(2, policy=JOB)
    play.step(ev.Exited(2, ENDED), ev.ScaleByAsked(-1))
    assert moves(play.step(ev.ScaleByAsked(1))) == [ev.Fork(1, 1)]


def test_a_restart_of_a_slot_that_is_done_starts_it_anew() -> None:
    play = serving(2, policy=JOB)
    play.step(ev.Exited(2, ENDED))
    assert moves(play.step(ev.RestartAsked(1))) == [ev.Fork(1, 1)]


def test_a_reload_leaves_a_slot_alone_that_is_done() -> None:
    play = serving(2, policy=JOB)
    play.step(ev.Exited(2, ENDED))
    assert moves(play.step(ev.ReloadAsked())) == [ev.Drain(1)]
    assert moves(play.step(ev.Exited(1, ENDED))) == [ev.Fork(0, 2)]
    play.step(said(3, READY))
    assert play.machine.is_settled()


def test_a_job_that_was_told_to_end_is_not_done() -> None:
    play = serving(1, policy=JOB)
    play.step(ev.ReloadAsked())
    assert moves(play.step(ev.Exited(1, ENDED))) == [ev.Fork(0, 2)]


def test_jobs_that_fail_too_often_end_the_service_as_others_do() -> None:
    play = serving(1, policy=Policy(restart=Restart.TRANSIENT, intensity=Intensity(0, 10.0)))
    assert deeds(play.step(ev.Exited(1, FAILED)))[-1] == ev.Finish(Exit.RESTARTS)


# --- none beside another


def test_a_reload_replaces_one_program_after_the_other() -> None:
    play = serving(2, policy=ALONE)
    actions = play.step(ev.ReloadAsked())
    assert moves(actions) == [ev.Drain(1)]
    assert texts(actions) == [
        "reloading: starting generation 2 after generation 1",
        "replacing 2 workers of older ones",
    ]
    assert moves(play.step(ev.Exited(1, ENDED))) == [ev.Fork(0, 2)]
    assert moves(play.step(said(3, READY))) == [ev.Drain(2)]
    assert moves(play.step(ev.Exited(2, ENDED))) == [ev.Fork(1, 2)]
    assert texts(play.step(said(4, READY))) == ["reload complete: 2 workers of generation 2"]
    assert play.machine.is_settled()


def test_nothing_starts_in_a_slot_while_the_old_program_drains() -> None:
    play = serving(1, policy=ALONE)
    play.step(ev.ScaleAsked(2), said(2, READY), ev.ScaleAsked(1))
    assert moves(play.step(ev.ScaleAsked(2))) == []
    assert moves(play.step(ev.Exited(2, ENDED))) == [ev.Fork(1, 1)]


def test_a_program_that_does_not_end_in_time_is_killed_and_then_replaced() -> None:
    play = serving(1, policy=ALONE)
    play.step(ev.ReloadAsked())
    assert moves(play.later(ALONE.graceful_timeout)) == [ev.Kill(1)]
    assert moves(play.step(ev.Exited(1, KILLED))) == [ev.Fork(0, 2)]


def test_a_program_that_its_stop_signal_ended_has_ended_well() -> None:
    play = serving(2, policy=ALONE)
    play.step(ev.StopAsked(graceful=True))
    assert texts(play.step(ev.Exited(1, ev.How(signal="SIGTERM")))) == []
    assert texts(play.step(ev.Exited(2, ev.How(signal="SIGSEGV"))))[0].startswith("worker died while draining")


def test_a_restart_replaces_the_program_of_one_slot() -> None:
    play = serving(2, policy=ALONE)
    assert moves(play.step(ev.RestartAsked(1))) == [ev.Drain(2)]
    assert moves(play.step(ev.Exited(2, ENDED))) == [ev.Fork(1, 1)]


def test_a_restart_of_a_slot_that_backs_off_starts_at_once() -> None:
    play = serving(1, policy=ALONE)
    play.at(0.1, ev.Exited(1, FAILED), said(2, READY), ev.Exited(2, FAILED), said(3, READY), ev.Exited(3, FAILED))
    assert moves(play.step(ev.RestartAsked(0))) == [ev.Fork(0, 1)]


def test_so_many_programs_are_replaced_at_a_time_as_successors_may_start() -> None:
    table = table_with(3, child(1, 0), child(2, 1), child(3, 2))
    table.try_next()
    table.commit()
    plan = rollout.plan(table, 0.0, surge=2, overlaps=False)
    assert ([one.pid for one in plan.retire], plan.start) == ([1, 2], ())


@pytest.mark.parametrize("state", [State.DRAINING, State.ABORTED, State.KILLED])
def test_a_slot_is_not_filled_while_a_program_leaves_it(state: State) -> None:
    table = table_with(1, child(1, 0, state, deadline=9.0))
    assert rollout.plan(table, 0.0, overlaps=False).start == ()
    table.remove(1)
    assert rollout.plan(table, 0.0, overlaps=False).start == (Start(0, 1),)


def test_nothing_is_replaced_while_a_fork_is_pending() -> None:
    table = table_with(2, child(1, 0), child(2, 1))
    table.try_next()
    table.commit()
    table.reserve(1, Fork(2, 9.0, None))
    assert rollout.plan(table, 0.0, overlaps=False).retire == ()


# --- whatever happens


class ProgramWorld(World):
    """A world of programs: no zygotes, no stalls, and workers that end by themselves."""

    @initialize(
        workers=st.integers(1, 4),
        restart=st.sampled_from(Restart),
        surge=st.integers(1, 2),
        starts=st.booleans(),
        ends_calmly=st.booleans(),
    )
    def begin(  # type: ignore[override]
        self, workers: int, restart: Restart, surge: int, starts: bool, ends_calmly: bool
    ) -> None:
        policy = Policy(
            overlaps=False, restart=restart, surge=surge, graceful_timeout=3.0, boot_timeout=5.0, upgrade_timeout=6.0
        )
        World.begin(self, policy, workers, 0, False, starts, ends_calmly)

    @rule(slot=st.integers(0, 4))
    def restart(self, slot: int) -> None:
        self.feed(ev.RestartAsked(slot))

    def all_is_as_it_should_be(self) -> None:
        done = set(self.table.done())
        assert self.machine.is_settled()
        assert set(self.kernel.ready_slots()) | done == set(range(self.kernel.wanted))
        assert len(self.kernel.workers()) == self.kernel.wanted - len(done)
        assert not self.machine.is_reloading

    def all_invariants_hold(self) -> None:
        assert self.machine.phase is not Phase.SERVING or len(self.table.done()) < self.kernel.wanted
        if self.policy.restart is Restart.PERMANENT:
            assert self.table.done() == ()


class TestProgramWorld(ProgramWorld.TestCase):  # type: ignore[name-defined,misc]
    """`ModelKernel` checks that no program is started beside another one in its slot."""

    settings = settings(max_examples=100 if MATRIX else 25, stateful_step_count=50, deadline=None)


def test_a_program_that_is_due_for_recycling_ends_first() -> None:
    play = serving(1, policy=ALONE)
    assert moves(play.step(said(1, RecycleDue("served 5 requests")))) == [ev.Drain(1)]
