"""The stacks of all greenlets that wait: hybrid's, gevent's, and plain ones."""

from __future__ import annotations

from typing import Any

import greenlet

from hybrid.workers.hub.pool import is_idle
from hybrid.workers.inspection.frames import entry
from hybrid.workers.inspection.heap import all_greenlets


def entries(most: int) -> tuple[list[dict[str, Any]], int]:
    """Return the entries of a report for at most `most` greenlets that wait, and the number of the others.

    Idle greenlets of hybrid's pool are no entries.
    """
    active = [one for one in all_greenlets() if _is_active(one)]
    made: list[dict[str, Any]] = []
    for index, one in enumerate(active):
        if len(made) == most:
            return made, len(active) - index
        frame = one.gr_frame  # None for one that runs; only here, because it makes an object for each frame
        if frame is not None and not is_idle(frame.f_code):
            made.append(entry(_name_of(type(one)), frame))
    return made, 0


_is_active = greenlet.greenlet.__bool__  # subclasses replace it
"""Return True for a greenlet that has started and has not ended."""


def _name_of(kind: type) -> str:
    """Return the class of a greenlet, with its package."""
    package = kind.__module__.partition(".")[0] if isinstance(kind.__module__, str) else "?"
    return f"{package}.{kind.__qualname__}"
