"""What a supervisor tells about itself: frozen snapshots, and their form on the wire (JSON values)."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker, or a slot that waits for its next one."""

    slot: int
    generation: int
    pid: int | None
    """None while the slot waits for its next worker."""
    state: str
    """`booting`, `failed`, `ready`, `draining`, `killed`; `waiting` without a process."""
    ready_seconds: float | None
    """For how long it has been ready; None if it is not, or never was."""
    restarts: int
    """How often a worker of this slot died and had to be replaced."""


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """A supervisor and its workers at one moment."""

    service: str
    addresses: tuple[str, ...]
    """The real addresses, as a person types them."""
    workers: tuple[WorkerStatus, ...]
    """In order of slots."""


def pack(status: Status) -> dict[str, Any]:
    """Return `status` as JSON values; workers as rows, so that a thousand of them fit a datagram."""
    rows = [dataclasses.astuple(worker) for worker in status.workers]
    return {"service": status.service, "addresses": list(status.addresses), "workers": rows}


def unpack(fields: dict[str, Any]) -> Status:
    """Return what `pack` packed. Raises `KeyError` or `TypeError` for anything else."""
    workers = tuple(WorkerStatus(*row) for row in fields["workers"])
    return Status(fields["service"], tuple(fields["addresses"]), workers)
