"""A route of the admin application: what answers at a path, and who may ask."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from hybrid.admin.access import Need
from hybrid.admin.messages import Request, Response

READS: Final = frozenset(("GET", "HEAD"))
POSTS: Final = frozenset(("POST",))
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """What answers at a path."""

    handler: Handler
    need: Need = Need.LOOK
    methods: frozenset[str] = READS
