"""Counts of what has happened to services."""

from __future__ import annotations

import pytest

from hybrid.supervisor.shell.happenings import Happenings
from hybrid.supervisor.shell.tallies import MOST_BLOCKERS, MOST_LINES, Tallies, cause_of

NO_STARTS = dict.fromkeys(("start", "upgrade", "scale", "death", "reload", "refork", "recycle", "restart"), 0)


@pytest.fixture
def happenings() -> Happenings:
    return Happenings(lambda: 1.0)


@pytest.fixture
def tallies(happenings: Happenings) -> Tallies:
    found = Tallies()
    happenings.listeners.append(found.hear)
    return found


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("SIGKILL", "SIGKILL"),
        ("SIGKILL (out of memory?)", "SIGKILL"),
        ("exit code 3", "exit"),
        ("no module named shop", "start"),
    ],
)
def test_a_cause_is_a_word(how: str, cause: str) -> None:
    assert cause_of(how) == cause


def test_events_are_counted_by_service(happenings: Happenings, tallies: Tallies) -> None:
    happenings.publish("ready", "web", slot=0, reason="reload")
    happenings.publish("death", "web", how="SIGKILL")
    happenings.publish("reload", "web", outcome="started")
    happenings.publish("reload", "web", outcome="complete")
    happenings.publish("stall", "web", seconds=1.0)
    assert tallies.of("web") == {
        "starts": 1,
        "starts_by": {**NO_STARTS, "reload": 1},
        "deaths": {"SIGKILL": 1},
        "reloads": {"complete": 1, "failed": 0},
        "stalls": 1,
    }
    assert tallies.of("chat")["starts"] == 0


def test_counts_of_a_predecessor_go_on(happenings: Happenings, tallies: Tallies) -> None:
    happenings.publish("death", "web", how="SIGKILL")
    successor = Tallies()
    successor.inherit({"web": tallies.of("web")})
    successor.hear({"event": "death", "service": "web", "how": "SIGKILL"})
    assert successor.of("web")["deaths"] == {"SIGKILL": 2}


def test_starts_of_a_predecessor_go_on_by_reason(happenings: Happenings, tallies: Tallies) -> None:
    happenings.publish("ready", "web", reason="start")
    happenings.publish("ready", "web", reason="death")
    successor = Tallies()
    successor.inherit({"web": tallies.of("web")})
    successor.hear({"event": "ready", "service": "web", "reason": "upgrade"})
    found = successor.of("web")
    assert found["starts_by"] == {**NO_STARTS, "start": 1, "death": 1, "upgrade": 1}
    assert found["starts"] == 3


def test_starts_of_a_predecessor_that_knew_no_reasons_are_in_the_sum_only(tallies: Tallies) -> None:
    tallies.inherit({"web": {"starts": 4}})
    assert (tallies.of("web")["starts"], tallies.of("web")["starts_by"]) == (4, NO_STARTS)


def test_a_removed_service_is_forgotten(happenings: Happenings, tallies: Tallies) -> None:
    happenings.publish("ready", "web")
    happenings.publish("service", "web", change="removed")
    assert tallies.of("web")["starts"] == 0


def test_lines_that_block_are_ranked(happenings: Happenings, tallies: Tallies) -> None:
    for seconds in (1.0, 3.0, 2.0):
        happenings.publish("stall", "web", seconds=seconds, where="shop.py:12 in recompute")
    happenings.publish("stall", "web", seconds=9.0, where="shop.py:5 in save")
    assert tallies.blockers("web") == [
        {"service": "web", "where": "shop.py:12 in recompute", "stalls": 3, "seconds": 3.0},
        {"service": "web", "where": "shop.py:5 in save", "stalls": 1, "seconds": 9.0},
    ]


def test_lines_are_bounded_and_the_frequent_ones_stay(happenings: Happenings, tallies: Tallies) -> None:
    for _ in range(2):
        happenings.publish("stall", "web", seconds=1.0, where="often")
    for number in range(2 * MOST_LINES):
        happenings.publish("stall", "web", seconds=1.0, where=f"line {number}")
    found = tallies.blockers("web")
    assert len(found) == MOST_BLOCKERS
    assert found[0]["where"] == "often"
