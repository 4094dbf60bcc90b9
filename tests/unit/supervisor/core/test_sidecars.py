"""Sidecars, which serve operators beside the services, and the delay before a stop."""

from __future__ import annotations

from support.grove import Grove, begun, growing, of_all, told
from support.play import ENDED, KILLED
from support.said import said

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.base import Phase
from hybrid.supervisor.core.tree import ALL, Rules, Stage
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed

BESIDE = {"web": Rules(), "admin": Rules(is_sidecar=True)}
STOP = ev.StopAsked(graceful=True)


def test_the_whole_has_started_without_a_sidecar() -> None:
    grove = Grove(BESIDE)
    grove.step(ev.Started())
    grove.ready(1)
    assert grove.tree.has_started
    assert grove.tree.phase is Phase.SERVING


def test_a_sidecar_that_serves_is_not_the_start_of_the_services() -> None:
    grove = Grove(BESIDE)
    grove.step(ev.Started())
    grove.ready(2)
    assert not grove.tree.has_started
    assert grove.tree.phase is Phase.STARTING


def test_a_sidecar_stops_after_all_services() -> None:
    grove = growing(BESIDE)
    assert told(grove.step(STOP)) == ["web"]
    assert told(grove.dies(1, ENDED)) == ["admin"]
    assert of_all(grove.dies(2, ENDED)) == [ev.Finish(Exit.OK)]


def test_a_sidecar_stops_once_no_service_is_left() -> None:
    grove = growing(BESIDE)
    grove.step(STOP, "web")
    assert told(grove.dies(1, ENDED)) == ["admin"]


def test_a_sidecar_that_cannot_start_leaves_the_services_alone() -> None:
    grove = Grove(BESIDE)
    grove.step(ev.Started())
    grove.ready(1)
    grove.step(said(2, BootFailed(Exit.TARGET, "no module")), "admin")
    assert told(grove.dies(2, ev.How(code=3))) == []
    assert grove.tree.stage("admin") is Stage.ENDED
    assert grove.tree.phase is Phase.SERVING
    assert grove.tree.may_return("admin")


def test_a_sidecar_that_dies_gets_a_successor() -> None:
    assert begun(growing(BESIDE).dies(2, KILLED)) == ["admin"]


def test_the_failure_of_the_only_service_stops_the_whole_even_if_others_would_go_on() -> None:
    grove = Grove(BESIDE)
    grove.step(ev.Started())
    grove.ready(2)
    grove.step(said(1, BootFailed(Exit.TARGET, "no module")), "web")
    assert told(grove.dies(1, ev.How(code=3))) == ["admin"]
    assert of_all(grove.dies(2, ENDED)) == [ev.Finish(Exit.TARGET)]


def test_a_reload_of_all_and_a_scaling_by_signal_pass_a_sidecar_by() -> None:
    grove = growing({"admin": Rules(is_sidecar=True), "web": Rules()})
    assert {name for name, _ in grove.step(ev.ReloadAsked())} == {"web"}
    assert begun(growing({"admin": Rules(is_sidecar=True), "web": Rules()}).step(ev.ScaleByAsked(1))) == ["web"]


def test_a_sidecar_that_does_not_serve_holds_up_no_upgrade() -> None:
    grove = Grove(BESIDE)
    grove.step(ev.Started())
    grove.ready(1)
    assert of_all(grove.step(ev.UpgradeAsked())) == [ev.StartSuccessor()]


# --- the delay


def test_a_stop_waits_for_the_delay_and_everything_serves_meanwhile() -> None:
    grove = growing(BESIDE)
    grove.tree.shutdown_delay = 5.0
    assert told(grove.step(STOP)) == []
    assert grove.tree.phase is Phase.STOPPING
    assert grove.tree.deadline() == grove.now + 5.0
    assert begun(grove.dies(1, KILLED)) == ["web"]
    grove.ready(3)
    grove.now += 5.0
    assert told(grove.step(ev.Tick())) == ["web"]


def test_a_second_request_a_stop_at_once_and_ctrl_c_end_the_delay() -> None:
    for event in (STOP, ev.StopAsked(graceful=False), ev.Interrupted()):
        grove = growing(BESIDE)
        grove.tree.shutdown_delay = 5.0
        grove.step(STOP)
        assert grove.step(event)
        assert grove.tree.deadline() != grove.now + 5.0


def test_ctrl_c_knows_no_delay() -> None:
    grove = growing(BESIDE)
    grove.tree.shutdown_delay = 5.0
    assert told(grove.step(ev.Interrupted())) == ["web"]


def test_nothing_begins_during_the_delay() -> None:
    grove = growing({"web": Rules()})
    grove.tree.shutdown_delay = 5.0
    grove.step(STOP)
    texts = [
        deed[1].text
        for event in (ev.ReloadAsked(), ev.UpgradeAsked())
        for deed in grove.step(event)
        if deed[0] == ALL and isinstance(deed[1], ev.Report)
    ]
    assert texts == ["stopping: not reloading", "stopping: not upgrading"]


def test_a_service_that_has_not_started_is_not_waited_for() -> None:
    grove = Grove(BESIDE)
    grove.tree.shutdown_delay = 5.0
    grove.step(ev.Started())
    assert told(grove.step(STOP)) == ["web"]
