"""Events of a supervisor: what listeners get, and what is remembered."""

from __future__ import annotations

import itertools

import pytest

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.shell.happenings import Happening, Happenings


@pytest.fixture
def happenings() -> Happenings:
    """Events at the seconds 1, 2, 3."""
    return Happenings(itertools.count(1).__next__)


@pytest.fixture
def heard(happenings: Happenings) -> list[Happening]:
    """What a listener has heard."""
    heard: list[Happening] = []
    happenings.listeners.append(heard.append)
    return heard


def test_an_event_has_its_time_and_its_service(happenings: Happenings, heard: list[Happening]) -> None:
    happenings.publish("scale", "web", workers=3)
    assert heard == [{"event": "scale", "at": 1, "service": "web", "workers": 3}]


def test_an_event_of_all_names_no_service(happenings: Happenings, heard: list[Happening]) -> None:
    happenings.publish("upgrade", outcome="started")
    assert heard == [{"event": "upgrade", "at": 1, "outcome": "started"}]


def test_what_is_not_known_is_left_out(happenings: Happenings, heard: list[Happening]) -> None:
    happenings.publish("stall", "web", slot=0, where=None)
    assert heard == [{"event": "stall", "at": 1, "service": "web", "slot": 0}]


def test_the_last_event_of_each_kind_and_service_is_remembered(happenings: Happenings) -> None:
    for service, how in (("web", "SIGSEGV"), ("chat", "SIGKILL"), ("web", "SIGKILL")):
        happenings.publish("death", service, how=how)
    last = happenings.last("web", "death")
    assert last == {"event": "death", "at": 3, "service": "web", "how": "SIGKILL"}
    assert happenings.last("web", "reload") is None
    assert happenings.last("mail", "death") is None


def test_other_events_are_not_remembered(happenings: Happenings) -> None:
    happenings.publish("ready", "web", pid=1)
    assert happenings.last("web", "ready") is None


def test_a_service_that_is_gone_is_forgotten(happenings: Happenings) -> None:
    happenings.publish("death", "web", how="SIGKILL")
    happenings.publish("death", "chat", how="SIGKILL")
    happenings.forget("web")
    assert happenings.last("web", "death") is None
    assert happenings.last("chat", "death") is not None


def test_a_report_with_news_is_an_event(happenings: Happenings, heard: list[Happening]) -> None:
    news = ev.News("death", (("how", "SIGKILL"),))
    happenings.report("web", ev.Report(ev.Level.INFO, "worker died", 1, 2, 4711, news))
    assert heard == [
        {"event": "death", "at": 1, "service": "web", "slot": 1, "generation": 2, "pid": 4711, "how": "SIGKILL"}
    ]


@pytest.mark.parametrize(("level", "events"), [(ev.Level.INFO, 0), (ev.Level.WARNING, 1), (ev.Level.ERROR, 1)])
def test_warnings_and_errors_are_events(
    happenings: Happenings, heard: list[Happening], level: ev.Level, events: int
) -> None:
    happenings.report("web", ev.Report(level, "the disk is full"))
    assert [event["text"] for event in heard] == ["the disk is full"] * events
