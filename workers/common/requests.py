"""A request in progress, as operators see it."""

from __future__ import annotations

from typing import NamedTuple


class RequestInProgress(NamedTuple):
    """A request whose response is not complete, or whose application has not returned."""

    method: str
    target: bytes
    """The path with its query, as sent."""
    began: float | None
    """When it arrived, in monotonic seconds; None: not known."""
    id: str | None = None
    """Its id; None: requests have none."""
