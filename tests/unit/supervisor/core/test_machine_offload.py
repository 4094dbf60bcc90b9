"""Offload workers in the machine: they start when they are asked for, and what a call does to one is not its fault."""

from __future__ import annotations

import dataclasses

import pytest
from support.play import ENDED, KILLED, POLICY, Play, moves, texts
from support.said import READY, said

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.machine import Phase
from hybrid.supervisor.core.policy import Intensity, Policy, Restart
from hybrid.workers.contract.messages import BootFailed, RecycleDue


def offloading(count: int = 1, *, policy: Policy = POLICY) -> tuple[Play, tuple[int, ...]]:
    """Return a play in which a worker serves (pid 1) and so many offload workers are ready, and their slots."""
    play = Play(1, policy=policy)
    play.step(ev.Started(), said(1, READY))
    slots = play.roster.slots_of_pool("ml", count)
    play.step(ev.CompanionsAsked(slots))
    play.step(*(said(pid, READY) for pid in range(2, count + 2)))
    return play, slots


def test_they_start_when_a_worker_asks_for_them() -> None:
    play = Play(1)
    play.step(ev.Started(), said(1, READY))
    assert moves(play.later(10)) == []
    first, second = slots = play.roster.slots_of_pool("ml", 2)
    assert moves(play.step(ev.CompanionsAsked(slots))) == [ev.Fork(first, 1), ev.Fork(second, 1)]


def test_they_do_not_start_twice() -> None:
    play, slots = offloading(2)
    assert moves(play.step(ev.CompanionsAsked(slots))) == []


@pytest.mark.parametrize("how", [KILLED, ENDED], ids=["killed", "exit"])
@pytest.mark.parametrize("restart", Restart)
def test_one_that_a_call_has_ended_is_replaced_at_once_each_time(how: ev.How, restart: Restart) -> None:
    """There is no back-off, no count of deaths, and no service whose calls would wait forever."""
    play, (slot,) = offloading(policy=dataclasses.replace(POLICY, restart=restart, intensity=Intensity(2, 60.0)))
    for pid in range(2, 12):
        actions = play.step(ev.Exited(pid, how))
        assert moves(actions) == [ev.Fork(slot, 1)]
        assert texts(actions)[0].endswith("; restarting now")
        play.step(said(pid + 1, READY))
    assert play.machine.phase is Phase.SERVING


def test_one_that_cannot_start_waits_as_any_other() -> None:
    play = Play(1)
    play.step(ev.Started(), said(1, READY), ev.CompanionsAsked(play.roster.slots_of_pool("ml", 1)))
    for pid in (2, 3):
        play.step(said(pid, BootFailed("no", 1)), ev.Exited(pid, ev.How(code=1)))
    assert moves(play.step()) == []
    assert play.pids == 3


def test_one_whose_call_goes_on_is_killed_and_replaced_at_once() -> None:
    play, (slot,) = offloading()
    actions = play.step(ev.CallOverdue(2, "render"))
    assert moves(actions) == [ev.Kill(2), ev.Fork(slot, 1)]
    text = "companion died: render went on for a second after it was told to end, so it was killed"
    assert texts(actions) == [f"{text}; restarting now"]
    assert moves(play.step(ev.CallOverdue(2, "render"))) == [], "it is killed once"
    assert moves(play.step(ev.Exited(2, KILLED))) == []


def test_one_that_drains_is_killed_and_not_replaced_if_its_call_goes_on() -> None:
    play, _ = offloading()
    play.step(said(2, RecycleDue("has run 5 calls")))
    play.step(said(3, READY))
    actions = play.step(ev.CallOverdue(2, "render"))
    assert moves(actions) == [ev.Kill(2)]
    assert texts(actions) == [
        "companion still drains, as render went on for a second after it was told to end: killing it"
    ]


def test_a_call_that_is_over_meanwhile_kills_nothing() -> None:
    play, _ = offloading()
    assert moves(play.step(ev.CallOverdue(77, "render"))) == []


def test_one_that_is_due_for_recycling_runs_calls_until_its_successor_is_ready() -> None:
    play, (slot,) = offloading()
    assert moves(play.step(said(2, RecycleDue("has run 5 calls")))) == [ev.Fork(slot, 1)]
    assert moves(play.step(said(3, READY))) == [ev.Drain(2)]
