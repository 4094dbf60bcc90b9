"""Findings: the results of a check, as lines for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Sequence

_LEVEL_WIDTH = len("warning")


class Level(enum.IntEnum):
    """How serious a finding is, in rising order."""

    OK = 0
    NOTE = 1
    """Worth knowing; nothing is wrong."""
    WARNING = 2
    """The service would start, and meet this later."""
    ERROR = 3
    """The service would not start, or its clients would be refused."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One result."""

    level: Level
    what: str
    """The part that was checked, e.g. `target` or an address."""
    why: str
    """What was found; for problems also what to type."""
    service: str = ""
    """The name of the service; empty if it is about none."""


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 0 if nothing is wrong, 1 if there are warnings, 2 if there are errors."""
    worst = max((finding.level for finding in findings), default=Level.OK)
    return max(0, worst - Level.NOTE)


def as_text(findings: Sequence[Finding]) -> str:
    """Return a line for each finding: level, what, why. The service is named if there are several."""
    is_one = len({finding.service for finding in findings if finding.service}) < 2
    parts = [
        finding.what if is_one or not finding.service else f"{finding.service} {finding.what}" for finding in findings
    ]
    width = max(map(len, parts), default=0)
    return "\n".join(
        f"{finding.level.name.lower():{_LEVEL_WIDTH}}  {part:{width}}  {_in_one_line(finding.why)}"
        for finding, part in zip(findings, parts, strict=True)
    )


def as_json(findings: Sequence[Finding]) -> str:
    """Return an object: the worst level as `result`, and all findings."""
    worst = max((finding.level for finding in findings), default=Level.OK)
    rows = [
        {"level": finding.level.name.lower(), "service": finding.service, "what": finding.what, "why": finding.why}
        for finding in findings
    ]
    return json.dumps({"result": worst.name.lower(), "findings": rows}, indent=2)


def _in_one_line(text: str) -> str:
    """Return the first line of a reason, which may end with a stack."""
    first, *more = text.strip().splitlines() or [""]
    return f"{first} (all of it: --json)" if more else first
