"""Which worker this process is, for applications (`hybrid.workers.identity.current()`)."""

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
    """Return the identity of this worker; outside of a worker: slot 0, generation 0, no loop."""
    return _current or Identity(service="-", slot=0, generation=0, pid=os.getpid(), loop="-")


def take(identity: Identity) -> None:
    """Set the identity of this process; called once while the worker boots."""
    global _current
    _current = identity
