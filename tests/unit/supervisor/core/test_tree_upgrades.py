"""Upgrades of several services: one successor for all, or none."""

from __future__ import annotations

import pytest
from support.grove import Grove, begun, growing, lines, of_all, told
from support.play import ENDED, KILLED, POLICY
from support.said import READY, said

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.base import Phase
from hybrid.supervisor.core.machine import Machine
from hybrid.supervisor.core.policy import Policy, Restart
from hybrid.supervisor.core.tree import OnFailure, Rules, Stage
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed, Warm

FREE = {"web": Rules(), "chat": Rules()}
ASKED = "upgrading: starting another supervisor on the same sockets"


@pytest.fixture
def grove() -> Grove:
    """Two services serve, pids 1 and 2."""
    return growing(FREE)


@pytest.fixture
def upgrading(grove: Grove) -> Grove:
    """The other supervisor, pid 500, is starting."""
    grove.step(ev.UpgradeAsked())
    grove.step(ev.SuccessorStarted(500))
    return grove


@pytest.fixture
def holding() -> Grove:
    """An upgrade was asked for while the zygote of `web` forks; `chat` has no zygote."""
    grove = Grove(FREE, preload=("web",))
    grove.step(ev.Started())  # the zygote of web is pid 1, the worker of chat 2
    grove.ready(2)
    grove.warm(1)
    grove.ready(3)
    assert grove.tree.is_settled()
    grove.zygotes_answer = False
    grove.step(ev.ScaleByAsked(1))
    assert of_all(grove.step(ev.UpgradeAsked())) == []
    return grove


def test_one_successor_starts_for_all_services(grove: Grove) -> None:
    deeds = grove.step(ev.UpgradeAsked())
    assert of_all(deeds) == [ev.StartSuccessor()]
    assert lines(deeds) == [ASKED]
    assert lines(grove.step(ev.SuccessorStarted(500))) == ["upgrading: supervisor 500 is starting"]
    assert grove.tree.is_upgrading
    assert not grove.tree.has_successor


def test_it_starts_once_no_fork_is_pending_anywhere(holding: Grove) -> None:
    assert of_all(holding.answer_orders()) == [ev.StartSuccessor()]


def test_no_zygote_of_any_service_forks_meanwhile(holding: Grove) -> None:
    assert begun(holding.dies(3, KILLED)) == []
    holding.answer_orders()
    assert begun(holding.step(ev.SuccessorStarted(500))) == ["web"]


def test_when_the_successor_serves_the_workers_of_all_services_drain(upgrading: Grove) -> None:
    deeds = upgrading.step(ev.SuccessorServes())
    assert told(deeds) == ["web", "chat"]
    assert lines(deeds) == ["upgraded: the other supervisor serves; draining the workers here"]
    assert upgrading.tree.has_successor
    assert upgrading.tree.phase is Phase.STOPPING
    upgrading.dies(1, ENDED)
    assert of_all(upgrading.dies(2, ENDED)) == [ev.Finish(Exit.OK)]


def test_no_service_waits_for_another_one_then(upgrading: Grove) -> None:
    upgrading.tree.rule("web", Rules(("chat",)))
    assert told(upgrading.step(ev.SuccessorServes())) == ["web", "chat"]


def test_a_service_that_was_added_meanwhile_stops_too(upgrading: Grove) -> None:
    upgrading.tree.add("news", Machine(POLICY, 1), Rules())
    upgrading.step(ev.Tick())
    upgrading.ready(3)
    assert told(upgrading.step(ev.SuccessorServes())) == ["web", "chat", "news"]
    for pid in (1, 2, 3):
        deeds = upgrading.dies(pid, ENDED)
    assert of_all(deeds) == [ev.Finish(Exit.OK)]


def test_a_failed_successor_is_told_of_once_and_all_go_on(upgrading: Grove) -> None:
    deeds = upgrading.step(ev.SuccessorFailed("killed by SIGKILL"))
    assert lines(deeds) == ["upgrade failed, this supervisor goes on: killed by SIGKILL"]
    assert of_all(deeds) == []
    assert upgrading.tree.is_settled()
    assert upgrading.tree.deadline() is None
    assert of_all(upgrading.step(ev.UpgradeAsked())) == [ev.StartSuccessor()]


def test_a_successor_that_does_not_serve_in_time_is_ended_once(upgrading: Grove) -> None:
    deeds = upgrading.later(POLICY.upgrade_timeout)
    assert of_all(deeds) == [ev.EndSuccessor()]
    assert len(lines(deeds)) == 1
    assert not upgrading.tree.is_upgrading


def test_a_second_request_is_refused_once(upgrading: Grove) -> None:
    deeds = upgrading.step(ev.UpgradeAsked())
    assert lines(deeds) == ["not upgrading: the successor of this supervisor is starting already"]


def test_an_upgrade_is_refused_while_a_service_is_not_up() -> None:
    grove = Grove(FREE)
    grove.step(ev.Started())
    grove.ready(1)
    deeds = grove.step(ev.UpgradeAsked())
    assert [(name, action.text) for name, action in deeds if isinstance(action, ev.Report)] == [
        ("chat", "not upgrading: the service is not up, or is stopping")
    ]
    assert not grove.tree.is_upgrading


def test_an_upgrade_is_refused_while_a_service_waits_for_another() -> None:
    grove = Grove({"web": Rules(("db",)), "db": Rules()}, workers=2)
    grove.step(ev.Started())
    grove.ready(1)
    assert lines(grove.step(ev.UpgradeAsked())) == ["not upgrading: web has not started"]


def test_a_service_that_has_ended_does_not_prevent_an_upgrade() -> None:
    job = {"job": Policy(restart=Restart.TRANSIENT)}
    grove = growing({"web": Rules(), "job": Rules()}, policies=job)
    grove.dies(2, ENDED)
    assert of_all(grove.step(ev.UpgradeAsked())) == [ev.StartSuccessor()]


def test_a_stop_ends_the_successor_once(upgrading: Grove) -> None:
    assert of_all(upgrading.step(ev.StopAsked(graceful=True))) == [ev.EndSuccessor()]
    upgrading.dies(1, ENDED)
    assert of_all(upgrading.dies(2, ENDED)) == [ev.Finish(Exit.OK)]


def test_the_stop_of_one_service_ends_the_successor_and_the_others_go_on(upgrading: Grove) -> None:
    assert of_all(upgrading.step(ev.StopAsked(graceful=True), "web")) == [ev.EndSuccessor()]
    assert not upgrading.tree.is_upgrading
    assert upgrading.tree.machine("chat").deadline() is None
    assert of_all(upgrading.step(ev.SuccessorServes())) == []
    assert not upgrading.tree.has_successor


def test_a_stop_of_one_service_before_the_successor_starts_frees_the_others(holding: Grove) -> None:
    deeds = holding.step(ev.StopAsked(graceful=True), "chat")
    assert of_all(deeds) == []
    assert not holding.tree.is_upgrading
    assert holding.tree.machine("web").deadline() != POLICY.upgrade_timeout
    assert of_all(holding.answer_orders()) == []
    holding.zygotes_answer = True
    assert begun(holding.dies(3, KILLED)) == ["web"]


def test_late_news_of_a_successor_change_nothing(grove: Grove) -> None:
    for event in (ev.SuccessorStarted(500), ev.SuccessorServes(), ev.SuccessorFailed("late")):
        assert grove.step(event) == []


def test_a_worker_that_dies_meanwhile_is_replaced(upgrading: Grove) -> None:
    assert begun(upgrading.dies(1, KILLED)) == ["web"]
    assert upgrading.step(said(3, READY), "web") == []
    assert upgrading.step(said(99, Warm()), "web") == []


# --- the successor


def test_a_successor_takes_over_once_every_service_has_started() -> None:
    grove = Grove(FREE)
    grove.step(ev.Started())
    grove.ready(1)
    assert not grove.tree.can_take_over
    grove.ready(2)
    assert grove.tree.can_take_over


def test_a_successor_that_stops_takes_nothing_over() -> None:
    """A service has failed and the other one still drains: those of the predecessor serve on."""
    grove = Grove({"web": Rules(on_failure=OnFailure.STOP_ALL), "chat": Rules()})
    grove.step(ev.Started())
    grove.ready(2)
    grove.step(said(1, BootFailed(Exit.TARGET, "no module web")), "web")
    grove.dies(1, ev.How(code=3))
    assert grove.tree.stage("chat") is Stage.RUNNING
    assert grove.tree.has_started
    assert not grove.tree.can_take_over
