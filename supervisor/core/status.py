"""The status of a supervisor: frozen snapshots, and their form on the wire (JSON values)."""

from __future__ import annotations

import dataclasses
from typing import Any

from hybrid.workers.contract.scoreboard import Snapshot


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker, or a slot that waits for its next one."""

    slot: int
    generation: int
    pid: int | None
    """None while the slot waits for its next worker."""
    state: str
    """`booting`, `failed`, `ready`, `draining`, `aborted`, `killed`; `waiting` without a process."""
    ready_seconds: float | None
    """For how long it has been ready; None if it is not, or never was."""
    restarts: int
    """How often a worker of this slot died and was replaced."""
    stalled_seconds: float | None = None
    """For how long its loop has been stalled, once that exceeds `stall_threshold`; None: it turns."""
    accepted: int = 0
    """Connections accepted in total."""
    active: int = 0
    """Open connections."""
    requests: int = 0
    """Requests begun in total; datagrams or connections for handlers without requests."""
    lag_max: float = 0.0
    """The longest turn of its loop, seconds; 0 on uvloop, which cannot tell."""
    memory: int = 0
    """Resident bytes, at the last measurement."""


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """A supervisor and its workers at one moment."""

    service: str
    addresses: tuple[str, ...]
    """The real addresses, as a user types them."""
    workers: tuple[WorkerStatus, ...]
    """In order of slots."""


def with_record(worker: WorkerStatus, record: Snapshot) -> WorkerStatus:
    """Return `worker` with the numbers of its record on the scoreboard."""
    return dataclasses.replace(
        worker,
        accepted=record.accepted,
        active=record.active,
        requests=record.requests,
        lag_max=record.lag_max,
        memory=record.memory,
    )


def pack(status: Status) -> dict[str, Any]:
    """Return `status` as JSON values, with workers as rows, so that a thousand of them fit in a datagram."""
    rows = [dataclasses.astuple(worker) for worker in status.workers]
    return {"service": status.service, "addresses": list(status.addresses), "workers": rows}


def unpack(fields: dict[str, Any]) -> Status:
    """Return the status that `pack` packed. Raises `KeyError` or `TypeError` for anything else."""
    workers = tuple(WorkerStatus(*row) for row in fields["workers"])
    return Status(fields["service"], tuple(fields["addresses"]), workers)
