"""What has happened: each event goes to the listeners, and the last reload and death of a service are remembered."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Mapping

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.tree import ALL

Happening = Mapping[str, object]
"""`event` (its name), `at` (UNIX seconds), `service`, `slot`, `pid`, `generation`, and details of its own."""

_LINE = "log"  # the event for a line of the log
_MOST_RECENT = 100
_REMEMBERED = frozenset(("reload", "death", "failure"))
_LOGGED = frozenset((ev.Level.WARNING, ev.Level.ERROR))


class Happenings:
    """The events of a supervisor. No method blocks."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """`clock` returns UNIX seconds."""
        self._clock = clock
        self._last: dict[tuple[str, str], Happening] = {}  # service and event -> the last one
        self.edition = 0
        """Grows with each event."""
        self.recent: collections.deque[Happening] = collections.deque(maxlen=_MOST_RECENT)
        """The last events, oldest first, without lines of the log."""
        self.listeners: list[Callable[[Happening], None]] = []
        """Called with each event."""

    def last(self, service: str, event: str) -> Happening | None:
        """Return the last reload, death or failure of a service; None if there was none."""
        return self._last.get((service, event))

    def forget(self, service: str) -> None:
        """Forget a service that is gone."""
        self.edition += 1
        for key in [key for key in self._last if key[0] == service]:
            del self._last[key]

    def publish(self, event: str, service: str = ALL, **details: object) -> None:
        """Tell the listeners; details that are None are left out."""
        named = {"service": service} if service != ALL else {}
        known = {name: value for name, value in details.items() if value is not None}
        happening: Happening = {"event": event, "at": round(self._clock(), 3), **named, **known}
        self.edition += 1
        if event in _REMEMBERED:
            self._last[service, event] = happening
        if event != _LINE:
            self.recent.append(happening)
        for listener in self.listeners:
            listener(happening)

    def report(self, service: str, report: ev.Report) -> None:
        """Publish what a report says for programs, and the line itself if it is a warning or an error."""
        who = {"slot": report.slot, "pid": report.pid, "generation": report.generation}
        if report.news is not None:
            self.publish(report.news.name, service, **{**who, **dict(report.news.details)})
        if report.level in _LOGGED:
            self.publish(_LINE, service, **who, level=report.level.value.lower(), text=report.text)
