"""The loops to choose from, and which of them are usable here: what `hybrid loops` shows."""

from __future__ import annotations

import dataclasses

from hybrid.workers.loops.registry import LOOPS, why_unusable


@dataclasses.dataclass(frozen=True, slots=True)
class LoopRow:
    """One loop, as a row of the table."""

    name: str
    summary: str
    needs: tuple[str, ...]
    """Names of packages."""
    problem: str | None
    """Why it cannot be used here; None if it can."""


def list_loops() -> tuple[LoopRow, ...]:
    """Return all loops. Imports none of them and does not block."""
    return tuple(LoopRow(spec.name, spec.summary, spec.needs, why_unusable(name)) for name, spec in LOOPS.items())
