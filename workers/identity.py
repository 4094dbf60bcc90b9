"""Who this process is, for applications that want to say so (`hybrid.workers.identity.current()`)."""

from __future__ import annotations

import dataclasses
import os


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """A worker's place in the process tree."""

    service: str
    slot: int
    generation: int
    pid: int
    loop: str


_current: Identity | None = None


def current() -> Identity:
    """Return the identity of this worker; outside of one, that of a lone process: slot 0, generation 0, no loop."""
    return _current or Identity(service="-", slot=0, generation=0, pid=os.getpid(), loop="-")


def take(identity: Identity) -> None:
    """Make `identity` this process's own; called once by the worker's boot."""
    global _current
    _current = identity
