"""Counts of what has happened to each service, and the lines that have blocked its loops. They only grow.

Listens to the happenings. Bounded: causes of deaths are a few names, and rarely seen lines give way to new ones.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Mapping
from typing import Any, Final

from hybrid.supervisor.core.states import Reason
from hybrid.supervisor.shell.happenings import Happening
from hybrid.workers.contract.records import record

MOST_LINES: Final = 200
"""Lines that are counted for each service."""
MOST_BLOCKERS: Final = 20
"""Lines that are shown of each service."""
_SIGNAL: Final = re.compile(r"SIG[A-Z]+[0-9]*")
_IN_ORDER: Final = ("complete", "failed")
_OUTCOMES: Final = frozenset(_IN_ORDER)


def cause_of(how: str) -> str:
    """Return the cause of a death in a word: the name of a signal, `exit`, or `start` if it could not start."""
    if (found := _SIGNAL.match(how)) is not None:
        return found.group()
    return "exit" if how.startswith("exit code") else "start"


@record(frozen=True, slots=True)
class Blocker:
    """A line of the application in which loops have stood still."""

    where: str
    stalls: int
    """How many stalls were found there."""
    seconds: float
    """The longest of them, as far as it was known when it was reported."""


class _Tally:
    """The counts of one service."""

    def __init__(self) -> None:
        self.starts: collections.Counter[str] = collections.Counter()
        self.deaths: collections.Counter[str] = collections.Counter()
        self.reloads: collections.Counter[str] = collections.Counter()
        self.stalls = 0
        self.blockers: dict[str, Blocker] = {}

    def note_line(self, where: str, seconds: float) -> None:
        before = self.blockers.get(where)
        if before is None and len(self.blockers) >= MOST_LINES:
            rarest = min(self.blockers.values(), key=lambda one: (one.stalls, one.seconds))
            del self.blockers[rarest.where]
        known = Blocker(where, 0, 0.0) if before is None else before
        self.blockers[where] = Blocker(where, known.stalls + 1, max(known.seconds, seconds))


def added(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sum of two counts of a service; what another version does not count is zero."""
    deaths: dict[str, int] = dict(one.get("deaths", {}))
    for cause, number in other.get("deaths", {}).items():
        deaths[cause] = deaths.get(cause, 0) + number
    ours, theirs = one.get("reloads", {}), other.get("reloads", {})
    own, others = one.get("starts_by", {}), other.get("starts_by", {})
    return {
        "starts": one.get("starts", 0) + other.get("starts", 0),  # another version may not know the reasons
        "starts_by": {reason.value: own.get(reason.value, 0) + others.get(reason.value, 0) for reason in Reason},
        "deaths": deaths,
        "reloads": {outcome: ours.get(outcome, 0) + theirs.get(outcome, 0) for outcome in _IN_ORDER},
        "stalls": one.get("stalls", 0) + other.get("stalls", 0),
    }


_NONE: Final = _Tally()


class Tallies:
    """The counts of all services. No method blocks."""

    def __init__(self) -> None:
        self._services: dict[str, _Tally] = collections.defaultdict(_Tally)
        self._before: Mapping[str, Mapping[str, Any]] = {}

    def hear(self, happening: Happening) -> None:
        """Count an event."""
        service = happening.get("service")
        if not isinstance(service, str):
            return
        match happening["event"]:
            case "ready":
                self._services[service].starts[str(happening.get("reason", Reason.START.value))] += 1
            case "death":
                self._services[service].deaths[cause_of(str(happening.get("how", "")))] += 1
            case "reload" if (outcome := str(happening.get("outcome"))) in _OUTCOMES:
                self._services[service].reloads[outcome] += 1
            case "stall":
                tally = self._services[service]
                tally.stalls += 1
                if (where := happening.get("where")) is not None:
                    tally.note_line(str(where), float(str(happening.get("seconds", 0))))
            case "service" if happening.get("change") == "removed":
                self._services.pop(service, None)

    def own(self, service: str) -> dict[str, Any]:
        """Return what this supervisor has counted of a service, as JSON values."""
        tally = self._services.get(service, _NONE)
        reloads = {outcome: tally.reloads[outcome] for outcome in _IN_ORDER}
        return {
            "starts": tally.starts.total(),
            "starts_by": {reason.value: tally.starts[reason.value] for reason in Reason},
            "deaths": dict(tally.deaths),
            "reloads": reloads,
            "stalls": tally.stalls,
        }

    def of(self, service: str) -> dict[str, Any]:
        """Return the counts of a service, with those of other supervisors, as JSON values."""
        return added(self.own(service), self._before.get(service, {}))

    def inherit(self, counts: Mapping[str, Mapping[str, Any]]) -> None:
        """Add the counts of other supervisors from now on, as `of` returned them last: service -> counts."""
        self._before = counts

    def blockers(self, service: str) -> list[dict[str, Any]]:
        """Return the lines that have blocked the loops of a service most often, as JSON values."""
        tally = self._services.get(service) or _Tally()
        ranked = sorted(tally.blockers.values(), key=lambda one: (-one.stalls, -one.seconds, one.where))
        return [
            {"service": service, "where": one.where, "stalls": one.stalls, "seconds": round(one.seconds, 3)}
            for one in ranked[:MOST_BLOCKERS]
        ]
