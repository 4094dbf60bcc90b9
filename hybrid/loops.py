"""The event loops and their availability on this machine, for `hybrid loops`."""

from __future__ import annotations

import dataclasses

from hybrid.workers.loops.registry import LOOPS, why_unusable


@dataclasses.dataclass(frozen=True, slots=True)
class LoopRow:
    """One loop, as a row of the table."""

    name: str
    summary: str
    needs: tuple[str, ...]
    """Names of the required packages."""
    problem: str | None
    """Why the loop cannot be used here; None if it can."""


def list_loops() -> tuple[LoopRow, ...]:
    """Return all loops. Imports none of them and does not block."""
    return tuple(LoopRow(spec.name, spec.summary, spec.needs, why_unusable(name)) for name, spec in LOOPS.items())
