"""Restart intensity: more deaths than allowed end the service, with the reasons of the last ones."""

from __future__ import annotations

import dataclasses

from support.play import ENDED, KILLED, POLICY, Play, deeds, moves, stop, texts
from support.play import serving as serving_play
from support.said import READY, said

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.events import Abort, Drain, Finish, How
from hybrid.supervisor.core.machine import Phase
from hybrid.supervisor.core.policy import Intensity
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed, Warm

TWO_IN_TEN = dataclasses.replace(POLICY, intensity=Intensity(2, 10.0))


def strict(workers: int = 2, *, preload: bool = False) -> Play:
    """Return a play that bears two deaths in ten seconds."""
    return serving_play(workers, policy=TWO_IN_TEN, preload=preload)


def test_one_death_too_many_ends_the_service_and_tells_why() -> None:
    play = strict()
    play.at(5, ev.Exited(1, KILLED))
    play.at(6, ev.Exited(2, How(code=3)))
    actions = play.at(7, ev.Exited(3, How(signal="SIGSEGV")))
    assert texts(actions)[-1] == (
        "more than 2 worker deaths within 10 s: giving up; the last ones: slot 0 killed by SIGKILL after 5.0 s, "
        "slot 1 exited with code 3 after 6.0 s, slot 0 killed by SIGSEGV after 2.0 s"
    )
    assert moves(actions) == [Drain(4)]
    assert deeds(play.step(ev.Exited(4, How(signal="SIGTERM")))) == [Finish(Exit.RESTARTS)]


def test_deaths_that_lie_further_apart_are_allowed_forever() -> None:
    play = strict(1)
    for number in range(1, 10):
        play.at(number * 6.0, ev.Exited(number, KILLED), ev.Tick())
        play.step(said(number + 1, READY))
    assert play.machine.phase is Phase.SERVING


def test_a_retired_worker_is_no_death() -> None:
    play = strict(6)
    play.step(ev.ScaleAsked(1))
    for pid in (2, 3, 4, 5, 6):
        play.step(ev.Exited(pid, ENDED))
    assert play.machine.phase is Phase.SERVING


def test_a_worker_that_cannot_start_counts_with_its_own_reason() -> None:
    play = strict()
    play.step(ev.Exited(1, KILLED))
    for pid in (3, 4):
        play.step(said(pid, BootFailed(Exit.TARGET, "no database")))
        actions = play.step(ev.Exited(pid, How(code=3)))
        play.later(0.5)
    assert texts(actions)[-1].endswith("slot 0 killed by SIGKILL after 0.0 s, slot 0 no database (2x)")
    assert play.machine.phase is Phase.STOPPING


def test_workers_that_hang_at_their_start_count() -> None:
    play = strict(2)
    play.step(ev.Exited(1, KILLED), ev.Exited(2, KILLED))
    actions = play.at(60, ev.Tick())
    assert play.machine.phase is Phase.SERVING  # the first two are long past
    assert sum(isinstance(action, Abort) for action in actions) == 2


def test_workers_that_are_ended_because_of_a_stall_count() -> None:
    policy = dataclasses.replace(TWO_IN_TEN, stall_timeout=3.0)
    play = serving_play(3, policy=policy)
    play.at(5, *(ev.Stalled(pid, since=5) for pid in (1, 2, 3)))
    actions = play.at(8, ev.Tick())
    assert "giving up" in texts(actions)[-1]
    assert play.machine.phase is Phase.STOPPING


def test_code_that_fails_in_reloads_does_not_count() -> None:
    play = strict()
    for pid in range(3, 9):
        play.step(ev.ReloadAsked(), ev.Exited(pid, KILLED))
    assert play.machine.phase is Phase.SERVING


def test_deaths_of_zygotes_do_not_count() -> None:
    play = strict(preload=True)
    for _ in range(5):
        zygote = play.pids if play.pids > 3 else 1
        play.step(ev.Exited(zygote, KILLED))
        play.later(0.9)
        play.step(said(play.pids, Warm()))
    assert play.machine.phase is Phase.SERVING


def test_forks_that_fail_do_not_count() -> None:
    play = strict()
    play.forks_fail = True
    play.step(ev.Exited(1, KILLED))
    for _ in range(6):
        play.later(1)
    assert play.machine.phase is Phase.SERVING


def test_deaths_while_stopping_do_not_count() -> None:
    play = strict(4)
    play.step(ev.StopAsked(graceful=True))
    for pid in (1, 2, 3):
        assert texts(play.step(ev.Exited(pid, How(signal="SIGSEGV"))))[0].startswith("worker died while draining")
    assert deeds(play.step(ev.Exited(4, ENDED))) == [Finish(Exit.OK)]


def test_without_an_intensity_no_number_of_deaths_is_too_many(serving: Play) -> None:
    for pid in range(1, 50):
        serving.at(pid * 2.0, ev.Tick(), ev.Exited(pid, KILLED))
        serving.step(said(serving.pids, READY))
    assert serving.machine.phase is Phase.SERVING


def test_the_end_is_a_stop_for_the_workers_that_still_serve() -> None:
    """No client is let in, and the workers learn that no successor serves their clients."""
    play = strict(4)
    play.step(ev.Exited(1, KILLED), ev.Exited(2, KILLED))
    assert moves(play.step(ev.Exited(3, KILLED)))[:2] == stop(4)
