"""The last events as sentences. Pure; texts of the application are in them, so they are untrusted."""

from __future__ import annotations

import collections
import enum
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

MOST: Final = 200
"""Entries that are kept."""
MOST_TEXT: Final = 500
"""Characters of an entry."""
_SAME: Final = 0.5  # seconds within which an event, the line of the log about it and the same one again are one
Event = Mapping[str, Any]


class Tone(enum.Enum):
    """How an entry is shown."""

    PLAIN = "plain"
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Entry:
    """An event."""

    number: int
    """From 1; the newest has the largest."""
    at: float
    """UNIX time."""
    tone: Tone
    text: str
    is_important: bool
    """True if a screen reader should say it."""

    def as_json(self) -> dict[str, object]:
        """Return it for a page."""
        return {
            "number": self.number,
            "at": self.at,
            "tone": self.tone.value,
            "text": self.text,
            "important": self.is_important,
        }


class Journal:
    """The last `MOST` entries."""

    def __init__(self, most: int = MOST) -> None:
        self._numbers = itertools.count(1)
        self._entries: collections.deque[Entry] = collections.deque(maxlen=most)
        self._last: Event = {}

    @property
    def newest(self) -> int:
        """The number of the newest entry; 0: there is none."""
        return self._entries[-1].number if self._entries else 0

    def take(self, event: Event) -> None:
        """Add an event; the line of the log about the event just before says nothing new."""
        if self._repeats(event):
            return
        self._last = event
        tone, text = sentence(event)
        if self._entries and self._entries[-1].text == text and event.get("at", 0.0) - self._entries[-1].at < _SAME:
            return
        is_important = tone is not Tone.PLAIN and event["event"] not in ("ready", "log")
        at = float(event.get("at", 0.0))
        self._entries.append(Entry(next(self._numbers), at, tone, text[:MOST_TEXT], is_important))

    def after(self, number: int = 0) -> list[Entry]:
        """Return the entries after that one, newest first."""
        return [entry for entry in reversed(self._entries) if entry.number > number]

    def _repeats(self, event: Event) -> bool:
        last = self._last
        if event["event"] != "log" or not last or last["event"] == "log":
            return False
        same = all(event.get(key) == last.get(key) for key in ("service", "slot", "pid"))
        return same and abs(event.get("at", 0.0) - last.get("at", 0.0)) <= _SAME


def sentence(event: Event) -> tuple[Tone, str]:
    """Return an event in words."""
    who, pid = _who(event), event.get("pid")
    match event:
        case {"event": "ready"}:
            return Tone.GOOD, f"{who} serves{_brackets(pid, event.get('generation'))}"
        case {"event": "readiness", "outcome": "ready"}:
            return Tone.GOOD, f"{who} is ready again"
        case {"event": "readiness"}:
            return Tone.WARNING, f"{who} is not ready: {event.get('reason') or 'unknown'}"
        case {"event": "recovered"}:
            return Tone.GOOD, f"{who} turns again"
        case {"event": "death"}:
            return Tone.BAD, f"{who} died: {event.get('how', 'unknown')}{_brackets(pid)}"
        case {"event": "stall"}:
            where = f", at {event['where']}" if event.get("where") else ""
            return Tone.BAD, f"{who} has stalled for {event.get('seconds', 0):.1f} s{where}"
        case {"event": "reload"}:
            return _reload(who, event)
        case {"event": "scale"}:
            return Tone.PLAIN, f"{who} is to have {_workers(event.get('workers'))}"
        case {"event": "stop", "delay": delay}:
            return Tone.WARNING, f"{who} stops in {delay:g} s"
        case {"event": "stop"}:
            return Tone.WARNING, f"{who} stops"
        case {"event": "upgrade"}:
            return Tone.WARNING, f"upgrade: {event.get('outcome', 'started')}"
        case {"event": "failure"}:
            return Tone.BAD, f"{who} has failed: {event.get('reason', 'unknown')}"
        case {"event": "service"}:
            return Tone.PLAIN, f"the service {who} was {event.get('change', 'changed')}"
        case {"event": "log"}:
            tone = Tone.BAD if event.get("level") == "error" else Tone.WARNING
            return tone, (f"{who}: " if event.get("service") else "") + str(event.get("text", ""))
    return Tone.PLAIN, f"{who}: {event.get('event')}"


def _reload(who: str, event: Event) -> tuple[Tone, str]:
    match event.get("outcome"):
        case "complete":
            return Tone.GOOD, f"{who} is reloaded: generation {event.get('generation', '?')}"
        case "failed":
            return Tone.BAD, f"the reload of {who} failed: {event.get('reason') or 'unknown'}"
    return Tone.PLAIN, f"{who} reloads"


def _who(event: Event) -> str:
    service, slot = event.get("service"), event.get("slot")
    if service is None:
        return "hybrid"
    return str(service) if slot is None else f"{service}/{slot}"


def _workers(count: object) -> str:
    return "1 worker" if count == 1 else f"{count} workers"


def _brackets(pid: object, generation: object = None) -> str:
    known = [f"pid {pid}"] if pid is not None else []
    known += [f"generation {generation}"] if generation is not None else []
    return f" ({', '.join(known)})" if known else ""
