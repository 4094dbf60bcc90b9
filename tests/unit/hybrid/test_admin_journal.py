"""The events of the dashboard as sentences."""

from __future__ import annotations

from typing import Any

from support.control_peer import AT, EVENTS
from support.rows import for_each

from hybrid.admin.journal import MOST_TEXT, Journal, Tone, sentence

WEB = {"at": AT, "service": "web", "slot": 1, "pid": 4714, "generation": 7}


@for_each(("event", "tone", "text"), [
        ({"event": "ready", **WEB}, Tone.GOOD, "web/1 serves (pid 4714, generation 7)"),
        ({"event": "readiness", "outcome": "ready", "reason": None, **WEB}, Tone.GOOD, "web/1 is ready again"),
        ({"event": "readiness", "outcome": "not ready", "reason": "no database", **WEB}, Tone.WARNING,
         "web/1 is not ready: no database"),
        ({"event": "recovered", **WEB}, Tone.GOOD, "web/1 turns again"),
        ({"event": "death", "how": "SIGKILL", **WEB}, Tone.BAD, "web/1 died: SIGKILL (pid 4714)"),
        ({"event": "stall", "seconds": 2.31, "where": "a.py:8 in f", **WEB}, Tone.BAD,
         "web/1 has stalled for 2.3 s, at a.py:8 in f"),
        ({"event": "stall", "seconds": 2.31, **WEB}, Tone.BAD, "web/1 has stalled for 2.3 s"),
        ({"event": "reload", "service": "web", "outcome": "started"}, Tone.PLAIN, "web reloads"),
        ({"event": "reload", "service": "web", "outcome": "complete", "generation": 8}, Tone.GOOD,
         "web is reloaded: generation 8"),
        ({"event": "reload", "service": "web", "outcome": "failed", "reason": "no module"}, Tone.BAD,
         "the reload of web failed: no module"),
        ({"event": "scale", "service": "web", "workers": 1}, Tone.PLAIN, "web is to have 1 worker"),
        ({"event": "scale", "service": "web", "workers": 4}, Tone.PLAIN, "web is to have 4 workers"),
        ({"event": "stop", "delay": 5.0}, Tone.WARNING, "hybrid stops in 5 s"),
        ({"event": "stop", "service": "web"}, Tone.WARNING, "web stops"),
        ({"event": "upgrade", "outcome": "failed"}, Tone.WARNING, "upgrade: failed"),
        ({"event": "failure", "service": "web", "reason": "it dies"}, Tone.BAD, "web has failed: it dies"),
        ({"event": "service", "service": "web", "change": "added"}, Tone.PLAIN, "the service web was added"),
        ({"event": "log", "level": "error", "text": "no", "service": "web"}, Tone.BAD, "web: no"),
        ({"event": "log", "level": "warning", "text": "hm"}, Tone.WARNING, "hm"),
        ({"event": "of a newer version", "service": "web"}, Tone.PLAIN, "web: of a newer version"),
    ])  # fmt: skip
def test_an_event_is_a_sentence(event: dict[str, Any], tone: Tone, text: str) -> None:
    assert sentence(event) == (tone, text)


def test_the_newest_comes_first_and_a_page_asks_for_what_it_has_not() -> None:
    journal = Journal()
    assert (journal.newest, journal.after()) == (0, [])
    for event in EVENTS:
        journal.take(event)
    assert [entry.number for entry in journal.after()] == [3, 2, 1]
    assert [entry.number for entry in journal.after(2)] == [3]
    assert journal.after(3) == []


def test_it_keeps_the_last_ones_and_the_first_characters() -> None:
    journal = Journal(most=2)
    for number in range(5):
        journal.take({"event": "log", "at": AT, "level": "warning", "text": f"{number} " + "x" * 1000})
    assert [entry.number for entry in journal.after()] == [5, 4]
    assert all(len(entry.text) == MOST_TEXT for entry in journal.after())


def test_the_line_of_the_log_about_an_event_is_left_out() -> None:
    journal = Journal()
    journal.take({"event": "death", "how": "SIGKILL", **WEB})
    journal.take({"event": "log", "level": "warning", "text": "died", **WEB})
    journal.take({"event": "log", "level": "warning", "text": "other", **WEB, "pid": 1})
    assert [entry.text for entry in journal.after()] == ["web/1: other", "web/1 died: SIGKILL (pid 4714)"]


def test_only_what_changes_the_service_is_said_aloud() -> None:
    journal = Journal()
    for event in ({"event": "ready", **WEB}, {"event": "death", **WEB}, {"event": "log", "text": "x", "at": AT}):
        journal.take(event)
    assert [entry.is_important for entry in journal.after()] == [False, True, False]
